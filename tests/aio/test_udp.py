"""UdpSocket on real loopback sockets, and its error paths on a socket that fails on demand."""

from __future__ import annotations

import asyncio
import errno
import socket
from pathlib import Path

import pytest

from natwalk.aio.udp import ERRORS_BEFORE_A_PAUSE, SEND_QUEUE_LIMIT, UdpSocket
from natwalk.core import Address

RMEM_MAX = int(Path("/proc/sys/net/core/rmem_max").read_text())
ANY_PORT = Address("127.0.0.1", 0)


class Inbox:
    """Collects what a socket receives and lets a test wait for a count."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, Address]] = []
        self.batches = 0
        self._arrived = asyncio.Event()

    def __call__(self, batch: list[tuple[bytes, Address]]) -> None:
        self.received += batch
        self.batches += 1
        self._arrived.set()

    async def wait_for(self, count: int) -> list[bytes]:
        async with asyncio.timeout(5):
            while len(self.received) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return [data for data, _ in self.received]


def ignore(batch: list[tuple[bytes, Address]]) -> None:
    """Take nothing."""


class FailingSocket:
    """Stands in for a UdpSocket's kernel socket: calls named in ``errors`` fail so often with that errno."""

    def __init__(self, real: socket.socket, errors: dict[str, list[int]]) -> None:
        self._real = real
        self.errors = errors
        self.calls: list[str] = []

    def _maybe_fail(self, name: str) -> None:
        self.calls.append(name)
        if self.errors.get(name):
            code = self.errors[name].pop(0)
            raise OSError(code, errno.errorcode[code])

    def sendto(self, data: bytes, remote: Address) -> int:
        self._maybe_fail("sendto")
        return self._real.sendto(data, remote)

    def sendmsg(
        self, data: list[bytes], control: list[tuple[int, int, bytes]], flags: int, to: Address
    ) -> int:
        self._maybe_fail("sendmsg")
        return self._real.sendmsg(data, control, flags, to)

    def recvmsg_into(self, buffers: list[bytearray], space: int) -> object:
        self._maybe_fail("receive")
        return self._real.recvmsg_into(buffers, space)

    def recvfrom(self, size: int) -> object:
        self._maybe_fail("receive")
        return self._real.recvfrom(size)

    def fileno(self) -> int:
        return self._real.fileno()

    def close(self) -> None:
        self._real.close()


def make_fail(udp: UdpSocket, **errors: list[int]) -> FailingSocket:
    """Put a FailingSocket under ``udp``."""
    failing = FailingSocket(udp._sock, errors)
    udp._sock = failing  # type: ignore[assignment]
    return failing


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_datagrams_arrive_in_order_with_the_senders_address(host: str) -> None:
    inbox = Inbox()
    a, b = UdpSocket.bind(Address(host, 0), ignore), UdpSocket.bind(Address(host, 0), inbox)
    assert a.local.port != 0
    for n in range(200):
        assert a.send(b"%d" % n, b.local)
    assert await inbox.wait_for(200) == [b"%d" % n for n in range(200)]
    assert {remote for _, remote in inbox.received} == {a.local}
    assert inbox.batches < 200
    a.close()
    b.close()


@pytest.mark.parametrize("gso", [True, False])
@pytest.mark.parametrize("gro", [True, False])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_send_many_keeps_boundaries_and_order(host: str, gso: bool, gro: bool) -> None:
    """Whatever the kernel coalesces, each datagram arrives whole and alone."""
    inbox = Inbox()
    a, b = UdpSocket.bind(Address(host, 0), ignore), UdpSocket.bind(Address(host, 0), inbox)
    a.gso &= gso
    if not gro:
        b._sock.setsockopt(17, 104, 0)
        b.gro = False
    sizes = (
        [1200] * 150 + [700] + [1200] * 3 + [1300, 1, 1, 1, 0, 0, 5, 5, 5, 9000, 9000, 40000, 40000, 65488, 8]
    )
    datagrams = [bytes([n % 251]) * size for n, size in enumerate(sizes)]
    assert a.send_many(datagrams, b.local) == len(datagrams)
    assert await inbox.wait_for(len(datagrams)) == datagrams
    assert a.drops.total == 0
    a.close()
    b.close()


