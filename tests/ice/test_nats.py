"""Two agents behind simulated NATs: who gets through, how fast, and that both agree (FAULTS 136)."""

from __future__ import annotations

from itertools import combinations_with_replacement

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ice_world import NO_RELAY, WITH_RELAY, World, but, kind, types
from natwalk.ice import CandidateType, DataReceived, IceFailed, PairFailed, PairSelected, PairValidated
from natwalk.sim import LADDER, Happening, LinkConfig

KINDS = ("none", "full-cone", "address-restricted", "port-restricted", "symmetric", "cgnat")
RELAY_ONLY = {  # NATS.md §2, without guessing
    ("port-restricted", "symmetric"),
    ("symmetric", "symmetric"),
    ("symmetric", "cgnat"),
}


@pytest.mark.parametrize(("nat_a", "nat_b"), list(combinations_with_replacement(KINDS, 2)))
@pytest.mark.parametrize("a_controls", [True, False])
def test_every_combination_gets_what_theory_allows(nat_a: str, nat_b: str, a_controls: bool) -> None:
    """FAULTS 136: direct where possible, relay elsewhere, never nothing."""
    world = World(nat_a, nat_b, controlling=(a_controls, not a_controls))
    took = world.connect()
    expected = "relay" if (nat_a, nat_b) in RELAY_ONLY else "direct"
    assert kind(world.a.selected) == kind(world.b.selected) == expected, world.report()
    assert world.agreed(), world.report()
    assert took < (6.0 if expected == "relay" else 0.6)
    world.exchange()


@pytest.mark.parametrize("combination", sorted(RELAY_ONLY))
def test_data_starts_on_the_relay_within_a_second(combination: tuple[str, str]) -> None:
    """Long before anything is nominated."""
    world = World(*combination)
    world.start()
    assert world.run(5, lambda: bool(world.a.of(PairValidated)) and bool(world.b.of(PairValidated)))
    assert world.network.now - world.began < 1.0
    assert world.a.selected is None
    world.exchange()


def test_without_a_relay_the_impossible_fails_and_says_why() -> None:
    config = but(NO_RELAY, patience=20.0, early_failure=10.0)
    world = World("symmetric", "symmetric", config=config)
    world.start()
    assert world.run(60, lambda: bool(world.a.of(IceFailed)) and bool(world.b.of(IceFailed)))
    assert 10.0 <= world.a.when(IceFailed) <= 20.5
    (failed,) = world.a.of(IceFailed)
    assert "none of" in failed.reason
    assert "host" in failed.detail
    assert not world.connected()


def test_the_default_patience_is_that_of_rfc_8863() -> None:
    world = World("symmetric", "symmetric", config=NO_RELAY)
    world.start()
    assert world.run(120, lambda: bool(world.a.of(IceFailed)))
    assert world.a.when(IceFailed) >= 39.5


@pytest.mark.parametrize("late", [1.0, 5.0])
@pytest.mark.parametrize("first", ["a", "b"])
def test_punching_works_when_one_side_starts_later(late: float, first: str) -> None:
    """The first checks are dropped by the far NAT: those of the side that comes later get through."""
    world = World("port-restricted", "port-restricted")
    early, other = (world.a, world.b) if first == "a" else (world.b, world.a)
    early.start()
    world.network.after(late, other.start)
    assert world.run(30, world.connected), world.report()
    assert world.network.now - world.began < late + 1.0
    assert kind(world.a.selected) == "direct"
    assert world.agreed()


@pytest.mark.parametrize("late", [0.5, 2.0, 5.0])
def test_punching_works_when_one_side_hears_of_the_other_later(late: float) -> None:
    """Both gather at once, but the candidates of one take long to arrive."""
    world = World("port-restricted", "port-restricted")
    world.signalling = False
    world.start()
    assert world.run(
        2, lambda: len(world.a.agent.local_candidates) >= 3 <= len(world.b.agent.local_candidates)
    )
    for source, target, delay in ((world.a, world.b, 0.05), (world.b, world.a, late)):
        for candidate in source.agent.local_candidates:
            world.network.after(
                delay, lambda c=candidate, t=target: t.driver.do(t.agent.add_remote_candidate, c)
            )
    assert world.run(30, world.connected), world.report()
    assert kind(world.a.selected) == "direct"


