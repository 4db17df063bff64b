"""Relayed candidates from TURN servers over TCP and TLS: for networks that let no UDP out."""

from __future__ import annotations

import random

import pytest

from conformance import drain
from ice_world import LISTENER, TURN, WITH_RELAY, World, but, kind
from natwalk.core import Address, LocalProtocolError, Path, Transport
from natwalk.ice import (
    CandidateGathered,
    CandidateType,
    GatheringFinished,
    GatheringProblem,
    IceAgent,
    IceConfig,
    IceFailed,
    IceParameters,
    PairLost,
    PairValidated,
    StreamReleased,
    StreamWanted,
    TransportPolicy,
    TurnServerAddress,
)
from natwalk.stun import is_stun

OVER_TCP = TurnServerAddress(LISTENER, "user", "secret", Transport.TCP)
OVER_TLS = TurnServerAddress(LISTENER, "user", "secret", Transport.TLS, "turn.example")
BOTH = but(WITH_RELAY, turn_servers=(TURN, OVER_TCP))
TCP_ONLY = but(WITH_RELAY, turn_servers=(OVER_TCP,))
LOCAL = Address("10.0.0.5", 40000)
NOW = 100.0


def agent(config: IceConfig = TCP_ONLY) -> IceAgent:
    one = IceAgent(config, controlling=True, random_bytes=random.Random(2).randbytes)
    one.add_local_address(LOCAL, NOW)
    one.end_of_local_addresses(NOW)
    return one


@pytest.mark.parametrize("server", [OVER_TCP, OVER_TLS])
@pytest.mark.parametrize("other", ["none", "symmetric", "udp-blocked"])
def test_a_host_without_udp_connects_by_a_relay_over_a_stream(server: TurnServerAddress, other: str) -> None:
    config = but(WITH_RELAY, turn_servers=(TURN, server))
    world = World("udp-blocked", other, config=config)
    world.connect(30)
    assert max(world.a.when(PairValidated), world.b.when(PairValidated)) < 1.5
    world.exchange()
    assert kind(world.a.selected) == "relay"
    assert [event.server for event in world.a.of(StreamWanted)] == [server]
    world.run(120)
    world.exchange()
    assert world.agreed()


def test_a_stream_is_not_opened_while_udp_gives_a_relay() -> None:
    world = World("port-restricted", "port-restricted", config=BOTH)
    world.connect()
    world.run(10)
    assert world.a.of(StreamWanted) == []
    assert world.a.of(GatheringFinished)


def test_a_server_over_tcp_alone_is_asked_at_once() -> None:
    world = World("port-restricted", "none", config=TCP_ONLY)
    world.start()
    world.run(0.5)
    relayed = [
        e.candidate for e in world.a.of(CandidateGathered) if e.candidate.type is CandidateType.RELAYED
    ]
    assert len(relayed) == 1
    assert world.a.when(StreamWanted) < 0.2


def test_what_a_server_sees_of_a_stream_is_no_reflexive_candidate() -> None:
    """A TCP mapping says nothing of where datagrams come from."""
    world = World("port-restricted", "none", config=but(TCP_ONLY, stun_servers=()))
    world.start()
    world.run(5)
    kinds = [event.candidate.type for event in world.a.of(CandidateGathered)]
    assert kinds == [CandidateType.HOST, CandidateType.RELAYED]


def test_relays_over_streams_rank_after_those_over_udp() -> None:
    worlds = [World("none", "none", config=config) for config in (TCP_ONLY, WITH_RELAY)]
    priorities = []
    for world in worlds:
        world.start()
        world.run(5)
        priorities += [
            event.candidate.priority
            for event in world.a.of(CandidateGathered)
            if event.candidate.type is CandidateType.RELAYED
        ]
    assert priorities[0] < priorities[1]


def test_a_connection_that_cannot_be_made_is_a_problem_and_gathering_ends() -> None:
    world = World("udp-blocked", "none", config=TCP_ONLY)
    world.refuses_streams = True
    world.start()
    world.run(20)
    reasons = {event.server: event.reason for event in world.a.of(GatheringProblem)}
    assert reasons[LISTENER] == "connection refused"
    assert world.a.of(GatheringFinished)


