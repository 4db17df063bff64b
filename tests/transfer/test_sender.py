"""The sending core: what it sends in which order, and what it refuses from caller and peer."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natwalk.core import LocalProtocolError
from natwalk.transfer import (
    Acknowledged,
    Completed,
    Entry,
    EntryKind,
    Failed,
    FailureKind,
    FileBegun,
    FileData,
    FileDone,
    FileOmitted,
    Have,
    Offer,
    Plan,
    PlanReceived,
    Receiver,
    Sender,
    wire,
)
from natwalk.transfer.sender import WINDOW

A = hashlib.sha256(b"aaa").hexdigest()
OFFER = Offer("b" * 32, (Entry("d", EntryKind.FOLDER), Entry("d/a", size=3), Entry("d/b", size=5)))


def sent_by(core: Sender | Receiver) -> list[wire.Message | bytes]:
    reader = wire.FrameReader()
    found: list[wire.Message | bytes] = []
    while (data := core.poll_data()) is not None:
        found += [bytes(p) if isinstance(p, memoryview) else p for p in reader.feed(bytes(data))]
    return found


def sending(plan: wire.PlanPart | None = None) -> Sender:
    sender = Sender(OFFER)
    sender.receive_data(wire.encode(wire.Hello()) + wire.encode(plan or wire.PlanPart()))
    sent_by(sender)
    assert isinstance(sender.poll_event(), PlanReceived)
    return sender


def test_the_offer_is_sent_at_once() -> None:
    assert sent_by(Sender(OFFER, software="s")) == [
        wire.Hello(software="s"),
        wire.OfferHead("b" * 32, 3),
        wire.OfferEntries(OFFER.entries),
    ]


def test_a_long_list_is_cut_into_messages_that_fit() -> None:
    entries = tuple(Entry(f"{n:05}" + "é" * 100) for n in range(20_000))
    messages = sent_by(Sender(Offer("c" * 32, entries)))
    lists = [m.entries for m in messages if isinstance(m, wire.OfferEntries)]
    assert len(lists) > 5
    assert tuple(e for part in lists for e in part) == entries


def test_files_follow_the_plan_and_the_digest_ends_them() -> None:
    sender = sending(wire.PlanPart(have=((2, 4, A),)))
    for item in (
        FileBegun(1, 0),
        FileData(b"aa"),
        FileData(b"a"),
        FileDone(A),
        FileBegun(2, 4),
        FileData(b"x"),
    ):
        sender.put(item)
    sender.put(FileDone("11" * 32))
    digest = sender.finish()
    assert sent_by(sender) == [
        wire.Begin(1),
        b"aa",
        b"a",
        wire.End(A),
        wire.Begin(2, 4),
        b"x",
        wire.End("11" * 32),
        wire.Sent(digest),
    ]
    sender.receive_data(wire.encode(wire.Stored(digest)))
    assert sender.poll_event() == Completed(digest)
    assert sender.over


def test_plans_in_several_parts_are_put_together() -> None:
    sender = Sender(OFFER)
    sender.receive_data(wire.encode(wire.Hello()) + wire.encode(wire.PlanPart(have=((1, 2, A),), last=False)))
    assert sender.poll_event() is None
    sender.receive_data(wire.encode(wire.PlanPart(skip=(2,))))
    assert sender.poll_event() == PlanReceived(Plan(frozenset({2}), {1: Have(2, A)}))


def test_a_file_may_be_omitted_before_or_within() -> None:
    sender = sending()
    sender.put(FileOmitted(1, "gone"))
    sender.put(FileBegun(2, 0))
    sender.put(FileData(b"x"))
    sender.put(FileOmitted(2, "shrank"))
    sender.finish()
    assert [m for m in sent_by(sender) if isinstance(m, wire.Omit)] == [
        wire.Omit(1, "gone"),
        wire.Omit(2, "shrank"),
    ]


MISTAKES = {
    "data before a file": [FileData(b"x")],
    "more than offered": [FileBegun(1, 0), FileData(b"abcd")],
    "done too early": [FileBegun(1, 0), FileData(b"a"), FileDone(A)],
    "done without a file": [FileDone(A)],
    "a folder": [FileBegun(0, 0)],
    "out of order": [FileOmitted(1, ""), FileOmitted(2, ""), FileBegun(1, 0)],
    "left out": [FileBegun(2, 0)],
    "beyond the offer": [FileOmitted(1, ""), FileOmitted(2, ""), FileBegun(3, 0)],
    "an offset nobody has": [FileBegun(1, 2)],
    "a file inside a file": [FileBegun(1, 0), FileBegun(2, 0)],
    "omitting another": [FileBegun(1, 0), FileOmitted(2, "")],
}


@pytest.mark.parametrize("items", MISTAKES.values(), ids=MISTAKES.keys())
def test_the_callers_mistakes_raise(items: list[FileBegun | FileData | FileDone | FileOmitted]) -> None:
    sender = sending()
    with pytest.raises(LocalProtocolError):
        for item in items:
            sender.put(item)


def test_nothing_may_be_put_before_the_plan_or_after_the_end() -> None:
    with pytest.raises(LocalProtocolError):
        Sender(OFFER).put(FileBegun(1, 0))
    with pytest.raises(LocalProtocolError):
        Sender(OFFER).finish()
    sender = sending()
    with pytest.raises(LocalProtocolError):
        sender.finish()
    sender.fail(FailureKind.CANCELLED, "stop")
    sender.put(FileBegun(1, 0))
    assert [type(m) for m in sent_by(sender)] == [wire.Fail]


def test_a_driver_that_does_not_drain_is_stopped() -> None:
    sender = Sender(Offer("d" * 32, (Entry("a", size=10_000),)))
    sender.receive_data(wire.encode(wire.Hello()) + wire.encode(wire.PlanPart()))
    sender.put(FileBegun(0, 0))
    with pytest.raises(LocalProtocolError, match="drained"):
        for _ in range(10_000):
            sender.put(FileData(b"x"))


HOSTILE_PEERS = {
    "no hello": [wire.PlanPart()],
    "hello twice": [wire.Hello(), wire.Hello()],
    "plan for a folder": [wire.Hello(), wire.PlanPart(have=((0, 0, A),))],
    "plan beyond the offer": [wire.Hello(), wire.PlanPart(skip=(3,))],
    "offset beyond the file": [wire.Hello(), wire.PlanPart(have=((1, 4, A),))],
    "the same file twice": [wire.Hello(), wire.PlanPart(have=((1, 1, A), (1, 2, A)))],
    "a second plan": [wire.Hello(), wire.PlanPart(), wire.PlanPart()],
    "stored before sent": [wire.Hello(), wire.PlanPart(), wire.Stored(A)],
    "a sender's message": [wire.Hello(), wire.Begin(1)],
}


@pytest.mark.parametrize("messages", HOSTILE_PEERS.values(), ids=HOSTILE_PEERS.keys())
def test_a_peer_that_breaks_the_protocol_ends_the_transfer(messages: list[wire.Message]) -> None:
    sender = Sender(OFFER)
    sent_by(sender)
    for message in messages:
        sender.receive_data(wire.encode(message))
    events = []
    while (event := sender.poll_event()) is not None:
        events.append(event)
    assert isinstance(events[-1], Failed)
    assert (events[-1].kind, events[-1].by_peer) == (FailureKind.PROTOCOL, False)
    last = sent_by(sender)[-1]
    assert isinstance(last, wire.Fail)
    assert last.kind == "protocol"


def test_no_more_is_under_way_than_the_receivers_disk_has_room_for() -> None:
    sender = Sender(Offer("d" * 32, (Entry("a", size=2 * WINDOW),)))
    sender.receive_data(wire.encode(wire.Hello()) + wire.encode(wire.PlanPart()))
    assert isinstance(sender.poll_event(), PlanReceived)
    assert sender.room == WINDOW
    sender.put(FileBegun(0, 0))
    sender.put(FileData(bytes(wire.MAX_DATA)))
    assert (sender.room, sender.sent) == (WINDOW - wire.MAX_DATA, wire.MAX_DATA)
    sender.receive_data(wire.encode(wire.Written(1000)))
    assert sender.poll_event() == Acknowledged(1000)
    assert sender.room == WINDOW - wire.MAX_DATA + 1000


@pytest.mark.parametrize("size", [1000, 999, wire.MAX_DATA + 1])
def test_an_acknowledgement_must_grow_and_not_exceed_what_was_sent(size: int) -> None:
    sender = Sender(Offer("d" * 32, (Entry("a", size=2 * WINDOW),)))
    sender.receive_data(wire.encode(wire.Hello()) + wire.encode(wire.PlanPart()))
    sender.put(FileBegun(0, 0))
    sender.put(FileData(bytes(wire.MAX_DATA)))
    sender.receive_data(wire.encode(wire.Written(1000)) + wire.encode(wire.Written(size)))
    events = [sender.poll_event() for _ in range(3)]
    assert isinstance(events[-1], Failed)


def test_data_from_a_receiver_is_a_violation() -> None:
    sender = sending()
    sender.receive_data(wire.data_header(1) + b"x")
    event = sender.poll_event()
    assert isinstance(event, Failed)


def test_a_receiver_that_stored_something_else_is_not_believed() -> None:
    sender = sending(wire.PlanPart(skip=(1, 2)))
    sender.finish()
    sender.receive_data(wire.encode(wire.Stored(A)))
    event = sender.poll_event()
    assert isinstance(event, Failed)
    assert event.kind is FailureKind.PROTOCOL


def test_another_version_is_told_to_both() -> None:
    sender = Sender(OFFER)
    sent_by(sender)
    sender.receive_data(wire.encode(wire.Hello(version=7)))
    event = sender.poll_event()
    assert isinstance(event, Failed)
    assert event.kind is FailureKind.VERSION
    assert "version 7" in event.message
    assert isinstance(sent_by(sender)[-1], wire.Fail)


def test_the_peers_reason_is_shown_with_its_escapes() -> None:
    sender = sending()
    sender.receive_data(wire.encode(wire.Fail("storage", "disk \x1b[31mfull")))
    event = sender.poll_event()
    assert event == Failed(FailureKind.STORAGE, "disk \\x1b[31mfull", by_peer=True)
    assert event.error().by_peer
    assert sent_by(sender) == []


@given(st.lists(st.binary(max_size=200), max_size=10))
@settings(deadline=None)
def test_no_bytes_make_it_raise(chunks: list[bytes]) -> None:
    sender = Sender(OFFER)
    for chunk in chunks:
        sender.receive_data(chunk)


def test_a_reason_that_is_not_unicode_can_still_be_told() -> None:
    sender = sending()
    sender.fail(FailureKind.SOURCE, "bad \udc80 name")
    [message] = sent_by(sender)
    assert isinstance(message, wire.Fail)
    assert message.message == "bad \\udc80 name"
