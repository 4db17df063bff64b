"""QUIC headers, enough of them to tell connections apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import MalformedMessage
from natwalk.secure.header import Header, PacketType, parse_header
from secure.pair import make_client

# The first bytes of the client's protected Initial of RFC 9001 appendix A.2: version 1, an 8-byte
# destination ID, no source ID.
RFC_9001_CLIENT_INITIAL = bytes.fromhex("c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11")
RFC_9001_SERVER_INITIAL = bytes.fromhex("cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a")
RFC_9001_RETRY = bytes.fromhex("ff000000010008f067a5502a4262b5746f6b656e04a265ba2eff4d829058fb3f0f2496ba")


def test_packets_of_the_rfc() -> None:
    """RFC 9001 appendix A.2 to A.4."""
    assert parse_header(RFC_9001_CLIENT_INITIAL) == Header(
        PacketType.INITIAL, bytes.fromhex("8394c8f03e515708")
    )
    assert parse_header(RFC_9001_SERVER_INITIAL) == Header(PacketType.INITIAL, b"")
    with pytest.raises(MalformedMessage, match="retry"):
        parse_header(RFC_9001_RETRY)


def test_the_engines_own_first_flight() -> None:
    client = make_client()
    client.start(0.0)
    for data in client.datagrams(0.0):
        assert parse_header(data).type is PacketType.INITIAL
        assert len(parse_header(data).destination) == 8


@pytest.mark.parametrize(
    ("first", "kind"), [(0xE3, PacketType.HANDSHAKE), (0xD0, PacketType.ZERO_RTT), (0xC0, PacketType.INITIAL)]
)
def test_long_types(first: int, kind: PacketType) -> None:
    assert parse_header(bytes([first]) + b"\0\0\0\1\x02ab") == Header(kind, b"ab")


def test_short_header() -> None:
    assert parse_header(b"\x40abcdefghrest") == Header(PacketType.SHORT, b"abcdefgh")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\x40abcdefg", "not QUIC"),
        (b"\x00abcdefghij", "not QUIC"),
        (b"\x80\0\0\0\1\0", "not QUIC"),
        (b"\x80\0\0\0\0\0", "version negotiation"),
        (b"\xc0", "not QUIC version 1"),
        (b"\xc0\0\0\0\2\0", "not QUIC version 1"),
        (b"\xc0\0\0\0\1", "cut"),
        (b"\xc0\0\0\0\1\x15" + bytes(100), "cut"),
        (b"\xc0\0\0\0\1\x08" + bytes(7), "cut"),
    ],
)
def test_what_is_not_ours_has_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedMessage, match=reason):
        parse_header(data)


@given(data=st.binary(max_size=60))
def test_any_bytes_give_a_header_or_malformed_message(data: bytes) -> None:
    try:
        header = parse_header(data)
    except MalformedMessage:
        return
    assert header.destination in data
