from __future__ import annotations

from itertools import product

import pytest

from natwalk.nat import ROWS, Abilities, Hairpin, KindSpec, NatConfig, Outcome, kind_spec, row
from natwalk.sim.expectation import CARRIER_NAT, FIREWALLS, SIDES, behind_one_carrier, outcome
from natwalk.sim.internet import Attachment

GUESSING = Abilities(guessing=True, relay_over_tcp=True)


def test_the_sides_cover_the_table() -> None:
    """Every row but the kind that is two layers already: those are the sides with a carrier."""
    assert {row(spec) for spec in SIDES.values()} == set(ROWS) - {"cgnat"}


def test_the_harder_layer_rules() -> None:
    assert row(SIDES["EIM/EIF preserve, carrier"]) == row(CARRIER_SPEC) == "address-restricted"
    assert row(SIDES["EIM/APDF preserve, carrier"]) == "port-restricted"
    assert row(SIDES["APDM/APDF random, carrier"]) == "symmetric"


CARRIER_SPEC = KindSpec("carrier", "", (CARRIER_NAT,))


def test_the_best_common_ip_version_counts() -> None:
    four, six = Attachment(ipv4="symmetric"), Attachment(ipv6="home-ipv6")
    both = Attachment(ipv4="symmetric", ipv6="home-ipv6")
    assert outcome(four, four) is outcome(four, both) is Outcome.RELAY
    assert outcome(both, both) is outcome(six, both) is Outcome.DIRECT
    assert outcome(four, six) is Outcome.NONE
    blocked = Attachment(ipv4="port-restricted", ipv6="udp-blocked")
    assert outcome(blocked, both) is Outcome.RELAY
    assert outcome(blocked, both, abilities=GUESSING) is Outcome.DIRECT


@pytest.mark.parametrize(("a", "b"), list(product(FIREWALLS, FIREWALLS)))
def test_firewalls_without_translation_are_no_obstacle_to_punching(a: str, b: str) -> None:
    blocked = "udp-blocked" in (a, b)
    expected = Outcome.RELAY if blocked else Outcome.DIRECT
    assert outcome(Attachment(ipv6=FIREWALLS[a]), Attachment(ipv6=FIREWALLS[b])) is expected


@pytest.mark.parametrize(
    ("home", "hairpin", "expected"),
    [
        ("none", Hairpin.NONE, Outcome.DIRECT),
        ("full-cone", Hairpin.NONE, Outcome.RELAY),
        ("full-cone", Hairpin.INTERNAL_SOURCE, Outcome.DIRECT),
        ("port-restricted", Hairpin.INTERNAL_SOURCE, Outcome.RELAY),
        ("port-restricted", Hairpin.EXTERNAL_SOURCE, Outcome.DIRECT),
        ("symmetric", Hairpin.EXTERNAL_SOURCE, Outcome.RELAY),
    ],
)
def test_behind_one_carrier_hairpinning_decides(home: str, hairpin: Hairpin, expected: Outcome) -> None:
    spec = kind_spec(home)
    assert behind_one_carrier(spec, spec, NatConfig(hairpin=hairpin)) is expected
