"""Requests are sent on the schedule of RFC 8489 §6.2.1 and answered once, from where they went."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natwalk.core import Address, LocalProtocolError, Path, Transmit
from natwalk.stun import (
    Message,
    Method,
    Transactions,
    error,
    indication,
    request,
    send_offsets,
    success,
    timeout_offset,
)

PATH = Path(Address("192.0.2.1", 1000), Address("198.51.100.1", 3478))
TID = bytes(range(12))
ASKED = request(Method.BINDING, TID)


def tid(number: int) -> bytes:
    return number.to_bytes(12, "big")


def started(**schedule: float) -> Transactions[str]:
    transactions: Transactions[str] = Transactions()
    transactions.start(TID, b"data", PATH, 100.0, "context", **schedule)  # type: ignore[arg-type]
    return transactions


def test_default_rto_gives_the_schedule_printed_in_the_rfc() -> None:
    assert send_offsets(0.5) == (0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5)
    assert timeout_offset(0.5) == 39.5


@pytest.mark.parametrize(("rto", "rc", "rm"), [(0.5, 7, 16), (0.1, 3, 2), (1.0, 1, 4), (0.25, 2, 1)])
def test_sends_and_timeout_follow_the_schedule(rto: float, rc: int, rm: int) -> None:
    transactions = started(rto=rto, rc=rc, rm=rm)
    now, sends, ended = 100.0, [], []
    for _ in range(rc + 2):
        while (out := transactions.poll_transmit()) is not None:
            assert out == Transmit(b"data", PATH)
            sends.append(now - 100.0)
        due = transactions.next_timeout()
        if due is None:
            break
        now = due
        ended = transactions.handle_timeout(now)
    assert sends == pytest.approx(send_offsets(rto, rc))
    assert now - 100.0 == pytest.approx(timeout_offset(rto, rc, rm))
    assert [pending.context for pending in ended] == ["context"]
    assert len(transactions) == 0


def test_a_response_from_elsewhere_is_no_answer() -> None:
    """FAULTS 36: the right transaction ID from the wrong source is ignored and the transaction goes on."""
    transactions = started()
    answer = success(ASKED)
    for path in (
        PATH._replace(remote=PATH.remote.with_port(3479)),
        PATH._replace(remote=Address("198.51.100.2", 3478)),
        PATH._replace(local=PATH.local.with_port(1001)),
    ):
        assert transactions.match(answer, path) is None
    assert transactions.match(success(request(Method.BINDING, tid(7))), PATH) is None
    found = transactions.match(answer, PATH)
    assert found is not None
    assert found.context == "context"
    assert transactions.match(error(ASKED, 400), PATH) is found
    assert len(transactions) == 1


@pytest.mark.parametrize("message", [ASKED, indication(Method.BINDING, TID)])
def test_requests_and_indications_answer_nothing(message: Message) -> None:
    assert started().match(message, PATH) is None


def test_a_finished_transaction_is_over() -> None:
    """FAULTS 36: the second response finds nothing, and nothing is sent again."""
    transactions = started()
    assert transactions.finish(TID) is not None
    assert transactions.finish(TID) is None
    assert transactions.match(success(ASKED), PATH) is None
    assert transactions.poll_transmit() is None
    assert transactions.next_timeout() is None
    assert transactions.handle_timeout(1e6) == []


def test_rtt_is_since_the_last_send() -> None:
    transactions = started()
    pending = transactions.get(TID)
    assert pending is not None
    assert (pending.attempts, pending.rtt(100.2)) == (1, pytest.approx(0.2))
    transactions.handle_timeout(100.5)
    assert (pending.attempts, pending.started, pending.sent_at) == (2, 100.0, 100.5)
    assert pending.rtt(100.6) == pytest.approx(0.1)
    assert pending.rtt(100.4) == 0.0


def test_a_late_driver_sends_once_and_not_in_a_burst() -> None:
    transactions = started()
    transactions.poll_transmit()
    assert transactions.handle_timeout(130.0) == []
    assert transactions.poll_transmit() is not None
    assert transactions.poll_transmit() is None
    assert transactions.next_timeout() == 131.0


def test_the_table_is_bounded_and_checks_what_it_is_given() -> None:
    transactions: Transactions[int] = Transactions(limit=3)
    for number in range(3):
        transactions.start(tid(number), b"x", PATH, 0.0, number)
    with pytest.raises(LocalProtocolError, match="3 transactions"):
        transactions.start(tid(9), b"x", PATH, 0.0, 9)
    transactions.finish(tid(0))
    with pytest.raises(LocalProtocolError, match="already pending"):
        transactions.start(tid(1), b"x", PATH, 0.0, 1)
    for bad in ({"rto": 0.0}, {"rto": -1.0}, {"rc": 0}, {"rm": 0}):
        with pytest.raises(LocalProtocolError, match="schedule"):
            transactions.start(tid(9), b"x", PATH, 0.0, 9, **bad)  # type: ignore[arg-type]
    with pytest.raises(LocalProtocolError, match="bytes"):
        transactions.start(b"short", b"x", PATH, 0.0, 9)
    transactions.clear()
    assert len(transactions) == 0
    assert transactions.next_timeout() is None
    assert transactions.poll_transmit() is None


def test_memory_stays_bounded_whatever_is_started_and_finished() -> None:
    transactions: Transactions[int] = Transactions(limit=8)
    for number in range(5000):
        transactions.start(tid(number), b"x", PATH, float(number), number)
        transactions.finish(tid(number))
    assert len(transactions._heap) <= 80
    assert len(transactions._outbox) <= 16


def test_an_id_may_be_used_again_after_its_transaction() -> None:
    transactions = started()
    transactions.finish(TID)
    transactions.start(TID, b"new", PATH, 100.2, "second")
    out = transactions.poll_transmit()
    assert out is not None
    assert out.data == b"new"
    assert transactions.poll_transmit() is None
    assert transactions.next_timeout() == pytest.approx(100.7)
    assert transactions.handle_timeout(100.5) == []


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["start", "finish", "wait"]), st.integers(0, 9), st.floats(0, 20)),
        max_size=60,
    )
)
def test_handle_timeout_never_spins(steps: list[tuple[str, int, float]]) -> None:
    transactions: Transactions[int] = Transactions(limit=10)
    now = 1000.0
    for what, number, wait in steps:
        if what == "start" and transactions.get(tid(number)) is None:
            transactions.start(tid(number), b"x", PATH, now, number, rto=0.01 + wait / 10)
        elif what == "finish":
            transactions.finish(tid(number))
        else:
            now += wait
            transactions.handle_timeout(now)
            following = transactions.next_timeout()
            assert following is None or following > now
            assert (following is None) == (len(transactions) == 0)
