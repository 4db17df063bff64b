"""Frames: vectors, bounds, and any cut of a stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import MalformedMessage
from natwalk.relay import FRAME_LIMIT, KEY_LENGTH, PACKET_LIMIT, FrameReader, FrameType, frame
from natwalk.relay.frames import BOUNDS, HEADER_LENGTH

KEY = bytes(range(32))


def read(*pieces: bytes) -> list[tuple[int, bytes]]:
    reader = FrameReader()
    return [each for piece in pieces for each in reader.feed(piece)]


@pytest.mark.parametrize(
    ("made", "wire"),
    [
        (frame(FrameType.PING, b"01234567"), "13 00000008 3031323334353637"),
        (frame(FrameType.SEND, KEY, b"hi"), f"10 00000022 {KEY.hex()} 6869"),
        (frame(FrameType.STANDING, b"\0"), "15 00000001 00"),
        (frame(FrameType.GONE, KEY, b"\1"), f"12 00000021 {KEY.hex()} 01"),
    ],
)
def test_frames_are_these_bytes(made: bytes, wire: str) -> None:
    assert made == bytes.fromhex(wire.replace(" ", ""))


@given(
    st.lists(
        st.tuples(st.sampled_from([FrameType.SEND, FrameType.PACKET]), st.binary(min_size=32, max_size=300)),
        max_size=8,
    ),
    st.lists(st.integers(1, 50), min_size=1, max_size=50),
)
def test_however_a_stream_is_cut_the_same_frames_come_out(
    frames: list[tuple[FrameType, bytes]], cuts: list[int]
) -> None:
    stream = b"".join(frame(kind, contents) for kind, contents in frames)
    pieces, at, turn = [], 0, 0
    while at < len(stream):
        size = cuts[turn % len(cuts)]
        pieces.append(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert read(*pieces) == [(int(kind), contents) for kind, contents in frames]


@given(st.binary(max_size=300))
def test_any_bytes_are_frames_or_malformed(data: bytes) -> None:
    try:
        read(data)
    except MalformedMessage:
        return


@pytest.mark.parametrize("kind", BOUNDS)
def test_a_length_out_of_bounds_is_refused_before_anything_is_kept(kind: int) -> None:
    """FAULTS 112: length 0, 2^32 - 1, 64 KiB + 1, 1 MiB + 1; the check comes before the allocation."""
    least, most = BOUNDS[kind]
    for length in {0, least - 1, most + 1, PACKET_LIMIT + KEY_LENGTH + 1, (1 << 20) + 1, (1 << 32) - 1}:
        reader = FrameReader()
        with pytest.raises(MalformedMessage):
            list(reader.feed(bytes([kind]) + length.to_bytes(4, "big")))
        assert reader.buffered <= HEADER_LENGTH
    for length in {least, most}:
        contents = bytes(length)
        assert read(bytes([kind]) + length.to_bytes(4, "big") + contents) == [(kind, contents)]


def test_unknown_types_are_skipped_without_being_kept() -> None:
    """FAULTS 112 and 153: what a newer side says is ignored, up to 1 MiB, and costs no memory."""
    reader = FrameReader()
    unknown = b"\x7f" + FRAME_LIMIT.to_bytes(4, "big")
    found = list(reader.feed(unknown))
    for _ in range(FRAME_LIMIT // 4096):
        found += reader.feed(bytes(4096))
        assert reader.buffered == 0
    found += reader.feed(frame(FrameType.PING, bytes(8)))
    assert found == [(FrameType.PING, bytes(8))]
    assert reader.ignored == 1


def test_an_unknown_type_of_more_than_a_mebibyte_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        read(b"\x7f" + (FRAME_LIMIT + 1).to_bytes(4, "big"))


def test_a_truncated_frame_is_no_frame_yet() -> None:
    whole = frame(FrameType.SEND, KEY, b"packet")
    for size in range(len(whole)):
        assert read(whole[:size]) == []


def test_frames_before_a_malformed_one_count() -> None:
    reader = FrameReader()
    found = []
    with pytest.raises(MalformedMessage):
        for each in reader.feed(frame(FrameType.PING, bytes(8)) + b"\x13\0\0\0\x09"):
            found.append(each)
    assert found == [(FrameType.PING, bytes(8))]
