"""The closed form: the figures of NATS.md, and that the simulation agrees with it, by pair and in shares."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import pytest

from natwalk.nat import KINDS, TODAY, Outcome, expected, preset
from natwalk.sim.population import NetworkKind, Population, load, shipped
from natwalk.sim.population_arithmetic import expected_outcome, expected_shares, network_shares, punchable
from natwalk.sim.population_run import Means, run_pair

PAIRS = 120


def network(name: str) -> NetworkKind:
    """A network of internet-2026, IPv4 only and with UDP open, as the arithmetic of NATS.md has it."""
    population = load("internet-2026")
    found = next(each for each in population.networks if each.name == name)
    return replace(found, ipv6=0.0, udp_blocked=0.0)


def within(share: float, expected_share: float, pairs: int) -> bool:
    """Whether a simulated share is within 3.5 standard errors: of a few dozen such questions, all are."""
    error = math.sqrt(expected_share * (1 - expected_share) / pairs)
    return abs(share - expected_share) <= 3.5 * error + 1e-9


@pytest.mark.parametrize(
    ("a", "b", "direct"),
    [
        ("home", "home", 0.960),
        ("home", "cellular", 0.588),
        ("home", "fixed-cgn", 0.872),
        ("cellular", "cellular", 0.36),
    ],
)
def test_networks_of_internet_2026_meet_as_often_as_is_known(a: str, b: str, direct: float) -> None:
    """NATS.md §4: independent sides, port-restricted filtering, IPv4, UDP open."""
    one, two = network(a), network(b)
    assert network_shares(one, two)[Outcome.DIRECT] == pytest.approx(direct, abs=5e-4)
    between = Population("pair", "", (replace(one, share=1.0),))
    other = Population("pair", "", (replace(two, share=1.0),))
    count = 0
    for number in range(PAIRS):
        draw = between.draw(5, number)
        draw = replace(draw, b=other.draw(5, number).b)
        result = run_pair(draw, Means())
        assert result.outcome is expected_outcome(draw.a.nat, draw.b.nat), draw
        count += result.outcome is Outcome.DIRECT
    assert within(count / PAIRS, direct, PAIRS)


@pytest.mark.parametrize("name", shipped())
def test_the_simulation_agrees_with_arithmetic(name: str) -> None:
    """Each pair by itself, and so the shares as far as pairs were drawn fairly."""
    population = load(name)
    counts = dict.fromkeys(Outcome, 0)
    for number in range(PAIRS):
        draw = population.draw(11, number)
        result = run_pair(draw, Means())
        assert result.outcome is expected_outcome(draw.a.nat, draw.b.nat, ipv6=draw.ipv6), draw
        counts[result.outcome] += 1
    for outcome, share in expected_shares(population).items():
        assert within(counts[outcome] / PAIRS, share, PAIRS), (outcome, counts)


@pytest.mark.parametrize(("a", "b"), list(product(KINDS, KINDS)))
def test_it_says_of_the_kinds_what_their_table_says(a: str, b: str) -> None:
    assert not TODAY.guessing
    assert expected_outcome(preset(a), preset(b)) is expected(a, b)


def test_what_only_looks_symmetric_counts_as_what_it_looks_like() -> None:
    assert punchable(preset("linux"), preset("port-restricted"))
    assert not punchable(preset("linux-random"), preset("port-restricted"))
    assert not punchable(preset("cgn-fixed-symmetric"), preset("linux"))


def test_a_firewall_filters_and_one_that_knows_ports_blocks() -> None:
    assert punchable(preset("home-ipv6"), preset("port-restricted"))
    assert not punchable(preset("home-ipv6"), preset("symmetric"))
    assert expected_outcome(preset("corporate-web"), preset("none")) is Outcome.NONE
    assert expected_outcome(preset("pings-only"), preset("none")) is Outcome.RELAY


@pytest.mark.parametrize("name", shipped())
def test_shares_add_up(name: str) -> None:
    assert sum(expected_shares(load(name)).values()) == pytest.approx(1.0)
