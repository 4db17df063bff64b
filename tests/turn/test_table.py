"""What the allocation table costs: steps and bytes, however much is in it (FAULTS 171)."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from natwalk.core import Address, Outbox, Path
from natwalk.turn import EndReason, FlowRemoved, TurnLimits, TurnServerEvent
from natwalk.turn.admission import Granted
from natwalk.turn.allocation import Allocation, Relay
from natwalk.turn.connections import PeerConnections
from natwalk.turn.table import AllocationTable
from turn_world import LISTENER, PEER, RELAY, World, code_of, make_config, seeded

GRANTED = Granted("alice", "alice", b"k" * 16, False)
SIZES = (1_000, 30_000)


def lines(action: Callable[[], object]) -> int:
    """How many lines of Python ``action`` runs: a measure that no other load on the machine changes."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return count


class Filled:
    """A table to fill without a server around it; its events go nowhere."""

    def __init__(self) -> None:
        self.events: Outbox[TurnServerEvent] = Outbox(1)
        self.table = AllocationTable(self.events, PeerConnections(self.events, seeded()))

    def add(self, n: int) -> Allocation:
        client = Address(f"198.51.{n >> 16}.{n >> 8 & 255}", 1024 + (n & 255))
        relay = Address(f"203.0.{n >> 15}.50", 32768 + (n & 32767))
        allocation = Allocation(Path(LISTENER, client), GRANTED, relay, n.to_bytes(12, "big"))
        self.table.accounts.add("alice")
        self.table.add(allocation, (relay,), 600.0 + n / 1000)
        return allocation


def logarithmic(costs: list[int]) -> bool:
    """Thirty times as much may cost one and a half times as many steps, and a few more."""
    return costs[-1] <= costs[0] * 1.5 + 20


def test_ending_an_allocation_does_not_look_at_the_others() -> None:
    """FAULTS 171: among 1000 or 30,000 that have channels to peers of their own, and some to its relay."""
    costs = []
    for size in SIZES:
        filled = Filled()
        first = filled.add(0)
        for n in range(1, size):
            allocation = filled.add(n)
            peer = first.relay if n <= 5 else Address("192.0.2.77", 1024 + n % 60000)
            filled.table.bind(allocation.relays[0], 0x4000, peer, 0.0)
        assert filled.table.flows == size - 1
        costs.append(lines(lambda filled=filled, first=first: filled.table.end(first, EndReason.DELETED)))
        assert filled.table.flows == size - 6
    assert logarithmic(costs), costs


def test_adding_refreshing_and_expiring_do_not_look_at_the_others() -> None:
    """FAULTS 171."""
    costs = []
    for size in SIZES:
        filled = Filled()
        for n in range(size):
            filled.add(n)

        def work(filled: Filled = filled, size: int = size) -> None:
            allocation = filled.add(size)
            filled.table.extend(allocation.relays[0], 500.0)
            assert filled.table.next_timeout() == 500.0
            filled.table.handle_timeout(500.0)

        costs.append(lines(work))
        assert filled.table.allocations == size
    assert logarithmic(costs), costs


def test_permissions_do_not_look_at_each_other() -> None:
    """FAULTS 171: one allocation with 1000 or 30,000 of them, and 4000 channels."""
    costs = []
    for size in SIZES:
        filled = Filled()
        table, allocation = filled.table, filled.add(0)
        relay = allocation.relays[0]
        hosts = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(size)]
        for host in hosts:
            table.permit(allocation, host, 0.0)
        for n, host in enumerate(hosts[:4000]):
            table.bind(relay, 0x4000 + n, Address(host, 7000), 1.0)

        def work(table: AllocationTable = table, relay: Relay = relay, host: str = hosts[0]) -> None:
            table.permit(relay.allocation, host, 2.0)
            table.permit(relay.allocation, "192.0.2.1", 2.0)
            table.bind(relay, 0x4000, Address(host, 7000), 2.0)
            assert relay.allocation.conflicts(0x4000, PEER, 2.0)

        costs.append(lines(work))
        assert table.permissions == size + 1
    assert logarithmic(costs), costs


def test_permissions_that_expire_cost_what_they_are() -> None:
    """FAULTS 171: each a few steps, with channels or without."""
    costs = []
    for size in (100, 1_000, 4_000):
        filled = Filled()
        relay = filled.add(0).relays[0]
        for n in range(size):
            filled.table.bind(relay, 0x4000 + n, Address(f"10.0.{n >> 8}.{n & 255}", 7000), 0.0)
        costs.append(lines(lambda filled=filled: filled.table.handle_timeout(300.0)) // size)
        assert filled.table.flows == 0
        assert filled.table.permissions == 0
    assert logarithmic(costs), costs


def test_nothing_gets_lost_when_everything_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that stood still for an hour: every flow and relay socket goes in one call, each told."""
    monkeypatch.setattr("natwalk.turn.server.OUTBOX_LIMIT", 100)
    limits = TurnLimits(allocations=20, allocations_per_user=20, channels_per_allocation=64)
    world = World(make_config(limits=limits))
    for n in range(20):
        assert code_of(world.raw_client(10_000 + n, host=f"198.51.100.{1 + n}").allocate()) == 0
    table = world.server._table
    for relay in list(table.by_relay.values()):
        for n in range(64):
            table.bind(relay, 0x4000 + n, Address("192.0.2.77", 1024 + n), world.now)
        world.run()
    assert world.server.stats.flows == 20 * 64
    world.server_events.clear()
    world.run(3600.0)
    assert world.server._events.refused == 0
    assert sum(isinstance(event, FlowRemoved) for event in world.server_events) == 20 * 64
    assert world.relays == set()
    assert world.server.stats.relay_ports == 0


@pytest.mark.parametrize(("channels", "limit"), [(0, 2400), (1, 3600)])
def test_an_allocation_takes_little_memory(channels: int, limit: int) -> None:
    """Bytes of Python objects an allocation, what the server keeps of its client included."""
    limits = TurnLimits(
        allocations=10_000, allocations_per_user=10_000, refusals_rate=1e6, refusals_burst=1e6
    )
    world = World(make_config(limits=limits))
    raws = [world.raw_client(10_000 + n, host=f"198.51.100.{1 + n % 200}") for n in range(400)]
    for raw in raws:
        raw.challenge()

    def use(raw: Any) -> None:
        assert code_of(raw.allocate()) == 0
        for n in range(channels):
            assert raw.bind_channel(0x4000 + n, PEER) == 0

    use(raws.pop())  # what is made once
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.take_snapshot()
        for raw in raws:
            use(raw)
        world.server_events.clear()
        for inbox in world.raw.values():
            inbox.clear()
        gc.collect()
        after = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    grown = sum(entry.size_diff for entry in after.compare_to(before, "filename"))
    assert grown / len(raws) < limit
    assert world.server.stats.allocations == len(raws) + 1
    assert {relay.host for relay in world.relays} == {RELAY}
