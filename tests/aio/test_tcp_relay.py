"""TCP allocations on the loopback interface (RFC 6062)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from certificates import Files, client_context
from natwalk.aio import splice
from natwalk.aio.stream_limits import ClientLimits
from natwalk.aio.tls import ServerTls
from natwalk.core import Address, Transport
from natwalk.stun import (
    CONNECTION_ID,
    ERROR_CODE,
    XOR_PEER_ADDRESS,
    MessageClass,
    Method,
    decode,
)
from natwalk.turn import ConnectionReleased, PeerPolicy, RelayReleased
from turn_serving import Server, address_of, make_config, serving, until
from turn_stream import TCP, StreamTurnClient


@contextlib.asynccontextmanager
async def relaying(transport: Transport = Transport.TCP, **options: Any) -> AsyncIterator[Server]:
    async with serving(transport, config=make_config(tcp_relays=True), **options) as server:
        yield server


class Peer:
    """A listening TCP socket on the loopback interface."""

    def __init__(self) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.address = address_of(self.sock)

    async def accept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Address]:
        async with asyncio.timeout(5):
            sock, remote = await asyncio.get_running_loop().sock_accept(self.sock)
        reader, writer = await asyncio.open_connection(sock=sock)
        return reader, writer, Address.from_sockname(remote)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *error: object) -> None:
        self.sock.close()


async def connect(client: StreamTurnClient, peer: Address) -> int:
    response = await client.ask(Method.CONNECT, (XOR_PEER_ADDRESS, peer))
    assert response.message_class is MessageClass.SUCCESS, response
    connection_id = response.get(CONNECTION_ID)
    assert connection_id is not None
    return connection_id


async def bind(server: Server, connection_id: int, **options: Any) -> StreamTurnClient:
    """A data connection; what is in its framer came right behind the response."""
    data = await server.connect(**options)
    await data.learn_nonce()
    response = await data.ask(Method.CONNECTION_BIND, (CONNECTION_ID, connection_id))
    assert response.message_class is MessageClass.SUCCESS, response
    return data


async def exactly(reader: asyncio.StreamReader, size: int) -> bytes:
    async with asyncio.timeout(10):
        return await reader.readexactly(size)


async def at_end(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(10):
        return await reader.read()


async def pass_both_ways(server: Server, client: StreamTurnClient, **options: Any) -> None:
    """Connect to a peer, exchange a few megabytes at once, and end one direction after the other."""
    with Peer() as peer:
        connection_id, (reader, writer, remote) = await asyncio.gather(
            connect(client, peer.address), peer.accept()
        )
        assert remote == client.relay
        data = await bind(server, connection_id, **options)
        up, down = b"u" * (5 << 20), b"d" * (3 << 20)
        data.send(up)
        writer.write(down)
        got_up, got_down = await asyncio.gather(exactly(reader, len(up)), exactly(data.reader, len(down)))
        assert (got_up, got_down) == (up, down)
        writer.write(b"last words")
        writer.write_eof()
        assert await at_end(data.reader) == b"last words"
        await data.close()
        assert await at_end(reader) == b""
        writer.close()
        await until(lambda: server.driver.stats.connections == 0)
        await until(lambda: server.driver.connections == 1)
    assert client.relay is not None


async def test_a_connection_to_a_peer() -> None:
    async with relaying() as server, await server.connect() as client:
        response = await client.allocate(TCP)
        assert response.message_class is MessageClass.SUCCESS
        await pass_both_ways(server, client)


async def test_a_connection_to_a_peer_over_tls(files: Files, tls: ServerTls) -> None:
    context = client_context(files)
    async with (
        relaying(Transport.TLS, tls=tls) as server,
        await server.connect(context=context) as client,
    ):
        await client.allocate(TCP)
        await pass_both_ways(server, client, context=context)


async def test_a_client_may_end_its_direction_and_still_read() -> None:
    """Half-close is passed on."""
    async with relaying() as server, await server.connect() as client:
        await client.allocate(TCP)
        with Peer() as peer:
            connection_id, (reader, writer, _) = await asyncio.gather(
                connect(client, peer.address), peer.accept()
            )
            data = await bind(server, connection_id)
            data.send(b"question")
            data.writer.write_eof()
            assert await at_end(reader) == b"question"
            writer.write(b"answer" * 100_000)
            writer.close()
            assert await at_end(data.reader) == b"answer" * 100_000
            await data.close()
            await until(lambda: server.driver.connections == 1)


async def test_a_half_open_connection_without_traffic_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splice, "HALF_OPEN_TIMEOUT", 0.1)
    async with relaying() as server, await server.connect() as client:
        await client.allocate(TCP)
        with Peer() as peer:
            connection_id, (reader, writer, _) = await asyncio.gather(
                connect(client, peer.address), peer.accept()
            )
            data = await bind(server, connection_id)
            data.writer.write_eof()
            assert await at_end(reader) == b""
            writer.write(b"still here")
            assert await at_end(data.reader) == b"still here"
            await until(lambda: server.driver.stats.connections == 0)
            await data.close()
            writer.close()


async def test_a_peer_connects() -> None:
    """With a permission: the client hears of it, and what the peer sent meanwhile is not lost."""
    async with relaying() as server, await server.connect() as client:
        await client.allocate(TCP)
        assert client.relay is not None
        await client.permit(Address("127.0.0.1", 0))
        reader, writer = await asyncio.open_connection(client.relay.host, client.relay.port)
        writer.write(b"early" * 1000)
        attempt = decode(await client.message())
        assert attempt.method == Method.CONNECTION_ATTEMPT
        assert attempt.get(XOR_PEER_ADDRESS) == Address.from_sockname(writer.get_extra_info("sockname"))
        connection_id = attempt.get(CONNECTION_ID)
        assert connection_id is not None
        data = await bind(server, connection_id)
        rest = data.framer.rest()
        assert rest + await exactly(data.reader, 5000 - len(rest)) == b"early" * 1000
        data.send(b"late")
        assert await exactly(reader, 4) == b"late"
        await data.close()
        assert await at_end(reader) == b""
        writer.close()


async def test_a_peer_without_permission_is_turned_away() -> None:
    async with relaying() as server, await server.connect() as client:
        await client.allocate(TCP)
        assert client.relay is not None
        reader, writer = await asyncio.open_connection(client.relay.host, client.relay.port)
        assert await at_end(reader) == b""
        writer.close()
        assert server.driver.stats.connections == 0


async def test_a_peer_that_does_not_listen() -> None:
    """447, and the allocation lives."""
    async with relaying() as server, await server.connect() as client:
        await client.allocate(TCP)
        with socket.create_server(("127.0.0.1", 0)) as gone:
            nobody = address_of(gone)
        response = await client.ask(Method.CONNECT, (XOR_PEER_ADDRESS, nobody))
        code = response.get(ERROR_CODE)
        assert code is not None
        assert code.code == 447
        assert server.driver.stats.allocations == 1
        assert len(server.driver._tcp) == 0


async def test_one_relay_may_have_many_connections() -> None:
    async with relaying() as server, await server.connect() as client:
        await client.allocate(TCP)
        for _ in range(5):
            with Peer() as peer:
                _, (_reader, writer, remote) = await asyncio.gather(
                    connect(client, peer.address), peer.accept()
                )
                assert remote == client.relay
                writer.close()
        assert server.driver.stats.connections == 5
        await client.close()
        await until(lambda: server.driver.stats.connections == 0)
        assert len(server.driver._tcp) == 0


async def test_the_end_of_the_allocation_ends_its_connections() -> None:
    async with relaying() as server, await server.connect() as client:
        await client.allocate(TCP)
        with Peer() as peer:
            connection_id, (reader, writer, _) = await asyncio.gather(
                connect(client, peer.address), peer.accept()
            )
            data = await bind(server, connection_id)
            await client.close()
            assert await at_end(reader) == b""
            assert await at_end(data.reader) == b""
            await data.close()
            writer.close()
        await until(lambda: server.driver.connections == 0)
        assert any(isinstance(event, ConnectionReleased) for event in server.events)
        assert RelayReleased(client.relay, Transport.TCP) in server.events  # type: ignore[arg-type]


async def test_a_side_that_does_not_read_holds_the_other_up() -> None:
    """FAULTS 63: no queue grows; what never moves again is closed."""
    limits = ClientLimits(write_timeout=0.5)
    async with relaying(limits=limits) as server, await server.connect() as client:
        await client.allocate(TCP)
        with Peer() as peer:
            connection_id, (_, writer, _) = await asyncio.gather(connect(client, peer.address), peer.accept())
            data = await bind(server, connection_id)
            data.writer.transport.pause_reading()
            joined = server.driver._tcp._joined[connection_id]
            most = 0
            chunk = bytes(1 << 20)
            for _ in range(200):
                writer.write(chunk)
                await asyncio.sleep(0.001)
                most = max(most, joined._to_peer.source.buffered)
                if joined._from_peer.full:
                    break
            assert joined._from_peer.full
            assert most <= splice.HIGH_WATER + (64 << 10)
            await until(lambda: server.driver.stats.connections == 0)
            data.writer.transport.abort()
            writer.transport.abort()
            await asyncio.sleep(0)


async def test_a_refused_peer_gets_no_connection() -> None:
    """FAULTS 2: 403, and no SYN leaves."""
    config = make_config(tcp_relays=True, policy=PeerPolicy())
    async with serving(config=config) as server, await server.connect() as client:
        await client.allocate(TCP)
        with Peer() as peer:
            response = await client.ask(Method.CONNECT, (XOR_PEER_ADDRESS, peer.address))
            code = response.get(ERROR_CODE)
            assert code is not None
            assert code.code == 403
            with pytest.raises(BlockingIOError):
                peer.sock.accept()
