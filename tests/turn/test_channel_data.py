from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import MalformedMessage
from natwalk.turn.channel_data import decode_channel_data, encode_channel_data, is_channel_data


@given(channel=st.integers(0x4000, 0x4FFF), data=st.binary(max_size=2000), padding=st.binary(max_size=3))
def test_round_trip_with_any_padding(channel: int, data: bytes, padding: bytes) -> None:
    """Over UDP the length decides; what follows is padding (RFC 8656 §12.5)."""
    message = encode_channel_data(channel, data)
    assert len(message) == 4 + len(data)
    assert is_channel_data(message)
    assert decode_channel_data(message + padding) == (channel, data)


@given(datagram=st.binary(max_size=64))
def test_any_bytes_decode_or_are_malformed(datagram: bytes) -> None:
    try:
        channel, data = decode_channel_data(datagram)
    except MalformedMessage:
        return
    assert encode_channel_data(channel, data) == datagram[: 4 + len(data)]


@pytest.mark.parametrize(
    "datagram",
    [b"", b"\x40", b"\x40\x00\x00", b"\x40\x00\xff\xffxxxx", b"\x3f\xff\x00\x00", b"\x50\x00\x00\x00"],
)
def test_malformed(datagram: bytes) -> None:
    """FAULTS 25, 38: cut off, longer than it is (length 0xFFFF), or no channel number."""
    with pytest.raises(MalformedMessage):
        decode_channel_data(datagram)


def test_zero_length_is_a_message() -> None:
    assert decode_channel_data(b"\x40\x01\x00\x00") == (0x4001, b"")


@pytest.mark.parametrize(("first", "expected"), [(0x3F, False), (0x40, True), (0x4F, True), (0x50, False)])
def test_demultiplexing_by_the_first_byte(first: int, expected: bool) -> None:
    assert is_channel_data(bytes([first, 0, 0, 0])) is expected
    assert not is_channel_data(b"")


@pytest.mark.parametrize(("channel", "size"), [(0x3FFF, 1), (0x5000, 1), (0x4000, 65536)])
def test_encode_refuses_what_no_message_can_carry(channel: int, size: int) -> None:
    with pytest.raises(ValueError):
        encode_channel_data(channel, bytes(size))
