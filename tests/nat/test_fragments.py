"""Fragments: whatever order they come in, the packet is the same; what cannot be is given up and counted."""

from __future__ import annotations

from contextlib import suppress
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import Address, MalformedMessage
from natwalk.nat import Packet
from natwalk.nat.fragments import PACKETS, PIECES, TIMEOUT, Reassembler, fragment
from natwalk.nat.wire import Unsupported, decode, encode, verify

V4 = Packet(Address("192.0.2.1", 5000), Address("203.0.113.9", 53), bytes(range(256)) * 12)
V6 = Packet(Address("2001:db8::1", 5000), Address("2001:db8::2", 53), bytes(range(256)) * 12)
BOTH = pytest.mark.parametrize("packet", [V4, V6], ids=["IPv4", "IPv6"])


def with_options(data: bytes) -> bytes:
    """The IPv6 packet with a hop-by-hop header."""
    raw = bytearray(data)
    raw[6], following = 0, raw[6]
    raw[40:40] = bytes([following, 0, 1, 4, 0, 0, 0, 0])
    raw[4:6] = (len(raw) - 40).to_bytes(2, "big")
    return bytes(raw)


@given(
    st.sampled_from([V4, V6]),
    st.integers(70, 3200),
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.integers(0, 99),
)
def test_pieces_in_any_order_make_the_packet(
    packet: Packet, mtu: int, ident: int, options: bool, seed: int
) -> None:
    data = encode(packet, identification=ident & 0xFFFF)
    if options and packet is V6:
        data = with_options(data)
    pieces = fragment(data, mtu, identification=ident)
    assert all(len(piece) <= mtu for piece in pieces)
    if len(pieces) > PIECES:
        return
    Random(seed).shuffle(pieces)
    reassembler = Reassembler()
    whole = [got for piece in pieces if (got := reassembler.add(piece, 0.0)) is not None]
    assert whole == [data]
    assert decode(whole[0]) == packet
    assert verify(whole[0])


@BOTH
def test_every_piece_is_a_packet_that_is_no_whole_one(packet: Packet) -> None:
    for piece in fragment(encode(packet), 1000):
        with pytest.raises(Unsupported):
            decode(piece)


@BOTH
def test_what_fits_is_not_cut_and_what_is_whole_passes(packet: Packet) -> None:
    data = encode(packet)
    assert fragment(data, len(data)) == [data]
    assert Reassembler().add(data, 0.0) is data
    with pytest.raises(ValueError, match="nothing fits"):
        fragment(data, 48 if packet is V6 else 24)


@BOTH
def test_a_piece_that_comes_twice_does_no_harm(packet: Packet) -> None:
    data = encode(packet)
    first, *rest = fragment(data, 1000)
    reassembler = Reassembler()
    assert [reassembler.add(piece, 0.0) for piece in (first, first, *rest)][-1] == data


@BOTH
def test_packets_do_not_mix(packet: Packet) -> None:
    one = fragment(encode(packet, identification=1), 2000, identification=1)
    two = fragment(encode(packet, identification=2), 2000, identification=2)
    reassembler = Reassembler()
    assert reassembler.add(one[0], 0.0) is None
    assert reassembler.add(two[1], 0.0) is None
    assert reassembler.add(one[1], 0.0) == encode(packet, identification=1)


def test_pieces_that_overlap_end_it() -> None:
    """RFC 8200 §4.5: nobody can smuggle other bytes under a header that was looked at."""
    data = encode(V4)
    other = encode(V4._replace(payload=bytes(len(V4.payload))))
    for evil in (fragment(other, 1000)[1], fragment(other, 500)[3]):
        reassembler = Reassembler()
        pieces = fragment(data, 1000)
        reassembler.add(pieces[1], 0.0)
        assert reassembler.add(evil, 0.0) is None
        assert reassembler.drops.total == 1


def test_an_end_before_what_came_already_ends_it() -> None:
    pieces, short = fragment(encode(V4), 1000), fragment(encode(V4._replace(payload=bytes(1200))), 1000)
    reassembler = Reassembler()
    reassembler.add(pieces[2], 0.0)
    assert reassembler.add(short[-1], 0.0) is None
    assert reassembler.drops.total == 1
    last = fragment(encode(V4), 1000)[-1]
    reassembler.add(last, 0.0)
    assert reassembler.add(fragment(encode(V4._replace(payload=bytes(9000))), 1000)[8], 0.0) is None
    assert reassembler.drops.total == 2


def test_it_waits_for_a_time_and_not_longer() -> None:
    first, *rest = fragment(encode(V4), 2000)
    reassembler = Reassembler()
    reassembler.add(first, 0.0)
    assert [reassembler.add(piece, TIMEOUT - 0.001) for piece in rest][-1] is not None
    reassembler.add(first, 100.0)
    assert [reassembler.add(piece, 100.0 + TIMEOUT) for piece in rest][-1] is None
    assert reassembler.drops.counts == {"fragments missing": 1}


def test_its_memory_is_bounded() -> None:
    reassembler = Reassembler()
    for ident in range(PACKETS + 10):
        reassembler.add(fragment(encode(V4, identification=ident), 2000)[0], 0.0)
    assert reassembler.drops.counts == {"too many packets incomplete": 10}
    tiny = Reassembler()
    results = [tiny.add(piece, 0.0) for piece in fragment(encode(V4), 60)]
    assert len(results) > PIECES
    assert set(results) == {None}
    assert tiny.drops.total >= 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x45" + bytes(18),
        b"\x60" + bytes(38),
        fragment(encode(V4), 1000)[0][:500],
        fragment(encode(V6), 1000)[0][:500],
        fragment(encode(V4), 1000)[0][:3] + b"\xff" + fragment(encode(V4), 1000)[0][4:] + bytes(999),
        fragment(encode(V4), 1000)[0][:6] + b"\x3f\xff" + fragment(encode(V4), 1000)[0][8:],
    ],
)
def test_what_is_no_fragment_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        Reassembler().add(data, 0.0)


@given(st.sampled_from([V4, V6]), st.binary(max_size=60), st.integers(0, 60))
def test_any_bytes_are_taken_or_malformed(packet: Packet, noise: bytes, at: int) -> None:
    piece = bytearray(fragment(encode(packet), 1000)[1])
    piece[at : at + len(noise)] = noise
    with suppress(MalformedMessage):
        Reassembler().add(bytes(piece), 0.0)
