"""The TURN server's UDP sockets: ICMP errors, the DF bit, errors of the network."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from natwalk.aio.readers import EpollReaders
from natwalk.aio.server_socket import ServerSocket
from natwalk.aio.turn import TurnAllocation
from natwalk.aio.turn_server import TurnServerDriver
from natwalk.aio.udp import RECEIVES_PER_WAKE_UP
from natwalk.core import Address
from natwalk.stun import IcmpError
from turn_serving import LOOPBACK, datagram, make_config, until

PORT_UNREACHABLE = {4: (3, 3), 6: (1, 4)}


@pytest.fixture
async def readers() -> AsyncIterator[EpollReaders]:
    readers = EpollReaders(asyncio.get_running_loop(), lambda: None)
    yield readers
    readers.close()


class Relay:
    """A relay socket and what it heard."""

    def __init__(self, readers: EpollReaders, host: str = "127.0.0.1") -> None:
        self.received: list[bytes] = []
        self.icmp: list[tuple[Address, IcmpError]] = []
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((host, 0))
            address = Address.from_sockname(sock.getsockname())
        self.socket = ServerSocket.relay(address, self._take, self._hear, readers)

    def _take(self, batch: list[tuple[bytes, Address]]) -> None:
        self.received += [data for data, _ in batch]

    def _hear(self, peer: Address, error: IcmpError) -> None:
        self.icmp.append((peer, error))

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()


class FailingSocket:
    """A kernel socket of which ``sendto`` fails with each errno of ``errors``, once."""

    def __init__(self, real: socket.socket, errors: list[int]) -> None:
        self._real = real
        self.errors = errors

    def sendto(self, data: bytes, remote: Address) -> int:
        if self.errors:
            code = self.errors.pop(0)
            raise OSError(code, errno.errorcode[code])
        return self._real.sendto(data, remote)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def closed_port(host: str) -> Address:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        return Address.from_sockname(sock.getsockname())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_icmp_error_names_the_peer_and_what_was_wrong(readers: EpollReaders, host: str) -> None:
    with Relay(readers, host) as relay:
        nobody = closed_port(host)
        assert relay.socket.send(b"hello?", nobody)
        await until(lambda: bool(relay.icmp))
        peer, error = relay.icmp[0]
        assert peer == nobody
        assert (error.type, error.code) == PORT_UNREACHABLE[peer.version]
        assert error.data == bytes(4)
        assert relay.socket.drops.total == 0


async def test_a_storm_of_errors_loses_nothing_for_others(readers: EpollReaders, peer: socket.socket) -> None:
    """FAULTS 64: ECONNREFUSED a hundred times; what is for a living peer arrives, nothing counts as lost."""
    living = Address.from_sockname(peer.getsockname())
    nobody = closed_port("127.0.0.1")
    with Relay(readers) as relay:
        for number in range(100):
            assert relay.socket.send(b"hello?", nobody)
            assert relay.socket.send(b"%d" % number, living)
        assert [await datagram(peer) for _ in range(100)] == [b"%d" % number for number in range(100)]
        await until(lambda: len(relay.icmp) == 100)
        assert {peer for peer, _ in relay.icmp} == {nobody}
        peer.sendto(b"still there?", relay.socket.local)
        await until(lambda: relay.received == [b"still there?"])
        assert relay.socket.drops.total == 0


async def test_the_loop_does_not_spin_on_errors(
    readers: EpollReaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAULTS 64: an error is taken off the queue once; then the socket is quiet."""
    calls: Counter[str] = Counter()
    original = ServerSocket._on_readable

    def counted(self: ServerSocket) -> None:
        calls["readable"] += 1
        original(self)

    monkeypatch.setattr(ServerSocket, "_on_readable", counted)
    with Relay(readers) as relay:
        relay.socket.send(b"hello?", closed_port("127.0.0.1"))
        await until(lambda: bool(relay.icmp))
        before = calls["readable"]
        for _ in range(50):
            await asyncio.sleep(0)
        assert calls["readable"] <= before + 1


@pytest.mark.parametrize("code", [errno.ENOBUFS, errno.EPERM, errno.EMSGSIZE, errno.ENETUNREACH])
async def test_other_errors_are_counted_and_over(
    readers: EpollReaders, peer: socket.socket, code: int
) -> None:
    """FAULTS 64: ENOBUFS, EPERM and the like lose one datagram and nothing else."""
    living = Address.from_sockname(peer.getsockname())
    with Relay(readers) as relay:
        relay.socket._sock = FailingSocket(relay.socket._sock, [code])  # type: ignore[assignment]
        assert not relay.socket.send(b"lost", living)
        assert relay.socket.send(b"found", living)
        assert await datagram(peer) == b"found"
        assert relay.socket.drops.counts == {errno.errorcode[code]: 1}


