"""DNS messages about addresses: written, read, and refused when they are none."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import MalformedMessage
from natwalk.ice.dns import TYPE_A, TYPE_AAAA, AddressRecord, DnsMessage, Question, decode, encode

NAME = "1f4712db-ea17-4bcf-a596-105139dfd8bf.local"
HEADER = bytes.fromhex("000000000001000000000000")
labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=5).map(".".join)
questions = st.builds(
    Question, name=names, type=st.sampled_from([TYPE_A, TYPE_AAAA, 255]), unicast=st.booleans()
)
records = st.builds(
    AddressRecord, name=names, ip=st.ip_addresses(), ttl=st.integers(min_value=0, max_value=2**32 - 1)
)
messages = st.builds(
    DnsMessage,
    id=st.integers(min_value=0, max_value=65535),
    response=st.booleans(),
    questions=st.lists(questions, max_size=4).map(tuple),
    answers=st.lists(records, max_size=4).map(tuple),
)


@given(messages, st.booleans())
def test_what_was_written_is_read(message: DnsMessage, legacy: bool) -> None:
    assert decode(encode(message, legacy=legacy)) == message


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    with suppress(MalformedMessage):
        decode(data)


@given(messages, st.data())
def test_a_damaged_message_is_a_message_or_malformed(message: DnsMessage, data: st.DataObject) -> None:
    whole = bytearray(encode(message))
    at = data.draw(st.integers(min_value=0, max_value=len(whole) - 1))
    whole[at] = data.draw(st.integers(min_value=0, max_value=255))
    with suppress(MalformedMessage):
        decode(bytes(whole[: data.draw(st.integers(min_value=0, max_value=len(whole)))]))


def test_a_response_as_others_write_it_is_read() -> None:
    """With name compression, a record of another type before, and upper case."""
    data = bytes.fromhex(
        "000084000000000200000000"
        "0450656572056c6f63616c00"  # Peer.local
        "001080010000007800020161"  # TXT, cache-flush, 120 s
        "c00c0001800100000078000a0a00".replace("000a0a00", "00040a000001")
    )
    assert decode(data).answers == (AddressRecord("peer.local", ip_address("10.0.0.1"), 120),)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(11),
        bytes(9001),
        HEADER,
        HEADER + b"\xc0\x0c\x00\x01\x00\x01",  # a name that is its own end
        HEADER + b"\x01a\xc0\x0e\x00\x01\x00\x01",
        HEADER + b"\x01a\xc0\xff\x00\x01\x00\x01",  # forwards
        HEADER + b"\x40a\x00\x00\x01\x00\x01",  # a label type nobody uses
        HEADER + b"\x05ab",
        HEADER + b"\x02\xff\xfe\x00\x00\x01\x00\x01",
        HEADER + b"\x3f" + b"a" * 63 + b"\x3f" + b"b" * 63 + (b"\x3f" + b"c" * 63) * 2 + b"\0\0\1\0\1",
        bytes.fromhex("000000000001ffffffffffff"),
        bytes.fromhex("000028000000000000000000"),  # an update
        bytes.fromhex("000080030000000000000000"),  # NXDOMAIN
        bytes.fromhex("000080000000000100000000") + b"\x00\x00\x01\x00\x01\0\0\0\0\x00\x04\x0a",
    ],
)
def test_what_is_no_message_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode(data)


def test_pointers_cannot_take_long() -> None:
    """A chain of pointers, each to the one before, is left after a few."""
    start = 12 + 11  # after the header, and the root name and fixed fields of a record
    targets = [12, *range(start, start + 2 * 99, 2)]
    chain = b"".join((0xC000 | target).to_bytes(2, "big") for target in targets)
    record = b"\x00\x00\x10\x00\x01" + bytes(4) + len(chain).to_bytes(2, "big") + chain
    last = (0xC000 | start + len(chain) - 2).to_bytes(2, "big")
    address = b"\x00\x01\x00\x01" + bytes(4) + b"\x00\x04" + bytes(4)
    with pytest.raises(MalformedMessage, match="circles"):
        decode(bytes.fromhex("000084000000000200000000") + record + last + address)


@pytest.mark.parametrize("name", ["", "a..local", "a" * 64 + ".local", ".".join(["a" * 60] * 5)])
def test_a_name_that_is_none_is_not_written(name: str) -> None:
    with pytest.raises(ValueError, match="not a DNS name"):
        encode(DnsMessage(questions=(Question(name),)))
