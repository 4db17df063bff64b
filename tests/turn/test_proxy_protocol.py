"""The PROXY protocol's two headers."""

from __future__ import annotations

import ipaddress
import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import Address, MalformedMessage
from natwalk.turn.proxy_protocol import HEADER_LIMIT, ProxyHeader, ProxyParser

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
SOURCE, DESTINATION = Address("203.0.113.7", 50_000), Address("192.0.2.1", 3478)
SOURCE6, DESTINATION6 = Address("2001:db8::7", 50_000), Address("2001:db8::1", 3478)


def v1(source: Address, destination: Address) -> bytes:
    kind = "TCP6" if source.version == 6 else "TCP4"
    line = f"PROXY {kind} {source.host} {destination.host} {source.port} {destination.port}\r\n"
    return line.encode()


def v2(source: Address, destination: Address, *, command: int = 0x21, tail: bytes = b"") -> bytes:
    family = 0x21 if source.version == 6 else 0x11
    block = (
        source.ip.packed + destination.ip.packed + struct.pack("!HH", source.port, destination.port) + tail
    )
    return raw_v2(command, family, block)


def raw_v2(command: int, family: int, block: bytes) -> bytes:
    return SIGNATURE + bytes([command, family]) + len(block).to_bytes(2, "big") + block


def parse(stream: bytes) -> tuple[ProxyHeader | None, bytes]:
    parser = ProxyParser()
    return parser.feed(stream), parser.rest()


def addresses(kind: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address]) -> st.SearchStrategy[Address]:
    version = 4 if kind is ipaddress.IPv4Address else 6
    return st.builds(
        lambda ip, port: Address(str(ip), port), st.ip_addresses(v=version), st.integers(0, 65535)
    )


pairs = st.one_of(
    st.tuples(addresses(ipaddress.IPv4Address), addresses(ipaddress.IPv4Address)),
    st.tuples(addresses(ipaddress.IPv6Address), addresses(ipaddress.IPv6Address)),
)
builders = st.sampled_from([v1, v2, lambda s, d: v2(s, d, tail=b"\x04\x00\x03\0\0\0")])


@given(pairs, builders, st.binary(max_size=100), st.data())
def test_any_split_gives_the_same_header_and_rest(
    ends: tuple[Address, Address], build: object, rest: bytes, data: st.DataObject
) -> None:
    header = build(*ends)  # type: ignore[operator]
    stream = header + rest
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8).map(sorted))
    parser = ProxyParser()
    found: ProxyHeader | None = None
    after = b""
    for start, end in pairwise([0, *cuts, len(stream)]):
        if found is None:
            found = parser.feed(stream[start:end])
            if found is not None:
                after = parser.rest()
        else:
            after += stream[start:end]
    assert found == ProxyHeader(*ends)
    assert after == rest


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda tail: b"PROXY " + tail)))
def test_any_bytes_are_a_header_incomplete_or_malformed(data: bytes) -> None:
    parser = ProxyParser()
    try:
        header = parser.feed(data)
    except MalformedMessage:
        return
    assert header is None or isinstance(header, ProxyHeader)


@given(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=80))
def test_any_second_version_is_a_header_or_malformed(command: int, family: int, block: bytes) -> None:
    try:
        header, rest = parse(raw_v2(command, family, block))
    except MalformedMessage:
        return
    assert isinstance(header, ProxyHeader)
    assert rest == b""


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n",
        raw_v2(0x20, 0x00, b""),
        v2(SOURCE, DESTINATION, command=0x20),
        raw_v2(0x21, 0x00, b""),
        raw_v2(0x21, 0x31, bytes(216)),  # UNIX sockets
        raw_v2(0x21, 0x12, bytes(12)),  # datagrams
    ],
)
def test_a_proxy_that_speaks_for_itself_or_does_not_know(header: bytes) -> None:
    """Then the connection's own addresses count."""
    assert parse(header + b"data") == (ProxyHeader(), b"data")


def test_type_length_values_are_skipped() -> None:
    tail = b"\x20\x00\x40" + bytes(64)
    for ends in ((SOURCE, DESTINATION), (SOURCE6, DESTINATION6)):
        assert parse(v2(*ends, tail=tail) + b"data") == (ProxyHeader(*ends), b"data")


@pytest.mark.parametrize(
    "stream",
    [
        b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12),  # STUN
        b"\x16\x03\x01",  # TLS
        b"P\x00",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 50000\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 50000 65536\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 50000 +1\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 50000 000001\r\n",
        b"PROXY TCP4 2001:db8::1 192.0.2.1 50000 1\r\n",
        b"PROXY TCP6 203.0.113.7 192.0.2.1 50000 1\r\n",
        b"PROXY TCP4 name.example 192.0.2.1 50000 1\r\n",
        b"PROXY TCP4  203.0.113.7 192.0.2.1 50000 1\r\n",
        b"PROXY UDP4 203.0.113.7 192.0.2.1 50000 1\r\n",
        b"PROXY \xff\r\n",
        b"PROXY \r\n",
        b"PROXY " + b"x" * 101,
        raw_v2(0x22, 0x11, bytes(12)),
        raw_v2(0x11, 0x11, bytes(12)),
        raw_v2(0x21, 0x11, bytes(11)),
        raw_v2(0x21, 0x21, bytes(35)),
        SIGNATURE + b"\x21\x11" + HEADER_LIMIT.to_bytes(2, "big"),
    ],
)
def test_anything_else_is_malformed(stream: bytes) -> None:
    with pytest.raises(MalformedMessage):
        parse(stream)


def test_what_is_held_is_bounded() -> None:
    parser = ProxyParser()
    header = raw_v2(0x20, 0x00, bytes(HEADER_LIMIT - 16))
    assert parser.feed(header[:-1]) is None
    assert parser.feed(header[-1:]) == ProxyHeader()
    assert parser.rest() == b""
