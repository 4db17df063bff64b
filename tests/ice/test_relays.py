"""Relayed addresses as further sockets: over the real TURN server on the simulator."""

from __future__ import annotations

import random

from ice_world import LISTENER, TURN, WITH_RELAY, World, but, kind
from natwalk.core import Address, Path
from natwalk.ice import (
    CandidateGathered,
    CandidateType,
    IceConfig,
    IceParameters,
    PairFailed,
    PairLost,
    State,
    TransportPolicy,
)
from natwalk.ice.relays import RelayDown, Relays, RelayUp
from natwalk.ice.session import Session
from natwalk.sim import Happening

RELAY_ONLY = but(WITH_RELAY, policy=TransportPolicy.RELAY)


def relays() -> tuple[Relays, Session]:
    source = random.Random(2).randbytes
    session = Session(IceConfig(), source, True, 1, IceParameters.generate(source))
    return Relays(session), session


def test_a_relay_that_was_never_there_sends_nothing() -> None:
    empty, session = relays()
    empty.send(b"x", Path(Address("203.0.113.1", 1), Address("192.0.2.1", 1)), 100.0)
    assert session.drops.last == "sent from a relayed address that is gone"
    assert empty.next_timeout() is None
    assert empty.poll_transmit() is None
    empty.drop(Path(Address("10.0.0.1", 1), LISTENER), "because")
    assert list(empty.events()) == []


def test_an_allocation_under_way_is_pending_and_owns_its_datagrams() -> None:
    one, _ = relays()
    base = Address("10.0.0.1", 1000)
    one.allocate(TURN, base, 100.0)
    path = Path(base, LISTENER)
    assert one.is_pending(path)
    assert one.allocated(path) is None
    out = one.poll_transmit()
    assert out is not None
    assert out.path == path
    assert one.owns(out.data, path)
    assert not one.owns(out.data, Path(base, Address("203.0.113.99", 3478)))
    one.drop(path, "not yet there")
    assert list(one.events()) == []
    one.close(100.0)
    assert [type(event) for event in one.events()] == []
    assert len(one) == 0


def test_two_sides_that_allow_nothing_but_relays_meet_at_the_server() -> None:
    """FAULTS 87 on both sides: relay to relay."""
    world = World("symmetric", "port-restricted", config=RELAY_ONLY)
    world.connect(30)
    assert world.agreed()
    for peer in (world.a, world.b):
        assert peer.selected is not None
        assert peer.selected.local.type is CandidateType.RELAYED
    world.exchange()


def test_big_and_many_datagrams_pass_the_relay_whole() -> None:
    world = World("symmetric", "symmetric")
    world.connect(30)
    for size in (0, 1, 3, 1200, 1300):
        world.a.send(bytes([size % 251]) * size)
    world.run(2)
    assert [len(data) for data in world.b.data] == [0, 1, 3, 1200, 1300]


def test_a_peer_the_relay_refuses_fails_its_pairs_at_once_and_for_good() -> None:
    world = World("port-restricted", "port-restricted")
    world.connect()
    world.run(60)
    refused = [info for info in world.a.agent.pairs if "the relay refuses" in info.reason]
    assert refused
    assert all(info.state is State.FAILED for info in refused)
    assert all(info.remote.address.host.startswith("10.") for info in refused)
    assert len([event for event in world.a.of(PairFailed) if "refuses" in event.reason]) == len(refused)


def test_a_lost_allocation_takes_its_pairs_and_comes_back() -> None:
    world = World("symmetric", "symmetric", config=RELAY_ONLY)
    world.connect(30)
    world.internet.a.routers[0].reboot()
    world.run(30)
    assert any("the relay's allocation was lost" in event.reason for event in world.a.of(PairLost))
    relayed = [e for e in world.a.of(CandidateGathered) if e.candidate.type is CandidateType.RELAYED]
    assert len(relayed) == 2
    assert world.run(60, world.agreed), world.report()
    assert kind(world.a.selected) == "relay"


def test_closing_gives_the_allocation_back() -> None:
    world = World("symmetric", "symmetric")
    world.connect(30)
    world.run(1)
    world.a.driver.do(world.a.agent.close)
    world.run(5)
    assert world.a.agent.next_timeout() is None
    ended = [e for e in world.turn_driver.events if type(e).__name__ == "AllocationEnded"]
    assert len(ended) == 1
    sent = [r for r in world.network.trace.records if r.what is Happening.SEND and r.place == "a"]
    assert sent[-1].packet is not None
    assert sent[-1].packet.destination == LISTENER


def test_relay_events_are_values() -> None:
    path = Path(Address("10.0.0.1", 1), LISTENER)
    assert RelayUp(path, LISTENER, None) == RelayUp(path, LISTENER, None)
    assert RelayDown(path, None, "x") != RelayDown(path, LISTENER, "x")
