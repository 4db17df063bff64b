"""Connections to TURN servers that ICE asks for, on loopback."""

from __future__ import annotations

import asyncio

import pytest

from natwalk.aio.relay_links import RelayLinks
from natwalk.core import Address, Path, Transport
from natwalk.ice import TurnServerAddress
from natwalk.stun import Method, encode, request

HELLO = encode(request(Method.BINDING, bytes(12)))


class Ends:
    """What the links told."""

    def __init__(self) -> None:
        self.messages: list[tuple[Path, bytes]] = []
        self.closed: asyncio.Queue[tuple[Path, str]] = asyncio.Queue()
        self.opened: asyncio.Queue[Address | str] = asyncio.Queue()
        self.links = RelayLinks(self._take, lambda path, reason: self.closed.put_nowait((path, reason)))

    def _take(self, path: Path, messages: list[bytes]) -> None:
        self.messages += [(path, message) for message in messages]

    async def open(self, port: int) -> tuple[Path | None, str]:
        """The path of a connection to ``port``, or why there is none."""
        server = TurnServerAddress(Address("127.0.0.1", port), "u", "p", Transport.TCP)
        self.links.open(server, self.opened.put_nowait, self.opened.put_nowait)
        async with asyncio.timeout(10):
            found = await self.opened.get()
        if isinstance(found, Address):
            return Path(found, server.address, Transport.TCP), ""
        return None, found


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.read(100))
    await writer.drain()
    writer.close()


async def test_messages_pass_and_the_other_side_may_end_it() -> None:
    ends = Ends()
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        path, _ = await ends.open(server.sockets[0].getsockname()[1])
        assert path is not None
        ends.links.send(path, [HELLO])
        async with asyncio.timeout(10):
            gone, _ = await ends.closed.get()
    assert ends.messages == [(path, HELLO)]
    assert gone == path
    assert len(ends.links) == 0
    ends.links.send(path, [HELLO])
    ends.links.release(path)


async def test_a_connection_that_cannot_be_had_says_why() -> None:
    ends = Ends()
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
    assert await ends.open(port) == (None, "Connection refused")


@pytest.mark.parametrize("waits", [True, False])
async def test_after_the_end_nothing_is_left_and_nothing_is_told(waits: bool) -> None:
    ends = Ends()
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        path, _ = await ends.open(port)
        assert path is not None
        other = TurnServerAddress(Address("127.0.0.1", port), "u", "p", Transport.TCP)
        ends.links.open(other, ends.opened.put_nowait, ends.opened.put_nowait)
        if not waits:
            ends.links.close()
        await ends.links.wait_closed()
        assert len(ends.links) == 0
        assert ends.opened.empty()
        assert ends.closed.empty()
