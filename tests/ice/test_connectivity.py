"""Checks in motion, without an agent around them."""

from __future__ import annotations

import random

import pytest

from natwalk.core import Address, Path
from natwalk.ice import Candidate, CandidateType, IceConfig, IceParameters
from natwalk.ice.checks import build_check, build_error, build_success
from natwalk.ice.connectivity import Connectivity, Purpose
from natwalk.ice.pair import CandidatePair, PairId
from natwalk.ice.session import Session
from natwalk.stun import (
    ICE_CONTROLLED,
    ICE_CONTROLLING,
    PRIORITY,
    USERNAME,
    Message,
    MessageClass,
    check_integrity,
    decode,
    encode,
    short_term_key,
)

HERE, THERE = IceParameters("here", "h" * 22), IceParameters("peer", "p" * 22)
LOCAL, REMOTE = Address("10.0.0.1", 1000), Address("192.0.2.7", 7000)
KEY = short_term_key(THERE.pwd)
NOW = 100.0


def make(*, controlling: bool = True, tie_breaker: int = 50) -> tuple[Connectivity, Session]:
    session = Session(IceConfig(), random.Random(9).randbytes, controlling, tie_breaker, HERE, THERE)
    return Connectivity(session), session


def pair(number: int = 1) -> CandidatePair:
    local = Candidate(foundation="1", priority=2130706431, address=LOCAL, type=CandidateType.HOST)
    remote = Candidate(
        foundation="1", priority=5, address=REMOTE.with_port(7000 + number), type=CandidateType.HOST
    )
    return CandidatePair(PairId(number), local, remote, local.base)


def sent(connectivity: Connectivity) -> list[tuple[Message, Path]]:
    messages = []
    while (out := connectivity.poll_transmit()) is not None:
        messages.append((decode(out.data), out.path))
    return messages


def test_a_check_says_who_we_are() -> None:
    connectivity, session = make()
    one = pair()
    assert connectivity.start(one, Purpose.CHECK, NOW)
    ((message, path),) = sent(connectivity)
    assert path == one.path
    assert message.get(USERNAME) == "peer:here"
    assert message.get(ICE_CONTROLLING) == session.tie_breaker
    assert ICE_CONTROLLED not in message
    assert message.get(PRIORITY) == (110 << 24) + (65535 << 8) + 255
    check_integrity(message, KEY)
    assert connectivity.busy(one)


def test_an_ordinary_check_follows_the_rfc_s_schedule() -> None:
    """RFC 8489 §6.2.1: seven requests in 39.5 s."""
    connectivity, _ = make()
    connectivity.start(pair(), Purpose.CHECK, NOW)
    times = []
    now = NOW
    while True:
        times += [now - NOW] * len(sent(connectivity))
        due = connectivity.next_timeout()
        assert due is not None
        now = due
        if outcomes := connectivity.handle_timeout(now):
            break
    assert times == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    (outcome,) = outcomes
    assert outcome.reason == "no answer to 7 checks in 39.5 s"
    assert connectivity.next_timeout() is None


@pytest.mark.parametrize(
    ("purpose", "validated", "requests"),
    [(Purpose.NOMINATE, 1.0, 4), (Purpose.CHECK, 1.0, 4), (Purpose.CONSENT, 1.0, 1), (Purpose.PROBE, 1.0, 1)],
)
def test_other_purposes_have_shorter_ones(purpose: Purpose, validated: float, requests: int) -> None:
    connectivity, _ = make()
    one = pair()
    one.validated_at = validated
    connectivity.start(one, purpose, NOW, size=1200 if purpose is Purpose.PROBE else 0)
    count = 0
    now = NOW
    while True:
        count += len(sent(connectivity))
        due = connectivity.next_timeout()
        assert due is not None
        now = due
        if connectivity.handle_timeout(now):
            break
    assert count == requests
    assert now - NOW <= 10.0


def test_the_round_trip_is_measured_on_the_first_transmission_only() -> None:
    connectivity, _ = make()
    connectivity.start(pair(), Purpose.CHECK, NOW)
    ((message, path),) = sent(connectivity)
    response = decode(build_success(message, LOCAL, KEY))
    outcome = connectivity.on_response(response, path, NOW + 0.2)
    assert outcome is not None
    assert outcome.rtt == pytest.approx(0.2)
    assert outcome.mapped == LOCAL
    connectivity.start(pair(), Purpose.CHECK, NOW)
    ((message, path),) = sent(connectivity)
    connectivity.handle_timeout(NOW + 0.5)
    late = connectivity.on_response(decode(build_success(message, LOCAL, KEY)), path, NOW + 0.6)
    assert late is not None
    assert late.ok
    assert late.rtt is None


