"""The selected pair: nominating, following, losing."""

from __future__ import annotations

import random

from natwalk.core import Address
from natwalk.ice import Candidate, CandidateType, IceConfig, IceParameters, PairSelected
from natwalk.ice.checks import CheckRequest
from natwalk.ice.connectivity import Connectivity
from natwalk.ice.pair import CandidatePair, On
from natwalk.ice.pairing import Pairing
from natwalk.ice.selection import Selection
from natwalk.ice.session import Session
from natwalk.stun import USE_CANDIDATE, Message, MessageClass, Method, decode

NOW = 100.0


def nominating(transaction_id: bytes) -> CheckRequest:
    message = Message(Method.BINDING, MessageClass.REQUEST, transaction_id)
    return CheckRequest(message, "peer", 5, controlling=True, tie_breaker=1, use_candidate=True)


class Bench:
    """A selection over pairs the test makes valid."""

    def __init__(self, *, controlling: bool = True) -> None:
        parameters = IceParameters("here", "h" * 22), IceParameters("peer", "p" * 22)
        self.session = Session(IceConfig(), random.Random(9).randbytes, controlling, 1, *parameters)
        self.pairing = Pairing(self.session, lambda address, base: None)
        self.connectivity = Connectivity(self.session)
        self.selection = Selection(self.session, self.pairing, self.connectivity)
        for text, kind in (("10.0.0.1", CandidateType.HOST), ("203.0.113.1", CandidateType.RELAYED)):
            local = Candidate(foundation=kind.value, priority=50, address=Address(text, 1000), type=kind)
            self.pairing.add_local(local)

    def pair(self, number: int, *, relayed: bool = False, valid: bool = True) -> CandidatePair:
        remote = Candidate(
            foundation=str(number),
            priority=100 + number,
            address=Address("192.0.2.7", 7000 + number),
            type=CandidateType.HOST,
        )
        self.pairing.add_remote(remote)
        pair = next(
            p for p in self.pairing.checklist if p.path.remote == remote.address and p.relayed is relayed
        )
        for other in list(self.pairing.checklist):
            if other.path.remote == remote.address and other is not pair:
                self.pairing.checklist.remove(other)
        if valid:
            pair.on(On.SUCCESS)
            pair.validated_at = pair.confirmed_at = NOW
        return pair

    def nominated(self) -> list[CandidatePair]:
        """The pairs nominated since the last call, by what was sent."""
        pairs = []
        while (out := self.connectivity.poll_transmit()) is not None:
            if USE_CANDIDATE in decode(out.data):
                pairs.append(self.pairing.checklist.pairs[out.path])
        return pairs

    def reported(self) -> list[int]:
        ids = []
        while (event := self.session.events.poll()) is not None:
            if isinstance(event, PairSelected):
                ids.append(event.info.id)
        return ids


def test_the_controlling_side_nominates_once_and_selects_on_the_answer() -> None:
    bench = Bench()
    pair = bench.pair(1)
    bench.selection.consider(NOW, more_expected=False)
    bench.selection.consider(NOW, more_expected=False)
    assert bench.nominated() == [pair]
    assert bench.selection.pair is None
    bench.selection.answered(pair, NOW)
    assert bench.selection.pair is pair
    assert pair.nominated
    assert bench.reported() == [pair.id]
    bench.selection.answered(pair, NOW)
    assert bench.reported() == []


def test_the_controlled_side_nominates_nothing() -> None:
    bench = Bench(controlling=False)
    bench.pair(1)
    bench.selection.consider(NOW, more_expected=False)
    assert bench.nominated() == []


def test_an_unanswered_nomination_is_made_again_elsewhere() -> None:
    bench = Bench()
    worse, better = bench.pair(1), bench.pair(2)
    bench.selection.consider(NOW, more_expected=False)
    assert bench.nominated() == [better]
    bench.selection.unanswered(better)
    better.suspect = True
    bench.selection.consider(NOW, more_expected=False)
    assert bench.nominated() == [worse]


