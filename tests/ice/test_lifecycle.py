"""What becomes of pairs over time: consent, loss, rescue, recovery, retries; in the simulated world."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ice_world import NO_RELAY, STUN_ONLY, WITH_RELAY, World, but, kind
from natwalk.ice import (
    CandidateGathered,
    CandidateType,
    Disconnected,
    IceFailed,
    PairFailed,
    PairLost,
    PairSelected,
    PairValidated,
    State,
)
from natwalk.ice.connectivity import Check, Outcome, Purpose
from natwalk.nat import Packet
from natwalk.sim import Happening
from natwalk.sim.internet import SERVER, SERVER_ALTERNATE


def direct_only_by_server(packet: Packet) -> bool:
    """True for packets that neither come from the server nor go to it: what a blocked direct path is."""
    return not {packet.source.host, packet.destination.host} & {SERVER, SERVER_ALTERNATE}


def connected(nat_a: str = "port-restricted", nat_b: str = "port-restricted", **options: object) -> World:
    """A world with a direct pair selected on both sides and a relayed one warm."""
    world = World(nat_a, nat_b, **options)  # type: ignore[arg-type]
    world.connect()
    world.run(6)
    assert kind(world.a.selected) == kind(world.b.selected) == "direct"
    return world


def test_an_idle_connection_lives_on_by_consent_alone() -> None:
    """FAULTS 75: a silent peer that answers checks is there; NAT mappings stay (FAULTS 141)."""
    world = connected()
    assert world.run(600) is False
    for peer in (world.a, world.b):
        assert {event.reason for event in peer.of(PairLost)} <= {"not kept alive, better pairs are"}
        assert len(peer.of(PairSelected)) == 1
    assert world.agreed()
    world.exchange()


def test_a_relayed_pair_is_kept_warm_beside_the_direct_one() -> None:
    world = connected()
    world.run(120)
    for peer in (world.a, world.b):
        states = {info.relayed: info.state for info in peer.agent.pairs if info.state is State.SUCCEEDED}
        assert states == {False: State.SUCCEEDED, True: State.SUCCEEDED}


def test_when_the_direct_path_dies_the_relay_takes_over_within_seconds() -> None:
    """Busy on both sides: silence is noticed long before consent runs out."""
    world = connected()
    world.a.send(b"before")
    world.internet.core.block(direct_only_by_server)
    died = world.network.now
    world.a.send(b"lost")

    def rescued() -> bool:
        return world.agreed() and kind(world.a.selected) == "relay"

    assert world.run(30, rescued), world.report()
    assert world.network.now - died < 6.0
    assert not world.a.of(PairLost), "suspect is not lost"
    world.exchange()


def test_an_idle_path_that_dies_is_noticed_by_consent_checks() -> None:
    world = connected()
    world.internet.core.block(direct_only_by_server)
    died = world.network.now
    assert world.run(30, lambda: world.agreed() and kind(world.a.selected) == "relay"), world.report()
    assert world.network.now - died < 12.0


def test_the_direct_path_comes_back_and_is_used_again() -> None:
    world = connected()
    world.internet.core.block(direct_only_by_server)
    assert world.run(60, lambda: world.agreed() and kind(world.a.selected) == "relay")
    world.run(5)
    world.internet.core.block(None)
    mended = world.network.now
    assert world.run(60, lambda: world.agreed() and kind(world.a.selected) == "direct"), world.report()
    assert world.network.now - mended < 30.0
    world.exchange()


def test_a_path_that_flaps_is_switched_to_less_and_less_often() -> None:
    """FAULTS 148: at most one switch in five seconds, whatever the path does."""
    world = connected()
    for number in range(40):
        blocked = direct_only_by_server if number % 2 else None
        world.network.after(3.0 * number, world.internet.core.block, blocked)
    world.run(130)
    direct = [
        at for at, event in world.a.events if isinstance(event, PairSelected) and not event.info.relayed
    ]
    assert all(later - earlier >= 5.0 for earlier, later in pairwise(direct))
    assert len(world.a.of(PairSelected)) < 25


def test_consent_that_expires_loses_the_pair_and_says_so() -> None:
    """FAULTS 75 and RFC 7675 §5.1: no answers for 30 s, and nothing is sent on it any more."""
    world = connected(config=NO_RELAY)
    world.b.driver.close()
    died = world.network.now
    assert world.run(60, lambda: bool(world.a.of(Disconnected))), world.report()
    assert 24.0 <= world.network.now - died <= 31.0
    (lost,) = world.a.of(PairLost)
    assert lost.reason == "no answer for 30 s"
    assert world.a.selected is None
    before = len(world.network.trace.records)
    assert before
    assert world.run(60, lambda: bool(world.a.of(IceFailed)))
    assert world.network.now - died <= 75.0


def test_data_alone_is_no_consent() -> None:
    """FAULTS 75: the peer goes on sending but answers no check: the pair is lost in half a minute."""
    world = connected(config=NO_RELAY)
    route = world.b.route
    assert route is not None
    world.b.driver.close()
    socket = world.b.host.bind(lambda data, source: None, route.local.port, route.local.host)
    for second in range(60):
        world.network.after(0.5 * second, socket.send, b"data without consent", route.remote)
    assert world.run(40, lambda: bool(world.a.of(Disconnected)))
    assert world.a.data.count(b"data without consent") > 10


def test_asymmetric_loss_is_noticed() -> None:
    """FAULTS 142: one direction is dead, the other carries data all the time."""
    world = connected()
    public_b = world.internet.b.public
    world.internet.core.block(
        lambda packet: packet.destination.host == public_b and packet.source.host == world.internet.a.public
    )
    died = world.network.now
    for tick in range(120):
        world.network.after(0.25 * tick, lambda: world.b.send(b"one way"))
    assert world.run(30, lambda: world.agreed() and kind(world.a.selected) == "relay"), world.report()
    assert world.network.now - died < 30.0


@pytest.mark.parametrize("outage", [1.0, 5.0, 20.0])
def test_an_outage_of_everything_is_survived(outage: float) -> None:
    """FAULTS 138: the link is down for a while, relay and all; nothing is lost for good."""
    world = connected()
    world.internet.a.access.down()
    world.network.after(outage, world.internet.a.access.up)
    world.run(outage)
    assert world.run(20, world.agreed)
    world.run(1)
    world.exchange()
    assert not world.a.of(Disconnected)


def test_a_nat_that_reboots_is_punched_again() -> None:
    """The mapping is new; a check through the relay tells the peer, who answers it directly."""
    world = connected("address-restricted", "port-restricted")
    world.internet.a.routers[0].reboot()
    world.a.send(b"x")
    rebooted = world.network.now

    def direct_again() -> bool:
        return world.agreed() and kind(world.a.selected) == "direct" and not world.a.agent.pairs[0].suspect

    world.run(3)
    assert world.run(90, direct_again), world.report()
    assert world.network.now - rebooted < 60
    world.exchange()


def test_a_changed_mapping_makes_a_new_candidate_and_a_new_relay() -> None:
    """RFC 8445 §5.1.1.4: keepalives to the servers show that the NAT has forgotten us."""
    world = World("symmetric")
    world.a.gather()
    world.run(3)
    before = world.a.agent.local_candidates
    world.internet.a.routers[0].reboot()
    world.run(20)
    fresh = [event.candidate for event in world.a.of(CandidateGathered)][len(before) :]
    assert {candidate.type for candidate in fresh} == {
        CandidateType.SERVER_REFLEXIVE,
        CandidateType.RELAYED,
    }
    assert world.a.agent.local_candidates[-1].type is CandidateType.RELAYED
    relays = [c for c in world.a.agent.local_candidates if c.type is CandidateType.RELAYED]
    assert len(relays) == 1


def test_a_relay_that_is_lost_in_use_is_replaced() -> None:
    """Both sides depend on relays; one NAT forgets everything, relay allocation included."""
    world = World("symmetric", "symmetric")
    world.connect()
    world.internet.a.routers[0].reboot()
    world.a.send(b"x")
    world.run(5)
    assert world.run(60, world.agreed), world.report()
    world.run(5)
    world.exchange()


def test_mappings_are_kept_alive_while_the_peer_is_still_away() -> None:
    """Ten minutes of waiting for the other side; then it connects directly at once."""
    world = World("port-restricted", "port-restricted")
    world.a.gather()
    world.run(600)
    relays = [e for e in world.a.of(CandidateGathered) if e.candidate.type is CandidateType.RELAYED]
    assert len(relays) == 1
    began = world.network.now
    world.a.introduce()
    world.b.start()
    assert world.run(30, world.connected), world.report()
    assert world.network.now - began < 1.0
    assert kind(world.a.selected) == "direct"


def test_waiting_costs_two_packets_a_quarter_of_a_minute() -> None:
    world = World("port-restricted")
    world.a.start()
    world.run(5)
    marker = len(world.network.trace.records)
    world.run(60)
    sent = [
        record
        for record in world.network.trace.records[marker:]
        if record.what is Happening.SEND and record.place == "a"
    ]
    assert len(sent) <= 2 * 5


def test_pairs_that_never_worked_are_tried_again_a_few_times() -> None:
    """A peer whose NAT opens late is still found: checks start anew after they have failed."""
    config = but(NO_RELAY, check_rc=2, check_rm=2, check_retries=3, patience=60.0)
    world = World("port-restricted", "port-restricted", config=config)
    world.internet.core.block(direct_only_by_server)
    world.start()
    world.network.after(6.0, world.internet.core.block, None)
    assert world.run(60, world.connected), world.report()
    assert world.a.of(PairFailed)
    assert kind(world.a.selected) == "direct"


def test_retries_are_bounded() -> None:
    config = but(NO_RELAY, check_rc=2, check_rm=2, check_retries=2, patience=39.5)
    world = World("port-restricted", "port-restricted", config=config)
    world.internet.core.block(direct_only_by_server)
    world.start()
    world.run(39)
    checks = [
        record
        for record in world.network.trace.records
        if record.what is Happening.SEND
        and record.place == "a"
        and record.packet is not None
        and record.packet.destination.host == world.internet.b.public
    ]
    assert 0 < len(checks) <= 2 * 3


def test_patience_lets_the_peer_reach_us_after_all_our_checks_failed() -> None:
    """FAULTS 83: nothing of ours passes for 8 s, then the peer gets through by peer-reflexive discovery."""
    config = but(NO_RELAY, check_rc=2, check_rm=2, check_retries=0)
    world = World("none", "none", config=config)
    a, b = world.internet.a.public, world.internet.b.public
    world.internet.core.block(lambda packet: packet.source.host == a and packet.destination.host == b)
    world.network.after(8.0, world.internet.core.block, None)
    world.a.start()
    world.run(5)
    assert not world.a.of(IceFailed)
    world.network.after(3.5, world.b.start)
    assert world.run(30, world.connected), world.report()


def test_the_peer_s_relay_met_as_peer_reflexive_is_reported_as_a_relay_later() -> None:
    """Its checks may overtake the signalling of its candidate."""
    world = World("symmetric", "symmetric", signal_delay=0.05)
    world.signalling = True
    world.connect()
    for peer in (world.a, world.b):
        assert kind(peer.selected) == "relay"
        assert not any(not e.info.relayed for e in peer.of(PairSelected))
        assert all(e.info.remote.address != STUN_ONLY for e in peer.of(PairValidated))


def test_unused_pairs_are_parked_and_come_back_when_needed() -> None:
    """More valid pairs than are kept: the others expire quietly and are found again after a loss."""
    config = but(WITH_RELAY, consent_expiry=10.0)
    world = connected("none", "none", config=config)
    world.run(15)
    lost = {event.reason for event in world.a.of(PairLost)}
    assert lost <= {"not kept alive, better pairs are"}
    world.exchange()
    world.internet.core.block(direct_only_by_server)
    assert world.run(60, lambda: world.agreed() and kind(world.a.selected) == "relay"), world.report()
    world.exchange()


def test_a_relay_that_stops_allowing_the_peer_loses_the_pair() -> None:
    """Permissions are renewed every few minutes; the server may refuse one that it gave before."""
    world = World("symmetric", "symmetric")
    world.connect()
    agent = world.a.agent
    mine = next(
        info
        for info in agent.pairs
        if info.state is State.SUCCEEDED and info.local.type is CandidateType.RELAYED
    )
    agent._life.relay_refuses(
        mine.local.address, mine.remote.address.host, "the relay refuses it", world.network.now
    )
    world.a.driver.flush()
    lost = {event.info.id: event.reason for event in world.a.of(PairLost)}
    assert lost[mine.id] == "the relay refuses it"


def test_the_outcome_of_a_check_of_a_forgotten_pair_changes_nothing() -> None:
    world = connected()
    life = world.a.agent._life
    stranger = connected(seed=2).a.agent._pairing.checklist
    pair = next(iter(stranger))
    before = world.a.agent.pairs
    check = Check(pair, Purpose.CHECK, controlling=True, use_candidate=False, priority=5)
    life.outcome(Outcome(check, ok=False, reason="late"), world.network.now)
    assert world.a.agent.pairs == before
