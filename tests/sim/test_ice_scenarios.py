"""Real ICE agents through what networks do meanwhile: reboots, cuts, bad links, quirky NATs."""

from __future__ import annotations

import pytest

from natwalk.nat import Filtering, KindSpec, Mapping, NatConfig, Outcome, Pooling, WhenFull
from natwalk.sim import LinkConfig, sequence
from natwalk.sim.ice import IceMeeting
from natwalk.sim.internet import Internet, two_peers

SEED = 21


def kind(**fields: object) -> KindSpec:
    return KindSpec("own", "", (NatConfig(**fields),))  # type: ignore[arg-type]


def connected(internet: Internet, outcome: Outcome = Outcome.DIRECT) -> IceMeeting:
    meeting = IceMeeting(internet)
    result = meeting.run()
    assert result.outcome is outcome, sequence(internet.network.trace)
    return meeting


def minutes_of_data(meeting: IceMeeting, minutes: int) -> list[int]:
    """One exchange a second; the seconds in which it did not pass both ways."""
    network = meeting.internet.network
    missed = []
    for second in range(60 * minutes):
        before = (len(meeting.a.received), len(meeting.b.received))
        for peer in (meeting.a, meeting.b):
            if peer.selected is not None:
                peer.send(b"\xfftick")
        network.run_for(1.0)
        after = (len(meeting.a.received), len(meeting.b.received))
        if not (after[0] > before[0] and after[1] > before[1]):
            missed.append(second)
    return missed


@pytest.mark.parametrize(("kind_a", "kind_b"), [("none", "none"), ("port-restricted", "cgnat")])
def test_an_idle_connection_outlives_the_nat_timers(kind_a: str, kind_b: str) -> None:
    """Ten minutes without a byte of data, NATs that forget after 30: consent checks keep them awake."""
    meeting = connected(two_peers(kind_a, kind_b, seed=SEED))
    meeting.internet.network.run_for(600)
    assert meeting.direct
    meeting.exchange(within=1)


def test_even_a_nat_that_forgets_after_ten_seconds_is_kept_awake() -> None:
    """The shortest timer carriers were seen with (Richter et al.)."""
    spec = kind(idle_timeout=10.0)
    meeting = connected(two_peers(spec, spec, seed=SEED))
    meeting.internet.network.run_for(300)
    assert meeting.direct
    meeting.exchange(within=1)


def test_a_mapping_that_ends_whatever_the_traffic_is_replaced() -> None:
    """Absolute timers of a minute: the connection goes on over the next mapping, or the relay meanwhile."""
    spec = kind(absolute_timeout=60.0)
    meeting = connected(two_peers(spec, "port-restricted", seed=SEED))
    missed = minutes_of_data(meeting, 5)
    assert len(missed) < 60, missed
    assert meeting.connected


@pytest.mark.parametrize("side", ["a", "b"])
def test_a_nat_that_reboots_costs_seconds(side: str) -> None:
    """All mappings gone at once; the other side's filter knows the old port only."""
    meeting = connected(two_peers("port-restricted", "port-restricted", seed=SEED))
    site = meeting.internet.a if side == "a" else meeting.internet.b
    site.routers[0].reboot()
    missed = minutes_of_data(meeting, 1)
    assert len(missed) <= 20, missed
    assert meeting.connected


def test_a_symmetric_nat_that_reboots_costs_seconds_on_the_relay() -> None:
    meeting = connected(two_peers("symmetric", "symmetric", seed=SEED), Outcome.RELAY)
    meeting.internet.a.routers[0].reboot()
    missed = minutes_of_data(meeting, 2)
    assert len(missed) <= 40, missed
    assert meeting.connected


def test_a_cut_of_ten_seconds_is_survived() -> None:
    internet = two_peers("port-restricted", "address-restricted", seed=SEED)
    meeting = connected(internet)
    internet.a.access.down()
    internet.network.after(10.0, internet.a.access.up)
    missed = minutes_of_data(meeting, 1)
    assert len(missed) <= 20, missed
    assert meeting.connected


def test_one_way_loss_is_noticed_as_well() -> None:
    """Nothing reaches a any more, though all it sends arrives: consent ends on both sides."""
    internet = two_peers("none", "none", seed=SEED)
    meeting = connected(internet)
    internet.a.access.configure_pipe(internet.a.access.inward, loss=1.0)
    internet.network.run_for(120)
    assert not meeting.connected


def test_several_public_addresses_do_not_matter_while_mappings_do_not_depend() -> None:
    internet = two_peers("none", "none", seed=SEED)
    assert connected(internet).direct
    pool = kind(pooling=Pooling.ARBITRARY)
    assert connected(two_peers(pool, pool, seed=SEED)).direct


def test_a_tiny_table_that_evicts_is_enough_for_one_connection() -> None:
    """Eight mappings, the oldest evicted: ICE keeps what it uses in use."""
    tiny = kind(
        mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT,
        filtering=Filtering.ENDPOINT_INDEPENDENT,
        max_mappings=8,
        when_full=WhenFull.EVICT_OLDEST,
    )
    assert connected(two_peers(tiny, "full-cone", seed=SEED)).direct


def test_a_small_mtu_does_not_stop_the_checks() -> None:
    access = LinkConfig(delay=0.02, mtu=576)
    assert connected(two_peers("port-restricted", "cgnat", seed=SEED, access=access)).direct


@pytest.mark.parametrize("seed", range(5))
def test_reordering_duplication_and_jitter_change_nothing(seed: int) -> None:
    access = LinkConfig(delay=0.05, jitter=0.04, reorder=0.2, reorder_delay=0.1, duplicate=0.2, loss=0.1)
    connected(two_peers("port-restricted", "port-restricted", seed=seed, access=access))


def test_closing_gives_the_relayed_addresses_back() -> None:
    internet = two_peers("symmetric", "symmetric", seed=SEED)
    meeting = connected(internet, Outcome.RELAY)
    assert meeting.server.core.stats.allocations == 2
    meeting.close()
    assert meeting.server.core.stats.allocations == 0