def test_a_superseded_check_is_not_sent_again_but_its_answer_counts_for_a_while() -> None:
    """RFC 8445 §7.3.1.4."""
    for wait, counts in ((15.0, True), (17.0, False)):
        connectivity, session = make()
        one = pair()
        connectivity.start(one, Purpose.CHECK, NOW)
        ((message, path),) = sent(connectivity)
        connectivity.supersede(one, NOW)
        assert not connectivity.busy(one)
        assert connectivity.next_timeout() is None
        outcome = connectivity.on_response(decode(build_success(message, LOCAL, KEY)), path, NOW + wait)
        assert (outcome is not None and outcome.ok) is counts
        if not counts:
            assert session.drops.last == "a response to nothing we asked"


def test_what_is_remembered_of_superseded_checks_is_bounded() -> None:
    connectivity, _ = make()
    one = pair()
    for _ in range(1000):
        connectivity.start(one, Purpose.CHECK, NOW)
        sent(connectivity)
        connectivity.supersede(one, NOW)
    assert len(connectivity._superseded) == 256


def test_forgetting_a_pair_forgets_its_checks() -> None:
    connectivity, _ = make()
    one, other = pair(1), pair(2)
    connectivity.start(one, Purpose.CHECK, NOW)
    connectivity.supersede(one, NOW)
    connectivity.start(one, Purpose.CONSENT, NOW)
    connectivity.start(other, Purpose.CHECK, NOW)
    messages = sent(connectivity)
    connectivity.forget(one)
    assert not connectivity.busy(one)
    assert connectivity.busy(other)
    for message, path in messages:
        outcome = connectivity.on_response(decode(build_success(message, LOCAL, KEY)), path, NOW)
        assert (outcome is not None) is (path == other.path)


def test_checks_under_way_are_bounded() -> None:
    connectivity, session = make()
    started = [connectivity.start(pair(), Purpose.CHECK, NOW) for _ in range(600)]
    assert started.count(True) == 512
    assert session.drops.last == "too many checks under way"


@pytest.mark.parametrize("message_class", [MessageClass.SUCCESS, MessageClass.ERROR])
def test_an_answer_that_makes_no_sense_is_a_failure(message_class: MessageClass) -> None:
    """A success without an address, an error without a code."""
    connectivity, _ = make()
    connectivity.start(pair(), Purpose.CHECK, NOW)
    ((message, path),) = sent(connectivity)
    empty = Message(message.method, message_class, message.transaction_id)
    nothing = decode(encode(empty, integrity_key=KEY, fingerprint=True))
    outcome = connectivity.on_response(nothing, path, NOW)
    assert outcome is not None
    assert outcome.reason == "the peer's answer makes no sense"


@pytest.mark.parametrize(
    ("controlling", "ours", "theirs", "keeps"),
    [
        (True, 10, 9, True),
        (True, 9, 10, False),
        (False, 9, 10, True),
        (False, 10, 9, False),
        (True, 10, 10, True),
        (False, 10, 10, False),
    ],
)
def test_who_keeps_the_role(controlling: bool, ours: int, theirs: int, keeps: bool) -> None:
    """RFC 8445 §7.3.1.1, all four rows, and the equal tie-breaker of FAULTS 76."""
    connectivity, session = make(controlling=controlling, tie_breaker=ours)
    request = build_check(
        bytes(12),
        username="here:peer",
        key=short_term_key(HERE.pwd),
        priority=5,
        controlling=controlling,
        tie_breaker=theirs,
    )
    heard = connectivity.on_request(decode(request), Path(LOCAL, REMOTE))
    assert (heard is None) is keeps
    if heard is not None:
        assert connectivity.resolve_role(heard.request)
        assert session.controlling is not controlling
    if ours == theirs:
        assert session.tie_breaker != ours, "drawn anew, or both would change roles for ever"


def test_a_487_is_a_role_conflict() -> None:
    connectivity, _ = make()
    connectivity.start(pair(), Purpose.CHECK, NOW)
    ((message, path),) = sent(connectivity)
    outcome = connectivity.on_response(decode(build_error(message, 487, "Role Conflict", KEY)), path, NOW)
    assert outcome is not None
    assert outcome.role_conflict
    connectivity.close()
    assert connectivity.next_timeout() is None
