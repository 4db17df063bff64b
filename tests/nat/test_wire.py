"""Bytes and packets: round trips, translation in place, checksums, and what is no packet."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nat.any_packet import HOSTS, PORTS, packets
from natwalk.core import Address, MalformedMessage
from natwalk.nat import Icmp, IcmpKind, IpProtocol, Packet, Segment, icmp_error
from natwalk.nat.icmp_codes import TYPE_AND_CODE, kind_of
from natwalk.nat.wire import QUOTE_LIMIT, Unsupported, decode, encode, rewrite, verify

UDP, TCP, ICMP = IpProtocol.UDP, IpProtocol.TCP, IpProtocol.ICMP
versions = st.sampled_from([4, 6])
anything = versions.flatmap(packets)


@given(anything)
def test_what_is_encoded_is_decoded_and_has_right_checksums(packet: Packet) -> None:
    data = encode(packet, identification=7)
    assert decode(data) == packet
    assert decode(data + b"padding") == packet
    assert verify(data)
    if packet.icmp is None or packet.icmp.about is None:
        assert len(data) == packet.size


def moved(packet: Packet, source: Address, destination: Address, ttl: int) -> Packet:
    """``packet`` as a NAT changes it: addresses, ports, hops, and the same in what an error quotes."""
    icmp = packet.icmp
    if icmp is None:
        return packet._replace(source=source, destination=destination, ttl=ttl)
    if icmp.about is None:
        if icmp.kind is IcmpKind.ECHO_REQUEST:
            return packet._replace(source=source, destination=destination.with_port(0), ttl=ttl)
        return packet._replace(source=source.with_port(0), destination=destination, ttl=ttl)
    about = moved(icmp.about, destination, source, icmp.about.ttl)
    return packet._replace(
        source=source.with_port(0),
        destination=destination.with_port(0),
        ttl=ttl,
        icmp=icmp._replace(about=about),
    )


@settings(max_examples=300)
@given(st.data(), versions, versions, st.integers(0, 255))
def test_rewriting_says_the_same_as_making_anew(data: st.DataObject, version: int, to: int, ttl: int) -> None:
    """Also from one IP version to the other."""
    before = data.draw(packets(version))
    source = data.draw(HOSTS[to]).with_port(data.draw(PORTS))
    destination = data.draw(HOSTS[to]).with_port(data.draw(PORTS))
    after = moved(before, source, destination, ttl)
    rewritten = rewrite(encode(before), before, after)
    assert decode(rewritten) == after
    assert rewritten == encode(after)
    assert verify(rewritten)


@given(anything, st.data())
def test_damage_stays_visible(packet: Packet, data: st.DataObject) -> None:
    """A checksum that is wrong before a translation is wrong after: it is adjusted, not made anew."""
    if packet.icmp is not None and packet.icmp.about is not None:
        return
    raw = bytearray(encode(packet))
    if not packet.payload:
        return
    raw[-1] ^= data.draw(st.integers(1, 255))
    damaged = decode(bytes(raw))
    after = moved(
        damaged, Address("192.0.2.1" if raw[0] >> 4 == 4 else "2001:db8::1", 9), damaged.destination, 3
    )
    assert not verify(bytes(raw))
    assert not verify(rewrite(bytes(raw), damaged, after))


@given(st.binary(max_size=120))
def test_any_bytes_are_a_packet_or_malformed(data: bytes) -> None:
    try:
        packet = decode(data)
    except MalformedMessage:
        return
    rewrite(data, packet, packet)
    verify(data)


@given(anything, st.integers(0, 200), st.integers(0, 255))
def test_nor_does_a_damaged_packet_raise_anything_else(packet: Packet, at: int, value: int) -> None:
    data = bytearray(encode(packet))
    data[at % len(data)] = value
    for cut in (bytes(data), bytes(data[: at % len(data)])):
        try:
            damaged = decode(cut)
        except MalformedMessage:
            continue
        rewrite(cut, damaged, damaged)


SIMPLE = Packet(Address("192.0.2.1", 5000), Address("203.0.113.9", 53), b"hello")


def test_a_udp_packet_byte_by_byte() -> None:
    """Checksums worked out by hand."""
    assert encode(SIMPLE).hex() == ("450000210000000040117cc1c0000201cb00710913880035000daa3968656c6c6f")


def test_no_udp_checksum_stays_none_over_ipv4_and_is_made_over_ipv6() -> None:
    raw = bytearray(encode(SIMPLE))
    raw[26:28] = b"\0\0"
    after = SIMPLE._replace(source=Address("198.51.100.1", 1))
    assert verify(bytes(raw))
    assert rewrite(bytes(raw), SIMPLE, after)[26:28] == b"\0\0"
    six = SIMPLE._replace(source=Address("2001:db8::1", 1), destination=Address("2001:db8::2", 2))
    assert verify(rewrite(bytes(raw), SIMPLE, six))


def test_options_and_identification_are_kept() -> None:
    raw = bytearray(encode(SIMPLE, identification=0xABCD))
    raw[0] = 0x46
    raw[1] = 0xB8
    raw[3] += 4
    raw[20:20] = b"\x01\x01\x01\x00"
    after = SIMPLE._replace(source=Address("198.51.100.1", 1), ttl=63)
    changed = rewrite(bytes(raw), decode(bytes(raw)), after)
    assert changed[20:24] == b"\x01\x01\x01\x00"
    assert changed[4:6] == b"\xab\xcd"
    assert decode(changed) == after


def test_extension_headers_are_walked_and_kept() -> None:
    packet = Packet(Address("2001:db8::1", 5), Address("2001:db8::2", 6), b"x")
    raw = bytearray(encode(packet))
    raw[5] += 16
    raw[6] = 0
    raw[40:40] = bytes([60, 0, 1, 4, 0, 0, 0, 0]) + bytes([17, 0, 1, 4, 0, 0, 0, 0])
    assert decode(bytes(raw)) == packet
    after = packet._replace(destination=Address("2001:db8::3", 7))
    changed = rewrite(bytes(raw), packet, after)
    assert decode(changed) == after
    assert changed[40:56] == raw[40:56]
    assert verify(changed)


def test_the_traffic_class_survives_a_change_of_version() -> None:
    raw = bytearray(encode(SIMPLE))
    raw[1] = 0xB8
    six = SIMPLE._replace(source=Address("2001:db8::1", 1), destination=Address("2001:db8::2", 2))
    there = rewrite(bytes(raw), SIMPLE, six)
    assert there[0] << 4 & 0xF0 | there[1] >> 4 == 0xB8
    assert rewrite(there, six, SIMPLE)[1] == 0xB8


@pytest.mark.parametrize("version", [4, 6])
def test_an_error_quotes_as_much_as_it_may(version: int) -> None:
    hosts = ("192.0.2.1", "192.0.2.2") if version == 4 else ("2001:db8::1", "2001:db8::2")
    about = Packet(Address(hosts[0], 1), Address(hosts[1], 2), bytes(1400))
    error = icmp_error(IcmpKind.TIME_EXCEEDED, about, hosts[1])
    assert error is not None
    data = encode(error)
    assert len(data) == QUOTE_LIMIT[version]
    assert verify(data)
    assert decode(data).icmp.about.source == about.source


def test_a_quote_of_eight_bytes_is_enough() -> None:
    """RFC 792: the header and 64 bits; the checksum of a TCP header is not among them."""
    about = Packet(Address("192.0.2.1", 5000), Address("203.0.113.9", 443), b"", TCP, tcp=Segment(2, 99))
    error = icmp_error(IcmpKind.HOST_UNREACHABLE, about, "203.0.113.1")
    raw = bytearray(encode(error)[: 20 + 8 + 20 + 8])
    raw[3] = len(raw)
    before = decode(bytes(raw))
    assert before.icmp.about.tcp == Segment(0, 99)
    inside = before.icmp.about._replace(source=Address("10.0.0.7", 1234))
    after = before._replace(destination=Address("10.0.0.7", 0), icmp=before.icmp._replace(about=inside))
    assert decode(rewrite(bytes(raw), before, after)) == after


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({0: 0x55}, "not an IP packet"),
        ({0: 0x44}, "IPv4 header of 16 bytes"),
        ({2: 0x10}, "packet of 4129"),
        ({6: 0x20}, "a fragment"),
        ({7: 0x01}, "a fragment"),
        ({9: 47}, "IP protocol 47"),
        ({9: 58}, "IP protocol 58"),
        ({9: 6}, "TCP of 13 bytes"),
        ({25: 7}, "UDP length 7"),
        ({25: 200}, "UDP length 200"),
    ],
)
def test_what_is_refused(change: dict[int, int], error: str) -> None:
    raw = bytearray(encode(SIMPLE))
    for at, value in change.items():
        raw[at] = value
    with pytest.raises(MalformedMessage, match=error):
        decode(bytes(raw))


def test_fragments_and_other_protocols_are_told_apart_from_nonsense() -> None:
    raw = bytearray(encode(SIMPLE))
    raw[6] = 0x20
    with pytest.raises(Unsupported):
        decode(bytes(raw))
    with pytest.raises(Unsupported):
        decode(bytes.fromhex("6000000000082c40") + bytes(32) + bytes(8))
    with pytest.raises(MalformedMessage, match="empty"):
        decode(b"")


@pytest.mark.parametrize("version", [4, 6])
def test_icmp_codes(version: int) -> None:
    for kind, (type_, code) in TYPE_AND_CODE[version].items():
        assert kind_of(version, type_, code) is kind
    unreachable = {4: 3, 6: 1}[version]
    assert kind_of(version, unreachable, 77) is IcmpKind.HOST_UNREACHABLE
    assert kind_of(version, {4: 3, 6: 1}[version], {4: 9, 6: 5}[version]) is IcmpKind.ADMIN_PROHIBITED
    assert kind_of(version, {4: 11, 6: 3}[version], 1) is IcmpKind.TIME_EXCEEDED
    assert kind_of(version, {4: 13, 6: 133}[version], 0) is None


def test_a_udp_checksum_that_becomes_zero_is_written_as_ones() -> None:
    """RFC 768: zero means that there is none."""
    raw = encode(SIMPLE)
    seen = set()
    for port in range(1, 65536):
        after = SIMPLE._replace(source=SIMPLE.source.with_port(port))
        seen.add(rewrite(raw, SIMPLE, after)[26:28])
    assert b"\0\0" not in seen
    assert b"\xff\xff" in seen


def test_a_wrong_header_checksum_is_seen() -> None:
    raw = bytearray(encode(SIMPLE))
    raw[4] ^= 1
    assert not verify(bytes(raw))


def test_nonsense_inside() -> None:
    tcp = bytearray(encode(SIMPLE._replace(protocol=TCP, tcp=Segment(2))))
    tcp[32] = 0xF0
    with pytest.raises(MalformedMessage, match="TCP header of 60 bytes"):
        decode(bytes(tcp))
    error = icmp_error(IcmpKind.HOST_UNREACHABLE, SIMPLE, "203.0.113.1")
    about = error._replace(icmp=Icmp(IcmpKind.TIME_EXCEEDED, error))
    with pytest.raises(MalformedMessage, match="about an ICMP error"):
        decode(encode(about))


def test_an_echo_reply_of_zeros_alone() -> None:
    """Its sum is 0x0000, the one that has no other spelling: the checksum is 0xFFFF."""
    echo = Packet(Address("192.0.2.1", 0), Address("192.0.2.2", 7), b"", ICMP, icmp=Icmp(IcmpKind.ECHO_REPLY))
    after = echo._replace(destination=Address("10.0.0.1", 0))
    data = rewrite(encode(echo), echo, after)
    assert data == encode(after)
    assert data[22:24] == b"\xff\xff"
    assert verify(data)
