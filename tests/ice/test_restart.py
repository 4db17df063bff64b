"""ICE restarts (RFC 8445 §9): the pairs of before carry data until there is something new."""

from __future__ import annotations

import random

import pytest

from conformance import CoreConformance, drain
from ice_world import NO_RELAY, WITH_RELAY, World, but, kind
from natwalk.core import Address, LocalProtocolError, Path
from natwalk.ice import (
    Candidate,
    CandidateGathered,
    CandidateType,
    Disconnected,
    GatheringFinished,
    HostCandidates,
    IceAgent,
    IceConfig,
    IceFailed,
    IceParameters,
    PairLost,
)
from natwalk.ice.checks import build_check, build_success
from natwalk.sim import Happening
from natwalk.stun import MessageClass, decode, is_stun, short_term_key

LOCAL, REMOTE = Address("192.0.2.10", 40000), Address("198.51.100.20", 50000)
THEIRS, THEIRS_NOW = IceParameters("peer", "p" * 22), IceParameters("next", "n" * 22)
NOW = 100.0
REPLACED = "replaced by an ICE restart"


def stream(world: World, count: int) -> None:
    """Numbered datagrams both ways, one every 20 ms, from now on."""
    for number in range(count):
        world.network.after(number * 0.02, lambda n=number: world.a.send(b"%d" % n))  # type: ignore[misc]
        world.network.after(number * 0.02, lambda n=number: world.b.send(b"%d" % n))  # type: ignore[misc]


def renewed(world: World) -> bool:
    """Both sides have selected a pair of the new session and forgotten the old one."""
    return all(any(event.reason == REPLACED for event in peer.of(PairLost)) for peer in (world.a, world.b))


@pytest.mark.parametrize(("nat_a", "nat_b"), [("none", "none"), ("port-restricted", "full-cone")])
def test_no_datagram_is_lost_over_a_restart(nat_a: str, nat_b: str) -> None:
    """FAULTS 82: slow signalling, so that the old pair has seconds of work to do."""
    world = World(nat_a, nat_b, config=WITH_RELAY)
    world.connect()
    assert world.run(20, lambda: kind(world.a.selected) == kind(world.b.selected) == "direct")
    world.run(2)
    before = world.a.agent.local_parameters
    world.signal_delay = 2.0
    stream(world, 1000)
    world.b.restart()
    world.run(25)
    assert renewed(world), world.report()
    assert world.a.data == world.b.data == [b"%d" % number for number in range(1000)]
    assert world.a.agent.local_parameters not in (before, world.b.agent.local_parameters)
    assert not world.a.of(Disconnected)
    assert world.agreed()


def test_both_sides_restart_at_once() -> None:
    """FAULTS 82: one new session comes of it, and no datagram is lost."""
    world = World("port-restricted", "port-restricted", config=WITH_RELAY)
    world.connect()
    assert world.run(20, lambda: kind(world.a.selected) == kind(world.b.selected) == "direct")
    world.run(2)
    stream(world, 500)
    world.a.restart()
    world.b.restart()
    world.run(15)
    assert renewed(world), world.report()
    assert world.a.data == world.b.data == [b"%d" % number for number in range(500)]
    assert world.agreed()


def test_a_restart_that_nobody_answers_leaves_things_as_they_were() -> None:
    """The old pair is kept alive by consent, whatever becomes of the new session's patience."""
    world = World("port-restricted", "none", config=but(NO_RELAY, patience=10.0, early_failure=10.0))
    world.connect()
    old = world.a.route
    world.signalling = False
    world.a.agent.restart(world.network.now)
    world.a.driver.flush()
    world.run(120)
    assert not world.a.of(IceFailed)
    assert world.a.route == old
    world.exchange()


def test_a_restart_helps_when_the_old_pair_is_dead() -> None:
    """All that the old sockets sent to is gone; the new session's candidates are tried all the same."""
    world = World("port-restricted", "none", config=WITH_RELAY)
    world.connect()
    world.run(10)
    ends = {world.internet.a.public, world.internet.b.public}
    world.internet.core.block(lambda packet: {packet.source.host, packet.destination.host} == ends)
    world.a.restart()
    assert world.run(30, lambda: renewed(world)), world.report()
    world.exchange()
    assert kind(world.a.selected) == "relay"


def test_relays_are_kept() -> None:
    """The allocations are the same, and the pair of the two is found again."""
    world = World("symmetric", "symmetric", config=WITH_RELAY)
    world.connect()
    relayed = {peer.name: {c.address for c in peer.agent.local_candidates} for peer in (world.a, world.b)}
    world.exchange()
    world.a.restart()
    assert world.run(30, lambda: renewed(world)), world.report()
    world.exchange()
    assert world.turn.stats.allocations == 2
    for peer in (world.a, world.b):
        kept = {c.address for c in peer.agent.local_candidates if c.type is CandidateType.RELAYED}
        assert kept <= relayed[peer.name]


def test_restarts_on_restarts_keep_what_carries_data() -> None:
    world = World("port-restricted", "none", config=NO_RELAY)
    world.connect()
    for _ in range(5):
        world.a.agent.restart(world.network.now)
        with pytest.raises(LocalProtocolError, match="before anything"):
            world.a.agent.restart(world.network.now)
        world.exchange()
        world.signal(world.b, world.b._told_of_restart, world.a.agent.local_parameters)
        world.a.driver.flush()
        world.run(0.12)
    world.run(20)
    world.exchange()
    assert world.agreed()
    assert len({pair.id for pair in world.a.agent.pairs}) == len(world.a.agent.pairs)


