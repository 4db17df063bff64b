from __future__ import annotations

from itertools import product

import pytest

from natwalk.nat import (
    KINDS,
    PASSAGES,
    ROWS,
    TODAY,
    Abilities,
    Allocation,
    BasicNatConfig,
    Filtering,
    FirewallConfig,
    KindSpec,
    Mapping,
    NatConfig,
    Outcome,
    Passage,
    TwiceNatConfig,
    expected,
    passage,
    preset,
    row,
)

APDM = Mapping.ADDRESS_AND_PORT_DEPENDENT
EVERYTHING = Abilities(guessing=True, relay_over_tcp=True)
NOTHING = Abilities(guessing=False, relay_over_tcp=False)


def test_every_pair_of_kinds_has_a_row() -> None:
    assert set(PASSAGES) == set(product(ROWS, ROWS))
    assert set(KINDS) <= set(ROWS)


@pytest.mark.parametrize("other", ROWS)
def test_ports_that_are_easier_to_guess_are_never_worse(other: str) -> None:
    """Regular ones, and random ones in a block, against those out of all; nothing else sets them apart."""
    letters = [PASSAGES[name, other] for name in ("symmetric-regular", "symmetric-block", "symmetric")]
    if letters[-1] is not Passage.RELAYED:
        assert len(set(letters)) == 1
    assert (letters[0] is Passage.GUESSED) is other.startswith(("port", "cgnat", "symmetric-"))


@pytest.mark.parametrize(("kind_a", "kind_b"), list(product(KINDS, KINDS)))
def test_the_table_agrees_with_the_behaviours_of_the_layers(kind_a: str, kind_b: str) -> None:
    """Hole punching fails only where one mapping depends on the port and the other side filters by it."""

    def depends(kind: str) -> bool:
        nats = [layer for layer in KINDS[kind].layers if isinstance(layer, NatConfig)]
        return any(layer.mapping is Mapping.ADDRESS_AND_PORT_DEPENDENT for layer in nats)

    def filters(kind: str) -> bool:
        nats = [layer for layer in KINDS[kind].layers if isinstance(layer, NatConfig)]
        return any(layer.filtering is Filtering.ADDRESS_AND_PORT_DEPENDENT for layer in nats)

    assert passage(kind_a, kind_b) is passage(kind_b, kind_a)
    hard = (depends(kind_a) and filters(kind_b)) or (depends(kind_b) and filters(kind_a))
    if not (KINDS[kind_a].passes_udp and KINDS[kind_b].passes_udp) or (depends(kind_a) and depends(kind_b)):
        assert passage(kind_a, kind_b) is Passage.RELAYED
    else:
        assert passage(kind_a, kind_b) is (Passage.GUESSED if hard else Passage.DIRECT)


@pytest.mark.parametrize(
    ("pair", "abilities", "outcome"),
    [
        (("none", "symmetric"), TODAY, Outcome.DIRECT),
        (("port-restricted", "symmetric"), TODAY, Outcome.RELAY),
        (("port-restricted", "symmetric"), EVERYTHING, Outcome.DIRECT),
        (("symmetric", "symmetric"), EVERYTHING, Outcome.RELAY),
        (("none", "udp-blocked"), TODAY, Outcome.RELAY),
        (("none", "udp-blocked"), NOTHING, Outcome.NONE),
        (("none", "udp-blocked"), EVERYTHING, Outcome.RELAY),
    ],
)
def test_the_letters_come_down_to_what_the_program_can_do(
    pair: tuple[str, str], abilities: Abilities, outcome: Outcome
) -> None:
    assert expected(*pair, abilities=abilities) is outcome


@pytest.mark.parametrize("kind", list(KINDS))
def test_one_lan_is_direct_whatever_the_nat(kind: str) -> None:
    assert expected(kind, kind, same_lan=True) is Outcome.DIRECT


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("cgnat", "cgnat"),
        ("linux", "port-restricted"),
        ("linux-random", "symmetric"),
        ("rfc-4787", "port-restricted"),
        ("home-ipv6", "port-restricted"),
        ("cgn-fixed-symmetric", "symmetric"),
        ("cgn-rfc-6888", "port-restricted"),
        ("nat64", "full-cone"),
        ("aws-elastic-ip", "port-restricted"),
        ("gcp-cloud-nat", "symmetric-block"),
        ("corporate-web", "udp-blocked"),
        ("corporate-443", "udp-blocked"),
        ("hotel-portal", "port-restricted"),
        ("same-port-starves", "port-restricted"),
    ],
)
def test_presets_behave_like_kinds(name: str, like: str) -> None:
    assert row(name) == row(preset(name)) == like
    assert passage(name, "symmetric") is PASSAGES[like, "symmetric"]


@pytest.mark.parametrize(
    ("layers", "like"),
    [
        ((FirewallConfig(udp=True),), "none"),
        ((BasicNatConfig(),), "none"),
        ((NatConfig(mapping=APDM, allocation=Allocation.SEQUENTIAL),), "symmetric-regular"),
        ((NatConfig(mapping=APDM, allocation=Allocation.BLOCK),), "symmetric-block"),
        ((NatConfig(mapping=APDM, allocation=Allocation.BLOCK, block_size=16384),), "symmetric"),
        (
            (
                NatConfig(mapping=APDM, allocation=Allocation.SEQUENTIAL),
                NatConfig(mapping=APDM, allocation=Allocation.RANDOM),
            ),
            "symmetric",
        ),
        ((TwiceNatConfig(nat=NatConfig(filtering=Filtering.ADDRESS_DEPENDENT)),), "address-restricted"),
        ((NatConfig(filtering=Filtering.ENDPOINT_INDEPENDENT), FirewallConfig(udp=False)), "udp-blocked"),
    ],
)
def test_kinds_of_ones_own_behave_like_kinds(layers: tuple, like: str) -> None:
    assert row(KindSpec("own", "", layers)) == like


def test_a_firewall_that_passes_udp_to_some_ports_lets_no_peer_through() -> None:
    assert expected("corporate-web", "none") is Outcome.RELAY


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="'cone'"):
        expected("cone", "none")
