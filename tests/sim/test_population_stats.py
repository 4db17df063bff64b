"""Tallies: exact quantiles, merging in any order, what techniques add, the way through a file."""

from __future__ import annotations

import json
import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from natwalk.nat import Outcome
from natwalk.sim.population import load
from natwalk.sim.population_run import PairResult
from natwalk.sim.population_stats import (
    ABSENT,
    BYTES_STEP,
    LONGEST,
    TECHNIQUES,
    Histogram,
    Tally,
    report,
    simulate,
)

INTERNET = load("internet-2026")


def tally(numbers: range) -> Tally:
    """Figures that are none, but of every kind."""
    made = Tally()
    for number in numbers:
        rng = random.Random(number)
        outcome = rng.choice(list(Outcome))
        first = rng.randrange(900) if outcome is not Outcome.NONE else None
        direct = rng.randrange(900) if outcome is Outcome.DIRECT else None
        result = PairResult(outcome, first, direct, rng.randrange(90), rng.randrange(9000))
        made.add(INTERNET.draw(1, number), result)
        made.add_without("relay", rng.choice(list(Outcome)))
    return made


@given(
    st.lists(st.integers(0, LONGEST), min_size=1, max_size=60), st.sampled_from([0.01, 0.5, 0.95, 0.99, 1.0])
)
def test_a_quantile_is_the_smallest_value_that_so_many_are_not_above(values: list[int], share: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    found = histogram.quantile(share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
    smaller = [value for value in values if value < found]
    assert len(smaller) < share * len(values)


def test_a_histogram_is_bounded_and_may_be_empty() -> None:
    histogram = Histogram()
    assert histogram.report() == {"mean": None, "p50": None, "p95": None, "p99": None}
    histogram.add(10**9)
    assert histogram.quantile(0.5) == LONGEST


def test_tallies_merge_in_any_order_to_the_same_figures() -> None:
    whole = tally(range(90))
    parts = [tally(range(at, at + 30)) for at in (0, 30, 60)]
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        merged = Tally()
        for number in order:
            merged.merge(parts[number])
        assert merged.to_json() == whole.to_json()
        assert json.dumps(report(merged)) == json.dumps(report(whole))


def test_a_tally_survives_a_file() -> None:
    made = tally(range(40))
    again = Tally.from_json(json.loads(json.dumps(made.to_json())))
    assert again.to_json() == made.to_json()
    assert report(again) == report(made)


def test_relayed_bytes_are_rounded_up_to_steps() -> None:
    made = Tally()
    made.add(INTERNET.draw(1, 0), PairResult(Outcome.RELAY, 10, None, 5, 1))
    assert report(made)["relay_bytes"]["p50"] == BYTES_STEP


def test_what_a_technique_adds_is_the_difference_to_the_same_pairs_without_it() -> None:
    draws = [INTERNET.draw(2, number) for number in range(40)]
    found = simulate(draws)
    figures = report(found)
    assert set(figures["techniques"]) == {*TECHNIQUES, *ABSENT}
    share, adds = figures["share"], figures["techniques"]
    assert adds["relay"]["adds_connected"] == share["relayed"]
    assert adds["relay"]["adds_direct"] == 0
    assert adds["punching"]["adds_direct"] > 0.3
    for technique in ("punching", "ipv6", "relay"):
        less = simulate(
            (INTERNET.draw(2, number) for number in range(40)), frozenset({technique}), compare=False
        )
        assert found.without[technique] == less.outcomes, technique


def test_what_this_version_has_not_got_is_named_and_changes_nothing() -> None:
    draws = [INTERNET.draw(2, number) for number in range(10)]
    figures = report(simulate(draws, frozenset({"birthday"}), compare=False), {"birthday"})
    assert figures["techniques"]["birthday"] == {"used": False, "why": "not in this version"}
    assert figures["share"] == report(simulate(draws, compare=False))["share"]


def test_what_was_left_out_is_said() -> None:
    draws = [INTERNET.draw(2, number) for number in range(10)]
    figures = report(simulate(draws, frozenset({"ipv6"})), {"ipv6"})
    assert figures["techniques"]["ipv6"] == {"used": False, "why": "left out by --without"}
    assert figures["techniques"]["punching"]["used"]


def test_pairs_are_counted_whichever_side_is_which() -> None:
    found = tally(range(200))
    assert sum(row["pairs"] for row in report(found)["by_network_pair"]) == 200
    assert "home × cellular" not in found.by_networks
    assert found.by_networks["cellular × home"].total() > 20
    assert sum(found.outcomes.values()) == Counter(found.outcomes).total() == 200
