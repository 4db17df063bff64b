"""The TURN server over TCP and TLS on the loopback interface."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
import ssl
from collections.abc import Iterator

import pytest

from certificates import Files, client_context
from natwalk.aio import accepting
from natwalk.aio.stream_limits import ClientLimits
from natwalk.aio.tls import ServerTls
from natwalk.aio.turn_server import TurnServerDriver
from natwalk.core import Address, Transport
from natwalk.stun import (
    ERROR_CODE,
    MessageClass,
    Method,
    encode,
    request,
)
from natwalk.turn import (
    EndReason,
)
from turn_serving import BINDING, LOOPBACK, address_of, make_config, relay_both_ways, serving, until
from turn_stream import StreamTurnClient


async def test_tcp(peer: socket.socket) -> None:
    async with serving() as server, await server.connect() as client:
        await relay_both_ways(client, peer)


async def test_ipv6(peer: socket.socket) -> None:
    async with serving(address=Address("::1", 0)) as server, await server.connect() as client:
        await relay_both_ways(client, peer)


async def test_tls(peer: socket.socket, files: Files, tls: ServerTls) -> None:
    async with (
        serving(Transport.TLS, tls=tls) as server,
        await server.connect(context=client_context(files, "stun.turn")) as client,
    ):
        tls_object = client.writer.get_extra_info("ssl_object")
        assert tls_object.selected_alpn_protocol() == "stun.turn"
        await relay_both_ways(client, peer)


async def test_tls_1_2_and_no_alpn(peer: socket.socket, files: Files, tls: ServerTls) -> None:
    context = client_context(files)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with (
        serving(Transport.TLS, tls=tls) as server,
        await server.connect(context=context) as client,
    ):
        await relay_both_ways(client, peer)


async def test_the_end_of_the_connection_is_the_end_of_the_allocation() -> None:
    async with serving() as server:
        client = await server.connect()
        await client.allocate()
        assert server.driver.stats.allocations == 1
        await client.close()
        await until(lambda: bool(server.ended()))
        assert server.ended() == [EndReason.CLIENT_GONE]
        assert server.driver.connections == 0


async def test_a_connection_cut_off_ends_the_allocation_too() -> None:
    async with serving() as server:
        client = await server.connect()
        await client.allocate()
        sock = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.writer.transport.abort()
        await until(lambda: bool(server.ended()))


async def test_requests_in_one_segment_are_answered_in_order() -> None:
    async with serving() as server, await server.connect() as client:
        client.send(b"".join(encode(request(Method.BINDING, bytes([n] * 12))) for n in range(50)))
        assert [(await client.message())[8] for _ in range(50)] == list(range(50))


@pytest.mark.parametrize(
    "garbage", [b"\x80", b"\xff" * 2000, b"POST / HTTP/1.1\r\n\r\n", b"\x40\x00\xff\xff"]
)
async def test_garbage_closes_the_connection(garbage: bytes) -> None:
    """FAULTS 25: and only that one."""
    async with serving() as server, await server.connect() as other:
        client = await server.connect()
        client.send(garbage)
        assert await client.ended()
        await client.close()
        other.send(BINDING)
        assert (await other.message())[:2] == b"\x01\x01"


async def test_closing_the_server_sends_what_is_queued_and_closes_its_connections() -> None:
    async with serving() as server:
        client = await server.connect()
        client.send(BINDING)
        await client.message()
        server.driver.close()
        assert await client.ended()
        await client.close()
        with pytest.raises(ConnectionRefusedError):
            await server.connect()


# Limits.


SHORT = ClientLimits(first_message_timeout=0.3, idle_timeout=0.3, write_timeout=0.5)


async def test_connections_that_say_nothing_are_closed(files: Files, tls: ServerTls) -> None:
    """FAULTS 52: no bytes, half a ClientHello, one byte now and then, TLS without STUN; others are served."""
    hello = ssl.MemoryBIO()
    client = client_context(files).wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    half = hello.read()[:100]
    async with serving(Transport.TLS, tls=tls, limits=SHORT) as server:
        silent = [await server.connect() for _ in range(20)]
        for connection in silent[10:]:
            connection.send(half)
        silent.append(await server.connect(context=client_context(files)))
        dripping = await server.connect(context=client_context(files))
        async with await server.connect(context=client_context(files)) as real:
            assert (await real.allocate()).message_class is MessageClass.SUCCESS
            for at in range(19):
                dripping.send(BINDING[at : at + 1])
                await asyncio.sleep(0.001)
            for connection in [*silent, dripping]:
                assert await connection.ended()
                await connection.close()
            assert server.driver.connections == 1
            assert server.drops["no message in time"] == 22


async def test_a_connection_with_an_allocation_may_be_idle() -> None:
    async with serving(limits=SHORT) as server, await server.connect() as client:
        await client.allocate()
        idle = await server.connect()
        idle.send(BINDING)
        await idle.message()
        assert await idle.ended()
        await idle.close()
        assert server.drops == {"idle without an allocation": 1}
        client.send(BINDING)
        await client.message()


async def test_connections_are_bounded_by_source_and_in_total() -> None:
    """FAULTS 52: whom the bound of one source stops is not whom it protects."""
    limits = ClientLimits(connections=5, connections_per_source=3)
    async with serving(limits=limits, address=Address("127.0.0.1", 0)) as server:
        mine = [await server.connect() for _ in range(3)]
        for client in mine:
            client.send(BINDING)
            await client.message()
        refused = await server.connect()
        assert await refused.ended()
        assert server.drops == {"too many connections from one source": 1}
        others = [await connect_from(f"127.0.0.{n}", server.address) for n in (2, 3)]
        for other in others:
            other.send(BINDING)
            await other.message()
        beyond = await connect_from("127.0.0.4", server.address)
        assert await beyond.ended()
        assert server.drops["too many connections"] == 1
        for client in [*mine, *others, refused, beyond]:
            await client.close()
        await until(lambda: server.driver.connections == 0)
        again = await server.connect()
        again.send(BINDING)
        await again.message()
        await again.close()


async def connect_from(host: str, server: Address) -> StreamTurnClient:
    reader, writer = await asyncio.open_connection(server.host, server.port, local_addr=(host, 0))
    return StreamTurnClient(reader, writer, "alice", "correct horse")


async def test_a_client_that_does_not_read_loses_data_and_then_its_connection(peer: socket.socket) -> None:
    """FAULTS 63: the queue is bounded, a peer of another client is not affected, the write timeout closes."""
    limits = ClientLimits(write_timeout=0.5)
    async with serving(limits=limits) as server, await server.connect() as other:
        await other.allocate()
        await other.bind_channel(0x4000, address_of(peer))
        assert other.relay is not None
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            await loop.sock_connect(sock, server.address.sockname)
            reader, writer = await asyncio.open_connection(sock=sock.dup())
            slow = StreamTurnClient(reader, writer, "alice", "correct horse")
            await slow.allocate()
            await slow.bind_channel(0x4000, address_of(peer))
            writer.transport.pause_reading()
            assert slow.relay is not None
            for _ in range(10_000):
                with contextlib.suppress(BlockingIOError):
                    peer.sendto(bytes(1200), slow.relay)
                await asyncio.sleep(0)
                if "the client reads too slowly" in server.drops:
                    break
            assert server.drops["the client reads too slowly"] >= 1
            connection = max(server.driver._streams._connections, key=lambda c: c._stream.buffered)
            assert connection._stream.buffered <= limits.write_buffer + (64 << 10)
            peer.sendto(b"for another", other.relay)
            assert await other.message() == b"\x40\x00\x00\x0bfor another"
            await until(lambda: EndReason.CLIENT_GONE in server.ended())
            assert server.drops["a client's connection: TimeoutError"] == 1
            writer.transport.abort()
            await asyncio.sleep(0)


async def test_accepting_pauses_without_file_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS 65: EMFILE gives 508 to allocations, accept is not tried again and again, and it recovers."""
    monkeypatch.setattr(accepting, "ACCEPT_PAUSE", 0.05)
    async with serving() as server, await server.connect() as client:
        await client.learn_nonce()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket() as waiting:
            waiting.setblocking(False)
            used = max(int(name) for name in os.listdir("/proc/self/fd"))
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, hard))
            hogs = []
            try:
                with contextlib.suppress(OSError):
                    while True:
                        hogs.append(os.dup(0))
                await asyncio.get_running_loop().sock_connect(waiting, server.address.sockname)
                await until(lambda: server.drops.get("no file descriptor for a connection", 0) >= 2)
                refused = await client.allocate()
                assert refused.message_class is MessageClass.ERROR
                code = refused.get(ERROR_CODE)
                assert code is not None
                assert code.code == 508
                assert server.drops["no file descriptor for a connection"] < 1000
            finally:
                for fd in hogs:
                    os.close(fd)
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await asyncio.get_running_loop().sock_sendall(waiting, BINDING)
            async with asyncio.timeout(5):
                assert (await asyncio.get_running_loop().sock_recv(waiting, 100))[:2] == b"\x01\x01"
            assert (await client.allocate()).message_class is MessageClass.SUCCESS


@pytest.mark.parametrize(("transport", "with_tls"), [(Transport.TLS, False), (Transport.TCP, True)])
async def test_a_certificate_is_for_tls(transport: Transport, with_tls: bool, tls: ServerTls) -> None:
    driver = TurnServerDriver(make_config())
    with driver_closed(driver), pytest.raises(ValueError, match="certificate"):
        driver.add_listener(LOOPBACK, transport, tls=tls if with_tls else None)


async def test_an_address_that_is_taken() -> None:
    async with serving() as server:
        with pytest.raises(OSError, match="in use") as info:
            server.driver.add_listener(server.address, Transport.TCP)
        assert info.value.errno == errno.EADDRINUSE


@contextlib.contextmanager
def driver_closed(driver: TurnServerDriver) -> Iterator[None]:
    try:
        yield
    finally:
        driver.close()