def test_the_same_lan_uses_its_own_addresses() -> None:
    world = World("symmetric", "symmetric", same_lan=True)
    assert world.connect() < 0.5
    assert types(world.a.selected) == (CandidateType.HOST, CandidateType.HOST)
    assert world.agreed()


def test_one_public_side_sees_the_other_s_mapping() -> None:
    world = World("none", "symmetric")
    world.connect()
    assert world.a.selected is not None
    assert world.a.selected.remote.type is CandidateType.PEER_REFLEXIVE
    assert world.b.selected is not None
    assert world.b.selected.local.type is CandidateType.PEER_REFLEXIVE


def test_no_check_leaves_for_udp_blocked_and_the_reason_is_there() -> None:
    world = World("udp-blocked", "none", config=but(WITH_RELAY, patience=15.0, early_failure=10.0))
    world.start()
    assert world.run(60, lambda: bool(world.b.of(IceFailed)))
    assert all(info.reason for info in world.b.agent.pairs if info.state.value == "failed")


def test_a_failed_pair_carries_a_short_reason() -> None:
    """The relay will not forward to a private address; the screen says so."""
    world = World("port-restricted", "symmetric")
    world.connect()
    reasons = {event.reason for event in world.a.of(PairFailed)}
    assert any("the relay refuses" in reason and "403" in reason for reason in reasons)
    assert all(len(reason) < 80 for reason in reasons)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32),
    nats=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
    delay=st.floats(0.001, 0.3),
    loss=st.floats(0.0, 0.3),
    reorder=st.floats(0.0, 0.2),
    duplicate=st.floats(0.0, 0.2),
    controlling=st.tuples(st.booleans(), st.booleans()),
    signal_delay=st.floats(0.0, 1.0),
    relay=st.booleans(),
)
def test_both_reach_the_same_pair_or_both_fail(
    seed: int,
    nats: tuple[str, str],
    delay: float,
    loss: float,
    reorder: float,
    duplicate: float,
    controlling: tuple[bool, bool],
    signal_delay: float,
    relay: bool,
) -> None:
    """FAULTS 168, 143 and 76: over loss, reordering, duplication and any roles; with bounded traffic."""
    link = LinkConfig(delay=delay, loss=loss, reorder=reorder, reorder_delay=0.2, duplicate=duplicate)
    world = World(
        *nats,
        seed=seed,
        config=WITH_RELAY if relay else NO_RELAY,
        controlling=controlling,
        access=link,
        signal_delay=signal_delay,
    )
    world.start()

    def over() -> bool:
        return bool(world.a.of(IceFailed) and world.b.of(IceFailed)) or (world.connected() and world.agreed())

    assert world.run(150, over), world.report()
    if world.connected():
        assert world.a.agent.controlling is not world.b.agent.controlling
        world.run(10)
        assert world.agreed() or world.run(60, world.agreed), world.report()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rung", list(LADDER))
def test_every_rung_of_the_ladder_gets_direct(rung: str, seed: int) -> None:
    """FAULTS 137: nine qualities of link on both sides; on slow ones the relay may carry data first."""
    level = list(LADDER).index(rung)
    world = World("port-restricted", "port-restricted", seed=seed, access=LADDER[rung])

    def direct() -> bool:
        return world.agreed() and kind(world.a.selected) == "direct"

    world.start()
    assert world.run(20 + 10 * level, direct), world.report()


def test_traffic_of_an_easy_connection_is_small() -> None:
    """FAULTS 168: a packet budget, everything counted, over half a minute of an idle connection."""
    world = World("port-restricted", "port-restricted")
    world.connect()
    world.run(30)
    for peer in (world.a, world.b):
        assert not peer.of(DataReceived)
        assert len(peer.of(PairSelected)) == 1
    sent = [record for record in world.network.trace.records if record.what is Happening.SEND]
    assert len(sent) < 250
