"""The whole server on loopback: what it answers, what it refuses, and what garbage does to it (nothing)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import json
import os
import secrets
import socket
import ssl
import struct
from pathlib import Path
from random import Random
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from certificates import write_certificate
from loopback_ports import two_free_ports
from natwalk.aio.discovery import discover_behaviour
from natwalk.aio.rendezvous import RendezvousDriver, ServerUnavailable, ServerUrl, fetch_ice_servers
from natwalk.aio.turn import TurnAllocation
from natwalk.aio.turn_server import TurnServerDriver
from natwalk.core import Address
from natwalk.rendezvous import RendezvousClient
from natwalk.rendezvous.messages import Allocate, Claim, encode
from natwalk.server import ConfigError, StartError
from natwalk.server.run import Ready
from natwalk_server import RELAYING, running

HANDSHAKE = (
    b"GET /v1/rendezvous HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def port(ready: Ready) -> int:
    return ServerUrl.parse(ready.http).port


def stun_port(ready: Ready) -> int:
    return int(ready.stun[0].rpartition(":")[2])


async def ask(ready: Ready, request: bytes, *, finish: bool = False) -> bytes:
    """Everything the HTTP port answers to ``request`` before it closes or two seconds are over."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port(ready))
    answer = b""
    try:
        writer.write(request)
        if finish:
            writer.write_eof()
        async with asyncio.timeout(2):
            while data := await reader.read(65536):
                answer += data
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.transport.abort()
    return answer


async def get(ready: Ready, path: str, host: str = "127.0.0.1", more: str = "") -> tuple[int, Any]:
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n"
    head, _, body = (await ask(ready, request.encode())).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


