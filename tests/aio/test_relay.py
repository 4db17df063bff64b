"""The relay's client shell on loopback: proxies, TLS, losses and what it says when it fails."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import socket
import ssl
import subprocess
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from certificates import Files, write_certificate
from natwalk.aio.client_tls import ClientTls
from natwalk.aio.relay import RelayConnection, RelayProxy
from natwalk.aio.relay_server import RelayServerDriver
from natwalk.aio.server_url import ServerUrl
from natwalk.relay import (
    PacketReceived,
    ProxyCredentials,
    RelayClientConfig,
    RelayClientEvent,
    RelayIdentity,
    RelayLost,
    RelayReady,
    RelayServerConfig,
    frame,
)
from natwalk.relay.frames import FrameType
from natwalk.relay.upgrade import SWITCHING

SERVER = RelayIdentity(bytes(range(32)))
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


class Upgrades(asyncio.Protocol):
    """Answers any request with the relay, as the HTTP server does."""

    def __init__(self, driver: RelayServerDriver) -> None:
        self.driver = driver
        self.transport: Any = None
        self.request = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.request += data
        if self.request.endswith(b"\r\n\r\n"):
            assert self.request.startswith(b"GET /v1/relay HTTP/1.1\r\n")
            self.transport.write(SWITCHING)
            self.driver.take_over(self.transport, b"", "source")


@contextlib.asynccontextmanager
async def relay(
    files: Files | None = None, config: RelayServerConfig | None = None, *, port: int = 0
) -> AsyncIterator[tuple[str, RelayServerDriver]]:
    """A relay on loopback: its URL and the driver."""
    driver = RelayServerDriver(SERVER, config or RelayServerConfig())
    context = None
    if files is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.cert, files.key)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upgrades(driver), "127.0.0.1", port, ssl=context)
    scheme = "http" if files is None else "https"
    try:
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}", driver
    finally:
        server.close()
        driver.close()
        async with asyncio.timeout(10):
            while driver.core.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[int]:
    """A port of loopback that ``handler`` serves."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


class Peer:
    def __init__(self, url: str, **more: Any) -> None:
        self.identity = RelayIdentity(secrets.token_bytes(32))
        self.key = self.identity.public
        self.heard: list[RelayClientEvent] = []
        self._changed = asyncio.Event()
        self.connection = RelayConnection(url, self.identity, on_event=self._hear, **more)

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

    async def lost(self) -> RelayLost:
        await self.until(lambda: self.of(RelayLost))
        event: RelayLost = self.of(RelayLost)[0]
        return event


@contextlib.asynccontextmanager
async def peer(url: str, *, ready: bool = True, **more: Any) -> AsyncIterator[Peer]:
    it = Peer(url, **more)
    async with it.connection:
        if ready:
            async with asyncio.timeout(20):
                await it.connection.wait_ready()
        yield it


async def exchange(a: Peer, b: Peer) -> None:
    count = len(b.of(PacketReceived))
    assert a.connection.send(b"hello", b.key)
    await b.until(lambda: len(b.of(PacketReceived)) > count)
    assert b.of(PacketReceived)[-1] == PacketReceived(a.key, b"hello")


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def join(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int, answer: bytes
) -> None:
    far_reader, far_writer = await asyncio.open_connection(host, port)
    writer.write(answer)
    await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))


