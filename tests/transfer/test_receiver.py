"""The receiving core: nothing is believed that was not offered, nothing accepted that was not asked for."""

import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natwalk.core import LocalProtocolError
from natwalk.transfer import (
    AllSent,
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
    OfferReceived,
    Plan,
    Receiver,
    wire,
)
from natwalk.transfer.receiver import ACKNOWLEDGE

ID = "e" * 32
ENTRIES = (Entry("d", EntryKind.FOLDER), Entry("d/a", size=3), Entry("d/b", size=5))
A = hashlib.sha256(b"aaa").hexdigest()
B = hashlib.sha256(b"bbbbb").hexdigest()
OFFERED = [wire.Hello(), wire.OfferHead(ID, 3), wire.OfferEntries(ENTRIES)]


def feed(core: Receiver, *items: wire.Message | bytes) -> list[Any]:
    for item in items:
        core.receive_data(
            wire.data_header(len(item)) + item if isinstance(item, bytes) else wire.encode(item)
        )
    events: list[Any] = []
    while (event := core.poll_event()) is not None:
        events.append(FileData(bytes(event.data)) if isinstance(event, FileData) else event)
    return events


def receiving(plan: Plan | None = None) -> Receiver:
    receiver = Receiver()
    [event] = feed(receiver, *OFFERED)
    assert isinstance(event, OfferReceived)
    receiver.accept(plan or Plan())
    return receiver


def messages(core: Receiver) -> list[wire.Message | memoryview]:
    data = b""
    while (piece := core.poll_data()) is not None:
        data += piece
    return list(wire.FrameReader().feed(data))


def test_the_offer_may_come_in_parts() -> None:
    receiver = Receiver()
    assert feed(receiver, wire.Hello(), wire.OfferHead(ID, 3), wire.OfferEntries(ENTRIES[:1])) == []
    [event] = feed(receiver, wire.OfferEntries(ENTRIES[1:]))
    assert event.offer.entries == ENTRIES


def test_pieces_come_out_as_they_arrive() -> None:
    receiver = receiving()
    events = feed(receiver, wire.Begin(1), b"aa", b"a", wire.End(A), wire.Begin(2), b"bbbbb", wire.End(B))
    assert events == [
        FileBegun(1, 0),
        FileData(b"aa"),
        FileData(b"a"),
        FileDone(A),
        FileBegun(2, 0),
        FileData(b"bbbbb"),
        FileDone(B),
    ]
    digest = hashlib.sha256(f"{A}  d/a\n{B}  d/b\n".encode()).hexdigest()
    assert feed(receiver, wire.Sent(digest)) == [AllSent(digest)]
    messages(receiver)
    receiver.complete()
    assert messages(receiver) == [wire.Stored(digest)]
    assert feed(receiver) == [Completed(digest)]
    receiver.complete()
    receiver.accept(Plan())
    receiver.fail(FailureKind.CANCELLED, "too late")
    assert messages(receiver) == []


def test_the_plan_travels_in_messages_that_fit() -> None:
    entries = tuple(Entry(f"{n}", size=9) for n in range(12_000))
    receiver = Receiver()
    feed(receiver, wire.Hello(), wire.OfferHead(ID, 12_000), wire.OfferEntries(entries))
    have = {n: Have(1, A) for n in range(0, 12_000, 2)}
    receiver.accept(Plan(frozenset(range(1, 12_000, 2)), have))
    parts = [m for m in messages(receiver) if isinstance(m, wire.PlanPart)]
    assert [p.last for p in parts] == [False] * (len(parts) - 1) + [True]
    assert {row[0] for p in parts for row in p.have} == set(have)
    assert {index for p in parts for index in p.skip} == set(range(1, 12_000, 2))


def test_going_on_from_what_it_holds() -> None:
    receiver = receiving(Plan(skip=frozenset({1}), have={2: Have(4, B)}))
    assert feed(receiver, wire.Begin(2, 4), b"b", wire.End(B)) == [
        FileBegun(2, 4),
        FileData(b"b"),
        FileDone(B),
    ]


def test_the_sender_may_start_a_file_again_from_zero() -> None:
    receiver = receiving(Plan(skip=frozenset({1}), have={2: Have(4, A)}))
    assert feed(receiver, wire.Begin(2, 0), b"bbbbb", wire.End(B))[0] == FileBegun(2, 0)


def test_omitted_files_are_reported_with_escapes_shown() -> None:
    receiver = receiving()
    events = feed(receiver, wire.Omit(1, "gone\x1b"), wire.Begin(2), b"b", wire.Omit(2, "shrank"))
    assert events == [FileOmitted(1, "gone\\x1b"), FileBegun(2, 0), FileData(b"b"), FileOmitted(2, "shrank")]
    assert feed(receiver, wire.Sent(hashlib.sha256().hexdigest()))[0].sha256


