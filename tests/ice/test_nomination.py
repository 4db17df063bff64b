"""The nomination policy, without an agent: pairs in, a choice out."""

from __future__ import annotations

from typing import Any

import pytest

from natwalk.core import Address
from natwalk.ice import Candidate, CandidateType, IceConfig, State
from natwalk.ice.nomination import Choice, best, choose
from natwalk.ice.pair import CandidatePair, PairId

CONFIG = IceConfig(type_wait=0.1, relay_wait=5.0, switch_interval=5.0)
HOST, RELAYED = CandidateType.HOST, CandidateType.RELAYED


def pair(
    number: int,
    *,
    relayed: bool = False,
    state: State = State.SUCCEEDED,
    at: float | None = 10.0,
    **fields: Any,
) -> CandidatePair:
    local = Candidate(
        foundation="1", priority=5, address=Address("192.0.2.1", 1), type=RELAYED if relayed else HOST
    )
    remote = Candidate(foundation="1", priority=5, address=Address("192.0.2.2", 1 + number), type=HOST)
    made = CandidatePair(PairId(number), local, remote, local.base, priority=number, state=state)
    made.validated_at = at if state is State.SUCCEEDED else None
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def ask(
    now: float,
    *pairs: CandidatePair,
    selected: CandidatePair | None = None,
    last_switch: float | None = None,
    more: bool = False,
) -> Choice:
    return choose(now, pairs, selected, config=CONFIG, last_switch=last_switch, more_expected=more)


def test_nothing_valid_nothing_nominated() -> None:
    assert ask(10.0, pair(1, state=State.IN_PROGRESS)) == Choice()
    assert best([]) is None


def test_a_direct_pair_with_nothing_better_in_sight_is_nominated_at_once() -> None:
    good = pair(5)
    assert ask(
        10.0, good, pair(4, state=State.IN_PROGRESS), pair(9, relayed=True, state=State.WAITING)
    ) == Choice(pair=good)


@pytest.mark.parametrize("state", [State.FROZEN, State.WAITING, State.IN_PROGRESS])
def test_it_waits_a_moment_for_a_better_one_that_may_still_succeed(state: State) -> None:
    good, better = pair(5), pair(6, state=state)
    assert ask(10.0, good, better) == Choice(again_at=10.1)
    assert ask(10.1, good, better) == Choice(pair=good)


def test_it_does_not_wait_for_what_has_failed_or_is_parked() -> None:
    good = pair(5)
    assert ask(10.0, good, pair(6, state=State.FAILED)).pair is good
    assert ask(10.0, good, pair(6, state=State.FROZEN, parked=True)).pair is good


def test_a_relayed_pair_waits_for_direct_ones_at_most_five_seconds() -> None:
    relay, direct = pair(1, relayed=True), pair(9, state=State.IN_PROGRESS)
    assert ask(10.0, relay, direct) == Choice(again_at=15.0)
    assert ask(15.0, relay, direct) == Choice(pair=relay)


def test_a_relayed_pair_is_nominated_when_direct_ones_are_exhausted() -> None:
    relay, direct = pair(1, relayed=True), pair(9, state=State.FAILED)
    assert ask(10.0, relay, direct).pair is relay
    assert ask(10.0, relay, direct, more=True) == Choice(again_at=15.0)


def test_the_wait_counts_from_the_first_valid_pair_of_the_kind() -> None:
    """A stream of ever better pairs does not put the nomination off."""
    pairs = (pair(5, at=10.0), pair(6, at=10.08), pair(7, state=State.IN_PROGRESS))
    assert ask(10.08, *pairs) == Choice(again_at=10.1)


def test_a_direct_pair_replaces_the_relay_as_soon_as_it_works() -> None:
    relay, direct = pair(1, relayed=True), pair(5, at=11.0)
    assert ask(11.0, relay, direct, selected=relay, last_switch=10.9) == Choice(pair=direct)


def test_a_better_direct_pair_replaces_the_selected_one_but_seldom() -> None:
    """FAULTS 148: no more than one switch in five seconds."""
    selected, better = pair(5), pair(6, at=10.5)
    assert ask(10.7, selected, better, selected=selected, last_switch=10.2) == Choice(again_at=15.2)
    assert ask(15.2, selected, better, selected=selected, last_switch=10.2) == Choice(pair=better)


def test_the_best_pair_stays() -> None:
    selected = pair(6)
    assert (
        ask(99.0, selected, pair(5), pair(7, relayed=True), selected=selected, last_switch=10.0) == Choice()
    )


def test_a_rescue_waits_for_nothing() -> None:
    relay = pair(1, relayed=True, at=20.0)
    lost = pair(6, state=State.FAILED)
    assert ask(20.0, lost, relay, selected=None, last_switch=19.0) == Choice(pair=relay)
    suspect = pair(6, suspect=True)
    assert ask(20.0, suspect, relay, selected=suspect, last_switch=19.0) == Choice(pair=relay)


def test_when_all_are_suspect_nothing_changes_for_the_worse() -> None:
    suspect, worse = pair(6, suspect=True), pair(1, relayed=True, suspect=True)
    assert ask(20.0, suspect, worse, selected=suspect, last_switch=10.0) == Choice()


def test_a_pair_that_failed_in_use_comes_back_after_longer_and_longer() -> None:
    relay = pair(1, relayed=True)
    for demotions, due in ((1, 110.0), (3, 120.0), (50, 130.0)):
        back = pair(6, demotions=demotions)
        assert ask(100.0, relay, back, selected=relay, last_switch=100.0) == Choice(again_at=due)


def test_direct_goes_before_relayed_and_answering_before_suspect() -> None:
    relay, direct = pair(9, relayed=True), pair(1)
    assert best([relay, direct]) is direct
    direct.suspect = True
    assert best([relay, direct]) is relay
