"""The matrix: two real ICE agents behind every pair of NATs, with the result NATS.md expects of the pair.

Pairs that need port guessing expect the relay, and those with UDP blocked expect nothing, until
``natwalk.nat.TODAY`` says the program can do more.
"""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import combinations_with_replacement, product

import pytest

from natwalk.nat import (
    KINDS,
    PASSAGES,
    Allocation,
    EarlyProbe,
    Filtering,
    Hairpin,
    KindSpec,
    Mapping,
    NatConfig,
    Outcome,
    Passage,
    expected,
    kind_spec,
)
from natwalk.sim import sequence
from natwalk.sim.expectation import FIREWALLS, SIDES, behind_one_carrier, outcome
from natwalk.sim.ice import IceMeeting, IceResult
from natwalk.sim.internet import Attachment, Internet, Kind, two_peers

APDM, EIM = Mapping.ADDRESS_AND_PORT_DEPENDENT, Mapping.ENDPOINT_INDEPENDENT
BEHAVIOURS = list(product(Mapping, Filtering))


def report(internet: Internet, result: IceResult, what: str) -> str:
    """What to print of a failure: the seed that repeats it, and who sent what."""
    return f"{what}: {result}, seed {internet.network.seed}\n{sequence(internet.network.trace)}"


def meet(kind_a: Kind, kind_b: Kind, seed: int, wanted: Outcome, *, same_lan: bool = False) -> IceResult:
    internet = two_peers(kind_a, kind_b, seed=seed, same_lan=same_lan)
    result = IceMeeting(internet).run()
    assert result.outcome is wanted, report(internet, result, f"{kind_a} x {kind_b}")
    return result


def meet_each(a: str, version: int) -> None:
    """The side ``a`` with itself and every side after it in the table, over one IP version."""
    names = list(SIDES)
    for number, b in enumerate(names[names.index(a) :]):
        left, right = (
            Attachment(ipv4=SIDES[name]) if version == 4 else Attachment(ipv6=SIDES[name]) for name in (a, b)
        )
        meet(left, right, number, outcome(left, right))


@pytest.mark.parametrize("side", list(SIDES))
def test_every_side_of_the_matrix_meets_every_other(side: str) -> None:
    """Mapping, filtering, allocation and layers of both sides; who controls makes no difference."""
    meet_each(side, 4)


@pytest.mark.parametrize("side", list(SIDES))
def test_the_matrix_is_the_same_for_nats_of_ipv6(side: str) -> None:
    meet_each(side, 6)


@pytest.mark.parametrize(("a", "b"), list(combinations_with_replacement(FIREWALLS, 2)))
def test_ipv6_behind_firewalls(a: str, b: str) -> None:
    left, right = Attachment(ipv6=FIREWALLS[a]), Attachment(ipv6=FIREWALLS[b])
    meet(left, right, 1, outcome(left, right))


DUAL = [
    Attachment(ipv4=kind, ipv6=firewall)
    for kind in ("port-restricted", "symmetric", "cgnat", "udp-blocked", None)
    for firewall in ("home-ipv6", FIREWALLS["udp-blocked"], None)
    if kind or firewall
]


@pytest.mark.parametrize(("a", "b"), list(combinations_with_replacement(DUAL, 2)), ids=str)
def test_with_both_ip_versions_the_better_one_counts(a: Attachment, b: Attachment) -> None:
    meet(a, b, 1, outcome(a, b))


HOMES = ("none", "full-cone", "address-restricted", "port-restricted", "symmetric", "cgnat")


@pytest.mark.parametrize("hairpin", list(Hairpin))
@pytest.mark.parametrize("filtering", [Filtering.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT])
@pytest.mark.parametrize(("a", "b"), list(combinations_with_replacement(HOMES, 2)))
def test_two_homes_behind_one_carrier(a: str, b: str, filtering: Filtering, hairpin: Hairpin) -> None:
    """The same NAT outside, where neither knows the other's address at the carrier."""
    carrier = NatConfig(filtering=filtering, allocation=Allocation.RANDOM, hairpin=hairpin)
    internet = two_peers(a, b, seed=1, carrier=carrier)
    result = IceMeeting(internet).run()
    wanted = behind_one_carrier(kind_spec(a), kind_spec(b), carrier)
    assert result.outcome is wanted, report(internet, result, f"{a} x {b} behind {carrier}")


@pytest.mark.parametrize(("kind_a", "kind_b"), list(product(KINDS, KINDS)))
def test_each_pair_of_kinds_ends_up_where_the_table_says(kind_a: str, kind_b: str) -> None:
    result = meet(kind_a, kind_b, 1, expected(kind_a, kind_b))
    if result.outcome is Outcome.DIRECT:
        assert result.direct_after is not None
        assert result.direct_after < 2.0
    elif PASSAGES[kind_a, kind_b] is Passage.GUESSED or result.outcome is Outcome.RELAY:
        assert result.connected_after is not None
        assert result.connected_after < 8.0