LIES: dict[str, list[wire.Message | bytes]] = {
    "more data than offered": [wire.Begin(1), b"aaaa"],
    "more data in a second frame": [wire.Begin(1), b"aaa", b"a"],
    "less data than offered": [wire.Begin(1), b"aa", wire.End(A)],
    "data outside a file": [b"x"],
    "a folder's data": [wire.Begin(0)],
    "an entry beyond the offer": [wire.Omit(1, ""), wire.Omit(2, ""), wire.Begin(3)],
    "an offset nobody asked for": [wire.Begin(1, 2)],
    "backwards": [wire.Omit(1, ""), wire.Omit(2, ""), wire.Begin(1)],
    "a file twice": [wire.Begin(1), b"aaa", wire.End(A), wire.Begin(1)],
    "a file left out": [wire.Begin(2)],
    "the end too early": [wire.Begin(1), b"aaa", wire.End(A), wire.Sent(A)],
    "the end inside a file": [wire.Begin(1), wire.Sent(A)],
    "end without begin": [wire.End(A)],
    "a file inside a file": [wire.Begin(1), wire.Begin(2)],
    "omitting another file": [wire.Begin(1), wire.Omit(2, "")],
    "omitting a folder": [wire.Omit(0, "")],
    "a second offer": [wire.OfferHead(ID, 1)],
    "more entries": [wire.OfferEntries(ENTRIES)],
    "a receiver's message": [wire.PlanPart()],
}


@pytest.mark.parametrize("items", LIES.values(), ids=LIES.keys())
def test_a_lying_sender_is_stopped(items: list[wire.Message | bytes]) -> None:
    receiver = receiving()
    messages(receiver)
    failed = feed(receiver, *items)[-1]
    assert isinstance(failed, Failed)
    assert failed.kind is FailureKind.PROTOCOL
    assert receiver.over
    assert isinstance(messages(receiver)[-1], wire.Fail)
    assert feed(receiver, wire.Begin(1)) == []


def test_a_wrong_hash_over_all_is_an_integrity_failure() -> None:
    receiver = receiving(Plan(skip=frozenset({1, 2})))
    [failed] = feed(receiver, wire.Sent(A))
    assert failed.kind is FailureKind.INTEGRITY


BAD_OFFERS: dict[str, list[wire.Message | bytes]] = {
    "fewer announced than sent": [wire.Hello(), wire.OfferHead(ID, 2), wire.OfferEntries(ENTRIES)],
    "an empty part": [wire.Hello(), wire.OfferHead(ID, 2), wire.OfferEntries(())],
    "a name that escapes": [wire.Hello(), wire.OfferHead(ID, 1), wire.OfferEntries((Entry("../../x"),))],
    "entries before the head": [wire.Hello(), wire.OfferEntries(ENTRIES)],
    "a file before any agreement": [*OFFERED, wire.Begin(1)],
    "data before any agreement": [*OFFERED, b"x"],
    "no hello": [wire.OfferHead(ID, 1)],
}


@pytest.mark.parametrize("items", BAD_OFFERS.values(), ids=BAD_OFFERS.keys())
def test_a_bad_offer_ends_the_transfer(items: list[wire.Message | bytes]) -> None:
    failed = feed(Receiver(), *items)[-1]
    assert isinstance(failed, Failed)
    assert failed.kind is FailureKind.PROTOCOL


def test_a_giant_manifest_is_stopped_at_its_bound() -> None:
    receiver = Receiver()
    feed(receiver, wire.Hello(), wire.OfferHead(ID, 100_000))
    part = wire.OfferEntries(tuple(Entry("x" * 4000) for _ in range(200)))
    for _ in range(200):
        if events := feed(receiver, part):
            break
    assert isinstance(events[0], Failed)
    assert "longer than" in events[0].message
    assert receiver._frames.control_bytes < wire.MAX_MANIFEST + wire.MAX_CONTROL


def test_a_flood_of_tiny_frames_in_one_input_is_stopped() -> None:
    receiver = Receiver()
    feed(receiver, wire.Hello(), wire.OfferHead(ID, 1), wire.OfferEntries((Entry("a", size=10**6),)))
    receiver.accept(Plan())
    failed = feed(receiver, wire.Begin(0))
    receiver.receive_data((wire.data_header(1) + b"x") * 40_000)
    failed = feed(receiver)[-1]
    assert isinstance(failed, Failed)
    assert "at once" in failed.message


def test_the_sender_is_told_now_and_then_how_far_the_disk_is() -> None:
    receiver = Receiver()
    feed(receiver, wire.Hello(), wire.OfferHead(ID, 1), wire.OfferEntries((Entry("a", size=10**7),)))
    receiver.accept(Plan())
    feed(receiver, wire.Begin(0), bytes(ACKNOWLEDGE), b"more")
    messages(receiver)
    receiver.written(ACKNOWLEDGE - 1)
    assert messages(receiver) == []
    receiver.written(ACKNOWLEDGE + 4)
    assert messages(receiver) == [wire.Written(ACKNOWLEDGE + 4)]
    for impossible in (ACKNOWLEDGE + 5, 3):
        with pytest.raises(LocalProtocolError):
            receiver.written(impossible)


def test_commands_out_of_place_raise() -> None:
    with pytest.raises(LocalProtocolError):
        Receiver().accept(Plan())
    with pytest.raises(LocalProtocolError):
        receiving().complete()


def test_a_refusal_is_told_to_the_sender() -> None:
    receiver = Receiver()
    feed(receiver, *OFFERED)
    receiver.fail(FailureKind.REFUSED, "no thanks")
    assert messages(receiver)[-1] == wire.Fail("refused", "no thanks")
    assert feed(receiver) == [Failed(FailureKind.REFUSED, "no thanks", by_peer=False)]


@given(st.lists(st.sampled_from([*OFFERED, *(i for lie in LIES.values() for i in lie)]), max_size=12))
@settings(deadline=None)
def test_no_order_of_messages_makes_it_raise(items: list[wire.Message | bytes]) -> None:
    receiver = Receiver()
    for item in items:
        for event in feed(receiver, item):
            if isinstance(event, OfferReceived):
                receiver.accept(Plan())
