"""Strategies for every packet there can be."""

from __future__ import annotations

from hypothesis import strategies as st

from natwalk.core import Address
from natwalk.nat import Icmp, IcmpKind, IpProtocol, Packet, Segment

ICMP, TCP = IpProtocol.ICMP, IpProtocol.TCP
HOSTS = {
    4: st.integers(1, 2**32 - 1).map(
        lambda n: Address(".".join(str(n >> s & 255) for s in (24, 16, 8, 0)), 0)
    ),
    6: st.integers(1, 2**128 - 1).map(
        lambda n: Address(":".join(f"{n >> s & 0xFFFF:x}" for s in range(112, -1, -16)), 0)
    ),
}
PORTS = st.integers(0, 65535)
ERRORS = [kind for kind in IcmpKind if kind not in (IcmpKind.ECHO_REQUEST, IcmpKind.ECHO_REPLY)]


@st.composite
def flows(draw: st.DrawFn, version: int) -> Packet:
    """UDP, TCP and echoes."""
    source, destination = draw(HOSTS[version]), draw(HOSTS[version])
    protocol = draw(st.sampled_from(IpProtocol))
    payload, ttl = draw(st.binary(max_size=40)), draw(st.integers(0, 255))
    if protocol is ICMP:
        kind, ident = draw(st.sampled_from([IcmpKind.ECHO_REQUEST, IcmpKind.ECHO_REPLY])), draw(PORTS)
        if kind is IcmpKind.ECHO_REQUEST:
            source = source.with_port(ident)
        else:
            destination = destination.with_port(ident)
        return Packet(source, destination, payload, ICMP, ttl, None, Icmp(kind))
    tcp = None
    if protocol is TCP:
        number = st.integers(0, 2**32 - 1)
        tcp = Segment(draw(st.integers(0, 255)), draw(number), draw(number))
    return Packet(
        source.with_port(draw(PORTS)), destination.with_port(draw(PORTS)), payload, protocol, ttl, tcp
    )


@st.composite
def packets(draw: st.DrawFn, version: int) -> Packet:
    """Those, and errors about them."""
    about = draw(flows(version))
    if draw(st.booleans()):
        return about
    kind = draw(st.sampled_from(ERRORS))
    mtu = draw(st.integers(0, 9000)) if kind is IcmpKind.PACKET_TOO_BIG else 0
    ttl = draw(st.integers(0, 255))
    return Packet(draw(HOSTS[version]), draw(HOSTS[version]), b"", ICMP, ttl, None, Icmp(kind, about, mtu))
