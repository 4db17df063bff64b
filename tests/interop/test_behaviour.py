"""Behaviour discovery with coturn on loopback: its two clients at our server, our client at its server."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loopback_ports import A1, A2, two_free_ports
from natwalk.aio.discovery import discover_behaviour
from natwalk.aio.turn_server import TurnServerDriver
from natwalk.core import Address
from natwalk.stun import Behaviour, Dependence
from natwalk.turn import TurnConfig

pytestmark = [
    pytest.mark.coturn,
    pytest.mark.skipif(
        any(shutil.which(f"turnutils_{name}") is None for name in ("natdiscovery", "stunclient")),
        reason="coturn's turnutils are not installed",
    ),
]


async def run(*command: str) -> str:
    """What ``command`` prints; it must end well within 30 seconds."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(30):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output
    return output.decode(errors="replace")


@pytest.fixture
async def server() -> AsyncIterator[Behaviour]:
    first, second = two_free_ports()
    behaviour = Behaviour(Address(A1, first), Address(A2, second))
    async with await TurnServerDriver.start(TurnConfig(), behaviour.local_addresses) as driver:
        driver.core.set_behaviour(behaviour)
        yield behaviour


async def natdiscovery(server: Behaviour, *options: str) -> str:
    port = str(server.primary.port)
    return await run("turnutils_natdiscovery", *options, "-p", port, "-L", A1, A1)


async def test_natdiscovery_finds_the_mapping(server: Behaviour) -> None:
    output = await natdiscovery(server, "-m")
    assert "No NAT! (Endpoint Independent Mapping)" in output
    assert "NAT with Endpoint Independent Mapping!" in output
    assert f"Response origin: : {A2}:{server.primary.port}" in output
    assert "No ALG: Mapped == XOR-Mapped" in output


@pytest.mark.parametrize("padding", [(), ("-P",)])
async def test_natdiscovery_finds_the_filtering(server: Behaviour, padding: tuple[str, ...]) -> None:
    output = await natdiscovery(server, "-f", *padding)
    assert "NAT with Endpoint Independent Filtering!" in output
    assert f"Response origin: : {server.alternate}" in output


async def test_natdiscovery_tries_hairpinning_collisions_and_lifetimes(server: Behaviour) -> None:
    assert "successful hairpinning" in await natdiscovery(server, "-H")
    assert "UDP reflexive addr: 127.0.0.3:" in await natdiscovery(server, "-c", "-A", "127.0.0.3")
    output = await natdiscovery(server, "-t", "-T", "1")  # RESPONSE-PORT
    assert output.count("RFC 5780 response") == 2


async def test_stunclient_makes_all_of_its_tests(server: Behaviour) -> None:
    """Its second answer comes from the other corner, its third goes to another port (RESPONSE-PORT)."""
    for options in ((), ("-f",)):
        output = await run("turnutils_stunclient", *options, "-p", str(server.primary.port), A1)
        assert output.count("RFC 5780 response") == 3
        assert output.count(f"Response origin: : {server.alternate}") == 2


async def test_a_plain_server_has_no_other_address() -> None:
    async with await TurnServerDriver.start(TurnConfig(), [Address(A1, 0)]) as driver:
        output = await run("turnutils_stunclient", "-p", str(driver.listeners[0].port), A1)
    assert "UDP reflexive addr: 127.0.0.1:" in output
    assert "Other addr" not in output


COTURN = """
listening-ip=127.0.0.1
listening-ip=127.0.0.2
listening-port={first}
alt-listening-port={second}
relay-ip=127.0.0.1
no-tls
no-dtls
no-tcp
no-cli
no-auth
no-stdout-log
log-file={folder}/turn.log
simple-log
pidfile={folder}/turn.pid
userdb={folder}/turn.db
"""


@pytest.mark.skipif(shutil.which("turnserver") is None, reason="coturn's turnserver is not installed")
async def test_our_client_understands_coturn(tmp_path: Path) -> None:
    first, second = two_free_ports()
    config = tmp_path / "turnserver.conf"
    config.write_text(COTURN.format(first=first, second=second, folder=tmp_path), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        *("turnserver", "-c", str(config)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(60):
            found = await discover_behaviour(Address(A1, first))  # asks again until coturn is up
    finally:
        process.terminate()
        await process.wait()
    assert found.mapped == found.local
    assert found.filtering is Dependence.ENDPOINT_INDEPENDENT
    assert found.classic == "open internet"
