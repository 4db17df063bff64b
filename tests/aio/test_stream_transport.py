"""One TLS port for TURN and HTTP: asyncio protocols on our streams."""

from __future__ import annotations

import asyncio
import socket

import pytest

from certificates import Files, client_context
from natwalk.aio.tls import ServerTls
from natwalk.core import Transport
from turn_serving import relay_both_ways, serving, until


class Http(asyncio.Protocol):
    """Answers every request with its length, in the way of a small HTTP server."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.log.append("made")

    def data_received(self, data: bytes) -> None:
        self.data += data
        while b"\r\n\r\n" in self.data:
            head, _, self.data = self.data.partition(b"\r\n\r\n")
            size = int(head.split(b"/")[1].split()[0])
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            self.transport.write(b"x" * size)
            if b"Connection: close" in head:
                self.transport.close()

    def pause_writing(self) -> None:
        self.log.append("pause")

    def resume_writing(self) -> None:
        self.log.append("resume")

    def eof_received(self) -> bool:
        self.log.append("eof")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.log.append("lost")


GET = b"GET /%d HTTP/1.1\r\nHost: localhost\r\n%s\r\n"


@pytest.mark.parametrize("alpn", [(), ("http/1.1",), ("h2", "http/1.1"), ("unknown",)], ids=str)
async def test_http_on_the_port_of_turn(alpn: tuple[str, ...], files: Files, tls: ServerTls) -> None:
    """By ALPN, or without it by the first byte, the decrypted connection is somebody else's."""
    log: list[str] = []
    async with serving(Transport.TLS, tls=tls, on_other=lambda: Http(log)) as server:
        web = await server.connect(context=client_context(files, *alpn))
        for size in (3, 200_000):
            web.send(GET % (size, b""))
            head = await web.reader.readuntil(b"\r\n\r\n")
            assert head.endswith(b"Content-Length: %d\r\n\r\n" % size)
            assert await web.reader.readexactly(size) == b"x" * size
        web.send(GET % (1, b"Connection: close\r\n"))
        assert (await web.reader.read()).endswith(b"\r\n\r\nx")
        await web.close()
        await until(lambda: log[-1] == "lost")
        assert log.count("made") == log.count("lost") == 1
        assert server.driver.connections == 0


@pytest.mark.parametrize("alpn", [(), ("stun.turn",), ("stun.nat-discovery", "http/1.1")], ids=str)
async def test_turn_on_the_port_of_http(
    alpn: tuple[str, ...], peer: socket.socket, files: Files, tls: ServerTls
) -> None:
    async with (
        serving(Transport.TLS, tls=tls, on_other=lambda: Http([])) as server,
        await server.connect(context=client_context(files, *alpn)) as client,
    ):
        await relay_both_ways(client, peer)


async def test_no_http_is_offered_where_there_is_none(files: Files, tls: ServerTls) -> None:
    async with serving(Transport.TLS, tls=tls) as server:
        client = await server.connect(context=client_context(files, "http/1.1"))
        assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() is None
        client.send(b"POST /3 HTTP/1.1\r\n\r\n")
        assert await client.ended()
        await client.close()


async def test_a_web_client_that_does_not_read_pauses_the_protocol(files: Files, tls: ServerTls) -> None:
    """Flow control reaches the protocol, and the write timeout ends what never moves again."""
    log: list[str] = []
    async with serving(Transport.TLS, tls=tls, on_other=lambda: Http(log)) as server:
        web = await server.connect(context=client_context(files))
        web.writer.transport.pause_reading()
        web.send(GET % (30 << 20, b""))
        await until(lambda: "pause" in log)
        web.writer.transport.resume_reading()
        await web.reader.readuntil(b"\r\n\r\n")
        await web.reader.readexactly(30 << 20)
        await until(lambda: "resume" in log)
        web.writer.write_eof() if web.writer.can_write_eof() else web.writer.transport.abort()
        await until(lambda: log[-1] == "lost")
        await web.close()
