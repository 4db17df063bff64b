"""Which peers a relay may talk to (RFC 8656 §21.1.7, §21.2): the table and the rules an operator adds.

Precedence, highest first:

1. classes that nothing can allow: unspecified, multicast, tunnels, translation, reserved and broadcast,
   link-local, IPv6 unique-local, and IPv4 in v4-mapped disguise;
2. ports that are refused (spam and reflection);
3. entries of ``deny``;
4. entries of ``allow``;
5. the default: global addresses are allowed; private, shared, loopback, documentation and metadata
   addresses are not.

Every address is judged by what it stands for (:func:`natwalk.core.canonical`), so that no spelling of an
address gets a different answer than the address.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from natwalk.core import Address, IPAddress, Reach, canonical, reach

NEVER: Final = frozenset(
    {
        Reach.UNSPECIFIED,
        Reach.MULTICAST,
        Reach.TUNNEL,
        Reach.TRANSLATION,
        Reach.RESERVED,
        Reach.LINK_LOCAL,
    }
)
"""Classes no ``allow`` entry opens."""

DENIED_PORTS: Final = frozenset(
    {
        0,
        7,  # echo
        17,  # quote of the day
        19,  # chargen
        21,  # FTP: application-layer gateways act on it
        25,  # SMTP
        53,  # DNS
        69,  # TFTP
        111,  # portmapper
        123,  # NTP
        137,  # NetBIOS names
        138,  # NetBIOS datagrams
        161,  # SNMP
        389,  # CLDAP
        520,  # RIP
        1719,  # H.323 gatekeeper: an application-layer gateway
        1720,  # H.323
        1900,  # SSDP
        3702,  # WS-Discovery
        5060,  # SIP: an application-layer gateway
        5061,  # SIP over TLS
        5353,  # mDNS
        11211,  # memcached
    }
)
"""Ports refused by default: mail, services that amplify, and those NATs rewrite (RFC 8656 §21.3.2)."""

_CACHE_LIMIT: Final = 8192


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a peer is refused; ``rule`` names the entry, class or port that did it."""

    reason: str
    rule: str


@dataclass(frozen=True, slots=True)
class _Range:
    text: str
    version: int
    low: int
    high: int

    def __contains__(self, ip: IPAddress) -> bool:
        return ip.version == self.version and self.low <= int(ip) <= self.high


class PeerPolicy:
    """The operator's rules on top of the built-in table.

    Entries are addresses (``192.0.2.1``), networks (``10.0.0.0/8``) or ranges (``10.0.0.1-10.0.0.9``) of
    IPv4 or IPv6; ``denied_ports`` replaces :data:`DENIED_PORTS`. Raises ValueError naming the entry that
    is none of these.
    """

    def __init__(
        self,
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        *,
        denied_ports: Iterable[int] = DENIED_PORTS,
    ) -> None:
        self._allow = tuple(_parse(entry) for entry in allow)
        self._deny = tuple(_parse(entry) for entry in deny)
        self._ports = frozenset(denied_ports)
        for port in self._ports:
            if not 0 <= port <= 65535:
                raise ValueError(f"denied port {port} is not between 0 and 65535")
        self._cache: dict[str, Denial | None] = {}

    def check(self, address: Address) -> Denial | None:
        """Why ``address`` is refused as a peer, or None when it is allowed."""
        denial = self.check_host(address.host)
        if denial is None and address.port in self._ports:
            return Denial("port", str(address.port))
        return denial

    def check_host(self, host: str) -> Denial | None:
        """Why the IP address ``host`` is refused, whatever the port, or None (RFC 8656 §10.2)."""
        try:
            return self._cache[host]
        except KeyError:
            pass
        denial = self._judge(ip_address(host))
        if len(self._cache) >= _CACHE_LIMIT:
            self._cache.clear()
        self._cache[host] = denial
        return denial

    def overridable(self, host: str) -> bool:
        """True when ``host`` is refused by the default alone: not for ever, and by no ``deny`` entry."""
        denial = self.check_host(host)
        return denial is None or denial.reason == "default"

    def allows_explicitly(self, host: str) -> bool:
        """True when an ``allow`` entry, not the default, decides for ``host``."""
        target = canonical(ip_address(host))
        return self.check_host(host) is None and any(target in entry for entry in self._allow)

    def _judge(self, ip: IPAddress) -> Denial | None:
        scope = reach(ip)
        target = canonical(ip)
        if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
            return Denial("never", "v4-mapped")
        if scope in NEVER:
            return Denial("never", scope.value)
        if scope is Reach.PRIVATE and target.version == 6:
            return Denial("never", "unique-local")
        for entry in self._deny:
            if target in entry:
                return Denial("deny", entry.text)
        if scope is Reach.GLOBAL or any(target in entry for entry in self._allow):
            return None
        return Denial("default", scope.value)


def _parse(entry: str) -> _Range:
    try:
        low_text, dash, high_text = entry.partition("-")
        if dash:
            low, high = ip_address(low_text.strip()), ip_address(high_text.strip())
        else:
            network = ip_network(entry.strip())
            low, high = network.network_address, network.broadcast_address
    except ValueError as error:
        raise ValueError(f"peer entry {entry!r} is not an address, network or range: {error}") from None
    if low.version != high.version or int(low) > int(high):
        raise ValueError(f"peer entry {entry!r} is a range that does not go up")
    if canonical(low) != low or canonical(high) != high:
        raise ValueError(f"peer entry {entry!r} spells IPv4 as IPv6: write the IPv4 address")
    return _Range(entry, low.version, int(low), int(high))
