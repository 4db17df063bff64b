"""What a meeting should come to: the table of :mod:`natwalk.nat.passage`, by IP version and meeting place.

This is what the matrix asserts and the documentation shows. What the program can do is said in one place,
:data:`natwalk.nat.TODAY`: a cell that needs guessing expects the relay until it can guess.
"""

from __future__ import annotations

import collections.abc
from types import MappingProxyType
from typing import Final

from natwalk.nat import (
    TODAY,
    Abilities,
    Allocation,
    Filtering,
    FirewallConfig,
    FlowConfig,
    Hairpin,
    KindSpec,
    Mapping,
    NatConfig,
    Outcome,
    expected,
    row,
)
from natwalk.sim.internet import Attachment

_BEST: Final = (Outcome.DIRECT, Outcome.RELAY, Outcome.NONE)
_OPEN: Final = ("none", "full-cone")


def outcome(a: Attachment, b: Attachment, *, abilities: Abilities = TODAY) -> Outcome:
    """What two peers end up on: the best that an IP version of both gives.

    A relay joins peers of one IP version; with none in common there is no path.
    """
    return min(
        (
            expected(spec_a, spec_b, abilities=abilities)
            for spec_a, spec_b in zip(a.specs, b.specs, strict=True)
            if spec_a is not None and spec_b is not None
        ),
        key=_BEST.index,
        default=Outcome.NONE,
    )


def behind_one_carrier(
    a: KindSpec, b: KindSpec, carrier: NatConfig, *, abilities: Abilities = TODAY
) -> Outcome:
    """What two homes end up on that are behind one more NAT, where each knows its outermost address only.

    One without a NAT of its own is seen by the other. Else they meet by hairpinning (RFC 4787 §6), with both
    layers as hard as elsewhere; when it shows the internal source, that is nobody their filters know.
    """
    homes = (row(a), row(b))
    if "none" in homes:
        return expected(a, b, abilities=abilities)
    both = [KindSpec(spec.name, "", (*spec.layers, carrier)) for spec in (a, b)]
    usual = expected(both[0], both[1], abilities=abilities)
    if usual is not Outcome.DIRECT or carrier.hairpin is Hairpin.EXTERNAL_SOURCE:
        return usual
    if carrier.hairpin is Hairpin.INTERNAL_SOURCE and set(homes) <= set(_OPEN):
        return Outcome.DIRECT
    return Outcome.RELAY


def _sides() -> collections.abc.Iterator[KindSpec]:
    yield KindSpec("none", "", ())
    yield KindSpec("udp-blocked", "", (FirewallConfig(udp=False),))
    independent = (Allocation.PRESERVE, Allocation.SEQUENTIAL, Allocation.RANDOM)
    dependent = (Allocation.SEQUENTIAL, Allocation.BLOCK, Allocation.RANDOM)
    strict = Filtering.ADDRESS_AND_PORT_DEPENDENT
    for mapping, filtering, allocation in (
        *((Mapping.ENDPOINT_INDEPENDENT, filtering, each) for filtering in Filtering for each in independent),
        *((Mapping.ADDRESS_AND_PORT_DEPENDENT, strict, each) for each in dependent),
    ):
        nat = NatConfig(mapping=mapping, filtering=filtering, allocation=allocation)
        name = f"{_SHORT[mapping.value]}M/{_SHORT[filtering.value]}F {allocation.value}"
        yield KindSpec(name, "", (nat,))
        yield KindSpec(f"{name}, carrier", "", (nat, CARRIER_NAT))


_SHORT: Final = {
    "endpoint-independent": "EI",
    "address-dependent": "AD",
    "address-and-port-dependent": "APD",
}
CARRIER_NAT: Final = NatConfig(filtering=Filtering.ADDRESS_DEPENDENT, allocation=Allocation.RANDOM)
"""The second layer of the matrix: harder than the easiest home router, easier than the hardest."""

SIDES: Final[collections.abc.Mapping[str, KindSpec]] = MappingProxyType(
    {spec.name: spec for spec in _sides()}
)
"""The sides of the matrix: every row of the table, every way to give out ports, one and two layers."""

FIREWALLS: Final[collections.abc.Mapping[str, KindSpec]] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            KindSpec("none", "", ()),
            KindSpec("udp-blocked", "", (FirewallConfig(udp=False),)),
            *(
                KindSpec(
                    f"firewall {_SHORT[filtering.value]}F",
                    "",
                    (FirewallConfig(udp=True, flow=FlowConfig(filtering=filtering)),),
                )
                for filtering in Filtering
            ),
        )
    }
)
"""What IPv6 meets where nobody translates it (RFC 6092)."""
