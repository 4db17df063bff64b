"""The short way through the router in user space gives the bytes that the engine gives."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natwalk.core import Address
from natwalk.lab.behaviour import table_of
from natwalk.lab.fast_path import FLOWS, MOMENT, FastPath, cacheable
from natwalk.lab.router_plan import BoxPlan, RouterPlan
from natwalk.nat import ACK, RST, SYN, IpProtocol, Packet, Segment, Side, preset
from natwalk.nat.wire import decode, encode, rewrite, verify

INSIDE = Address("192.168.1.10", 40000)
PUBLIC = Address("198.51.100.2", 51000)
SERVER = Address("203.0.113.10", 5001)


def sent(payload: bytes = b"hello", flags: int | None = None, ttl: int = 63) -> bytes:
    if flags is None:
        return encode(Packet(INSIDE, SERVER, payload, ttl=ttl))
    return encode(Packet(INSIDE, SERVER, payload, IpProtocol.TCP, ttl, Segment(flags, 7, 9)))


def translated(data: bytes, ttl: int = 1) -> bytes:
    before = decode(data)
    return rewrite(data, before, before._replace(source=PUBLIC, ttl=before.ttl + ttl))


def taught(data: bytes, now: float = 0.0) -> FastPath:
    path = FastPath()
    path.learn(data, Side.INTERNAL, translated(data), Side.EXTERNAL, now)
    return path


@given(
    payload=st.binary(max_size=300),
    ttl=st.integers(16, 255),
    port=st.integers(1, 65535),
    external=st.integers(1, 65535),
    tcp=st.booleans(),
)
@settings(max_examples=200)
def test_it_translates_as_the_engine_does_checksums_included(payload, ttl, port, external, tcp) -> None:
    protocol, segment = (IpProtocol.TCP, Segment(ACK, 1, 2)) if tcp else (IpProtocol.UDP, None)
    source = Address("192.168.1.10", port)

    def made(text: bytes, hops: int) -> tuple[bytes, bytes]:
        data = encode(Packet(source, SERVER, text, protocol, hops, segment))
        before = decode(data)
        after = before._replace(source=Address("198.51.100.2", external), ttl=min(before.ttl + 1, 255))
        return data, rewrite(data, before, after)

    path = FastPath()
    path.learn(*_flow(made(bytes(300), 64)), 0.0)
    data, wanted = made(payload, ttl)
    taken = path.take(data, Side.INTERNAL, 0.001)
    assert taken is not None
    if ttl < 255:
        assert bytes(taken[0]) == wanted
        assert verify(bytes(taken[0]))


def _flow(pair: tuple[bytes, bytes]) -> tuple[bytes, Side, bytes, Side]:
    return pair[0], Side.INTERNAL, pair[1], Side.EXTERNAL


def test_what_the_engine_said_holds_for_a_moment() -> None:
    path = taught(sent(), 5.0)
    assert path.take(sent(), Side.INTERNAL, 5.0 + MOMENT * 0.9) is not None
    assert path.take(sent(), Side.INTERNAL, 5.0 + MOMENT) is None


@pytest.mark.parametrize(
    ("data", "side"),
    [
        (sent(b"longer than the one before"), Side.INTERNAL),
        (sent(ttl=15), Side.INTERNAL),
        (sent(), Side.EXTERNAL),
        (encode(Packet(INSIDE._replace(port=1), SERVER, b"hello")), Side.INTERNAL),
    ],
    ids=["larger", "few hops", "other side", "other flow"],
)
def test_what_may_differ_goes_the_long_way(data, side) -> None:
    assert taught(sent()).take(data, side, 0.0) is None


@pytest.mark.parametrize("flags", [SYN, RST, RST | ACK])
def test_segments_that_change_a_connection_go_the_long_way(flags) -> None:
    assert taught(sent(b"", ACK)).take(sent(b"", ACK), Side.INTERNAL, 0.0) is not None
    assert taught(sent(b"", ACK)).take(sent(b"", flags), Side.INTERNAL, 0.0) is None


def test_a_fragment_goes_the_long_way() -> None:
    fragment = bytearray(sent())
    fragment[6] |= 0x20
    assert taught(sent()).take(bytes(fragment), Side.INTERNAL, 0.0) is None


def test_a_new_flow_makes_void_what_is_known_and_a_known_one_does_not() -> None:
    path = taught(sent())
    other = encode(Packet(INSIDE._replace(port=1), SERVER, b"hello"))
    path.learn(other, Side.INTERNAL, translated(other), Side.EXTERNAL, 0.0)
    assert path.take(sent(), Side.INTERNAL, 0.0) is None
    path.learn(sent(), Side.INTERNAL, translated(sent()), Side.EXTERNAL, 0.0)
    assert path.take(sent(), Side.INTERNAL, 0.0) is not None
    assert path.take(other, Side.INTERNAL, 0.0) is not None


def test_a_flow_that_moves_makes_void_what_is_known() -> None:
    path = taught(sent())
    moved = decode(sent())
    elsewhere = rewrite(sent(), moved, moved._replace(source=PUBLIC._replace(port=2)))
    path.learn(sent(), Side.INTERNAL, elsewhere, Side.EXTERNAL, 0.0)
    taken = path.take(sent(), Side.INTERNAL, 0.0)
    assert taken is not None
    assert bytes(taken[0]) == elsewhere


def test_a_udp_checksum_left_out_stays_out() -> None:
    bare = bytearray(sent())
    bare[26:28] = b"\0\0"
    taken = taught(sent()).take(bytes(bare), Side.INTERNAL, 0.0)
    assert taken is not None
    assert taken[0][26:28] == b"\0\0"


def test_it_knows_a_bounded_number_of_flows() -> None:
    path = FastPath()
    for number in range(FLOWS + 10):
        data = encode(Packet(Address("10.0.0.1", 1000 + number), SERVER, b""))
        path.learn(data, Side.INTERNAL, translated(data), Side.EXTERNAL, 0.0)
    assert len(path._patches) <= FLOWS


@pytest.mark.parametrize(
    ("kind", "short"), [("port-restricted", True), ("cgnat", True), ("hotel-portal", False)]
)
def test_boxes_that_look_into_packets_have_no_short_way(kind, short) -> None:
    layers = [table_of(layer) for layer in preset(kind).layers]
    assert cacheable(RouterPlan(boxes=[BoxPlan(layers=layers, public=["198.51.100.2"])])) is short