def test_candidates_are_told_again() -> None:
    """All of them, with the end; hidden hosts stay hidden and take part."""
    world = World("none", "none", config=but(NO_RELAY, hosts=HostCandidates.HIDDEN))
    world.connect()
    told = [event.candidate for event in world.a.of(CandidateGathered)]
    ends = len(world.a.of(GatheringFinished))
    world.a.restart()
    assert world.run(20, lambda: renewed(world)), world.report()
    assert [event.candidate for event in world.a.of(CandidateGathered)] == told * 2
    assert len(world.a.of(GatheringFinished)) == 2 * ends
    world.exchange()


# --- by hand -----------------------------------------------------------------------------------------


def candidate() -> Candidate:
    return Candidate(foundation="1", priority=2130706431, address=REMOTE, type=CandidateType.HOST)


def answer(agent: IceAgent, parameters: IceParameters, now: float = NOW) -> None:
    """Answer every check that is waiting to be sent, with the password of ``parameters``."""
    while (out := agent.poll_transmit()) is not None:
        if is_stun(out.data) and decode(out.data).message_class is MessageClass.REQUEST:
            reply = build_success(decode(out.data), out.path.local, short_term_key(parameters.pwd))
            agent.receive(reply, Path(LOCAL, REMOTE), now)


def connected() -> IceAgent:
    agent = IceAgent(IceConfig(), controlling=True, random_bytes=random.Random(4).randbytes)
    agent.add_local_address(LOCAL, NOW)
    agent.end_of_local_addresses(NOW)
    agent.set_remote_parameters(THEIRS, NOW)
    agent.add_remote_candidate(candidate(), NOW)
    answer(agent, THEIRS)
    answer(agent, THEIRS)
    assert agent.selected is not None
    return agent


def check(to: IceParameters, by: IceParameters) -> bytes:
    return build_check(
        b"t" * 12,
        username=f"{to.ufrag}:{by.ufrag}",
        key=short_term_key(to.pwd),
        priority=5,
        controlling=False,
        tie_breaker=5,
    )


class TestRestarted(CoreConformance):
    def make(self, now: float) -> IceAgent:
        agent = connected()
        agent.restart(now)
        return agent


def test_old_checks_are_answered_while_the_old_pair_is_needed_and_dropped_afterwards() -> None:
    """FAULTS 82 and 72: a check under the old credentials makes nothing of the new session's."""
    agent = connected()
    old = agent.local_parameters
    agent.restart(NOW)
    drain(agent)
    agent.receive(check(old, THEIRS), Path(LOCAL, REMOTE), NOW)
    ((reply, _, _),), _ = drain(agent)
    assert decode(reply).message_class is MessageClass.SUCCESS
    agent.receive(check(old, THEIRS_NOW), Path(LOCAL, REMOTE), NOW)
    assert agent.drops.last == "a check from another ufrag"
    agent.set_remote_parameters(THEIRS_NOW, NOW)
    agent.add_remote_candidate(candidate(), NOW)
    agent.handle_timeout(NOW + 0.1)
    answer(agent, THEIRS_NOW, NOW + 0.1)
    answer(agent, THEIRS_NOW, NOW + 0.1)
    agent.handle_timeout(NOW + 3.2)
    events = drain(agent)[1]
    assert [event.reason for event in events if isinstance(event, PairLost)] == [REPLACED]
    agent.receive(check(old, THEIRS), Path(LOCAL, REMOTE), NOW + 3.3)
    assert agent.drops.last == "a check for another ufrag"
    assert len(agent.pairs) == 1


def test_a_pair_of_before_sends_and_is_not_probed() -> None:
    agent = connected()
    assert agent.selected is not None
    old = agent.selected.id
    agent.restart(NOW)
    assert agent.current is not None
    assert agent.current.id == old
    assert agent.route(old) == Path(LOCAL, REMOTE)
    drain(agent)
    agent.send(b"x", NOW, old)
    assert [out.data for out in drain(agent)[0]] == [b"x"]
    with pytest.raises(LocalProtocolError, match="before a restart"):
        agent.probe(old, 1200, NOW)
    agent.doubt(NOW)


def test_a_restart_needs_a_beginning_and_no_end() -> None:
    agent = IceAgent(IceConfig(), controlling=True, random_bytes=random.Random(4).randbytes)
    with pytest.raises(LocalProtocolError, match="before anything"):
        agent.restart(NOW)
    agent = connected()
    agent.close(NOW)
    with pytest.raises(LocalProtocolError, match="ended"):
        agent.restart(NOW)


def test_nothing_of_a_restart_is_sent_with_old_credentials() -> None:
    """The new session's checks carry the new names only."""
    world = World("none", "none", config=NO_RELAY)
    world.connect()
    old = world.a.agent.local_parameters.ufrag
    world.run(1)
    mark = len(world.network.trace.records)
    world.a.restart()
    assert world.run(20, lambda: renewed(world))
    world.run(4)
    end = len(world.network.trace.records)
    world.run(60)
    late = [
        record.packet.payload
        for record in world.network.trace.records[end:]
        if record.what is Happening.SEND and record.packet is not None
    ]
    assert mark < end
    assert late
    assert not any(old.encode() in payload for payload in late)
