from __future__ import annotations

from random import Random

import pytest

from nat.support import HOST, PUBLIC, REMOTE
from natwalk.nat import (
    KINDS,
    Nat,
    NatConfig,
    Packet,
    Translation,
    describe,
    kind_spec,
    make_box,
)
from natwalk.nat.packet import Dropped, DropReason

EXPECTED = {
    "none": "none: no NAT, no firewall",
    "full-cone": "full-cone: endpoint-independent mapping, endpoint-independent filtering (full cone)",
    "address-restricted": "address-restricted: endpoint-independent mapping, address-dependent filtering "
    "(restricted cone)",
    "port-restricted": "port-restricted: endpoint-independent mapping, address-and-port-dependent filtering "
    "(port restricted cone)",
    "symmetric": "symmetric: address-and-port-dependent mapping, address-and-port-dependent filtering "
    "(symmetric)",
    "cgnat": "cgnat: endpoint-independent mapping, address-and-port-dependent filtering "
    "(port restricted cone); behind a carrier NAT with endpoint-independent mapping, "
    "address-and-port-dependent filtering (port restricted cone)",
    "udp-blocked": "udp-blocked: a firewall that drops all UDP",
}


def test_the_kinds_are_those_users_know() -> None:
    assert {kind: describe(kind) for kind in KINDS} == EXPECTED


def test_an_unknown_kind_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'cone' is not a kind of NAT: one of none, full-cone, "):
        kind_spec("cone")


def test_what_translates_and_what_passes_udp() -> None:
    assert [kind for kind, spec in KINDS.items() if not spec.translates] == ["none", "udp-blocked"]
    assert [kind for kind, spec in KINDS.items() if not spec.passes_udp] == ["udp-blocked"]


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_layer_makes_a_box_that_works_as_its_kind_says(kind: str) -> None:
    for layer in KINDS[kind].layers:
        box = make_box(layer, PUBLIC, random_bytes=Random(1).randbytes)
        verdict = box.outbound(Packet(HOST, REMOTE, b"x"), 1.0)
        if isinstance(layer, NatConfig):
            assert isinstance(box, Nat)
            assert isinstance(verdict, Translation)
            assert verdict.packet.source.host == PUBLIC
        else:
            assert verdict == Dropped(DropReason.UDP_BLOCKED)
