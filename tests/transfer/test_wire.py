"""Frames and control messages: round trips in any cutting, bounds before allocation, nothing else."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natwalk.core import MalformedMessage
from natwalk.transfer import wire
from natwalk.transfer.errors import FailureKind
from natwalk.transfer.offer import Entry

MESSAGES = [
    wire.Hello(software="x"),
    wire.OfferHead("0" * 32, 2),
    wire.OfferEntries((Entry("a", size=5), Entry("b/ü", mtime_ns=-1))),
    wire.PlanPart(have=((0, 5, "ab" * 32),), skip=(1,), last=False),
    wire.Begin(3, 7),
    wire.End("00" * 32),
    wire.Omit(1, "gone"),
    wire.Written(5),
    wire.Sent("11" * 32),
    wire.Stored("22" * 32),
    wire.Fail("storage", "full"),
]


def feed(reader: wire.FrameReader, data: bytes) -> list[wire.Message | bytes]:
    return [bytes(p) if isinstance(p, memoryview) else p for p in reader.feed(data)]


@given(st.lists(st.sampled_from(MESSAGES) | st.binary(min_size=1, max_size=50)), st.data())
@settings(deadline=None)
def test_any_cutting_of_the_stream_gives_the_same_frames(
    items: list[wire.Message | bytes], data: st.DataObject
) -> None:
    stream = b"".join(wire.data_header(len(i)) + i if isinstance(i, bytes) else wire.encode(i) for i in items)
    reader = wire.FrameReader()
    got: list[wire.Message | bytes] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        got += feed(reader, stream[:size])
        stream = stream[size:]
    assert not reader.inside_frame
    assert [i for i in got if not isinstance(i, bytes)] == [i for i in items if not isinstance(i, bytes)]
    assert b"".join(i for i in got if isinstance(i, bytes)) == b"".join(
        i for i in items if isinstance(i, bytes)
    )


@pytest.mark.parametrize("kind", [wire.FrameType.CONTROL, wire.FrameType.DATA])
@pytest.mark.parametrize("length", [0, (1 << 20) + 1, 0xFFFFFFFF])
def test_lengths_are_refused_by_the_header_alone(kind: int, length: int) -> None:
    reader = wire.FrameReader()
    with pytest.raises(MalformedMessage, match="is allowed"):
        feed(reader, wire.HEADER.pack(kind, length))


def test_an_unknown_type_of_frame_is_refused() -> None:
    with pytest.raises(MalformedMessage, match="unknown type 9"):
        feed(wire.FrameReader(), wire.HEADER.pack(9, 1))


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_any_bytes_give_frames_or_malformed_message(data: bytes) -> None:
    try:
        feed(wire.FrameReader(), data)
    except MalformedMessage:
        return


@given(st.binary(max_size=100))
@settings(deadline=None)
def test_any_control_body_gives_a_message_or_malformed_message(body: bytes) -> None:
    try:
        wire.decode(body)
    except MalformedMessage:
        return


def test_unknown_fields_are_ignored_and_unknown_messages_are_not() -> None:
    assert wire.decode(b'{"type":"begin","index":1,"offset":2,"later":{"x":1}}') == wire.Begin(1, 2)
    with pytest.raises(MalformedMessage):
        wire.decode(b'{"type":"dance"}')


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "offer", "transfer_id": "0" * 32, "count": 0},
        {"type": "offer", "transfer_id": "0" * 32, "count": 100_001},
        {"type": "offer", "transfer_id": "../x", "count": 1},
        {"type": "entries", "entries": [["a", "f", -1, 0, 0]]},
        {"type": "entries", "entries": [["a", "f", 2**63, 0, 0]]},
        {"type": "entries", "entries": [["a", "l", 0, 0, 0]]},
        {"type": "entries", "entries": [["a", "f", 0, 0o4755, 0]]},
        {"type": "entries", "entries": [["", "f", 0, 0, 0]]},
        {"type": "begin", "index": -1},
        {"type": "begin", "index": 0, "offset": -5},
        {"type": "end", "sha256": "AB" * 32},
        {"type": "plan", "have": [[0, 1, "short"]]},
        {"type": "fail", "kind": "storage", "message": "x" * 2001},
    ],
    ids=lambda f: json.dumps(f)[:60],
)
def test_values_out_of_range_are_malformed(fields: dict[str, object]) -> None:
    with pytest.raises(MalformedMessage):
        wire.decode(json.dumps(fields).encode())


def test_deeply_nested_json_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        wire.decode(b'{"type":"hello","x":' + b"[" * 200_000 + b"]" * 200_000 + b"}")


def test_too_large_a_message_or_frame_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="is the most"):
        wire.encode(wire.OfferEntries(tuple(Entry("x" * 4000) for _ in range(300))))
    for size in (0, wire.MAX_DATA + 1):
        with pytest.raises(ValueError, match="is allowed"):
            wire.data_header(size)


def test_a_kind_of_failure_nobody_knows_yet_counts_as_cancelled() -> None:
    assert wire.failure_kind("storage") is FailureKind.STORAGE
    assert wire.failure_kind("moon-phase") is FailureKind.CANCELLED


def test_control_bytes_are_counted() -> None:
    reader = wire.FrameReader()
    frame = wire.encode(wire.Hello())
    feed(reader, frame + wire.data_header(4) + b"data")
    assert reader.control_bytes == len(frame) - wire.HEADER.size
