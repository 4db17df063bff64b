"""Messages out of a byte stream."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import MalformedMessage
from natwalk.stun import Method, encode, request
from natwalk.turn.framing import MESSAGE_LIMIT, StreamFramer

STUN = encode(request(Method.BINDING, bytes(12)))


def channel_data(channel: int, data: bytes) -> bytes:
    return channel.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data


def padded(message: bytes) -> bytes:
    return message + b"\xa5" * (-len(message) & 3)


def stun(body: bytes) -> bytes:
    return b"\x00\x01" + len(body).to_bytes(2, "big") + STUN[4:8] + bytes(12) + body


messages = st.lists(
    st.one_of(
        st.integers(0, 8).map(lambda words: stun(bytes(4 * words))),
        st.builds(channel_data, st.integers(0x4000, 0x4FFF), st.binary(max_size=40)),
    ),
    max_size=12,
)


@given(messages, st.data())
def test_any_split_of_the_stream_gives_the_same_messages(sent: list[bytes], data: st.DataObject) -> None:
    """FAULTS 25: one byte a segment, two messages in one segment, anything between."""
    stream = b"".join(map(padded, sent))
    cuts = data.draw(st.lists(st.integers(0, len(stream))).map(sorted))
    framer = StreamFramer()
    got: list[bytes] = []
    for start, end in pairwise([0, *cuts, len(stream)]):
        got += framer.feed(stream[start:end])
    assert got == sent
    assert framer.buffered == 0


@given(messages)
def test_one_byte_a_segment(sent: list[bytes]) -> None:
    framer = StreamFramer()
    got = [message for byte in b"".join(map(padded, sent)) for message in framer.feed(bytes([byte]))]
    assert got == sent


@given(st.lists(st.binary(max_size=300)))
def test_any_bytes_are_messages_or_malformed(segments: list[bytes]) -> None:
    """FAULTS 25: what is held stays within the limit, and every message is one of the two kinds."""
    framer = StreamFramer()
    try:
        for segment in segments:
            for message in framer.feed(segment):
                assert 4 <= len(message) <= MESSAGE_LIMIT
                assert message[0] < 0x50
            assert framer.buffered <= MESSAGE_LIMIT
    except MalformedMessage:
        pass


@pytest.mark.parametrize(
    "data",
    [
        *(bytes([first]) for first in (0x50, 0x7F, 0x80, 0xC0, 0xFF)),
        b"\x16\x03\x01\x02\x00\x01\x00\x01",  # a TLS ClientHello
        b"POST / HTTP/1.1\r\n",
        b"\x00\x01\x00\x00\x21\x12\xa4\x43",  # a cookie that is almost right
        b"\x00\x01\x00\x03",
        b"\x00\x01\xff\xfc",
        b"\x40\x00\xff\xff",
        b"\x4f\xff\xff\xfd",
    ],
    ids=bytes.hex,
)
def test_garbage_ends_the_stream_at_once(data: bytes) -> None:
    """FAULTS 25: a first byte of another protocol, lengths beyond the buffer, a wrong cookie."""
    with pytest.raises(MalformedMessage):
        list(StreamFramer().feed(data))
    framer = StreamFramer()
    assert list(framer.feed(STUN)) == [STUN]
    with pytest.raises(MalformedMessage):
        for byte in data:
            list(framer.feed(bytes([byte])))


def test_a_missing_pad_eats_the_next_message() -> None:
    """FAULTS 25: the data arrive, then the framing is lost and the stream ends."""
    framer = StreamFramer()
    assert list(framer.feed(channel_data(0x4000, b"abc"))) == [channel_data(0x4000, b"abc")]
    with pytest.raises(MalformedMessage):
        list(framer.feed(b"\x40\x80" + STUN))


def test_the_longest_messages_pass() -> None:
    for message in (stun(bytes(MESSAGE_LIMIT - 20)), channel_data(0x4000, bytes(MESSAGE_LIMIT - 4))):
        framer = StreamFramer()
        assert list(framer.feed(message[:-1])) == []
        assert framer.buffered == len(message) - 1
        assert list(framer.feed(message[-1:])) == [message]


def test_old_channel_numbers_are_taken_when_allowed() -> None:
    """RFC 5766 clients go up to 0x7FFF."""
    message = channel_data(0x7FFF, b"data")
    assert list(StreamFramer(channel_max=0x7FFF).feed(message)) == [message]
    with pytest.raises(MalformedMessage):
        list(StreamFramer().feed(message))


def test_what_follows_a_message_may_belong_to_another_protocol() -> None:
    """After a ConnectionBind the stream carries a peer's bytes, perhaps in the same segment."""
    framer = StreamFramer()
    stream = framer.feed(STUN + b"\xff\xfe raw")
    assert next(stream) == STUN
    assert framer.rest() == b"\xff\xfe raw"
    assert framer.buffered == 0
    assert framer.rest() == b""
