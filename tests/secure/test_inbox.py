"""The event queue: merging, holding back, the last event."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from natwalk.secure.events import (
    DatagramReceived,
    SecureClosed,
    SecureConnected,
    SecureEvent,
    StreamData,
    StreamReset,
)
from natwalk.secure.inbox import HELD_BACK_LIMIT, REASON_LIMIT, UNREAD_LIMIT, Inbox, printable

END = SecureClosed(1, "x", by_peer=True)


def drain(inbox: Inbox) -> list[SecureEvent]:
    events = []
    while (event := inbox.poll()) is not None:
        events.append(event)
    return events


def test_nothing_surfaces_before_release_and_then_connected_is_first() -> None:
    inbox = Inbox()
    inbox.stream_data(4, b"a", False)
    inbox.put(DatagramReceived(b"d"), 1)
    assert drain(inbox) == []
    inbox.release()
    assert drain(inbox) == [SecureConnected(), StreamData(4, b"a", False), DatagramReceived(b"d")]


def test_what_an_unproven_peer_sent_is_forgotten_at_the_end() -> None:
    inbox = Inbox()
    inbox.stream_data(4, b"a", True)
    inbox.close(END)
    inbox.close(SecureClosed(2, "second", by_peer=False))
    inbox.stream_data(4, b"late", False)
    inbox.put(StreamReset(4, 1))
    assert drain(inbox) == [END]


def test_what_a_proven_peer_sent_comes_before_the_end() -> None:
    inbox = Inbox()
    inbox.release()
    inbox.stream_data(4, b"a", False)
    inbox.close(END)
    assert drain(inbox) == [SecureConnected(), StreamData(4, b"a", False), END]


def test_empty_data_without_fin_is_no_event() -> None:
    inbox = Inbox()
    inbox.release()
    inbox.stream_data(4, b"", False)
    inbox.stream_data(4, b"", True)
    assert drain(inbox) == [SecureConnected(), StreamData(4, b"", True)]


@given(parts=st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=5), st.booleans()), max_size=30))
def test_merging_keeps_bytes_order_and_ends(parts: list[tuple[int, bytes, bool]]) -> None:
    inbox = Inbox()
    inbox.release()
    for stream, data, fin in parts:
        inbox.stream_data(stream, data, fin)
    events = [event for event in drain(inbox) if isinstance(event, StreamData)]
    for stream in range(3):
        assert b"".join(e.data for e in events if e.stream_id == stream) == b"".join(
            data for number, data, _ in parts if number == stream
        )
        assert sum(e.fin for e in events if e.stream_id == stream) == sum(
            fin for number, _, fin in parts if number == stream
        )
    for first, second in itertools.pairwise(events):
        assert first.stream_id != second.stream_id or first.fin


def test_limits_before_and_after_the_proof() -> None:
    inbox = Inbox()
    inbox.stream_data(4, bytes(HELD_BACK_LIMIT), False)
    assert inbox.overflowing
    inbox.release()
    assert not inbox.overflowing
    for _ in range(UNREAD_LIMIT // HELD_BACK_LIMIT):
        inbox.stream_data(4, bytes(HELD_BACK_LIMIT), False)
    assert inbox.overflowing
    drain(inbox)
    assert not inbox.overflowing


def test_empty_events_count_too() -> None:
    inbox = Inbox()
    for number in range(HELD_BACK_LIMIT // 256 + 1):
        inbox.put(StreamReset(number, 0))
    assert inbox.overflowing


@given(text=st.text())
def test_reasons_are_printable_and_short(text: str) -> None:
    shown = printable(text)
    assert len(shown) <= REASON_LIMIT
    assert shown.isascii()
    assert shown == "" or shown.isprintable()
    assert all(a == b or b == "?" for a, b in zip(text, shown, strict=False))