def test_a_connection_that_breaks_is_made_anew() -> None:
    """Its pairs are lost with it; a second later there is another relayed address, and data flows again."""
    world = World("udp-blocked", "symmetric", config=TCP_ONLY)
    world.connect()
    world.exchange()
    for stream in list(world.a.streams.values()):
        stream.cut()
    assert any("reset" in event.reason for event in world.a.of(PairLost))
    assert world.run(30, lambda: world.a.selected is not None and world.agreed()), world.report()
    world.exchange()
    assert len(world.a.of(StreamWanted)) == 2


def test_connections_are_made_anew_a_few_times_only() -> None:
    world = World("udp-blocked", "none", config=TCP_ONLY)
    world.start()
    for _ in range(60):
        world.run(5)
        for stream in list(world.a.streams.values()):
            stream.cut()
        world.refuses_streams = True
    assert len(world.a.of(StreamWanted)) <= 6


def test_the_relay_policy_goes_by_the_stream_alone() -> None:
    """FAULTS 87: nothing leaves as a datagram."""
    world = World(
        "port-restricted", "none", config=but(TCP_ONLY, policy=TransportPolicy.RELAY, stun_servers=())
    )
    world.connect()
    world.exchange()
    assert not any(record.place == "a" for record in world.network.trace.records if record.packet is not None)


def test_closing_gives_the_allocation_back_and_releases_the_connection() -> None:
    world = World("udp-blocked", "none", config=TCP_ONLY)
    world.connect()
    assert len(world.a.streams) == 1
    (path,) = world.a.streams
    world.a.driver.do(world.a.agent.close)
    world.run(10)
    assert StreamReleased(path) in [event for _, event in world.a.events]
    assert world.a.streams == {}
    assert world.turn.stats.allocations == len(world.b.streams)


# --- commands and what arrives -----------------------------------------------------------------------


def test_a_stream_nobody_wanted_is_refused() -> None:
    one = agent()
    with pytest.raises(LocalProtocolError, match="nobody asked"):
        one.stream_opened(OVER_TLS, LOCAL, NOW)
    one.stream_failed(OVER_TLS, "whatever", NOW)
    one.stream_closed(Path(LOCAL, LISTENER, Transport.TCP), "whatever", NOW)


def test_messages_leave_on_the_stream_and_others_are_dropped() -> None:
    one = agent(but(TCP_ONLY, stun_servers=()))
    _, events = drain(one)
    assert StreamWanted(OVER_TCP) in events
    here = Address("10.0.0.5", 50123)
    one.stream_opened(OVER_TCP, here, NOW)
    ((data, path, _),), _ = drain(one)
    assert path == Path(here, LISTENER, Transport.TCP)
    assert is_stun(data)
    one.receive(data, Path(here, Address("203.0.113.99", 3478), Transport.TCP), NOW)
    assert one.drops.last == "on a stream, and not of its allocation"


def test_a_connection_that_comes_after_the_end_is_released() -> None:
    one = agent()
    drain(one)
    one.close(NOW)
    one.stream_opened(OVER_TCP, LOCAL, NOW)
    assert drain(one)[1] == [StreamReleased(Path(LOCAL, LISTENER, Transport.TCP))]
    assert one.next_timeout() is None


def test_a_connection_that_comes_after_ice_has_failed_is_released() -> None:
    """Nothing is allocated for nobody."""
    one = agent(but(TCP_ONLY, stun_servers=(), patience=1.0, early_failure=1.0))
    one.set_remote_parameters(IceParameters("peer", "p" * 22), NOW)
    drain(one)
    one.handle_timeout(NOW + 1.0)
    assert any(isinstance(event, IceFailed) for event in drain(one)[1])
    one.stream_opened(OVER_TCP, LOCAL, NOW + 1.5)
    assert drain(one) == ([], [StreamReleased(Path(LOCAL, LISTENER, Transport.TCP))])