def test_when_to_look_again_is_known() -> None:
    bench = Bench()
    bench.pair(1)
    bench.pair(2, valid=False)
    bench.selection.consider(NOW, more_expected=False)
    assert bench.selection.next_timeout() == NOW + 0.1


def test_data_goes_on_the_selected_pair_unless_another_is_better_off() -> None:
    bench = Bench()
    assert bench.selection.current() is None
    first, second = bench.pair(1), bench.pair(2)
    assert bench.selection.current() is second
    bench.selection.answered(first, NOW)
    assert bench.selection.current() is first
    first.suspect = True
    assert bench.selection.current() is second
    second.suspect = True
    assert bench.selection.current() is second


def test_losing_the_selected_pair_is_remembered_against_it() -> None:
    bench = Bench()
    pair, other = bench.pair(1), bench.pair(2)
    bench.selection.answered(pair, NOW)
    pair.on(On.LOSE)
    bench.selection.gone(pair)
    assert bench.selection.pair is None
    assert pair.demotions == 1
    bench.selection.consider(NOW, more_expected=True)
    assert bench.nominated() == [other]


def test_leaving_a_suspect_pair_is_remembered_against_it_too() -> None:
    bench = Bench()
    pair, other = bench.pair(1), bench.pair(2)
    bench.selection.answered(pair, NOW)
    pair.suspect = True
    bench.selection.answered(other, NOW + 1)
    assert pair.demotions == 1


def test_consent_checks_repeat_the_nomination_of_the_selected_pair_only() -> None:
    bench = Bench()
    pair, other = bench.pair(1), bench.pair(2)
    bench.selection.answered(pair, NOW)
    assert bench.selection.confirms(pair)
    assert not bench.selection.confirms(other)
    bench.selection.consider(NOW + 6, more_expected=False)
    assert bench.nominated() == [other]
    assert not bench.selection.confirms(pair), "while another is being nominated"
    bench.selection.role_changed()
    bench.session.controlling = False
    assert not bench.selection.confirms(pair)


def test_a_peer_s_nomination_waits_for_our_check_and_the_latest_wins() -> None:
    bench = Bench(controlling=False)
    first, second = bench.pair(1, valid=False), bench.pair(2, valid=False)
    bench.selection.nominated_by_peer(first, nominating(b"1" * 12), NOW)
    bench.selection.nominated_by_peer(second, nominating(b"2" * 12), NOW)
    first.on(On.SUCCESS)
    bench.selection.validated(first, NOW)
    assert bench.selection.pair is None
    second.on(On.SUCCESS)
    bench.selection.validated(second, NOW)
    assert bench.selection.pair is second


def test_an_answer_to_a_nomination_from_before_a_role_change_selects_nothing() -> None:
    bench = Bench()
    pair = bench.pair(1)
    bench.selection.consider(NOW, more_expected=False)
    bench.session.controlling = False
    bench.selection.role_changed()
    bench.selection.answered(pair, NOW)
    assert bench.selection.pair is None


def test_what_is_still_worth_checking() -> None:
    bench = Bench()
    low, high = bench.pair(1), bench.pair(5, valid=False)
    worst = bench.pair(0, valid=False)
    relay = bench.pair(3, relayed=True, valid=False)
    assert all(bench.selection.wanted(p) for p in (high, worst, relay)), "nothing is selected yet"
    bench.selection.answered(low, NOW)
    assert bench.selection.wanted(high)
    assert not bench.selection.wanted(worst)
    assert bench.selection.wanted(relay), "a fallback has to be there"
    relay.on(On.SUCCESS)
    spare = bench.pair(4, relayed=True, valid=False)
    assert not bench.selection.wanted(spare)
    bench.selection.answered(relay, NOW)
    assert bench.selection.wanted(worst), "anything direct is better than a relay"
    relay.suspect = True
    assert bench.selection.wanted(spare)
