"""IP packets as bytes and as the engine's packets: what a user-space router on a TUN device needs.

:func:`decode` reads one, :func:`rewrite` makes in its bytes the changes a middlebox made to it, checksums
adjusted rather than computed anew so that damage stays visible (RFC 1624 §3), and :func:`encode` makes the
bytes of a packet that was never on the wire, such as an answer. Through NAT64 the header is exchanged
(RFC 7915 §4, §5).
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from struct import Struct
from typing import Final, NamedTuple

from natwalk.core import Address, MalformedMessage
from natwalk.nat.checksum import MODULUS, adjusted, checksum
from natwalk.nat.icmp_codes import TYPE_AND_CODE, kind_of
from natwalk.nat.packet import Icmp, IcmpKind, IpProtocol, Packet, Segment

QUOTE_LIMIT: Final = {4: 576, 6: 1280}
"""Bytes an ICMP error may have in all (RFC 1812 §4.3.2.3, RFC 4443 §2.4)."""

_ICMPV6: Final = 58
_FRAGMENT: Final = 44
_EXTENSIONS: Final = frozenset({0, 43, 60})  # hop-by-hop, routing, destination options
_CHECKSUM_AT: Final = {IpProtocol.UDP: 6, IpProtocol.TCP: 16, IpProtocol.ICMP: 2}
_PROTOCOLS: Final = {1: IpProtocol.ICMP, 6: IpProtocol.TCP, 17: IpProtocol.UDP, _ICMPV6: IpProtocol.ICMP}
_MINIMUM: Final = {IpProtocol.UDP: 8, IpProtocol.TCP: 20, IpProtocol.ICMP: 8}

_IPV4: Final = Struct("!BBHHHBBH4s4s")
_IPV6: Final = Struct("!IHBB16s16s")
_PORTS: Final = Struct("!HH")
_TCP: Final = Struct("!HHIIBB")
_SHORT: Final = Struct("!H")
_LONG: Final = Struct("!I")

_ECHOES: Final = frozenset({IcmpKind.ECHO_REQUEST, IcmpKind.ECHO_REPLY})
_new = tuple.__new__


class Unsupported(MalformedMessage):
    """Well-formed and not for the engine: a fragment, another protocol, another ICMP type."""


class _Layout(NamedTuple):
    """Where things are in the bytes of a packet."""

    version: int
    protocol: int
    """As the header says it."""
    start: int
    """Of the transport header."""
    end: int
    """Of what is there of the packet."""


def decode(data: bytes) -> Packet:
    """Read one IP packet; bytes after its end are ignored.

    Raises MalformedMessage for what is no packet, and its subclass :class:`Unsupported` for fragments,
    protocols other than UDP, TCP and ICMP, and ICMP that is neither an echo nor an error. Checksums are not
    looked at.
    """
    return _decode(data, _layout(data, quoted=False), quoted=False)


def rewrite(data: bytes, before: Packet, after: Packet) -> bytes:
    """The bytes ``data``, which :func:`decode` read as ``before``, with the changes made in ``after``.

    Options, identification and everything else stay. When the IP version changed the header is new, with
    the traffic class kept and extension headers left out.
    """
    layout = _layout(data, quoted=False)
    if (":" in after.destination.host) is not (layout.version == 6):
        return _cross(data, layout, after, quoted=False)
    buffer = bytearray(data)
    _patch(buffer, 0, layout, before, after)
    return bytes(buffer)


def encode(packet: Packet, *, identification: int = 0) -> bytes:
    """The bytes of ``packet``, made anew, without options; an ICMP error quotes as much as it may."""
    version = packet.destination.version
    match packet.protocol:
        case IpProtocol.UDP:
            ports = _PORTS.pack(packet.source.port, packet.destination.port)
            length = _SHORT.pack(8 + len(packet.payload))
            body = bytearray(ports + length + b"\0\0" + packet.payload)
        case IpProtocol.TCP:
            segment = packet.tcp or Segment(0)
            head = _TCP.pack(
                packet.source.port, packet.destination.port, segment.seq, segment.ack, 5 << 4, segment.flags
            )
            body = bytearray(head + bytes(6) + packet.payload)
        case IpProtocol.ICMP:
            body = _icmp_body(packet, version)
    return _with_header(packet, body, identification=identification)


def verify(data: bytes) -> bool:
    """Whether every checksum of the packet is right; a UDP checksum left out over IPv4 is.

    Raises as :func:`decode` does.
    """
    layout = _layout(data, quoted=False)
    packet = _decode(data, layout, quoted=False)
    if layout.version == 4 and checksum(data[: (data[0] & 15) * 4]) != 0:
        return False
    body = data[layout.start : layout.end]
    at = _CHECKSUM_AT[packet.protocol]
    if layout.version == 4 and packet.protocol is IpProtocol.UDP and body[at : at + 2] == b"\0\0":
        return True
    return checksum(_pseudo(packet, len(body), layout.version), body) == 0


# Reading


def _layout(data: bytes, *, quoted: bool) -> _Layout:
    """Find the transport header; of a quoted packet the end may be missing."""
    if not data:
        raise MalformedMessage("an empty packet")
    version = data[0] >> 4
    if version == 4 and len(data) >= 20:
        return _layout4(data, quoted)
    if version == 6 and len(data) >= 40:
        return _layout6(data, quoted)
    raise MalformedMessage(f"not an IP packet: version {version}, {len(data)} bytes")


def _layout4(data: bytes, quoted: bool) -> _Layout:
    start = (data[0] & 15) * 4
    end = data[2] << 8 | data[3]
    if quoted:
        end = min(end, len(data))
    if start < 20 or not start <= end <= len(data):
        raise MalformedMessage(f"IPv4 header of {start} bytes, packet of {end}, {len(data)} there")
    if data[6] & 0x3F or data[7]:  # more fragments, or an offset
        raise Unsupported("a fragment")
    return _Layout(4, data[9], start, end)


def _layout6(data: bytes, quoted: bool) -> _Layout:
    start, following = 40, data[6]
    end = 40 + (data[4] << 8 | data[5])
    if quoted:
        end = min(end, len(data))
    if end > len(data):
        raise MalformedMessage(f"IPv6 packet of {end} bytes, {len(data)} there")
    while following in _EXTENSIONS:
        if start + 8 > end:
            raise MalformedMessage("an IPv6 extension header without end")
        following, start = data[start], start + 8 + data[start + 1] * 8
    if following == _FRAGMENT:
        raise Unsupported("a fragment")
    if start > end:
        raise MalformedMessage("an IPv6 extension header beyond the end")
    return _Layout(6, following, start, end)


def _decode(data: bytes, layout: _Layout, *, quoted: bool) -> Packet:
    version, number, start, end = layout
    protocol = _PROTOCOLS.get(number)
    if protocol is None or (number == 1 and version == 6) or (number == _ICMPV6 and version == 4):
        raise Unsupported(f"IP protocol {number}")
    if end - start < (8 if quoted else _MINIMUM[protocol]):
        raise MalformedMessage(f"{protocol.name} of {end - start} bytes")
    if version == 4:
        ttl, source, destination = data[8], _host(data[12:16]), _host(data[16:20])
    else:
        ttl, source, destination = data[7], _host(data[8:24]), _host(data[24:40])
    if protocol is IpProtocol.ICMP:
        return _decode_icmp(data, layout, ttl, source, destination)
    source_port, destination_port = _PORTS.unpack_from(data, start)
    tcp = None
    if protocol is IpProtocol.UDP:
        length = data[start + 4] << 8 | data[start + 5]
        if not quoted and not 8 <= length <= end - start:
            raise MalformedMessage(f"UDP length {length} in {end - start} bytes")
        payload = data[start + 8 : min(end, start + length)]
    else:
        tcp, payload = _segment(data, start, end)
    return _new(
        Packet,
        (
            _new(Address, (source, source_port)),
            _new(Address, (destination, destination_port)),
            payload,
            protocol,
            ttl,
            tcp,
            None,
        ),
    )


def _segment(data: bytes, start: int, end: int) -> tuple[Segment, bytes]:
    """The TCP header and payload; of a quoted one only the numbers at its beginning may be there."""
    seq = _LONG.unpack_from(data, start + 4)[0]
    if end - start < 20:
        return Segment(0, seq), b""
    ack = _LONG.unpack_from(data, start + 8)[0]
    header = (data[start + 12] >> 4) * 4
    if header < 20 or start + header > end:
        raise MalformedMessage(f"TCP header of {header} bytes")
    return Segment(data[start + 13], seq, ack), data[start + header : end]


def _decode_icmp(data: bytes, layout: _Layout, ttl: int, source: str, destination: str) -> Packet:
    version, _, start, end = layout
    kind = kind_of(version, data[start], data[start + 1])
    if kind is None:
        raise Unsupported(f"ICMP type {data[start]}")
    here = there = mtu = 0
    about = None
    payload = data[start + 8 : end]
    if kind is IcmpKind.ECHO_REQUEST:
        here = data[start + 4] << 8 | data[start + 5]
    elif kind is IcmpKind.ECHO_REPLY:
        there = data[start + 4] << 8 | data[start + 5]
    else:
        about = _decode(payload, _layout(payload, quoted=True), quoted=True)
        if about.icmp is not None and about.icmp.about is not None:
            raise MalformedMessage("an ICMP error about an ICMP error")
        if kind is IcmpKind.PACKET_TOO_BIG:
            mtu = (
                (data[start + 6] << 8 | data[start + 7])
                if version == 4
                else _LONG.unpack_from(data, start + 4)[0]
            )
        payload = b""
    return Packet(
        _new(Address, (source, here)),
        _new(Address, (destination, there)),
        payload,
        IpProtocol.ICMP,
        ttl,
        None,
        Icmp(kind, about, mtu),
    )


# Rewriting in place


def _patch(buffer: bytearray, base: int, layout: _Layout, before: Packet, after: Packet) -> None:
    """Change the packet that begins at ``base``; ``layout`` counts from there."""
    start, end = base + layout.start, base + layout.end
    old_hosts = _sum(before.source.host) + _sum(before.destination.host)
    new_hosts = _sum(after.source.host) + _sum(after.destination.host)
    if layout.version == 4:
        old_ttl, buffer[base + 8] = buffer[base + 8], after.ttl
        buffer[base + 12 : base + 16] = _packed(after.source.host)
        buffer[base + 16 : base + 20] = _packed(after.destination.host)
        _adjust(buffer, base + 10, new_hosts - old_hosts + ((after.ttl - old_ttl) << 8))
    else:
        buffer[base + 7] = after.ttl
        buffer[base + 8 : base + 24] = _packed(after.source.host)
        buffer[base + 24 : base + 40] = _packed(after.destination.host)
    if after.icmp is not None and after.icmp.about is not None:
        assert before.icmp is not None
        assert before.icmp.about is not None
        quoted = bytes(buffer[start + 8 : end])
        _patch(buffer, start + 8, _layout(quoted, quoted=True), before.icmp.about, after.icmp.about)
        _renew_icmp(buffer, start, end, after, layout.version)
        return
    at = start + _CHECKSUM_AT[after.protocol]
    if after.protocol is IpProtocol.ICMP:
        old_ports, new_ports = _identifier(before), _identifier(after)
        _SHORT.pack_into(buffer, start + 4, new_ports)
        if layout.version == 4:
            old_hosts = new_hosts = 0  # no pseudo-header
    else:
        old_ports = before.source.port + before.destination.port
        new_ports = after.source.port + after.destination.port
        _PORTS.pack_into(buffer, start, after.source.port, after.destination.port)
    if at + 2 > end:
        return  # a quoted packet cut short
    if after.protocol is not IpProtocol.UDP:
        _adjust(buffer, at, new_hosts - old_hosts + new_ports - old_ports)
        if not (buffer[at] or buffer[at + 1] or any(buffer[start:end])):
            buffer[at] = buffer[at + 1] = 0xFF  # an echo reply of zeros alone, which has no pseudo-header
    elif buffer[at] or buffer[at + 1]:
        _adjust(buffer, at, new_hosts - old_hosts + new_ports - old_ports)
        if not (buffer[at] or buffer[at + 1]):
            buffer[at] = buffer[at + 1] = 0xFF  # zero would mean that there is none


def _adjust(buffer: bytearray, at: int, delta: int) -> None:
    _SHORT.pack_into(buffer, at, adjusted(buffer[at] << 8 | buffer[at + 1], delta))


def _renew_icmp(buffer: bytearray, start: int, end: int, packet: Packet, version: int) -> None:
    """Compute the checksum of an ICMP message anew: too much of it changed."""
    buffer[start + 2 : start + 4] = b"\0\0"
    value = checksum(_pseudo(packet, end - start, version), buffer[start:end])
    _SHORT.pack_into(buffer, start + 2, value)


def _identifier(packet: Packet) -> int:
    """Of an echo: in the source port of a request, the destination port of a reply."""
    assert packet.icmp is not None
    return packet.source.port if packet.icmp.kind is IcmpKind.ECHO_REQUEST else packet.destination.port


# Making anew


def _cross(data: bytes, layout: _Layout, after: Packet, *, quoted: bool) -> bytes:
    """The packet in the other IP version (RFC 7915 §4.1, §5.1): new header, same transport header."""
    body = bytearray(data[layout.start : layout.end])
    version = after.destination.version
    if after.protocol is IpProtocol.ICMP:
        icmp = after.icmp
        assert icmp is not None
        body[0:2] = bytes(TYPE_AND_CODE[version][icmp.kind])
        if icmp.about is not None:
            inner = bytes(body[8:])
            body[4:8] = _rest_of_header(icmp, version)
            body[8:] = _cross(inner, _layout(inner, quoted=True), icmp.about, quoted=True)
            del body[QUOTE_LIMIT[version] - (20 if version == 4 else 40) :]
        else:
            _SHORT.pack_into(body, 4, _identifier(after))
    else:
        _PORTS.pack_into(body, 0, after.source.port, after.destination.port)
    if layout.version == 4:
        traffic_class = data[1]
        length = (data[2] << 8 | data[3]) - layout.start
    else:
        traffic_class = (data[0] << 4 | data[1] >> 4) & 0xFF
        length = 40 + (data[4] << 8 | data[5]) - layout.start
    declared = length if quoted else len(body)
    large = 20 + declared > 1260  # RFC 7915 §5.1
    return _with_header(after, body, traffic_class=traffic_class, declared=declared, dont_fragment=large)


def _with_header(
    packet: Packet,
    body: bytearray,
    *,
    traffic_class: int = 0,
    identification: int = 0,
    declared: int | None = None,
    dont_fragment: bool = False,
) -> bytes:
    """``body`` with its checksum and an IP header that declares ``declared`` bytes or all there are."""
    version = packet.destination.version
    length = len(body) if declared is None else declared
    at = _CHECKSUM_AT[packet.protocol]
    if at + 2 <= len(body):
        body[at : at + 2] = b"\0\0"
        value = checksum(_pseudo(packet, len(body), version), body)
        if packet.protocol is IpProtocol.UDP and value == 0:
            value = MODULUS
        _SHORT.pack_into(body, at, value)
    source, destination = _packed(packet.source.host), _packed(packet.destination.host)
    if version == 6:
        number = _ICMPV6 if packet.protocol is IpProtocol.ICMP else int(packet.protocol)
        first = 6 << 28 | traffic_class << 20
        return _IPV6.pack(first, length, number, packet.ttl, source, destination) + body
    flags = 0x4000 if dont_fragment else 0
    head = bytearray(
        _IPV4.pack(
            0x45,
            traffic_class,
            20 + length,
            identification,
            flags,
            packet.ttl,
            packet.protocol,
            0,
            source,
            destination,
        )
    )
    _SHORT.pack_into(head, 10, checksum(head))
    return bytes(head + body)


def _icmp_body(packet: Packet, version: int) -> bytearray:
    icmp = packet.icmp
    assert icmp is not None, "an ICMP packet says what it is"
    body = bytearray(bytes(TYPE_AND_CODE[version][icmp.kind]) + b"\0\0")
    if icmp.about is None:
        return body + _PORTS.pack(_identifier(packet), 0) + packet.payload
    room = QUOTE_LIMIT[version] - 8 - (20 if version == 4 else 40)
    return body + _rest_of_header(icmp, version) + encode(icmp.about)[:room]


def _rest_of_header(icmp: Icmp, version: int) -> bytes:
    """The four bytes after the checksum of an error."""
    return _PORTS.pack(0, min(icmp.mtu, MODULUS)) if version == 4 else _LONG.pack(icmp.mtu)


def _pseudo(packet: Packet, length: int, version: int) -> bytes:
    """The pseudo-header a checksum covers as well; ICMP over IPv4 has none."""
    if packet.protocol is IpProtocol.ICMP and version == 4:
        return b""
    number = _ICMPV6 if packet.protocol is IpProtocol.ICMP else int(packet.protocol)
    hosts = _packed(packet.source.host) + _packed(packet.destination.host)
    return hosts + _LONG.pack(length) + _LONG.pack(number)


@lru_cache(maxsize=65536)
def _host(packed: bytes) -> str:
    """Canonical text of an address in a header."""
    if len(packed) == 4:
        return ".".join(map(str, packed))
    return Address(str(IPv6Address(packed)), 0).host


@lru_cache(maxsize=65536)
def _packed(host: str) -> bytes:
    return ip_address(host.partition("%")[0]).packed


@lru_cache(maxsize=65536)
def _sum(host: str) -> int:
    """What an address adds to a checksum."""
    return int.from_bytes(_packed(host), "big") % MODULUS
