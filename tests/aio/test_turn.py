"""TURN on real sockets of the loopback interface."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from natwalk.aio.turn import RECEIVE_QUEUE_LIMIT, RelayLost, TurnAllocation
from natwalk.aio.turn_server import TurnServerDriver
from natwalk.core import Address, ErrorResponse, LocalProtocolError
from natwalk.turn import (
    AllocationCreated,
    AllocationEnded,
    FlowAdded,
    FlowRemoved,
    PeerPolicy,
    TurnConfig,
    TurnServerEvent,
    rest_credentials,
)

LOOPBACK = Address("127.0.0.1", 0)
PORTS = (61001, 65535)  # outside of what the kernel gives to the peers of these tests


def make_config(**overrides: Any) -> TurnConfig:
    settings: dict[str, Any] = {
        "users": {"alice": "correct horse"},
        "relay_addresses": ("127.0.0.1",),
        "port_range": PORTS,
        "policy": PeerPolicy(allow=["127.0.0.0/8", "::1"]),
    }
    return TurnConfig(**(settings | overrides))


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until ``condition`` holds, five real seconds at most."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("the condition does not come true")


class Server:
    """A driver and what it told."""

    def __init__(self) -> None:
        self.events: list[TurnServerEvent] = []
        self.driver: TurnServerDriver

    @property
    def address(self) -> Address:
        return self.driver.listeners[0]

    async def allocate(self, password: str = "correct horse", **options: Any) -> TurnAllocation:
        return await TurnAllocation.allocate(self.address, "alice", password, local=LOOPBACK, **options)

    async def until(self, kind: type) -> None:
        await until(lambda: any(isinstance(event, kind) for event in self.events))


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    server.driver = await TurnServerDriver.start(make_config(), [LOOPBACK], on_event=server.events.append)
    async with server.driver:
        yield server


class Peer:
    """A plain UDP socket with asyncio around it."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind((host, 0))
        self.address = Address.from_sockname(self.sock.getsockname())

    async def receive(self) -> tuple[bytes, Address]:
        async with asyncio.timeout(5):
            data, sockname = await asyncio.get_running_loop().sock_recvfrom(self.sock, 65536)
        return data, Address.from_sockname(sockname)

    def send(self, data: bytes, to: Address) -> None:
        self.sock.sendto(data, to)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *error: object) -> None:
        self.sock.close()


async def receive(allocation: TurnAllocation) -> tuple[bytes, Address]:
    async with asyncio.timeout(5):
        return await allocation.receive()


async def test_datagrams_pass_both_ways(server: Server) -> None:
    async with await server.allocate() as allocation:
        with Peer() as peer:
            assert allocation.mapped == allocation.core.local
            allocation.send(b"hello", peer.address)
            assert await peer.receive() == (b"hello", allocation.relayed)
            for size in (0, 1, 1400, 9000, 60_000):
                peer.send(bytes(size), allocation.relayed)
                assert await receive(allocation) == (bytes(size), peer.address)
                allocation.send(b"x" * size, peer.address)
                assert await peer.receive() == (b"x" * size, allocation.relayed)
            assert allocation.core.overhead(peer.address) == 4
            assert server.driver.stats.flows == 1


async def test_bursts_pass_in_order(server: Server) -> None:
    """Many datagrams in one go, coalesced and taken apart again by the kernel where it can."""
    async with await server.allocate() as allocation:
        with Peer() as peer:
            allocation.bind_channel(peer.address)
            await server.until(FlowAdded)
            for start in range(0, 500, 50):
                for n in range(start, start + 50):
                    allocation.send(b"%05d" % n + bytes(n % 3), peer.address)
                assert [int((await peer.receive())[0][:5]) for _ in range(50)] == [*range(start, start + 50)]
                for n in range(50):
                    peer.send(b"%05d" % n, allocation.relayed)
                assert [int((await receive(allocation))[0]) for _ in range(50)] == [*range(50)]


async def test_two_allocations_reach_each_other(server: Server) -> None:
    """Relay to relay on one server."""
    async with await server.allocate() as a, await server.allocate() as b:
        a.create_permission([b.relayed.ip])
        b.create_permission([a.relayed.ip])
        a.send(b"prime", b.relayed)
        b.send(b"prime", a.relayed)
        assert await receive(b) == (b"prime", a.relayed)
        assert await receive(a) == (b"prime", b.relayed)
        for n in range(40):
            a.send(b"%d" % n, b.relayed)
            assert await receive(b) == (b"%d" % n, a.relayed)