class Hole:
    """Takes what comes and never answers."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.ended = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.began.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        self.ended.set()


class ConnectProxy:
    """An HTTP proxy that knows CONNECT and one user."""

    def __init__(self, login: str | None = None) -> None:
        self.login = login
        self.targets: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        target = head.split()[1]
        expected = "" if self.login is None else f"Basic {b64encode(self.login.encode()).decode()}\r\n"
        if expected not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            writer.close()
            return
        self.targets.append(target)
        host, _, port = target.rpartition(":")
        await join(reader, writer, host, int(port), b"HTTP/1.1 200 Connection established\r\n\r\n")


class SocksProxy:
    """A SOCKS 5 proxy for one user, or for everybody."""

    def __init__(self, login: tuple[bytes, bytes] | None = None) -> None:
        self.login = login
        self.targets: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        wanted = 0 if self.login is None else 2
        writer.write(bytes([5, wanted if wanted in methods else 0xFF]))
        if wanted == 2 and 2 in methods:
            await reader.readexactly(1)
            pair = []
            for _ in range(2):
                [size] = await reader.readexactly(1)
                pair.append(await reader.readexactly(size))
            good = tuple(pair) == self.login
            writer.write(bytes([1, not good]))
            if not good:
                writer.close()
                return
        elif wanted not in methods:
            writer.close()
            return
        _, _, _, kind = await reader.readexactly(4)
        if kind == 3:
            [size] = await reader.readexactly(1)
            host = (await reader.readexactly(size)).decode()
        else:
            host = socket.inet_ntop(socket.AF_INET, await reader.readexactly(4))
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.targets.append(f"{host}:{port}")
        await join(reader, writer, host, port, b"\5\0\0\1" + bytes(6))


class TestDirectly:
    async def test_over_tcp_and_over_tls(self, tmp_path: Path) -> None:
        files = write_certificate(tmp_path)
        tls = ClientTls(files.cert, alpn=("http/1.1",))
        async with relay() as (url, _), peer(url) as a, peer(url) as b:
            await exchange(a, b)
        async with relay(files) as (url, _), peer(url, tls=tls) as a, peer(url, tls=tls) as b:
            await exchange(a, b)
            await exchange(b, a)

    async def test_a_certificate_nobody_vouches_for_is_loud(self, tmp_path: Path) -> None:
        """FAULTS 147: TLS in the middle is refused, and said to be what it is."""
        files = write_certificate(tmp_path)
        async with relay(files) as (url, _), peer(url, ready=False) as a:
            lost = await a.lost()
            assert lost.reason.startswith("TLS: ")
            assert "certificate" in lost.reason

    async def test_a_middleman_with_a_trusted_certificate_cannot_pass_the_proofs_on(
        self, tmp_path: Path
    ) -> None:
        """FAULTS 113: two TLS connections are two channels, however trusted both are."""
        files = write_certificate(tmp_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.cert, files.key)
        trusting = ssl.create_default_context(cafile=files.cert)
        async with relay(files) as (url, driver):
            real = ServerUrl.parse(url)

            async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                far = await asyncio.open_connection(real.host, real.port, ssl=trusting)
                await asyncio.gather(pump(reader, far[1]), pump(far[0], writer))

            middle = await asyncio.start_server(between, "127.0.0.1", 0, ssl=context)
            async with middle:
                port = middle.sockets[0].getsockname()[1]
                tls = ClientTls(files.cert, alpn=("http/1.1",))
                async with peer(f"https://127.0.0.1:{port}", tls=tls, ready=False) as victim:
                    lost = await victim.lost()
                    assert "proof" in lost.reason
                    assert driver.core.clients == 0

    async def test_it_comes_back_after_a_loss_and_packets_flow_again(self) -> None:
        async with relay() as (url, driver), peer(url) as a, peer(url) as b:
            for connection in list(driver._connections.values()):
                connection.transport.abort()
            await a.until(lambda: len(a.of(RelayReady)) == 2)
            await b.until(lambda: len(b.of(RelayReady)) == 2)
            await exchange(a, b)

    async def test_nobody_there_says_so_and_is_tried_again(self) -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        async with peer(f"http://127.0.0.1:{port}", ready=False) as a:
            await a.until(lambda: len(a.of(RelayLost)) >= 2)
            assert a.of(RelayLost)[0].reason.startswith("connecting: ")
            async with relay(port=port):
                await a.until(lambda: a.connection.ready)
                await a.connection.close()

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (b"HTTP/1.1 200 OK\r\n\r\n<html>", "the server answers 200 OK"),
            (b"HTTP/1.1 302 Found\r\nLocation: http://portal/\r\n\r\n", "302"),
            (b"SSH-2.0-x\r\n", "not HTTP"),
            (b"", "closed"),
        ],
    )
    async def test_what_is_no_relay_is_not_taken_for_one(self, answer: bytes, words: str) -> None:
        """FAULTS 147: a captive portal, another protocol, a door that shuts."""

        async def portal(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

        async with listening(portal) as port, peer(f"http://127.0.0.1:{port}", ready=False) as a:
            lost = await a.lost()
            assert lost.reason.startswith("asking for the relay: ")
            assert words in lost.reason

    async def test_one_that_never_answers_is_given_up(self) -> None:
        """FAULTS 147: no hang."""
        hole = Hole()
        async with listening(hole) as port:
            url = f"http://127.0.0.1:{port}"
            async with peer(url, ready=False, connect_timeout=0.2) as a:
                assert "no answer within 0.2 s" in (await a.lost()).reason
            await hole.ended.wait()

    async def test_closing_while_it_connects_leaves_nothing(self) -> None:
        """FAULTS 160: the task ends and the connection with it."""
        hole = Hole()
        async with listening(hole) as port:
            async with peer(f"http://127.0.0.1:{port}", ready=False) as a:
                await hole.began.wait()
            await a.connection.close()
            await hole.ended.wait()
            assert [t for t in asyncio.all_tasks() if "dial" in repr(t.get_coro())] == []

    async def test_a_receiver_that_does_not_read_costs_others_nothing(self) -> None:
        """FAULTS 63: its transport is bounded, packets wait in the core, others go on."""
        fast = RelayServerConfig(rate=1e9, burst=1e9)
        async with relay(config=fast) as (url, driver), peer(url) as a, peer(url) as b, peer(url) as c:
            wire = c.connection._wire
            assert wire is not None
            assert wire.transport is not None
            wire.transport.pause_reading()
            for _ in range(400):
                a.connection.send(bytes(60_000), c.key)
                await exchange(a, b)
            assert driver.core.stats.dropped + a.connection.core.drops.total > 0
            sizes = [each.transport.get_write_buffer_size() for each in driver._connections.values()]
            assert max(sizes) < 256 << 10

    async def test_a_sender_over_its_rate_is_slowed_down_and_loses_nothing(self) -> None:
        """FAULTS 118: by back-pressure alone."""
        config = RelayServerConfig(rate=4e6, burst=1)
        async with relay(config=config) as (url, _), peer(url) as a, peer(url) as b:
            begin = asyncio.get_running_loop().time()
            for number in range(200):
                a.connection.send(number.to_bytes(4, "big") + bytes(9996), b.key)
                await b.until(lambda: len(b.of(PacketReceived)) >= number - 4)  # noqa: B023
            await b.until(lambda: len(b.of(PacketReceived)) == 200)
            # the first burst and the last read are free
            assert asyncio.get_running_loop().time() - begin > (2_000_000 - 65_573 - 262_144) / 4e6
            assert [int.from_bytes(e.data[:4], "big") for e in b.of(PacketReceived)] == list(range(200))

    async def test_a_client_that_says_nothing_is_closed(self) -> None:
        """FAULTS 52: the upgrade done and no proof."""
        async with relay(config=RelayServerConfig(handshake_timeout=0.2)) as (url, _):
            where = ServerUrl.parse(url)
            reader, writer = await asyncio.open_connection(where.host, where.port)
            writer.write(b"GET /v1/relay HTTP/1.1\r\n\r\n")
            async with asyncio.timeout(5):
                everything = await reader.read()
            assert frame(FrameType.REFUSED, b"\x08no key was proved in time") in everything
            writer.close()


class TestThroughProxies:
    @pytest.mark.parametrize("scheme", ["http", "socks5"])
    @pytest.mark.parametrize("secure", [False, True])
    @pytest.mark.parametrize("login", [False, True])
    async def test_it_connects(self, tmp_path: Path, scheme: str, secure: bool, login: bool) -> None:
        files = write_certificate(tmp_path) if secure else None
        tls = ClientTls(files.cert, alpn=("http/1.1",)) if files else ClientTls()
        proxy = (
            ConnectProxy("al:pass word" if login else None)
            if scheme == "http"
            else SocksProxy((b"al", b"pass word") if login else None)
        )
        async with relay(files) as (url, _), listening(proxy) as port:
            user = "al:pass%20word@" if login else ""
            through = RelayProxy.parse(f"{scheme}://{user}127.0.0.1:{port}")
            async with peer(url, tls=tls, proxy=through) as a, peer(url, tls=tls) as b:
                await exchange(a, b)
                await exchange(b, a)
            assert proxy.targets == [ServerUrl.parse(url).authority]

    async def test_a_name_is_left_to_the_proxy(self) -> None:
        proxy = SocksProxy()
        async with relay() as (url, _), listening(proxy) as port:
            named = url.replace("127.0.0.1", "localhost")
            async with peer(named, proxy=RelayProxy.parse(f"socks5h://127.0.0.1:{port}")):
                assert proxy.targets[0].startswith("localhost:")

    @pytest.mark.parametrize("scheme", ["http", "socks5"])
    async def test_wrong_credentials_are_named_and_not_shown(self, scheme: str) -> None:
        proxy = ConnectProxy("al:right") if scheme == "http" else SocksProxy((b"al", b"right"))
        async with relay() as (url, _), listening(proxy) as port:
            through = RelayProxy.parse(f"{scheme}://al:wrongone@127.0.0.1:{port}")
            async with peer(url, proxy=through, ready=False) as a:
                lost = await a.lost()
            assert lost.reason == "through the proxy: the proxy wants other credentials"
            assert "wrongone" not in repr(through)

    async def test_tinyproxy(self, tmp_path: Path) -> None:
        """Debian's, a process of its own, with a user."""
        program = shutil.which("tinyproxy")
        if program is None:
            pytest.skip("tinyproxy is not installed")
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        conf = tmp_path / "tinyproxy.conf"
        conf.write_text(
            f"Port {port}\nListen 127.0.0.1\nTimeout 60\nBasicAuth al secret\nAllow 127.0.0.1\n"
            f'LogFile "{tmp_path}/log"\n'
        )
        process = await asyncio.create_subprocess_exec(
            program, "-d", "-c", str(conf), stdout=subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(10):
                while True:
                    try:
                        _, writer = await asyncio.open_connection("127.0.0.1", port)
                        writer.close()
                        break
                    except OSError:
                        await asyncio.sleep(0.05)
            through = RelayProxy.parse(f"http://al:secret@127.0.0.1:{port}")
            async with relay() as (url, _), peer(url, proxy=through) as a, peer(url) as b:
                await exchange(a, b)
        finally:
            process.terminate()
            await process.wait()


class TestProxyUrls:
    def test_they_are_read(self) -> None:
        assert RelayProxy.parse("proxy.example") == RelayProxy("http", "proxy.example", 80)
        assert RelayProxy.parse("socks5h://[::1]") == RelayProxy("socks5", "::1", 1080)
        found = RelayProxy.parse("http://a:b%40c@h:3128")
        assert found == RelayProxy("http", "h", 3128, ProxyCredentials("a", "b@c"))

    @pytest.mark.parametrize("url", ["ftp://h", "http://", "http://secretname:secretword@h:99999", "://"])
    def test_what_is_none_is_refused_without_being_shown(self, url: str) -> None:
        with pytest.raises(ValueError, match="proxy") as error:
            RelayProxy.parse(url)
        assert "secret" not in str(error.value)

    def test_the_environment_is_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        server = ServerUrl.parse("https://relay.example")
        assert RelayProxy.from_environment(server) is None
        monkeypatch.setenv("all_proxy", "socks5://s:1")
        assert RelayProxy.from_environment(server) == RelayProxy("socks5", "s", 1)
        monkeypatch.setenv("https_proxy", "http://p:2")
        assert RelayProxy.from_environment(server) == RelayProxy("http", "p", 2)
        monkeypatch.setenv("no_proxy", "relay.example")
        assert RelayProxy.from_environment(server) is None


async def test_a_configuration_reaches_the_core() -> None:
    wrong = RelayClientConfig(server_key=RelayIdentity(bytes(range(1, 33))).public)
    async with relay() as (url, _), peer(url, config=wrong, ready=False) as a:
        assert "another key" in (await a.lost()).reason
