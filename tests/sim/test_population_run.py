"""One drawn pair: what it may use, when its first byte arrives, and what it costs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from natwalk.nat import Hairpin, KindSpec, NatConfig, Outcome, preset
from natwalk.sim import Happening, LinkConfig, Trace
from natwalk.sim.population import PairDraw, PeerDraw
from natwalk.sim.population_one_nat import behind_one_nat
from natwalk.sim.population_run import Means, PairResult, PopulationPair, run_pair

ACCESS = LinkConfig(delay=0.020)


def peer(kind: str | KindSpec, *, ipv6: bool = False, access: LinkConfig = ACCESS) -> PeerDraw:
    spec = kind if isinstance(kind, KindSpec) else preset(kind)
    return PeerDraw("somewhere", spec, ipv6, access)


def pair(a: PeerDraw, b: PeerDraw, *, one_nat: bool = False) -> PairDraw:
    return PairDraw(0, 42, a, b, one_nat)


def run(a: PeerDraw, b: PeerDraw, means: Means | None = None, *, one_nat: bool = False) -> PairResult:
    return run_pair(pair(a, b, one_nat=one_nat), means or Means())


def test_two_homes_are_direct_within_a_few_round_trips() -> None:
    result = run(peer("port-restricted"), peer("port-restricted"))
    assert result.outcome is Outcome.DIRECT
    assert result.first_byte is not None
    assert result.direct is not None
    assert 80 <= result.first_byte <= result.direct < 800, "one way to the peer is 40 ms"


def test_a_relayed_pair_has_its_first_byte_long_before_it_is_settled() -> None:
    result = run(peer("symmetric"), peer("port-restricted"))
    assert result.outcome is Outcome.RELAY
    assert result.direct is None
    assert result.first_byte is not None
    assert result.first_byte < 1000
    assert result.relay_bytes > 200


def test_where_udp_is_blocked_the_relay_is_reached_by_tcp() -> None:
    result = run(peer("udp-blocked"), peer("none"))
    assert (result.outcome, result.direct) == (Outcome.RELAY, None)
    assert result.first_byte is not None
    assert result.first_byte < 3000


def test_where_udp_is_blocked_there_is_nothing_without_that() -> None:
    result = run(peer("udp-blocked"), peer("none"), means=Means(relay_tcp=False))
    assert (result.outcome, result.first_byte, result.direct) == (Outcome.NONE, None, None)
    assert result.relay_bytes < 1000, "checks of the other side through the relay, nothing else"
    assert result.packets > 0


@pytest.mark.parametrize(
    ("a", "b", "ipv6", "means", "outcome"),
    [
        ("symmetric", "symmetric", True, Means(), Outcome.DIRECT),
        ("symmetric", "symmetric", True, Means(ipv6=False), Outcome.RELAY),
        ("symmetric", "symmetric", False, Means(relay=False), Outcome.NONE),
        ("port-restricted", "port-restricted", False, Means(), Outcome.DIRECT),
        ("port-restricted", "port-restricted", False, Means(punching=False), Outcome.RELAY),
        ("port-restricted", "port-restricted", False, Means(punching=False, relay=False), Outcome.NONE),
        ("none", "port-restricted", False, Means(punching=False, relay=False), Outcome.DIRECT),
    ],
)
def test_each_technique_does_what_it_is_for(
    a: str, b: str, ipv6: bool, means: Means, outcome: Outcome
) -> None:
    assert run(peer(a, ipv6=ipv6), peer(b, ipv6=ipv6), means).outcome is outcome


def test_ipv6_on_one_side_only_is_of_no_use() -> None:
    assert run(peer("symmetric", ipv6=True), peer("symmetric")).outcome is Outcome.RELAY


def test_behind_one_nat_it_takes_hairpinning() -> None:
    for hairpin, outcome in ((Hairpin.NONE, Outcome.RELAY), (Hairpin.EXTERNAL_SOURCE, Outcome.DIRECT)):
        shared = KindSpec("shared", "", (NatConfig(hairpin=hairpin),))
        assert run(peer(shared), peer(shared), one_nat=True).outcome is outcome
        carrier = KindSpec("carrier", "", (NatConfig(), NatConfig(hairpin=hairpin)))
        assert run(peer(carrier), peer(carrier), one_nat=True).outcome is outcome


def test_blocked_peers_are_not_looked_for_behind_one_nat() -> None:
    assert run(peer("udp-blocked"), peer("udp-blocked"), one_nat=True).outcome is Outcome.RELAY


def test_there_must_be_a_nat_to_be_behind() -> None:
    with pytest.raises(ValueError, match="none has no NAT"):
        behind_one_nat(preset("none"), preset("none"), seed=1)


def test_a_lost_first_packet_is_said_again() -> None:
    lossy = replace(ACCESS, loss=0.2)
    results = [
        run_pair(replace(pair(peer("none", access=lossy), peer("none", access=lossy)), seed=seed), Means())
        for seed in range(12)
    ]
    assert all(result.outcome is not Outcome.NONE for result in results)
    assert all(result.first_byte is not None for result in results)


def test_the_same_draw_is_the_same_run_packet_for_packet() -> None:
    traces = []
    for _ in range(2):
        trace = Trace()
        PopulationPair(
            pair(peer("cgnat", ipv6=True), peer("symmetric", ipv6=True)), Means(), trace=trace
        ).run()
        traces.append(trace)
    assert traces[0].text() == traces[1].text()
    assert len(traces[0].select(Happening.SEND)) > 40


def test_links_of_the_two_sides_differ() -> None:
    far = run(peer("none", access=LinkConfig(delay=0.2)), peer("none"))
    near = run(peer("none"), peer("none"))
    assert far.first_byte is not None
    assert near.first_byte is not None
    assert far.first_byte > near.first_byte + 180