@pytest.mark.parametrize("kind", list(KINDS))
def test_on_one_lan_host_candidates_win_whatever_the_nat(kind: str) -> None:
    result = meet(kind, kind, 1, Outcome.DIRECT, same_lan=True)
    assert result.pair is not None
    assert (result.pair.local.type.value, result.pair.remote.type.value) == ("host", "host")
    assert result.pair.rtt is not None
    assert result.pair.rtt < 0.1


@pytest.mark.parametrize("seed", range(2, 7))
@pytest.mark.parametrize(
    ("kind_a", "kind_b"), [("port-restricted", "cgnat"), ("symmetric", "address-restricted")]
)
def test_the_result_does_not_depend_on_the_seed(kind_a: str, kind_b: str, seed: int) -> None:
    meet(kind_a, kind_b, seed, expected(kind_a, kind_b))


def punchable(a: tuple[Mapping, Filtering], b: tuple[Mapping, Filtering]) -> bool:
    """Whether two behaviours let hole punching through, from RFC 4787's definitions alone."""
    (map_a, filter_a), (map_b, filter_b) = a, b
    strict = Filtering.ADDRESS_AND_PORT_DEPENDENT
    if map_a is EIM and map_b is EIM:
        return True
    if map_a is EIM or map_b is EIM:
        return (filter_a if map_a is EIM else filter_b) is not strict
    if map_a is APDM and map_b is APDM:
        return False  # each answer opens yet another port: they chase each other for ever
    # Both ports change, one of them only with the address: somebody's port known from the server must take
    # packets from anywhere, and the other take the answer, which comes from a port it has not sent to.
    open_ = Filtering.ENDPOINT_INDEPENDENT
    return (filter_a is open_ and filter_b is not strict) or (filter_b is open_ and filter_a is not strict)


@pytest.mark.parametrize(
    ("a", "b"), list(product(BEHAVIOURS, BEHAVIOURS)), ids=lambda b: f"{b[0].name}-{b[1].name}"
)
def test_every_mapping_and_filtering(a: tuple[Mapping, Filtering], b: tuple[Mapping, Filtering]) -> None:
    """All 81 pairs of RFC 4787 behaviours, beyond those that have a name."""
    specs = [
        KindSpec(f"{mapping.value}/{filtering.value}", "", (NatConfig(mapping=mapping, filtering=filtering),))
        for mapping, filtering in (a, b)
    ]
    meet(specs[0], specs[1], 1, Outcome.DIRECT if punchable(a, b) else Outcome.RELAY)


@pytest.mark.parametrize("allocation", list(Allocation))
@pytest.mark.parametrize("parity", [False, True])
def test_port_allocation_does_not_matter_while_mappings_do_not_depend(
    allocation: Allocation, parity: bool
) -> None:
    spec = KindSpec("nat", "", (NatConfig(allocation=allocation, keep_parity=parity, step=-3),))
    meet(spec, spec, 1, Outcome.DIRECT)


def test_a_gateway_that_an_early_probe_poisons_is_still_punched() -> None:
    """The probe of the faster side moves the slower side's port; a peer-reflexive pair finds it."""
    poisons = KindSpec(
        "poisons",
        "",
        (NatConfig(early_probe=EarlyProbe.POISONS, filtering=Filtering.ADDRESS_DEPENDENT),),
    )
    meet(poisons, "address-restricted", 1, Outcome.DIRECT)


def test_the_same_seed_gives_the_same_trace_byte_for_byte() -> None:
    def run(seed: int) -> tuple[str, list[bytes]]:
        internet = two_peers("cgnat", "symmetric", seed=seed)
        internet.a.access.configure(jitter=0.01, loss=0.05, duplicate=0.02)
        IceMeeting(internet).run()
        records = internet.network.trace.records
        return internet.network.trace.text(), [r.packet.payload for r in records if r.packet is not None]

    assert run(5) == run(5)
    assert run(5) != run(6)


def test_the_trace_is_the_same_in_another_process() -> None:
    """Nothing depends on the order of sets or on addresses of objects."""
    program = (
        "import hashlib\n"
        "from natwalk.sim.ice import IceMeeting\n"
        "from natwalk.sim.internet import two_peers\n"
        "internet = two_peers('cgnat', 'symmetric', seed=5)\n"
        "IceMeeting(internet).run()\n"
        "print(hashlib.sha256(internet.network.trace.text().encode()).hexdigest())\n"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1
