"""Consent and liveness of kept pairs, on a clock of the test's own."""

from __future__ import annotations

import random

import pytest

from natwalk.core import Address
from natwalk.ice import Candidate, CandidateType, IceConfig, IceParameters, State
from natwalk.ice.consent import Consent, choose_kept
from natwalk.ice.pair import CandidatePair, PairId
from natwalk.ice.session import Session


def session(config: IceConfig | None = None) -> Session:
    source = random.Random(3).randbytes
    return Session(config or IceConfig(), source, True, 1, IceParameters.generate(source))


def pair(number: int, *, relayed: bool = False, state: State = State.SUCCEEDED) -> CandidatePair:
    kind = CandidateType.RELAYED if relayed else CandidateType.HOST
    local = Candidate(foundation="1", priority=5, address=Address("192.0.2.1", 1), type=kind)
    remote = Candidate(
        foundation="1", priority=5, address=Address("192.0.2.2", 1 + number), type=CandidateType.HOST
    )
    return CandidatePair(PairId(number), local, remote, local.base, priority=number, state=state)


def kept(count: int = 1, now: float = 100.0) -> tuple[Consent, list[CandidatePair]]:
    consent = Consent(session())
    pairs = [pair(number) for number in range(count)]
    for each in pairs:
        each.confirmed_at = now
    consent.keep(pairs, now)
    return consent, pairs


def test_before_a_selection_the_best_eight_are_kept() -> None:
    pairs = [pair(number) for number in range(12)] + [pair(99, state=State.FAILED)]
    assert [p.id for p in choose_kept(pairs, None)] == [11, 10, 9, 8, 7, 6, 5, 4]


def test_beside_the_selected_pair_two_are_kept_and_one_of_them_is_relayed() -> None:
    pairs = [pair(number) for number in range(5)]
    relays = [pair(50, relayed=True), pair(51, relayed=True)]
    assert [p.id for p in choose_kept([*pairs, *relays], pairs[2])] == [2, 51, 4]
    assert [p.id for p in choose_kept(pairs, pairs[2])] == [2, 4, 3]
    assert [p.id for p in choose_kept(relays, relays[0])] == [50, 51]


def test_a_direct_pair_is_kept_beside_a_selected_relay_even_when_it_is_suspect() -> None:
    relays = [pair(number, relayed=True) for number in range(4)]
    direct = pair(9)
    direct.suspect = True
    assert [p.id for p in choose_kept([*relays, direct], relays[3])] == [3, 2, 9]


def test_checks_come_every_four_to_six_seconds_and_not_in_step() -> None:
    """RFC 7675 §5.1: five seconds, times 0.8 to 1.2 at random."""
    consent, pairs = kept()
    gaps = []
    last = 100.0
    for _ in range(200):
        due = consent.next_timeout(pairs)
        assert due is not None
        assert consent.due(due) == pairs
        consent.confirmed(pairs[0], due)
        gaps.append(due - last)
        last = due
    assert all(3.99 <= gap <= 6.01 for gap in gaps)
    assert max(gaps) - min(gaps) > 1.5


def test_nothing_is_due_before_its_time() -> None:
    consent, pairs = kept()
    due = consent.next_timeout(pairs)
    assert due is not None
    assert consent.due(due - 0.001) == []


def test_unanswered_checks_come_quickly_and_make_the_pair_suspect() -> None:
    consent, pairs = kept()
    now = consent.next_timeout(pairs)
    assert now is not None
    began = now
    asked = 0
    while not pairs[0].suspect:
        assert consent.due(now) == pairs
        asked += 1
        following = consent.next_timeout(pairs)
        assert following is not None
        assert following > now
        now = following
    assert asked == 4
    assert now - began < 3.5


def test_an_answer_clears_the_suspicion() -> None:
    consent, pairs = kept()
    for step in range(6):
        consent.due(110.0 + step)
    assert pairs[0].suspect
    consent.confirmed(pairs[0], 116.0)
    assert not pairs[0].suspect
    assert pairs[0].misses == 0


def test_data_coming_in_makes_it_less_suspicious() -> None:
    consent, pairs = kept()
    for step in range(4):
        pairs[0].heard_at = 110.0 + step
        consent.due(110.0 + step)
    assert not pairs[0].suspect
    for step in range(4, 8):
        pairs[0].heard_at = 110.0 + step
        consent.due(110.0 + step)
    assert pairs[0].suspect


def test_silence_after_data_was_sent_calls_for_a_check_at_once() -> None:
    consent, pairs = kept()
    pairs[0].unanswered_since = 100.5
    assert consent.next_timeout(pairs) == 102.5
    assert consent.due(102.4) == []
    assert consent.due(102.5) == pairs
    assert consent.due(102.5) == []


def test_doubt_brings_the_next_check_forward() -> None:
    consent, pairs = kept()
    consent.doubt(pairs[0], 101.0)
    assert consent.due(101.0) == []
    assert consent.due(101.05) == pairs
    other = pair(9)
    consent.doubt(other, 101.0)
    assert other.check_at is None


def test_after_ten_misses_checks_go_back_to_the_usual_pace() -> None:
    consent, pairs = kept()
    now = 110.0
    times = []
    for _ in range(14):
        due = pairs[0].check_at
        assert due is not None
        now = max(now, due)
        consent.due(now)
        times.append(now)
    assert times[5] - times[4] < 1.0
    assert times[13] - times[12] > 3.9


@pytest.mark.parametrize("at", [129.9, 130.0])
def test_consent_expires_thirty_seconds_after_the_last_answer(at: float) -> None:
    """RFC 7675 §5.1. Data coming in does not renew it (FAULTS 75)."""
    consent, pairs = kept()
    pairs[0].heard_at = at
    assert consent.expired(pairs, at) == (pairs if at >= 130.0 else [])
    failed = pair(3, state=State.FAILED)
    assert consent.expired([failed], 999.0) == []


def test_pairs_no_longer_kept_are_not_checked_but_still_expire() -> None:
    consent, pairs = kept(2)
    consent.keep(pairs[:1], 100.0)
    assert pairs[1].check_at is None
    assert consent.due(200.0) == pairs[:1]
    assert consent.expired(pairs, 200.0) == pairs