async def test_an_allocation_survives_its_errors(peer: socket.socket) -> None:
    """FAULTS 64: and the client may go on to other peers."""
    living = Address.from_sockname(peer.getsockname())
    nobody = closed_port("127.0.0.1")
    async with await TurnServerDriver.start(make_config(), [LOOPBACK]) as driver:
        server = driver.listeners[0]
        async with await TurnAllocation.allocate(server, "alice", "correct horse", local=LOOPBACK) as client:
            client.send(b"a permission first", living)
            await datagram(peer)
            for number in range(20):
                client.send(b"hello?", nobody)
                client.send(b"%d" % number, living)
            assert [await datagram(peer) for _ in range(20)] == [b"%d" % number for number in range(20)]
            assert driver.stats.allocations == 1


def fragments(sock: socket.socket) -> int:
    """What the kernel does about fragmentation: 0 lets routers and itself fragment."""
    return sock.getsockopt(socket.IPPROTO_IP, 10)


async def test_only_what_asks_for_it_carries_the_df_bit(readers: EpollReaders, peer: socket.socket) -> None:
    seen: list[int] = []

    class Recording(FailingSocket):
        def sendto(self, data: bytes, remote: Address) -> int:
            seen.append(fragments(self._real))
            return super().sendto(data, remote)

    with Relay(readers) as relay:
        relay.socket._sock = Recording(relay.socket._sock, [])  # type: ignore[assignment]
        to = Address.from_sockname(peer.getsockname())
        for send in (relay.socket.send, relay.socket.send_unfragmented, relay.socket.send):
            assert send(b"x", to)
            assert await datagram(peer) == b"x"
        assert seen == [0, 2, 0]


async def test_what_is_too_long_not_to_be_fragmented_is_told_as_icmp(readers: EpollReaders) -> None:
    """Loopback's MTU is 65536, which only the longest IPv6 datagram exceeds."""
    with Relay(readers, "::1") as relay:
        to = relay.socket.local
        assert not relay.socket.send_unfragmented(bytes(65527), to)
        await until(lambda: bool(relay.icmp))
        assert relay.icmp == [(to, IcmpError(2, 0, (65536).to_bytes(4, "big")))]
        assert relay.socket.send(bytes(65527), to)
        await until(lambda: bool(relay.received))


async def test_the_longest_datagram_is_taken_and_the_server_lives(peer: socket.socket) -> None:
    """FAULTS 24: nothing is longer than the receive buffer; what makes no sense is dropped and counted."""
    async with await TurnServerDriver.start(make_config(), [LOOPBACK]) as driver:
        server = driver.listeners[0]
        for data in (bytes(65507), b"\x40\x00\xff\xdf" + bytes(65503), b"\xff" * 65507):
            peer.sendto(data, server.sockname)
        await until(lambda: driver.core.drops.total == 3)
        async with await TurnAllocation.allocate(server, "alice", "correct horse", local=LOOPBACK):
            assert driver.stats.allocations == 1


async def test_a_flooded_socket_does_not_starve_quiet_ones(readers: EpollReaders) -> None:
    """FAULTS 66: a wake-up takes a bounded number from each socket, so that all take turns."""
    order: list[str] = []
    flooded: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sockets = []
        for name in ["flooded", *(f"quiet {n}" for n in range(50))]:
            sockets.append(ServerSocket.relay(free(), taker(name, order, flooded), lambda *_: None, readers))
            sockets[-1].gro = False
        for _ in range(10 * RECEIVES_PER_WAKE_UP):
            sender.sendto(b"flood", sockets[0].local)
        for sock in sockets[1:]:
            sender.sendto(b"quiet", sock.local)
        await until(lambda: len(order) >= 60)
        for sock in sockets:
            sock.close()
    last_quiet = max(at for at, name in enumerate(order) if name != "flooded")
    assert order[:last_quiet].count("flooded") <= 2
    assert len(flooded) == 10 * RECEIVES_PER_WAKE_UP


def free() -> Address:
    return closed_port("127.0.0.1")


def taker(name: str, order: list[str], flooded: list[bytes]) -> Callable[[list[tuple[bytes, Address]]], None]:
    def take(batch: list[tuple[bytes, Address]]) -> None:
        order.append(name)
        assert len(batch) <= RECEIVES_PER_WAKE_UP
        if name == "flooded":
            flooded.extend(data for data, _ in batch)

    return take
