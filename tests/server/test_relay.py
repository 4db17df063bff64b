"""The relay of ``natwalk serve``: on its HTTP and TLS ports, beside everything else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from certificates import write_certificate
from natwalk.aio.client_tls import ClientTls
from natwalk.aio.relay import RelayConnection
from natwalk.aio.server_url import ServerUrl
from natwalk.relay import (
    PacketReceived,
    PeerGone,
    RefusalCode,
    RelayClientConfig,
    RelayClientEvent,
    RelayIdentity,
    RelayLost,
    RelayRestarting,
    frame,
)
from natwalk.relay.frames import FrameType
from natwalk.relay.upgrade import SWITCHING
from natwalk.server import ConfigError
from natwalk.server.run import Order, Ready
from natwalk_server import running
from serve_process import LOOPBACK, serving
from server.test_blindness import memory_of

REQUEST = b"GET /v1/relay HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: natwalk-relay\r\n\r\n"


class Peer:
    """A client with what it heard."""

    def __init__(self, url: str, *, config: RelayClientConfig | None = None, **more: Any) -> None:
        self.identity = RelayIdentity(secrets.token_bytes(32))
        self.key = self.identity.public
        self.heard: list[RelayClientEvent] = []
        self._changed = asyncio.Event()
        self.connection = RelayConnection(url, self.identity, on_event=self._hear, config=config, **more)

    def _hear(self, event: RelayClientEvent) -> None:
        self.heard.append(event)
        self._changed.set()

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.heard if isinstance(event, kind)]

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not true():
                self._changed.clear()
                await self._changed.wait()

    async def packet(self, number: int = 1) -> PacketReceived:
        await self.until(lambda: len(self.of(PacketReceived)) >= number)
        found: PacketReceived = self.of(PacketReceived)[number - 1]
        return found


@contextlib.asynccontextmanager
async def peer(url: str, *, ready: bool = True, **more: Any) -> AsyncIterator[Peer]:
    it = Peer(url, **more)
    async with it.connection:
        if ready:
            async with asyncio.timeout(20):
                await it.connection.wait_ready()
        yield it


async def ask(ready: Ready, request: bytes) -> bytes:
    url = ServerUrl.parse(ready.http)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write(request)
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.transport.abort()


async def get(ready: Ready, path: str) -> tuple[int, bytes]:
    answer = await ask(ready, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


async def exchange(a: Peer, b: Peer) -> None:
    assert a.connection.send(b"hello", b.key)
    assert await b.packet() == PacketReceived(a.key, b"hello")
    assert b.connection.send(b"x" * 65_536, a.key)
    assert await a.packet() == PacketReceived(b.key, b"x" * 65_536)


async def test_two_peers_exchange_packets_on_the_http_port() -> None:
    async with running() as ready, peer(ready.http) as a, peer(ready.http) as b:
        await exchange(a, b)
        health = json.loads((await get(ready, "/healthz"))[1])
        assert health["relay_clients"] == 2
        metrics = (await get(ready, "/metrics"))[1].decode()
        assert "natwalk_relay_clients 2.0" in metrics
        assert "natwalk_relay_packets_total 2.0" in metrics
        assert 'natwalk_relay_refused_total{code="full"} 0.0' in metrics
        assert a.key.hex() not in metrics


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
async def test_over_tls_the_proofs_are_bound_to_the_connection(tmp_path: Path, version: str) -> None:
    """FAULTS 113: on HTTPS and on a port shared with TURN, both ends see the same channel."""
    files = write_certificate(tmp_path)
    path = tmp_path / "natwalk.toml"
    path.write_text('[tls]\ncert = "cert.pem"\nkey = "key.pem"\nport = 0\n')

    class Tls(ClientTls):
        def context(self) -> ssl.SSLContext:
            context = super().context()
            context.maximum_version = ssl.TLSVersion[version]
            return context

    tls = Tls(files.cert, alpn=("http/1.1",))
    async with running(path, turn__relay_addresses=["127.0.0.1"]) as ready:
        shared = [u for u in ready.turn if u.startswith("turns:") and u.endswith("tcp")][-1]
        port = int(shared.partition("?")[0].rpartition(":")[2])
        async with peer(ready.http, tls=tls) as a, peer(f"https://127.0.0.1:{port}", tls=tls) as b:
            await exchange(a, b)
        async with peer(ready.http, tls=tls, bind_channel=False, ready=False) as unbound:
            await unbound.until(lambda: unbound.of(RelayLost))
            assert unbound.of(RelayLost)[0].code is RefusalCode.PROOF


async def test_a_relay_without_tls_does_for_a_client_behind_a_proxy_that_ends_it() -> None:
    async with running() as ready, peer(ready.http, bind_channel=False) as a, peer(ready.http) as b:
        await exchange(a, b)


async def test_the_key_is_told_and_is_the_one_that_is_proved(tmp_path: Path) -> None:
    """FAULTS 147: pinned, it keeps whoever is in the middle out; kept, it is the same after a restart."""
    keys = []
    for _ in range(2):
        async with running(server__state_dir=str(tmp_path)) as ready:
            status, body = await get(ready, "/v1/relay")
            assert status == 426
            told = bytes.fromhex(json.loads(body)["key"])
            keys.append(told)
            async with peer(ready.http, config=RelayClientConfig(server_key=told)) as a:
                assert a.connection.core.server_key == told
            wrong = RelayClientConfig(server_key=RelayIdentity(bytes(range(32))).public)
            async with peer(ready.http, config=wrong, ready=False) as b:
                await b.until(lambda: b.of(RelayLost))
                assert "another key" in b.of(RelayLost)[0].reason
    assert keys[0] == keys[1]
    assert (tmp_path / "relay.key").stat().st_mode & 0o077 == 0


async def test_without_a_relay_there_is_nothing_there() -> None:
    async with running(relay__enabled=False) as ready:
        assert (await get(ready, "/v1/relay"))[0] == 404
        async with peer(ready.http, ready=False) as a:
            await a.until(lambda: a.of(RelayLost))
            assert "404" in a.of(RelayLost)[0].reason
        assert "natwalk_relay" not in (await get(ready, "/metrics"))[1].decode()


async def test_garbage_after_the_upgrade_ends_that_connection_alone() -> None:
    """FAULTS 112: a frame too long, an unknown one too long, one before the proof, HTTP."""
    async with running() as ready, peer(ready.http) as a, peer(ready.http) as b:
        for garbage in (
            frame(FrameType.SEND, bytes(32), b"x"),
            b"\x10\xff\xff\xff\xff",
            b"\x7f\x00\x10\x00\x01",
            frame(FrameType.PROOF, b"\x01" + bytes(128)),
            b"GET / HTTP/1.1\r\n\r\n",
        ):
            answer = await ask(ready, REQUEST + garbage)
            assert answer.startswith(SWITCHING)
            assert b"\x04\x00\x00\x00" in answer
        await exchange(a, b)


async def test_whoever_is_gone_is_told_of() -> None:
    async with running() as ready, peer(ready.http) as a:
        async with peer(ready.http) as b:
            a.connection.send(b"x", b.key)
            await b.packet()
        await a.until(lambda: a.of(PeerGone))
        assert a.of(PeerGone)[0].peer == b.key


async def test_a_reload_lets_in_and_throws_out(tmp_path: Path) -> None:
    """FAULTS 118: a reload applies to those who are here."""
    path = tmp_path / "natwalk.toml"
    path.write_text("")
    orders: asyncio.Queue[Order] = asyncio.Queue()
    async with running(path, orders=orders) as ready, peer(ready.http) as a, peer(ready.http) as b:
        path.write_text(f'[relay]\nallow = ["{a.key.hex()}"]\nrate = 1000000\n')
        orders.put_nowait(Order.RELOAD)
        await b.until(lambda: b.of(RelayLost))
        assert b.of(RelayLost)[0].code is RefusalCode.NOT_ALLOWED
        assert a.connection.ready


@pytest.mark.parametrize("key", ["", "00" * 32, "ab" * 31, "zz" * 32])
async def test_a_key_that_is_none_is_refused_by_name(key: str) -> None:
    with pytest.raises(ConfigError, match=r"relay\.allow"):
        async with running(relay__allow=[key]):
            pass


async def test_a_key_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "relay.key").write_text("not a key")
    (tmp_path / "relay.key").chmod(0o600)
    with pytest.raises(ConfigError, match=r"relay\.key"):
        async with running(server__state_dir=str(tmp_path)):
            pass


def test_a_server_that_ends_says_when_to_come_back_and_takes_up_its_clients_again(tmp_path: Path) -> None:
    """FAULTS 152 and 161: SIGTERM, exit code 0, a hint to every client; the next server gets them back."""

    async def main() -> None:
        with serving(*LOOPBACK) as (process, ready):
            port = ServerUrl.parse(str(ready["http"])).port
            async with peer(str(ready["http"])) as a, peer(str(ready["http"])) as b:
                process.send_signal(signal.SIGTERM)
                await a.until(lambda: a.of(RelayLost))
                await b.until(lambda: b.of(RelayLost))
                assert await asyncio.to_thread(process.wait, 10) == 0
                for each in (a, b):
                    [hint] = each.of(RelayRestarting)
                    assert 0 <= hint.reconnect_in <= 20
                    assert each.of(RelayLost)[0].retry_in == hint.reconnect_in
        assert port

    asyncio.run(main())


def test_the_server_has_no_plaintext_in_its_logs_and_no_packet_that_was_delivered_in_mind() -> None:
    """FAULTS 122: what peers encrypt is all that a relay ever has; logs have neither keys nor packets."""
    marker = secrets.token_hex(24).encode()
    process = subprocess.Popen(
        [sys.executable, "-c", "from natwalk.cli.serve import serve; serve()", "--json", *LOOPBACK],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    async def talk(url: str) -> tuple[bytes, bytes]:
        async with peer(url) as a, peer(url) as b:
            sealed = bytes(byte ^ 0x5A for byte in marker)  # stands for end-to-end encryption
            a.connection.send(sealed, b.key)
            assert bytes(byte ^ 0x5A for byte in (await b.packet()).data) == marker
            return a.key, b.key

    try:
        assert process.stdout is not None
        keys = asyncio.run(talk(json.loads(process.stdout.readline())["http"]))
        memory = memory_of(process.pid)
        assert b"v1/relay" in memory, "the search finds what is there"
        assert marker not in memory
    finally:
        process.terminate()
        out, err = process.communicate(timeout=10)
    for word in (marker.decode(), *(key.hex() for key in keys)):
        assert word not in out + err
