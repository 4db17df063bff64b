"""Forming, limiting, freezing and ordering checks."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import Address
from natwalk.ice import Candidate, CandidateType, State
from natwalk.ice.candidate import candidate_priority
from natwalk.ice.checklist import Checklist
from natwalk.ice.pair import CandidatePair, On

HOST, RELAYED, SRFLX = CandidateType.HOST, CandidateType.RELAYED, CandidateType.SERVER_REFLEXIVE
ANY: Callable[[CandidatePair], bool] = lambda pair: True  # noqa: E731


def candidate(
    number: int, kind: CandidateType = HOST, *, foundation: str | None = None, preference: int = 100
) -> Candidate:
    return Candidate(
        foundation=foundation or f"f{number}",
        priority=candidate_priority(kind, preference),
        address=Address(f"192.0.2.{number % 250 + 1}", 20_000 + number),
        type=kind,
    )


def add(
    checklist: Checklist,
    local: Candidate,
    remote: Candidate,
    *,
    controlling: bool = True,
    needed: bool = False,
) -> CandidatePair:
    pair = checklist.add(local, remote, controlling=controlling, needed=needed)
    assert pair is not None
    return pair


def test_the_first_pair_of_a_foundation_waits_and_others_are_frozen() -> None:
    checklist = Checklist(100)
    local = candidate(1, foundation="x")
    first = add(checklist, local, candidate(2, foundation="y"))
    second = add(checklist, local, candidate(3, foundation="y"))
    other = add(checklist, local, candidate(4, foundation="z"))
    assert [p.state for p in (first, second, other)] == [State.WAITING, State.FROZEN, State.WAITING]


def test_a_success_unfreezes_its_foundation_and_later_pairs_wait_at_once() -> None:
    checklist = Checklist(100)
    local = candidate(1, foundation="x")
    first = add(checklist, local, candidate(2, foundation="y"))
    second = add(checklist, local, candidate(3, foundation="y"))
    first.on(On.SUCCESS)
    checklist.unfreeze(first)
    assert second.state is State.WAITING
    assert add(checklist, local, candidate(4, foundation="y")).state is State.WAITING


def test_a_frozen_pair_is_checked_when_nothing_waits_and_its_foundation_is_idle() -> None:
    checklist = Checklist(100)
    local = candidate(1, foundation="x")
    first = add(checklist, local, candidate(2, foundation="y"))
    second = add(checklist, local, candidate(3, foundation="y"))
    first.on(On.PERFORM)
    assert checklist.next_ordinary(ANY) is None
    first.on(On.FAILURE)
    assert checklist.next_ordinary(ANY) is second
    assert second.state is State.WAITING


def test_adding_the_same_pair_again_gives_the_known_one() -> None:
    checklist = Checklist(100)
    pair = add(checklist, candidate(1), candidate(2))
    assert add(checklist, candidate(1), candidate(2)) is pair
    assert checklist.get(pair.id) is pair
    assert len(checklist) == 1


def test_ordinary_checks_go_by_priority() -> None:
    checklist = Checklist(100)
    low = add(checklist, candidate(1), candidate(2, SRFLX))
    high = add(checklist, candidate(1), candidate(3))
    assert checklist.next_ordinary(ANY) is high
    high.on(On.PERFORM)
    assert checklist.next_ordinary(ANY) is low


def test_every_third_check_is_a_relayed_pair_until_one_works() -> None:
    """Deviates from RFC 8445 §6.1.4.2: the relay shall be there soon, not after every direct pair."""
    checklist = Checklist(100)
    for number in range(10):
        add(checklist, candidate(1), candidate(2 + number))
    for number in range(3):
        add(checklist, candidate(50, RELAYED), candidate(20 + number))
    order = []
    for _ in range(9):
        pair = checklist.next_ordinary(ANY)
        assert pair is not None
        order.append(pair.relayed)
        pair.on(On.PERFORM)
    assert order == [False, False, True] * 3


def test_only_wanted_pairs_are_checked_and_parked_ones_are_not() -> None:
    checklist = Checklist(100)
    relayed = add(checklist, candidate(1, RELAYED), candidate(2))
    assert checklist.next_ordinary(lambda pair: not pair.relayed) is None
    assert not checklist.has_work(lambda pair: not pair.relayed)
    relayed.on(On.SUCCESS)
    relayed.on(On.PARK)
    relayed.parked = True
    assert not checklist.has_work(ANY)
    relayed.parked = False
    assert checklist.next_ordinary(ANY) is relayed


def test_triggered_checks_come_in_the_order_they_were_triggered_and_once() -> None:
    """RFC 8445 §6.1.4.1 and §7.3.1.4."""
    checklist = Checklist(100)
    pairs = [add(checklist, candidate(1), candidate(2 + number)) for number in range(3)]
    for pair in (pairs[2], pairs[0], pairs[2]):
        checklist.trigger(pair)
    assert [checklist.next_triggered() for _ in range(3)] == [pairs[2], pairs[0], None]


def test_triggering_revives_a_failed_pair_and_leaves_a_valid_one_alone() -> None:
    checklist = Checklist(100)
    failed, valid = (add(checklist, candidate(1), candidate(n)) for n in (2, 3))
    failed.on(On.FAILURE)
    failed.retry_at = 50.0
    valid.on(On.SUCCESS)
    checklist.trigger(failed)
    checklist.trigger(valid)
    assert (failed.state, failed.retry_at) == (State.WAITING, None)
    assert valid.state is State.SUCCEEDED
    assert checklist.next_triggered() is failed
    assert checklist.next_triggered() is None


def test_a_triggered_pair_that_succeeded_or_left_meanwhile_is_passed_over() -> None:
    checklist = Checklist(100)
    done, gone = (add(checklist, candidate(1), candidate(n)) for n in (2, 3))
    checklist.trigger(done)
    checklist.trigger(gone)
    done.on(On.SUCCESS)
    checklist.remove(gone)
    assert checklist.next_triggered() is None
    assert checklist.get(gone.id) is None


def test_a_full_checklist_keeps_a_share_for_relays() -> None:
    """RFC 8445 §6.1.2.5: 100 pairs; relayed ones rank last and would all be pruned."""
    checklist = Checklist(100)
    for number in range(120):
        checklist.add(candidate(1), candidate(2 + number, preference=number + 1), controlling=True)
    for number in range(60):
        checklist.add(candidate(150, RELAYED), candidate(2 + number), controlling=True)
    assert len(checklist) == 100
    assert 20 <= sum(pair.relayed for pair in checklist) <= 30


def test_dozens_of_container_addresses_do_not_bury_the_one_that_works() -> None:
    """Thirty host addresses on either side: the reflexive one is in the list, and among the first checked."""
    checklist = Checklist(100)
    reflexive = candidate(99, SRFLX)
    remotes = [*(candidate(40 + number, preference=90 - number) for number in range(30)), reflexive]
    locals_ = [candidate(1 + number, preference=90 - number) for number in range(30)]
    for remote in remotes:
        for local in locals_:
            checklist.add(local, remote, controlling=True)
    assert len(checklist) == 100
    kept = [pair for pair in checklist if pair.remote is reflexive]
    assert locals_[0] in [pair.local for pair in kept]
    first = []
    for _ in range(3):
        pair = checklist.next_ordinary(ANY)
        assert pair is not None
        pair.on(On.PERFORM)
        first.append(pair)
    assert [pair.remote is reflexive for pair in first].count(True) == 1
    assert len({pair.path.remote for pair in checklist}) == 31


def test_a_worse_pair_does_not_get_into_a_full_checklist_unless_needed() -> None:
    checklist = Checklist(4)
    for number in range(4):
        add(checklist, candidate(1), candidate(2 + number))
    relay = add(checklist, candidate(99, RELAYED), candidate(2))
    assert relay.relayed
    worse = candidate(9, SRFLX)
    assert checklist.add(candidate(1), worse, controlling=True) is None
    assert checklist.add(candidate(1), worse, controlling=True, needed=True) is not None
    assert len(checklist) == 4


def test_pairs_under_way_or_valid_are_never_pushed_out() -> None:
    checklist = Checklist(2)
    running, valid = (add(checklist, candidate(1), candidate(n, SRFLX)) for n in (2, 3))
    running.on(On.PERFORM)
    valid.on(On.SUCCESS)
    assert checklist.add(candidate(1), candidate(4), controlling=True, needed=True) is None


def test_a_change_of_role_swaps_the_parts_of_the_formula() -> None:
    checklist = Checklist(10)
    pair = add(checklist, candidate(1, preference=7), candidate(2))
    before = pair.priority
    checklist.reprioritise(controlling=False)
    assert before != pair.priority
    checklist.reprioritise(controlling=True)
    assert pair.priority == before


def test_outstanding_counts_what_waits_or_runs() -> None:
    checklist = Checklist(10)
    pairs = [add(checklist, candidate(1), candidate(2 + n)) for n in range(3)]
    pairs[0].on(On.PERFORM)
    pairs[1].on(On.SUCCESS)
    assert checklist.outstanding == 2


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 60), st.booleans()), max_size=200))
def test_never_more_than_the_limit_and_ids_never_repeat(adds: list[tuple[int, int, bool]]) -> None:
    checklist = Checklist(20)
    ids: dict[int, CandidatePair] = {}
    for local, remote, relayed in adds:
        kind = RELAYED if relayed else HOST
        pair = checklist.add(candidate(local, kind), candidate(100 + remote), controlling=True)
        assert len(checklist) <= 20
        if pair is not None:
            assert ids.setdefault(pair.id, pair) is pair