async def test_send_many_needs_few_system_calls() -> None:
    inbox = Inbox()
    a, b = UdpSocket.bind(ANY_PORT, ignore), UdpSocket.bind(ANY_PORT, inbox)
    if not a.gso:
        pytest.skip("this kernel has no UDP_SEGMENT")
    failing = make_fail(a)
    a.send_many([b"x" * 1200] * 108, b.local)
    assert failing.calls == ["sendmsg", "sendmsg"]
    await inbox.wait_for(108)
    a.close()
    b.close()


async def test_a_kernel_that_refuses_gso_gets_single_sends_from_then_on() -> None:
    inbox = Inbox()
    a, b = UdpSocket.bind(ANY_PORT, ignore), UdpSocket.bind(ANY_PORT, inbox)
    a.gso = True
    failing = make_fail(a, sendmsg=[errno.EIO])
    assert a.send_many([b"x" * 100] * 3, b.local) == 3
    assert not a.gso
    assert a.send_many([b"y" * 100] * 3, b.local) == 3
    assert failing.calls == ["sendmsg"] + ["sendto"] * 6
    assert await inbox.wait_for(6) == [b"x" * 100] * 3 + [b"y" * 100] * 3
    a.close()
    b.close()


async def test_segments_beyond_the_mtu_do_not_turn_gso_off() -> None:
    a = UdpSocket.bind(ANY_PORT, ignore)
    a.gso = True
    make_fail(a, sendmsg=[errno.EINVAL], sendto=[errno.EMSGSIZE] * 3)
    assert a.send_many([b"x" * 100] * 3, a.local) == 0
    assert a.gso
    assert a.drops.counts == {"EMSGSIZE": 3}
    a.close()


async def test_df_is_set_and_a_datagram_too_big_is_counted() -> None:
    """65508 bytes fit no IPv4 datagram: EMSGSIZE, no exception."""
    reasons: list[tuple[str, Address | None]] = []
    a = UdpSocket.bind(ANY_PORT, ignore, on_error=lambda reason, remote: reasons.append((reason, remote)))
    assert a._sock.getsockopt(socket.IPPROTO_IP, 10) == 3
    assert a.send(b"x" * 65508, a.local) is False
    assert reasons == [("EMSGSIZE", a.local)]
    a.close()


async def test_ipv6_socket_is_not_dual_stack_and_sets_df() -> None:
    a = UdpSocket.bind(Address("::1", 0), ignore)
    assert a._sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
    assert a._sock.getsockopt(socket.IPPROTO_IPV6, 23) == 3
    a.close()


async def test_receive_buffer_is_raised() -> None:
    a = UdpSocket.bind(ANY_PORT, ignore, receive_buffer=1 << 20)
    assert a._sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= min(1 << 20, RMEM_MAX)
    a.close()


@pytest.mark.parametrize("remote", [Address("::1", 9), Address("255.255.255.255", 9)])
async def test_impossible_destinations_are_counted_not_raised(remote: Address) -> None:
    """The other family, and broadcast without permission."""
    a = UdpSocket.bind(ANY_PORT, ignore)
    assert a.send(b"x", remote) is False
    assert a.send_many([b"x", b"y"], remote) == 0
    assert a.drops.counts == {"EAFNOSUPPORT" if remote.version == 6 else "EACCES": 3}
    a.close()


@pytest.mark.parametrize("code", [errno.ECONNREFUSED, errno.EPERM, errno.ENETUNREACH, errno.ENOBUFS])
async def test_send_errors_are_counted_by_reason(code: int) -> None:
    a = UdpSocket.bind(ANY_PORT, ignore)
    make_fail(a, sendto=[code])
    assert a.send(b"x", a.local) is False
    assert a.send(b"x", a.local) is True
    assert a.drops.counts == {errno.errorcode[code]: 1}
    a.close()


async def test_port_closed_by_the_peer_does_not_disturb() -> None:
    inbox = Inbox()
    a, b = UdpSocket.bind(ANY_PORT, inbox), UdpSocket.bind(ANY_PORT, ignore)
    gone = b.local
    b.close()
    for _ in range(50):
        a.send(b"x", gone)
    a.send(b"still here", a.local)
    assert await inbox.wait_for(1) == [b"still here"]
    a.close()


