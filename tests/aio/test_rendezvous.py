"""The WebSocket driver against a real server, a server that loses connections, and servers that are none."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket

from natwalk.aio.rendezvous import (
    InvalidServerUrl,
    RendezvousDriver,
    ServerUnavailable,
    ServerUrl,
    fetch_ice_servers,
    reconnect_delay,
)
from natwalk.core import Address, Transport
from natwalk.rendezvous import (
    KeyEstablished,
    MailboxMessage,
    NameplateAllocated,
    RendezvousClient,
    SecureMailbox,
    WrongCode,
)
from natwalk_server import running


class Peer:
    """One side: a secure mailbox, its driver and the events that came."""

    def __init__(self, url: str, side: str, password: bytes = b"code", **options: Any) -> None:
        self.client = RendezvousClient(random_bytes=secrets.token_bytes)
        self.box = SecureMailbox(
            self.client, side=side, password=password, app_id="test", random_bytes=secrets.token_bytes
        )
        self.events: list[Any] = []
        self._changed = asyncio.Event()
        self.driver = RendezvousDriver(url, self.box, on_progress=self._drain, **options)
        self.task: asyncio.Task[None] | None = None

    def _drain(self) -> None:
        while (event := self.box.poll_event()) is not None:
            self.events.append(event)
        self._changed.set()

    def start(self) -> Peer:
        self.task = asyncio.create_task(self.driver.run())
        return self

    def command(self, call: Callable[..., None], *args: Any) -> None:
        call(*args, asyncio.get_running_loop().time())
        self.driver.flush()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def nameplate(self) -> int:
        await self.until(lambda: any(isinstance(e, NameplateAllocated) for e in self.events))
        return next(e.nameplate for e in self.events if isinstance(e, NameplateAllocated))

    @property
    def bodies(self) -> list[bytes]:
        return [e.body for e in self.events if isinstance(e, MailboxMessage)]

    async def done(self) -> None:
        assert self.task is not None
        async with asyncio.timeout(10):
            await self.task


async def meet(url: str, url_b: str | None = None, password_b: bytes = b"code") -> tuple[Peer, Peer]:
    a = Peer(url, "A").start()
    a.command(a.client.allocate)
    b = Peer(url_b or url, "B", password_b).start()
    b.command(b.client.claim, await a.nameplate())
    return a, b


class Forwarder:
    """A TCP hop to ``target`` whose connections can be cut."""

    def __init__(self, target: ServerUrl) -> None:
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self.accepted = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            self.cut()
            await server.wait_closed()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        up_reader, up_writer = await asyncio.open_connection(self._target.host, self._target.port)
        self._writers |= {writer, up_writer}
        with contextlib.suppress(OSError):
            await asyncio.gather(self._pump(reader, up_writer), self._pump(up_reader, writer))
        for one in (writer, up_writer):
            one.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            writer.write(data)
        writer.transport.abort()


async def test_two_mailboxes_talk_through_a_server_and_end_in_order() -> None:
    async with running() as ready:
        a, b = await meet(ready.http)
        a.command(a.box.send, b"from a")
        b.command(b.box.send, b"from b")
        await a.until(lambda: a.bodies == [b"from b"])
        await b.until(lambda: b.bodies == [b"from a"])
        assert [e for e in a.events if isinstance(e, KeyEstablished)] == [
            e for e in b.events if isinstance(e, KeyEstablished)
        ]
        for side in (a, b):
            side.command(side.box.close, "happy")
            await side.done()
            assert not side.driver.connected


async def test_a_wrong_code_ends_both_drivers() -> None:
    async with running() as ready:
        a, b = await meet(ready.http, password_b=b"other")
        for side in (a, b):
            await side.done()
            assert WrongCode() in side.events


async def test_a_cut_connection_comes_back_and_nothing_is_lost() -> None:
    async with running() as ready:
        forwarder = Forwarder(ServerUrl.parse(ready.http))
        async with forwarder.running() as url:
            a, b = await meet(url, ready.http)
            for n in range(6):
                a.command(a.box.send, bytes([n]))
                b.command(b.box.send, bytes([n]))
                if n in (1, 3):
                    await a.until(lambda: a.driver.connected)
                    forwarder.cut()
                    await a.until(lambda: not a.driver.connected)
            await b.until(lambda: len(b.bodies) == 6)
            await a.until(lambda: len(a.bodies) == 6)
            assert a.bodies == b.bodies == [bytes([n]) for n in range(6)]
            assert forwarder.accepted == 3
            for side in (a, b):
                side.command(side.box.close, "happy")
                await side.done()


async def test_frames_may_be_pushed_instead_of_polled() -> None:
    async with running() as ready:
        a = Peer(ready.http, "A")
        a.driver.send("dropped: there is no connection")
        a.command(a.client.allocate)
        a.start()
        await a.nameplate()
        now = asyncio.get_running_loop().time()
        a.box.close("lonely", now)
        while (text := a.box.poll_message()) is not None:
            a.driver.send(text)
        await a.done()
        assert a.box.finished


async def test_a_dead_server_is_reported_at_once_with_what_to_do() -> None:
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    peer = Peer(f"127.0.0.1:{port}", "A")
    with pytest.raises(ServerUnavailable, match=r"cannot reach the server http://127.0.0.1:\d+: ") as caught:
        await peer.driver.run()
    assert "natwalk serve" in caught.value.hint
    with pytest.raises(ServerUnavailable, match="cannot reach"):
        await fetch_ice_servers(f"127.0.0.1:{port}")


@asynccontextmanager
async def answering(answer: bytes, *, close: bool = True) -> AsyncIterator[str]:
    """A TCP server that says ``answer`` to whoever has asked."""
    waiting: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            if close:
                writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in waiting:
            writer.transport.abort()
        await server.wait_closed()


def response(body: bytes, status: str = "200 OK", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (response(b"", "404 Not Found"), "HTTP status 404"),
        (response(b"", "302 Found", "Location: ws://127.0.0.1:1/\r\n"), "HTTP status 302"),
        (b"SSH-2.0-OpenSSH_9.7\r\n\r\n", "does not speak WebSocket"),
        (b"\xff" * 500, "does not speak WebSocket"),
        (b"", "does not speak WebSocket"),
    ],
)
async def test_what_is_no_rendezvous_server_is_said_to_be_none(answer: bytes, says: str) -> None:
    async with answering(answer) as url:
        with pytest.raises(ServerUnavailable, match=says):
            await Peer(url, "A").driver.run()


async def test_a_silent_server_is_given_up_after_the_timeout() -> None:
    async with answering(b"", close=False) as url:
        with pytest.raises(ServerUnavailable, match=r"no answer within 0.2 s"):
            await Peer(url, "A", open_timeout=0.2).driver.run()
        with pytest.raises(ServerUnavailable, match=r"no answer within 0.2 s"):
            await fetch_ice_servers(url, within=0.2)


@asynccontextmanager
async def websocket_server(handler: Callable[[ServerConnection], Any]) -> AsyncIterator[str]:
    async with serve_websocket(handler, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


@pytest.mark.parametrize("frame", [b"binary", "x" * 70_000], ids=["binary", "too long"])
async def test_a_server_that_breaks_the_rules_is_left_and_tried_again(frame: str | bytes) -> None:
    connections = 0
    again = asyncio.Event()

    async def handler(websocket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        if connections > 1:
            again.set()
        await websocket.send(frame)
        await websocket.wait_closed()

    async with websocket_server(handler) as url:
        peer = Peer(url, "A").start()
        peer.command(peer.client.allocate)
        async with asyncio.timeout(10):
            await again.wait()
        peer.task.cancel()
        await asyncio.wait([peer.task])
    assert not peer.driver.connected


async def test_a_connection_that_does_not_come_back_is_given_up() -> None:
    async def handler(websocket: ServerConnection) -> None:
        await websocket.recv()

    async with websocket_server(handler) as url:
        peer = Peer(url, "A", give_up_after=0.3)
        peer.command(peer.client.allocate)
        peer.start()
        await peer.until(lambda: peer.driver.connected)
    with pytest.raises(ServerUnavailable):
        await peer.done()


async def test_timers_of_the_core_are_kept_while_there_is_no_connection() -> None:
    class Core:
        finished = False
        fired = 0

        def __init__(self) -> None:
            self.due: float | None = None

        def connection_made(self, now: float) -> None: ...
        def connection_lost(self, now: float) -> None:
            self.due = now + 0.05

        def receive_message(self, text: str, now: float) -> None: ...
        def poll_message(self) -> str | None:
            return None

        def handle_timeout(self, now: float) -> None:
            assert self.due is not None
            assert now >= self.due
            self.finished, self.due = True, None

        def next_timeout(self) -> float | None:
            return self.due

    async def handler(websocket: ServerConnection) -> None:
        await websocket.close()

    async with websocket_server(handler) as url:
        core = Core()
        async with asyncio.timeout(5):
            await RendezvousDriver(url, core).run()
    assert core.finished


def test_delays_double_within_bounds_and_half_is_jitter() -> None:
    assert [reconnect_delay(n, 1.0) for n in range(8)] == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]
    assert reconnect_delay(0, 0.0) == 0.125
    assert reconnect_delay(10**6, 0.0) == 7.5


class TestServerUrl:
    @pytest.mark.parametrize(
        ("text", "shown", "rendezvous"),
        [
            ("192.0.2.1", "http://192.0.2.1:8478", "ws://192.0.2.1:8478/v1/rendezvous"),
            ("example.net:99", "http://example.net:99", "ws://example.net:99/v1/rendezvous"),
            ("https://example.net", "https://example.net:443", "wss://example.net:443/v1/rendezvous"),
            ("ws://[2001:db8::1]/", "http://[2001:db8::1]:80", "ws://[2001:db8::1]:80/v1/rendezvous"),
            ("wss://x.example/a/", "https://x.example:443/a", "wss://x.example:443/a/v1/rendezvous"),
            ("[2001:db8::1]:5", "http://[2001:db8::1]:5", "ws://[2001:db8::1]:5/v1/rendezvous"),
        ],
    )
    def test_reads(self, text: str, shown: str, rendezvous: str) -> None:
        url = ServerUrl.parse(f" {text}\n")
        assert (str(url), url.rendezvous) == (shown, rendezvous)
        assert ServerUrl.parse(str(url)) == url

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "ftp://x",
            "http://",
            "http://x:99999",
            "http://[::1",
            "http://u@x",
            "http://u:p@x",
            "http://x/?a=1",
            "http://x/#f",
            "http://x y",
            "http://x\r\nHost: y",
            "x" * 3000,
        ],
    )
    def test_refuses(self, text: str) -> None:
        with pytest.raises(InvalidServerUrl):
            ServerUrl.parse(text)


class TestIceServers:
    async def test_a_server_gives_its_stun_and_turn_servers_with_credentials(self) -> None:
        async with running() as ready:
            servers = await fetch_ice_servers(ready.http)
        port = int(ready.stun[0].rpartition(":")[2])
        assert servers.stun[0] == Address("127.0.0.1", port)
        assert len(servers.stun) == 2
        turn, by_tcp = servers.turn
        assert (turn.address, turn.transport) == (Address("127.0.0.1", port), Transport.UDP)
        assert (by_tcp.address, by_tcp.transport) == (turn.address, Transport.TCP)
        assert turn.username
        assert turn.password not in repr(servers)
        assert servers.ttl == 3600
        assert servers.skipped == ()

    async def test_names_are_resolved_and_what_is_not_understood_is_skipped(self) -> None:
        body = b"""{"iceServers": [
            {"urls": "stun:localhost"},
            {"urls": ["stun:[::1]:99", "turns:127.0.0.1:5349", "turn:127.0.0.1:1?transport=tcp",
                      "turn:127.0.0.1:2?transport=udp", "stun:127.0.0.1:99999", "stun:no-such-host.invalid"],
             "username": "u", "credential": "c", "credentialType": "password"},
            {"urls": "turn:127.0.0.1:3"}], "more": true}"""
        async with answering(response(body)) as url:
            servers = await fetch_ice_servers(url)
        assert Address("127.0.0.1", 3478) in servers.stun
        assert Address("::1", 99) in servers.stun
        assert [(t.address.port, t.transport) for t in servers.turn] == [
            (5349, Transport.TLS),
            (1, Transport.TCP),
            (2, Transport.UDP),
        ]
        assert len(servers.skipped) == 2
        assert "99999" in servers.skipped[0]
        assert "no-such-host.invalid" in servers.skipped[1]

    @pytest.mark.parametrize(
        ("answer", "says"),
        [
            (response(b"", "404 Not Found"), "HTTP status 404"),
            (response(b"", "301 Moved", "Location: http://127.0.0.1:1/\r\n"), "HTTP status 301"),
            (response(b"", "429 Too Many"), "asked too often"),
            (response(b"[]"), "cannot be read"),
            (response(b'{"iceServers": [{"urls": 7}]}'), "cannot be read"),
            (response(b"\xff\xfe"), "cannot be read"),
            (response(b"[" * 60_000), "cannot be read"),
            (response(b" " * 70_000), "too long"),
            (b"SSH-2.0-OpenSSH\r\n\r\n", "does not speak HTTP"),
            (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n", "does not speak HTTP"),
            (b"", "cannot"),
        ],
    )
    async def test_anything_else_is_refused_in_words(self, answer: bytes, says: str) -> None:
        async with answering(answer) as url:
            with pytest.raises(ServerUnavailable, match=says) as caught:
                await fetch_ice_servers(url, within=5)
        assert caught.value.hint