async def test_ipv6(server: Server) -> None:
    config = make_config(relay_addresses=("::1",))
    async with await TurnServerDriver.start(config, [Address("::1", 0)]) as driver:
        allocation = await TurnAllocation.allocate(
            driver.listeners[0], "alice", "correct horse", local=Address("::1", 0), family=6
        )
        async with allocation:
            with Peer("::1") as peer:
                allocation.send(b"six", peer.address)
                assert await peer.receive() == (b"six", allocation.relayed)


async def test_rest_credentials_against_the_real_clock() -> None:
    import time

    config = make_config(users={}, auth_secrets=("north",))
    async with await TurnServerDriver.start(config, [LOOPBACK]) as driver:
        address = driver.listeners[0]
        good = rest_credentials("north", time.time(), 60)
        async with await TurnAllocation.allocate(address, *good) as allocation:
            assert allocation.relayed.host == "127.0.0.1"
        expired = rest_credentials("north", time.time(), -60)
        with pytest.raises(ErrorResponse) as caught:
            await TurnAllocation.allocate(address, *expired)
        assert caught.value.code == 401


async def test_wrong_password_is_an_error_response(server: Server) -> None:
    with pytest.raises(ErrorResponse) as caught:
        await server.allocate(password="wrong")
    assert caught.value.code == 401


async def test_refused_peers_show_up_in_denials(server: Server) -> None:
    async with await server.allocate() as allocation:
        bad = Address("10.0.0.1", 9)
        allocation.send(b"x", bad)
        await until(lambda: bool(allocation.denials))
        assert allocation.denials[bad.ip].code == 403


async def test_close_frees_the_relay_port_and_ends_receive(server: Server) -> None:
    allocation = await server.allocate()
    relayed = allocation.relayed
    waiting = [asyncio.create_task(allocation.receive()) for _ in range(2)]
    await asyncio.sleep(0)
    await allocation.close()
    await allocation.close()
    for task in waiting:
        with pytest.raises(RelayLost):
            await task
    with pytest.raises(RelayLost):
        await allocation.receive()
    with pytest.raises(RelayLost):
        _ = allocation.relayed
    with pytest.raises(LocalProtocolError):
        allocation.send(b"x", relayed)
    assert server.driver.stats.allocations == 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(relayed)


async def test_cancelled_allocate_leaves_nothing_behind(server: Server) -> None:
    """FAULTS 160: cancelled at whatever await, no socket and no allocation stay."""
    for turns in range(8):
        task = asyncio.create_task(server.allocate())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        try:
            allocation = await task
        except asyncio.CancelledError:
            pass
        else:
            await allocation.close()
    await until(lambda: not server.driver.stats.allocations)
    assert len(server.driver._sockets) == 1


async def test_silent_server_can_be_given_up(server: Server) -> None:
    with Peer() as hole, pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await TurnAllocation.allocate(hole.address, "alice", "pw", local=LOOPBACK)


async def test_bad_credentials_close_the_socket() -> None:
    """The warning about an unclosed socket would be an error here."""
    with pytest.raises(ValueError):
        await TurnAllocation.allocate(Address("127.0.0.1", 9), "", "pw")


async def test_occupied_relay_ports_are_passed_over() -> None:
    blockers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
    try:
        for n, sock in enumerate(blockers):
            sock.bind(("127.0.0.1", 61500 + n))
        config = make_config(port_range=(61500, 61503))
        async with await TurnServerDriver.start(config, [LOOPBACK]) as driver:
            address = driver.listeners[0]
            async with await TurnAllocation.allocate(address, "alice", "correct horse") as allocation:
                assert allocation.relayed.port == 61503
                with pytest.raises(ErrorResponse) as caught:
                    await TurnAllocation.allocate(address, "alice", "correct horse")
                assert caught.value.code == 508
    finally:
        for sock in blockers:
            sock.close()


async def test_listener_that_cannot_be_bound_closes_the_others() -> None:
    with Peer() as occupied, pytest.raises(OSError, match="in use"):
        await TurnServerDriver.start(make_config(), [LOOPBACK, occupied.address])


async def test_wildcard_listener_refuses_this_machines_addresses() -> None:
    """FAULTS 8: own addresses are found by asking the interfaces."""
    async with await TurnServerDriver.start(make_config(), [Address("0.0.0.0", 0)]) as driver:
        server = Address("127.0.0.1", driver.listeners[0].port)
        async with await TurnAllocation.allocate(server, "alice", "correct horse") as allocation:
            allocation.bind_channel(server)
            await until(lambda: bool(allocation.denials))
            assert allocation.denials[server.ip].code == 403