async def stun_answers(ready: Ready, at: int | None = None) -> bool:
    """Whether the STUN port, or the port ``at``, answers a Binding request from a fresh socket."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(("127.0.0.1", at or stun_port(ready)))
        transaction = secrets.token_bytes(12)
        await loop.sock_sendall(sock, struct.pack("!HHI", 1, 0, 0x2112A442) + transaction)
        async with asyncio.timeout(5):
            answer = await loop.sock_recv(sock, 2048)
    return answer[:2] == b"\x01\x01" and answer[8:20] == transaction


class TestApi:
    async def test_health_says_what_is_going_on(self) -> None:
        async with running() as ready:
            async with connect(ServerUrl.parse(ready.http).rendezvous, proxy=None) as websocket:
                await websocket.send(encode(Allocate(side="1" * 32)))
                await websocket.recv()
                status, body = await get(ready, "/healthz")
            assert status == 200
            assert (body["status"], body["rendezvous_mailboxes"], body["rendezvous_connections"]) == (
                "ok",
                1,
                1,
            )

    async def test_the_credentials_work_at_the_turn_server(self) -> None:
        async with running() as ready:
            turn, _ = (await fetch_ice_servers(ready.http)).turn
            async with await TurnAllocation.allocate(
                turn.address, turn.username, turn.password
            ) as allocation:
                assert allocation.relayed.host == "127.0.0.1"
                assert (await get(ready, "/healthz"))[1]["turn_allocations"] == 1

    async def test_the_shape_is_that_of_the_w3c(self) -> None:
        async with running() as ready:
            status, body = await get(ready, "/v1/ice-servers", host="turn.example.net:1")
            assert status == 200
            stun, turn = body["iceServers"]
            first, second = stun["urls"]
            assert first == f"stun:turn.example.net:{stun_port(ready)}"
            assert second.startswith("stun:turn.example.net:")
            assert second != first
            assert turn["urls"][0] == f"turn:turn.example.net:{stun_port(ready)}?transport=udp"
            assert [uri.rpartition("=")[2] for uri in turn["urls"]] == ["udp", "tcp"]
            assert turn["credentialType"] == "password"
            assert len(base64.b64decode(turn["credential"])) == 20
            assert int(turn["username"].partition(":")[0]) > 1_700_000_000

    async def test_both_stun_ports_answer_so_that_a_client_can_compare(self) -> None:
        async with running() as ready:
            servers = (await fetch_ice_servers(ready.http)).stun
            assert len({server.port for server in servers}) == 2
            for server in servers:
                assert await stun_answers(ready, server.port)

    async def test_without_an_alternate_port_one_stun_server_is_named(self) -> None:
        async with running(stun__alternate_port=0) as ready:
            assert len((await fetch_ice_servers(ready.http)).stun) == 1

    async def test_a_taken_alternate_port_is_done_without(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            async with running(stun__alternate_port=taken.getsockname()[1]) as ready:
                assert len((await fetch_ice_servers(ready.http)).stun) == 1

    async def test_a_public_host_is_what_clients_are_told(self) -> None:
        async with running(server__public_host="turn.example.net") as ready:
            assert ready.http.startswith("http://turn.example.net:")
            assert ready.stun == (f"stun:turn.example.net:{stun_port(ready)}",)

    async def test_a_source_may_ask_sixty_times_a_minute_and_is_told_when_again(self) -> None:
        async with running() as ready:
            statuses = [(await get(ready, "/v1/ice-servers"))[0] for _ in range(62)]
            assert statuses[:60] == [200] * 60
            assert 429 in statuses[60:]
            assert (await get(ready, "/healthz"))[0] == 200

    async def test_what_is_not_there_is_not_found(self) -> None:
        async with running() as ready:
            for path in ("/", "/v1", "/schema", "/v1/rendezvous", "/../etc/passwd", "/%2e%2e/etc/passwd"):
                assert (await get(ready, path))[0] in (404, 405), path

    async def test_health_without_any_relay_address(self) -> None:
        async with running(turn__relay_addresses=[]) as ready:
            assert ready.turn == ()
            assert len((await get(ready, "/v1/ice-servers"))[1]["iceServers"]) == 1


class TestWebSocket:
    async def test_two_clients_exchange_frames(self) -> None:
        async with running() as ready:
            url = ServerUrl.parse(ready.http).rendezvous
            async with connect(url, proxy=None) as a, connect(url, proxy=None) as b:
                await a.send(encode(Allocate(side="1" * 32)))
                nameplate = json.loads(await a.recv())["nameplate"]
                await b.send(encode(Claim(nameplate=nameplate, side="2" * 32)))
                assert json.loads(await b.recv())["type"] == "opened"
                await b.send('{"type":"add","phase":"x","body":"eHl6"}')
                got = [json.loads(await a.recv())["type"] for _ in range(2)]
                assert got == ["opened", "message"]

    @pytest.mark.parametrize(
        ("frame", "code"), [(b"binary", 1003), ("x" * 65_537, 1009), ("garbage", 1000), ("\ud7ff" * 9, 1000)]
    )
    async def test_what_is_no_frame_closes_only_that_connection(self, frame: str | bytes, code: int) -> None:
        async with running() as ready:
            url = ServerUrl.parse(ready.http).rendezvous
            async with connect(url, proxy=None) as good, connect(url, proxy=None) as bad:
                await bad.send(frame)
                with pytest.raises(ConnectionClosed):
                    for _ in range(3):
                        await bad.recv()
                assert bad.close_code == code
                await good.send(encode(Allocate(side="1" * 32)))
                assert json.loads(await good.recv())["type"] == "allocated"

    async def test_nothing_is_compressed(self) -> None:
        async with (
            running() as ready,
            connect(ServerUrl.parse(ready.http).rendezvous, proxy=None) as websocket,
        ):
            assert websocket.protocol.extensions == []

    async def test_pages_of_other_sites_are_turned_away(self) -> None:
        async with running() as ready:
            url = ServerUrl.parse(ready.http).rendezvous
            for origin in ("http://evil.example", "null", "file://", "http://[", "http://[x]"):
                with pytest.raises(InvalidStatus):
                    await connect(url, origin=origin, proxy=None)
            async with connect(url, origin=f"http://127.0.0.1:{port(ready)}", proxy=None) as websocket:
                await websocket.ping()

    async def test_a_client_that_reconnects_finds_its_mailbox(self) -> None:
        async with running() as ready:
            url = ServerUrl.parse(ready.http).rendezvous
            async with connect(url, proxy=None) as websocket:
                await websocket.send(encode(Allocate(side="1" * 32)))
                first = json.loads(await websocket.recv())
                websocket.transport.abort()
            async with connect(url, proxy=None) as websocket:
                await websocket.send(encode(Allocate(side="1" * 32)))
                assert json.loads(await websocket.recv()) == first

    async def test_endless_empty_fragments_are_cut_off(self) -> None:
        async with running() as ready:
            reader, writer = await asyncio.open_connection("127.0.0.1", port(ready))
            writer.write(HANDSHAKE)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"\x01\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 1000)
            async with asyncio.timeout(5):
                with contextlib.suppress(ConnectionError):  # reset, because there was more to read
                    assert await reader.read() == b""
            writer.transport.abort()
            assert (await get(ready, "/healthz"))[1]["rendezvous_connections"] == 0


class TestGarbage:
    async def test_on_the_udp_port_nothing_is_answered_and_stun_still_is(self) -> None:
        random = Random(11)
        async with running() as ready:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.connect(("127.0.0.1", stun_port(ready)))
                sock.setblocking(False)
                for n in range(2000):
                    data = random.randbytes(random.choice([0, 1, 19, 20, 21, 100, 1400]))
                    if n % 4 == 0:
                        data = (
                            struct.pack("!HHI", random.randrange(0x4000), len(data) & ~3, 0x2112A442) + data
                        )
                    sock.send(data)
                    if n % 100 == 99:
                        assert await stun_answers(ready)
                with pytest.raises(BlockingIOError):
                    for _ in range(3000):
                        assert len(sock.recv(2048)) < 200

    async def test_on_the_http_port_it_is_refused_and_nothing_stays_open(self) -> None:
        random = Random(12)
        async with running() as ready:
            await get(ready, "/healthz")
            gc.collect()
            before = len(os.listdir("/proc/self/fd"))
            cases = [
                b"\x16\x03\x01" + random.randbytes(400),
                b"\r\n" * 100,
                b"GET / HTTP/9.9\r\n\r\n",
                b"GET " + b"/" * 70_000 + b" HTTP/1.1\r\n\r\n",
                b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
                b"POST /v1/ice-servers HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nxxxx",
                b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
                b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
                HANDSHAKE.replace(b"Sec-WebSocket-Key", b"X-Key"),
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                *(random.randbytes(random.randrange(1, 3000)) for _ in range(20)),
            ]
            for case in cases:
                answer = await ask(ready, case, finish=True)
                assert b"200 OK" not in answer
                assert len(answer) < 2000
            async with asyncio.timeout(5):
                while len(os.listdir("/proc/self/fd")) > before:
                    assert (await get(ready, "/healthz"))[0] == 200

    async def test_after_the_websocket_handshake_it_closes_that_connection(self) -> None:
        random = Random(13)
        async with running() as ready:
            for n in range(20):
                reader, writer = await asyncio.open_connection("127.0.0.1", port(ready))
                writer.write(HANDSHAKE)
                assert b"101" in await reader.readuntil(b"\r\n\r\n")
                writer.write(random.randbytes(200) if n else b"\x81\x84\0\0\0\0\xff\xfe\xfd\xfc")
                writer.write_eof()
                async with asyncio.timeout(5):
                    with contextlib.suppress(ConnectionError):  # reset, because there was more to read
                        assert len(await reader.read()) < 2000
                writer.transport.abort()
            async with asyncio.timeout(5):
                while (await get(ready, "/healthz"))[1]["rendezvous_connections"]:
                    pass

    async def test_a_client_that_says_nothing_is_closed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("natwalk.server.http._HEADER_SECONDS", 0.1)
        async with running() as ready:
            reader, writer = await asyncio.open_connection("127.0.0.1", port(ready))
            writer.write(b"GET /healthz HTTP/1.1\r\n")
            async with asyncio.timeout(5):
                assert await reader.read() == b""
            writer.close()
            assert (await get(ready, "/healthz"))[0] == 200


class TestStarting:
    async def test_a_taken_http_port_is_named(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            number = taken.getsockname()[1]
            with pytest.raises(StartError, match=f"TCP 127.0.0.1:{number} is taken") as caught:
                async with running(http__port=number):
                    pass
        assert "--http-port" in caught.value.hint

    async def test_a_taken_stun_port_is_named(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            number = taken.getsockname()[1]
            with pytest.raises(StartError, match=f"UDP 127.0.0.1:{number} is taken") as caught:
                async with running(stun__port=number):
                    pass
        assert "--stun-port" in caught.value.hint

    @pytest.mark.parametrize("key", ["server__listen", "turn__relay_addresses"])
    async def test_an_address_of_another_machine_is_named(self, key: str) -> None:
        with pytest.raises(ConfigError, match=r"192\.0\.2\.1 is not an address of this machine") as caught:
            async with running(**{key: ["192.0.2.1"]}):
                pass
        assert "127.0.0.1" in caught.value.hint

    async def test_all_addresses_of_the_machine_by_default(self) -> None:
        async with running(server__listen=["0.0.0.0"]) as ready:
            assert await stun_answers(ready)
            assert (await get(ready, "/healthz"))[0] == 200

    async def test_https_with_a_certificate(self, tmp_path: Path) -> None:
        write_certificate(tmp_path)
        path = tmp_path / "natwalk.toml"
        path.write_text('[tls]\ncert = "cert.pem"\nkey = "key.pem"')
        async with running(path) as ready:
            assert ready.http.startswith("https://127.0.0.1:")
            with pytest.raises(ServerUnavailable, match="TLS failed"):
                await fetch_ice_servers(ready.http)
            client = RendezvousClient(random_bytes=secrets.token_bytes)
            with pytest.raises(ServerUnavailable, match="TLS failed") as caught:
                await RendezvousDriver(ready.http, client).run()
            assert "certificate" in caught.value.hint
            trusting = ssl.create_default_context(cafile=tmp_path / "cert.pem")
            trusting.check_hostname = False
            async with connect(ServerUrl.parse(ready.http).rendezvous, proxy=None, ssl=trusting) as websocket:
                await websocket.send(encode(Allocate(side="1" * 32)))
                assert json.loads(await websocket.recv())["type"] == "allocated"


class TestBehaviourDiscovery:
    """RFC 5780, on when the configuration names a second address."""

    async def test_two_addresses(self) -> None:
        async with running(stun__alternate_address="127.0.0.2") as ready, asyncio.timeout(30):
            found = await discover_behaviour(Address("127.0.0.1", stun_port(ready)))
            assert found.classic == "open internet"

    async def test_an_address_and_a_partner(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("a secret that partners share")
        (tmp_path / "secret").chmod(0o600)
        first, second = two_free_ports()
        more: dict[str, Any] = {
            "stun__partner_secret_file": str(tmp_path / "secret"),
            "stun__port": first,
            "stun__alternate_port": second,
        }
        async with (
            running(server__listen=["127.0.0.1"], stun__partner="127.0.0.2", **more),
            running(server__listen=["127.0.0.2"], stun__partner="127.0.0.1", **more),
            asyncio.timeout(30),
        ):
            found = await discover_behaviour(Address("127.0.0.1", first))
            assert found.classic == "open internet"

    async def test_it_is_off_by_default_and_answers_are_short(self) -> None:
        async with running() as ready, asyncio.timeout(30):
            found = await discover_behaviour(Address("127.0.0.1", stun_port(ready)))
            assert found.filtering is None

    async def test_a_second_address_of_another_ip_version_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"behaviour discovery with 127\.0\.0\.2"):
            async with running(server__listen=["::1"], stun__alternate_address="127.0.0.2"):
                pass


class TestOwnServices:
    async def test_http_is_refused_as_a_peer_at_addresses_that_appear_later(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """FAULTS 8: the HTTP port is no peer, at the addresses there are and at one that comes up."""
        drivers: list[TurnServerDriver] = []
        real = TurnServerDriver.add_own_port
        monkeypatch.setattr(
            TurnServerDriver, "add_own_port", lambda self, port: (drivers.append(self), real(self, port))[1]
        )
        hosts = ["203.0.113.5"]
        monkeypatch.setattr(
            "natwalk.aio.turn_server._interface_hosts", lambda version: hosts if version == 4 else []
        )
        flags: dict[str, Any] = RELAYING | {"turn__peers__allow": ["127.0.0.0/8", "203.0.113.0/24"]}
        async with running(**flags) as ready:
            [driver] = drivers
            guard = driver.core._guard  # what stands between relays and peers
            assert guard.check(Address("203.0.113.5", port(ready))) is not None
            assert guard.check(Address("203.0.113.6", port(ready))) is None
            hosts.append("203.0.113.6")
            driver.refresh_interfaces()
            assert guard.check(Address("203.0.113.6", port(ready))) is not None