async def test_full_kernel_buffer_queues_in_order_then_drops_the_newest() -> None:
    inbox = Inbox()
    a, b = UdpSocket.bind(ANY_PORT, ignore), UdpSocket.bind(ANY_PORT, inbox)
    make_fail(a, sendto=[errno.EAGAIN, errno.EAGAIN])
    for n in range(SEND_QUEUE_LIMIT):
        assert a.send(b"%d" % n, b.local)
    assert a.queued == SEND_QUEUE_LIMIT
    assert a.send(b"one too many", b.local) is False
    assert a.send_many([b"and", b"two"], b.local) == 0
    assert a.drops.counts == {"send queue full": 3}
    assert await inbox.wait_for(SEND_QUEUE_LIMIT) == [b"%d" % n for n in range(SEND_QUEUE_LIMIT)]
    assert a.queued == 0
    a.close()
    b.close()


async def test_queue_survives_an_error_of_one_datagram() -> None:
    inbox = Inbox()
    a, b = UdpSocket.bind(ANY_PORT, ignore), UdpSocket.bind(ANY_PORT, inbox)
    make_fail(a, sendto=[errno.EAGAIN, errno.EPERM])
    a.send(b"lost", b.local)
    a.send(b"kept", b.local)
    assert await inbox.wait_for(1) == [b"kept"]
    assert a.drops.counts == {"EPERM": 1}
    a.close()
    b.close()


async def test_receive_errors_pause_instead_of_spinning() -> None:
    """A socket that reports nothing but errors is left alone for a while, then read again."""
    inbox = Inbox()
    a = UdpSocket.bind(ANY_PORT, inbox)
    failing = make_fail(a, receive=[errno.ECONNREFUSED] * (ERRORS_BEFORE_A_PAUSE + 3))
    a.send(b"hello", a.local)
    assert await inbox.wait_for(1) == [b"hello"]
    assert a.drops.counts == {"ECONNREFUSED": ERRORS_BEFORE_A_PAUSE + 3}
    assert failing.calls.count("receive") <= ERRORS_BEFORE_A_PAUSE + 3 + 2
    a.close()


async def test_close_is_idempotent_and_final() -> None:
    a = UdpSocket.bind(ANY_PORT, ignore)
    make_fail(a, sendto=[errno.EAGAIN] * 2)
    a.send(b"x", a.local)
    a.close()
    a.close()
    assert a.closed
    assert a.send(b"x", Address("127.0.0.1", 9)) is False
    assert a.send_many([b"x", b"x"], Address("127.0.0.1", 9)) == 0
    assert a.drops.counts == {"closed": 4}


async def test_close_sends_what_is_queued_when_there_is_room() -> None:
    inbox = Inbox()
    a, b = UdpSocket.bind(ANY_PORT, ignore), UdpSocket.bind(ANY_PORT, inbox)
    make_fail(a, sendto=[errno.EAGAIN])
    a.send(b"last words", b.local)
    a.close()
    assert await inbox.wait_for(1) == [b"last words"]
    b.close()


async def test_close_inside_a_callback_is_safe() -> None:
    done = asyncio.Event()
    sockets: list[UdpSocket] = []

    def close_it(*_: object) -> None:
        sockets[0].close()
        done.set()

    sockets.append(UdpSocket.bind(ANY_PORT, close_it, on_error=close_it))
    sockets[0].send(b"x", sockets[0].local)
    async with asyncio.timeout(5):
        await done.wait()
    sockets[0] = UdpSocket.bind(ANY_PORT, close_it, on_error=close_it)
    make_fail(sockets[0], sendto=[errno.EAGAIN, errno.EPERM, errno.EPERM])
    done.clear()
    sockets[0].send(b"x", sockets[0].local)
    sockets[0].send(b"y", sockets[0].local)
    async with asyncio.timeout(5):
        await done.wait()
    assert sockets[0].closed


async def test_close_during_the_error_pause_stays_closed() -> None:
    closed = asyncio.Event()

    def close_at_the_pause(*_: object) -> None:
        if a.drops.total >= ERRORS_BEFORE_A_PAUSE:
            a.close()
            closed.set()

    a = UdpSocket.bind(ANY_PORT, ignore, on_error=close_at_the_pause)
    make_fail(a, receive=[errno.EPERM] * 100)
    a.send(b"x", a.local)
    async with asyncio.timeout(5):
        await closed.wait()
    a._resume()
    assert a.closed


async def test_bind_errors_reach_the_caller() -> None:
    a = UdpSocket.bind(ANY_PORT, ignore)
    with pytest.raises(OSError):
        UdpSocket.bind(a.local, ignore)
    a.close()


def test_bind_needs_a_running_loop() -> None:
    with pytest.raises(RuntimeError):
        UdpSocket.bind(ANY_PORT, ignore)
