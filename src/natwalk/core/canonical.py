"""The one canonicaliser: what an address that arrived from outside really points at.

IPv6 has eight ways to spell an IPv4 address, and a kernel follows some of them. Every address from
outside (TURN peers, candidates, redirects, gateway descriptions) passes :func:`reach` before any policy
looks at it. The table is fixed here, by the IANA special-purpose registries (RFC 6890) and the RFCs named
in each row, because the ``is_global`` and ``is_loopback`` flags of :mod:`ipaddress` have holes.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from natwalk.core.address import IPAddress


class Reach(Enum):
    """How far an address reaches, after every embedding has been taken off."""

    GLOBAL = "global"
    PRIVATE = "private"
    SHARED = "shared"
    LOOPBACK = "loopback"
    LINK_LOCAL = "link-local"
    UNSPECIFIED = "unspecified"
    MULTICAST = "multicast"
    RESERVED = "reserved"
    DOCUMENTATION = "documentation"
    METADATA = "metadata"
    TUNNEL = "tunnel"
    TRANSLATION = "translation"


_V4: Final[tuple[tuple[IPv4Network, Reach], ...]] = tuple(
    (IPv4Network(net), scope)
    for net, scope in (
        ("0.0.0.0/8", Reach.UNSPECIFIED),  # RFC 1122 §3.2.1.3
        ("10.0.0.0/8", Reach.PRIVATE),  # RFC 1918 §3
        ("100.64.0.0/10", Reach.SHARED),  # RFC 6598 §7
        ("127.0.0.0/8", Reach.LOOPBACK),  # RFC 1122 §3.2.1.3
        ("168.63.129.16/32", Reach.METADATA),  # a cloud's wire server, reachable from its guests only
        ("169.254.0.0/16", Reach.LINK_LOCAL),  # RFC 3927 §2.1; also the metadata services of clouds
        ("172.16.0.0/12", Reach.PRIVATE),  # RFC 1918 §3
        ("192.0.0.0/24", Reach.RESERVED),  # RFC 6890 §2.2.2
        ("192.0.2.0/24", Reach.DOCUMENTATION),  # RFC 5737 §3
        ("192.88.99.0/24", Reach.TUNNEL),  # RFC 7526 §4, the 6to4 relay anycast prefix
        ("192.168.0.0/16", Reach.PRIVATE),  # RFC 1918 §3
        ("198.18.0.0/15", Reach.RESERVED),  # RFC 2544 appendix C.2.2, benchmarking
        ("198.51.100.0/24", Reach.DOCUMENTATION),  # RFC 5737 §3
        ("203.0.113.0/24", Reach.DOCUMENTATION),  # RFC 5737 §3
        ("224.0.0.0/4", Reach.MULTICAST),  # RFC 5771 §3
        ("240.0.0.0/4", Reach.RESERVED),  # RFC 1112 §4, with limited broadcast
    )
)

_V6: Final[tuple[tuple[IPv6Network, Reach], ...]] = tuple(
    (IPv6Network(net), scope)
    for net, scope in (
        ("::/128", Reach.UNSPECIFIED),  # RFC 4291 §2.5.2
        ("::1/128", Reach.LOOPBACK),  # RFC 4291 §2.5.3
        ("64:ff9b:1::/48", Reach.TRANSLATION),  # RFC 8215 §7
        ("100::/64", Reach.RESERVED),  # RFC 6666 §4, discard-only
        ("2001::/32", Reach.TUNNEL),  # RFC 4380 §2.6, Teredo
        ("2001:db8::/32", Reach.DOCUMENTATION),  # RFC 3849 §2
        ("2001::/23", Reach.RESERVED),  # RFC 6890 §2.2.3, IETF protocol assignments
        ("2002::/16", Reach.TUNNEL),  # RFC 3056 §2, 6to4
        ("3fff::/20", Reach.DOCUMENTATION),  # RFC 9637 §6
        ("5f00::/16", Reach.RESERVED),  # RFC 9602 §5, SRv6 SIDs
        ("fc00::/7", Reach.PRIVATE),  # RFC 4193 §3.1
        ("fe80::/10", Reach.LINK_LOCAL),  # RFC 4291 §2.5.6
        ("fec0::/10", Reach.LINK_LOCAL),  # RFC 3879 §4, site-local, deprecated
        ("ff00::/8", Reach.MULTICAST),  # RFC 4291 §2.7
        ("2000::/3", Reach.GLOBAL),  # RFC 4291 §2.4, all that is assigned
    )
)

_EMBEDDED_LOW_32: Final[tuple[IPv6Network, ...]] = tuple(
    IPv6Network(net)
    for net in (
        "::ffff:0:0/96",  # v4-mapped, RFC 4291 §2.5.5.2
        "64:ff9b::/96",  # NAT64 well-known prefix, RFC 6052 §2.1
    )
)

_ALWAYS_UNREACHABLE_EMBEDDINGS: Final[tuple[IPv6Network, ...]] = tuple(
    IPv6Network(net)
    for net in (
        "::/96",  # v4-compatible, RFC 4291 §2.5.5.1, deprecated
        "::ffff:0:0:0/96",  # v4-translated (SIIT), RFC 2765 §2.1, obsolete
    )
)


@lru_cache(maxsize=4096)
def canonical(ip: IPAddress) -> IPAddress:
    """The address ``ip`` stands for: IPv4 unwrapped from v4-mapped, NAT64 and ISATAP forms, no zone."""
    if isinstance(ip, IPv4Address):
        return ip
    value = int(ip)
    plain = IPv6Address(value)
    if any(plain in net for net in _EMBEDDED_LOW_32):
        return IPv4Address(value & 0xFFFF_FFFF)
    # ISATAP (RFC 5214 §6.1): interface identifier 0000:5efe or 0200:5efe, then the IPv4 address.
    if (value >> 32) & 0xFDFF_FFFF == 0x0000_5EFE:
        return IPv4Address(value & 0xFFFF_FFFF)
    return plain


@lru_cache(maxsize=4096)
def reach(ip: IPAddress) -> Reach:
    """How far ``ip`` reaches, by what it stands for; an address no table knows is RESERVED."""
    target = canonical(ip)
    if isinstance(target, IPv4Address):
        return next((scope for net, scope in _V4 if target in net), Reach.GLOBAL)
    exact = next((scope for net, scope in _V6 if target in net), None)
    if exact is not None:
        return exact
    if any(target in net for net in _ALWAYS_UNREACHABLE_EMBEDDINGS):
        return Reach.TRANSLATION
    return Reach.RESERVED
