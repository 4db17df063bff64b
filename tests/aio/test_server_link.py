"""A client's connection to a server: what is dropped, what ends it, and that nothing of it stays."""

from __future__ import annotations

import asyncio
import socket

import pytest

from natwalk.aio.client_tls import ClientTls
from natwalk.aio.dtls_client import DtlsFailed
from natwalk.aio.server_link import SEND_BUFFER_LIMIT, StreamLink, open_link
from natwalk.core import Address, Path, Transport
from natwalk.stun import Method, encode, indication, request
from natwalk.stun.resolution import ServerEndpoint

REQUEST = encode(request(Method.REFRESH, bytes(12)))
DATA = encode(indication(Method.SEND, bytes(12)))
CHANNEL_DATA = b"\x40\x00\x03\xe8" + bytes(1000)


class Ends:
    """A link to a server of the test, and what either side got."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.closed: list[str] = []
        self.accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    def on_messages(self, _: Path, messages: list[bytes]) -> None:
        self.messages += messages

    def on_closed(self, _: Path, reason: str) -> None:
        self.closed.append(reason)

    async def until_closed(self) -> str:
        for _ in range(1000):
            if self.closed:
                return self.closed[0]
            await asyncio.sleep(0.005)
        raise AssertionError("the link does not end")


async def connected(ends: Ends, server: asyncio.Server) -> tuple[StreamLink, asyncio.StreamWriter]:
    address = Address.from_sockname(server.sockets[0].getsockname())
    endpoint = ServerEndpoint(address, Transport.TCP, "localhost")
    link = await open_link(endpoint, ends.on_messages, ends.on_closed)
    assert isinstance(link, StreamLink)
    _, writer = await ends.accepted.get()
    return link, writer


async def listening(ends: Ends) -> asyncio.Server:
    return await asyncio.start_server(lambda *pair: ends.accepted.put_nowait(pair), "127.0.0.1", 0)


async def test_messages_are_cut_out_of_the_stream() -> None:
    ends = Ends()
    async with await listening(ends) as server:
        link, writer = await connected(ends, server)
        for part in (REQUEST[:7], REQUEST[7:] + CHANNEL_DATA + DATA[:1], DATA[1:]):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
        for _ in range(100):
            if len(ends.messages) == 3:
                break
            await asyncio.sleep(0.01)
        assert ends.messages == [REQUEST, CHANNEL_DATA, DATA]
        link.close()
        link.close()
        await link.wait_closed()
        writer.close()
        await writer.wait_closed()
    assert ends.closed == []


async def test_what_is_no_message_ends_the_link_after_those_before_it() -> None:
    ends = Ends()
    async with await listening(ends) as server:
        link, writer = await connected(ends, server)
        writer.write(REQUEST + b"220 mail.example.org\r\n")
        assert "neither STUN nor ChannelData" in await ends.until_closed()
        assert ends.messages == [REQUEST]
        link.send([REQUEST])
        assert link.drops.counts == {"closed": 1}
        await link.wait_closed()
        writer.close()
        await writer.wait_closed()


async def test_server_that_goes_is_told_once() -> None:
    ends = Ends()
    async with await listening(ends) as server:
        link, writer = await connected(ends, server)
        writer.close()
        await writer.wait_closed()
        assert "closed" in await ends.until_closed()
        await link.wait_closed()
    assert len(ends.closed) == 1


async def test_slow_server_costs_data_but_no_requests() -> None:
    """While a megabyte waits, relayed datagrams are dropped; what keeps the allocation alive is queued."""
    ends = Ends()
    async with await listening(ends) as server:
        link, writer = await connected(ends, server)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        transport = link._transport
        assert transport is not None
        for _ in range(40_000):
            link.send([CHANNEL_DATA] * 4)
            if link.drops.total:
                break
        assert link.drops.counts == {"the stream is full": 1}
        waiting = transport.get_write_buffer_size()
        assert SEND_BUFFER_LIMIT < waiting < SEND_BUFFER_LIMIT + 8 * len(CHANNEL_DATA)
        link.send([CHANNEL_DATA, REQUEST, DATA])
        assert transport.get_write_buffer_size() == waiting + len(REQUEST)
        link.close()
        writer.transport.abort()
        await link.wait_closed()


async def test_server_that_is_slow_to_go_is_not_waited_for() -> None:
    ends = Ends()
    async with await listening(ends) as server:
        link, writer = await connected(ends, server)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        while not link.drops.total:
            link.send([CHANNEL_DATA] * 64)
        link.close()
        async with asyncio.timeout(5):
            await link.wait_closed()
        writer.transport.abort()


async def test_datagrams_of_others_are_dropped() -> None:
    ends = Ends()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        address = Address.from_sockname(server.getsockname())
        endpoint = ServerEndpoint(address, Transport.UDP, "localhost")
        link = await open_link(endpoint, ends.on_messages, ends.on_closed, local=Address("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.sendto(b"forged", link.path.local)
        server.sendto(REQUEST, link.path.local)
        for _ in range(100):
            if ends.messages:
                break
            await asyncio.sleep(0.01)
        assert ends.messages == [REQUEST]
        assert link.drops.counts["not from the server"] == 1
        link.close()
        await link.wait_closed()


async def test_dtls_with_something_that_speaks_none() -> None:
    """An alert ends the handshake, noise does not; cancelled, no socket is left (a warning here)."""
    ends = Ends()
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setblocking(False)
        server.bind(("127.0.0.1", 0))
        address = Address.from_sockname(server.getsockname())
        endpoint = ServerEndpoint(address, Transport.DTLS, "localhost")

        async def answer(data: bytes) -> None:
            _, client = await loop.sock_recvfrom(server, 65536)
            server.sendto(data, client)

        opening = asyncio.create_task(
            open_link(endpoint, ends.on_messages, ends.on_closed, tls=ClientTls(verify=False))
        )
        await answer(b"noise" * 20)
        await asyncio.sleep(0.05)
        assert not opening.done()
        await asyncio.sleep(0)
        fatal_handshake_failure = bytes.fromhex("15fefd0000000000000000000202 28")
        _, client = await loop.sock_recvfrom(server, 65536)  # sent again after a second: DTLS has a timer
        server.sendto(fatal_handshake_failure, client)
        with pytest.raises(DtlsFailed, match="handshake"):
            async with asyncio.timeout(5):
                await opening
        cancelled = asyncio.create_task(open_link(endpoint, ends.on_messages, ends.on_closed))
        await asyncio.sleep(0.01)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
    assert ends.closed == []
