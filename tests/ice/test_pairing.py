"""Pairs from candidates of either side, whatever the order they come in."""

from __future__ import annotations

import random
from itertools import permutations

import pytest

from natwalk.core import Address, Path
from natwalk.ice import Candidate, CandidateType, IceConfig, IceParameters, State, TransportPolicy
from natwalk.ice.pair import CandidatePair
from natwalk.ice.pairing import Pairing
from natwalk.ice.session import Session

HOST, SRFLX, RELAYED = CandidateType.HOST, CandidateType.SERVER_REFLEXIVE, CandidateType.RELAYED


def candidate(
    address: str, kind: CandidateType = HOST, base: str | None = None, priority: int = 100
) -> Candidate:
    where = Address.parse(address)
    based = where if base is None else Address.parse(base)
    return Candidate(foundation="1", priority=priority, address=where, type=kind, base=based)


H4 = candidate("10.0.0.1:1000")
H6 = candidate("[2001:db8::1]:1000")
S4 = candidate("198.51.100.1:5000", SRFLX, base="10.0.0.1:1000")
R4 = candidate("203.0.113.1:50000", RELAYED)
OURS = (H4, H6, S4, R4)
THEIRS = (
    candidate("192.0.2.7:7000"),
    candidate("[2001:db8::7]:7000"),
    candidate("203.0.113.2:50001", RELAYED),
)


def make(config: IceConfig | None = None) -> Pairing:
    source = random.Random(2).randbytes
    session = Session(config or IceConfig(), source, True, 1, IceParameters.generate(source))
    return Pairing(session, lambda address, base: S4 if (address, base) == (S4.address, S4.base) else None)


def paths(pairing: Pairing) -> set[Path]:
    return set(pairing.checklist.pairs)


@pytest.mark.parametrize("order", list(permutations(range(5)))[::7])
def test_the_order_in_which_candidates_come_does_not_matter(order: tuple[int, ...]) -> None:
    """RFC 8838 §12."""
    pairing = make()
    steps = [
        lambda: pairing.add_local(H4),
        lambda: pairing.add_local(H6),
        lambda: pairing.add_local(R4),
        lambda: pairing.add_remote(THEIRS[0]),
        lambda: [pairing.add_remote(each) for each in THEIRS[1:]],
    ]
    for number in order:
        steps[number]()
    assert len(paths(pairing)) == 5  # two IPv4 bases with two IPv4 remotes, one pair of IPv6
    assert {path.local.version for path in paths(pairing)} == {4, 6}
    assert all(path.local.version == path.remote.version for path in paths(pairing))


def test_a_reflexive_candidate_of_ours_is_its_base_s() -> None:
    """RFC 8445 §6.1.2.4."""
    pairing = make()
    for ours in OURS:
        pairing.add_local(ours)
    pairing.add_remote(THEIRS[0])
    assert {path.local for path in paths(pairing)} == {H4.address, R4.address}


def test_the_valid_pair_s_local_candidate_is_the_one_the_peer_saw() -> None:
    """RFC 8445 §7.2.5.3.1: our base, a reflexive candidate known, or a new peer-reflexive one."""
    pairing = make()
    for ours in OURS:
        pairing.add_local(ours)
    pairing.add_remote(THEIRS[0])
    direct = pairing.checklist.pairs[Path(H4.address, THEIRS[0].address)]
    relayed = pairing.checklist.pairs[Path(R4.address, THEIRS[0].address)]
    assert pairing.valid_local(direct, H4.address, 7) is direct.local
    assert pairing.valid_local(direct, S4.address, 7) is S4
    assert pairing.valid_local(relayed, Address("198.51.100.9", 9), 7) is relayed.local
    new = pairing.valid_local(direct, Address("198.51.100.9", 9), 7)
    assert (new.type, new.priority, new.base) == (CandidateType.PEER_REFLEXIVE, 7, H4.address)


def test_a_discovered_candidate_is_paired_with_everything_of_its_family() -> None:
    """Beyond RFC 8445: what a check through the relay shows is where to punch to."""
    pairing = make()
    for ours in OURS:
        pairing.add_local(ours)
    found = pairing.discover(Path(R4.address, Address("198.51.100.77", 7777)), 55)
    assert found is not None
    assert found.local is R4
    assert found.remote.priority == 55
    assert {path.local for path in paths(pairing)} == {R4.address, H4.address}
    assert pairing.discover(found.path, 99) is found


@pytest.mark.parametrize(
    "path",
    [
        Path(Address("10.0.0.99", 1), Address("192.0.2.7", 7000)),
        Path(H4.address, Address("2001:db8::7", 7000)),
        Path(H4.address, R4.address),
        Path(H4.address, Address("127.0.0.1", 7000)),
    ],
)
def test_a_check_that_fits_no_pair_makes_none(path: Path) -> None:
    pairing = make()
    pairing.add_local(H4)
    pairing.add_local(R4)
    assert pairing.discover(path, 5) is None
    assert len(pairing.checklist) == 0


def test_a_signalled_candidate_takes_the_place_of_the_discovered_one() -> None:
    pairing = make()
    pairing.add_local(H4)
    where = Address("203.0.113.2", 50001)
    found = pairing.discover(Path(H4.address, where), 55)
    assert found is not None
    before = found.priority
    assert pairing.add_remote(THEIRS[2]) == []
    assert found.relayed
    assert found.priority != before
    assert len(pairing.checklist) == 1


def test_dropping_a_local_candidate_takes_its_pairs() -> None:
    pairing = make()
    pairing.add_local(H4)
    pairing.add_local(R4)
    pairing.add_remote(THEIRS[0])
    dropped: list[CandidatePair] = pairing.drop_local(R4.address)
    assert [pair.base for pair in dropped] == [R4.address]
    assert paths(pairing) == {Path(H4.address, THEIRS[0].address)}
    assert not pairing.is_local(R4.address)
    assert pairing.is_local(H4.address)


def test_the_direct_policy_removes_the_pairs_of_what_turns_out_to_be_a_relay() -> None:
    pairing = make(IceConfig(policy=TransportPolicy.DIRECT))
    pairing.add_local(H4)
    pairing.discover(Path(H4.address, THEIRS[2].address), 55)
    (removed,) = pairing.add_remote(THEIRS[2])
    assert removed.state is State.WAITING
    assert len(pairing.checklist) == 0


def test_a_full_checklist_is_counted() -> None:
    source = random.Random(2).randbytes
    session = Session(IceConfig(max_pairs=1), source, True, 1, IceParameters.generate(source))
    pairing = Pairing(session, lambda address, base: None)
    pairing.add_local(H4)
    pairing.add_remote(candidate("192.0.2.7:7000", priority=200))
    pairing.add_remote(candidate("192.0.2.8:7000", priority=100))
    assert session.drops.last == "the checklist is full of better pairs"
