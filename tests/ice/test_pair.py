"""The state table of pairs, and their priority."""

from __future__ import annotations

from itertools import product

import pytest

from natwalk.core import Address, LocalProtocolError, Path
from natwalk.ice import Candidate, CandidateType, State, pair_priority
from natwalk.ice.pair import PAIR_TRANSITIONS, CandidatePair, On, PairId


def candidate(address: str, kind: CandidateType = CandidateType.HOST, priority: int = 100) -> Candidate:
    return Candidate(foundation="1", priority=priority, address=Address.parse(address), type=kind)


def make(**options: object) -> CandidatePair:
    local, remote = candidate("10.0.0.1:1000"), candidate("192.0.2.9:2000")
    return CandidatePair(PairId(7), local, remote, local.base, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("state", "event"), list(product(State, On)))
def test_the_table_is_applied_and_a_missing_row_is_an_error(state: State, event: On) -> None:
    pair = make(state=state)
    if (state, event) in PAIR_TRANSITIONS:
        pair.on(event)
        assert pair.state is PAIR_TRANSITIONS[state, event]
    else:
        with pytest.raises(LocalProtocolError, match=f"pair 7: {event.value} in state {state.value}"):
            pair.on(event)
        assert pair.state is state


def test_every_state_can_be_left_and_a_success_always_counts() -> None:
    for state in State:
        assert any(source is state for source, _ in PAIR_TRANSITIONS)
        assert PAIR_TRANSITIONS[state, On.SUCCESS] is State.SUCCEEDED


def test_pair_priority_is_the_formula_of_the_rfc() -> None:
    assert pair_priority(2130706431, 1694498815) == (1694498815 << 32) + 2 * 2130706431 + 1
    assert pair_priority(1694498815, 2130706431) == (1694498815 << 32) + 2 * 2130706431
    assert pair_priority(5, 5) == (5 << 32) + 10


def test_both_sides_compute_one_priority() -> None:
    """Whoever computes it, the controlling side's candidate goes first."""
    mine, theirs = 77, 99
    assert pair_priority(controlling=mine, controlled=theirs) == pair_priority(mine, theirs)


def test_a_pair_knows_its_path_and_whether_a_relay_is_in_it() -> None:
    pair = make()
    assert pair.path == Path(Address("10.0.0.1", 1000), Address("192.0.2.9", 2000))
    assert not pair.relayed
    pair.remote = candidate("192.0.2.9:2000", CandidateType.RELAYED)
    pair.note_types()
    assert pair.relayed


def test_the_snapshot_shows_the_candidate_the_peer_sees() -> None:
    pair = make(state=State.SUCCEEDED, rtt=0.25, priority=9)
    pair.reflexive = candidate("198.51.100.1:500", CandidateType.SERVER_REFLEXIVE)
    info = pair.info(selected=True)
    assert info.local.address == Address("198.51.100.1", 500)
    assert (info.id, info.state, info.selected, info.rtt, info.priority) == (
        7,
        State.SUCCEEDED,
        True,
        0.25,
        9,
    )
    assert not info.relayed
