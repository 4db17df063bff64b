"""haproxy in front of our server: the PROXY protocol, both versions, over TCP and with TLS passed through."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certificates import client_context, write_certificate
from natwalk.aio.tls import ServerTls
from natwalk.core import Address, Transport
from natwalk.stun import XOR_MAPPED_ADDRESS, MessageClass
from natwalk.turn import AllocationCreated
from turn_serving import serving
from turn_stream import StreamTurnClient

pytestmark = [
    pytest.mark.haproxy,
    pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed"),
]

CONFIGURATION = """
global
    log stderr local0
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen turn
    bind {front}
    server natwalk {back} {send} {check}
"""


@contextlib.contextmanager
def haproxy(folder: Path, back: Address, send: str, *, check: str = "") -> Iterator[Address]:
    """haproxy before ``back``; where it listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        front = Address.from_sockname(probe.getsockname())
    file = folder / "haproxy.cfg"
    file.write_text(CONFIGURATION.format(front=front, back=back, send=send, check=check))
    log = (folder / "haproxy.log").open("wb")
    with log, subprocess.Popen(["haproxy", "-db", "-f", str(file)], stdout=log, stderr=log) as process:
        try:
            yield front
        finally:
            process.terminate()


async def through(front: Address, **options: Any) -> StreamTurnClient:
    """A client of the proxy, once that listens."""
    for _ in range(500):
        try:
            return await StreamTurnClient.connect(front, **options)
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)
    raise AssertionError("haproxy does not listen")


@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options unique-id"])
async def test_the_core_sees_the_real_client_over_tcp(tmp_path: Path, send: str) -> None:
    async with serving(proxy_from=["127.0.0.1"]) as server:
        with haproxy(tmp_path, server.address, send) as front:
            async with await through(front) as client:
                response = await client.allocate()
                assert response.message_class is MessageClass.SUCCESS
                assert response.get(XOR_MAPPED_ADDRESS) == client.local
                created = next(event for event in server.events if isinstance(event, AllocationCreated))
                assert (created.client, created.transport) == (client.local, Transport.TCP)


@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl"])
async def test_the_core_sees_the_real_client_with_tls_passed_through(tmp_path: Path, send: str) -> None:
    files = write_certificate(tmp_path)
    tls = ServerTls(files.cert, files.key)
    async with serving(Transport.TLS, tls=tls, proxy_from=["127.0.0.1"]) as server:
        with haproxy(tmp_path, server.address, send) as front:
            async with await through(front, context=client_context(files, "stun.turn")) as client:
                assert (await client.allocate()).get(XOR_MAPPED_ADDRESS) == client.local
                created = next(event for event in server.events if isinstance(event, AllocationCreated))
                assert (created.client, created.transport) == (client.local, Transport.TLS)


async def test_health_checks_of_the_proxy_are_no_clients(tmp_path: Path) -> None:
    """They come with LOCAL and say nothing: closed, not counted as anybody's."""
    async with serving(proxy_from=["127.0.0.1"]) as server:
        check = "check check-send-proxy inter 50ms"
        with haproxy(tmp_path, server.address, "send-proxy-v2", check=check) as front:
            async with await through(front) as client:
                await asyncio.sleep(0.2)
                assert (await client.allocate()).message_class is MessageClass.SUCCESS
        assert server.driver.stats.allocations <= 1