async def test_addresses_of_interfaces_are_read_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS 8: half a minute after an address appeared the server is no peer there, nor stays one."""
    hosts = ["127.0.0.1"]
    events: list[TurnServerEvent] = []

    def interface_hosts(version: int) -> list[str]:
        return list(hosts) if version == 4 else []

    def flows(kind: type[FlowAdded | FlowRemoved]) -> list[Address]:
        return [event.peer for event in events if isinstance(event, kind)]

    async with TurnServerDriver(
        make_config(), on_event=events.append, interface_hosts=interface_hosts
    ) as driver:
        wildcard = driver.add_listener(Address("0.0.0.0", 0))
        driver.add_own_port(8478)
        server, later = (Address(host, wildcard.port) for host in ("127.0.0.1", "127.0.0.3"))
        loop = asyncio.get_running_loop()
        real = loop.time
        async with await TurnAllocation.allocate(server, "alice", "correct horse") as allocation:
            peers = [later, later.with_port(8478)]
            for peer in peers:
                allocation.bind_channel(peer)
            await until(lambda: flows(FlowAdded) == peers)
            hosts.append(later.host)
            monkeypatch.setattr(loop, "time", lambda: real() + 25)
            allocation.bind_channel(later.with_port(9))
            await until(lambda: len(flows(FlowAdded)) == 3)
            assert flows(FlowRemoved) == []
            monkeypatch.setattr(loop, "time", lambda: real() + 31)
            await until(lambda: flows(FlowRemoved) == peers)
            async with await TurnAllocation.allocate(server, "alice", "correct horse") as other:
                other.bind_channel(later)
                await until(lambda: later.ip in other.denials)
            hosts.remove(later.host)
            monkeypatch.setattr(loop, "time", lambda: real() + 62)
            await until(lambda: driver.core._guard.check(later) is None)


async def test_closed_peer_port_and_garbage_do_not_disturb(server: Server) -> None:
    """FAULTS 64: ICMP errors come back for hundreds of datagrams; other peers are served meanwhile."""
    async with await server.allocate() as allocation:
        with Peer() as gone:
            dead = gone.address
        with Peer() as peer, Peer() as noise:
            for n in range(300):
                allocation.send(b"into the void", dead)
                noise.send(b"\xff" * (n % 40), server.address)
                noise.send(b"noise", allocation.relayed)
                if n % 50 == 0:
                    allocation.send(b"%d" % n, peer.address)
                    assert (await peer.receive())[0] == b"%d" % n
        assert server.driver.stats.allocations == 1


async def test_driver_expires_by_its_clock(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The allocation of a client that vanished ends when the loop's clock says so, and the timer is armed."""
    allocation = await server.allocate()
    [link] = allocation._links.values()
    allocation._links.clear()
    link.close()
    allocation._timer.cancel()  # type: ignore[union-attr]
    loop = asyncio.get_running_loop()
    real = loop.time
    monkeypatch.setattr(loop, "time", lambda: real() + 599)
    await asyncio.sleep(0)
    assert server.driver.stats.allocations == 1
    monkeypatch.setattr(loop, "time", lambda: real() + 601)
    await server.until(AllocationEnded)
    assert server.driver.stats.allocations == 0
    assert len(server.driver._sockets) == 1


async def test_client_refreshes_by_its_clock(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async with await server.allocate() as allocation:
        with Peer() as peer:
            allocation.send(b"before", peer.address)
            await peer.receive()
            loop = asyncio.get_running_loop()
            real = loop.time
            for jump in range(1, 8):
                monkeypatch.setattr(loop, "time", lambda shift=jump * 290: real() + shift)
                await until(lambda: settled(allocation, loop.time()))
                assert await passes(allocation, peer)
    assert sum(isinstance(event, AllocationCreated) for event in server.events) == 1


def settled(allocation: TurnAllocation, now: float) -> bool:
    due = allocation.core.next_timeout()
    return due is not None and due > now and not allocation.core._requester._transactions


async def passes(allocation: TurnAllocation, peer: Peer) -> bool:
    allocation.send(b"x", peer.address)
    data, remote = await peer.receive()
    return (data, remote) == (b"x", allocation.relayed)


async def test_application_that_does_not_receive_costs_bounded_memory(server: Server) -> None:
    async with await server.allocate() as allocation:
        with Peer() as peer:
            allocation.create_permission([peer.address.ip])
            allocation.send(b"x", peer.address)
            await peer.receive()
            async with asyncio.timeout(20):
                while not allocation.drops.counts["the application does not receive"]:
                    for _ in range(64):
                        peer.send(b"x", allocation.relayed)
                    await asyncio.sleep(0.001)
            assert allocation._received.qsize() == RECEIVE_QUEUE_LIMIT


async def test_driver_closes_everything_once(server: Server) -> None:
    allocation = await server.allocate()
    relayed = allocation.relayed
    server.driver.close()
    server.driver.close()
    await server.until(AllocationEnded)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(relayed)
    allocation.abort()
