"""Which addresses a peer may make us send to, whether it signals them or checks from them.

A candidate comes from the other side, who may be hostile: every address is an invitation to send it
datagrams. The filter holds for signalled candidates and for the sources of checks alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv6Address
from typing import Final

from natwalk.core import Address, Drops, Reach, reach
from natwalk.ice.candidate import Candidate, CandidateType
from natwalk.ice.config import IceConfig, TransportPolicy

REFUSED_REACH: Final = {
    Reach.UNSPECIFIED: "the address is unspecified",
    Reach.MULTICAST: "the address is multicast",
    Reach.LINK_LOCAL: "the address is link-local",
    Reach.METADATA: "the address is a cloud's metadata service",
    Reach.TUNNEL: "the address belongs to a tunnel mechanism",
    Reach.TRANSLATION: "the address is an obsolete form of an IPv4 address",
    Reach.RESERVED: "the address is reserved",
}

SERVICE_PORTS: Final = frozenset(
    # services that answer, or act on, a datagram from anywhere: reflectors, amplifiers, NAT helpers
    {7, 9, 11, 13, 17, 19, 21, 22, 23, 25, 37, 53, 67, 68, 69, 111, 123, 135, 137, 138, 139, 161, 162}
    | {177, 389, 427, 464, 500, 514, 520, 554, 587, 623, 631, 749, 1434, 1719, 1720, 1900}
    | {2049, 3283, 3702, 5060, 5061, 5093, 5351, 5353, 5355, 5683, 6881, 11211, 17185, 27015}
)


_RELAY_SHARE: Final = 4
"""One place in so many for peer-reflexive candidates is kept for those met by a relay."""


def refusal(address: Address) -> str | None:
    """Why nothing may be sent to ``address``, in a fixed phrase; None when it may.

    Loopback is not judged here: it pairs only with loopback (:func:`pairable`).
    """
    if address.port == 0:
        return "the port is 0"
    if address.port in SERVICE_PORTS:
        return "the port belongs to a service that is no peer"
    return REFUSED_REACH.get(reach(address.ip))


def normal(address: Address) -> Address:
    """The address as a socket would report it: v4-mapped unwrapped, no zone."""
    ip = address.ip
    if not isinstance(ip, IPv6Address):
        return address
    plain = IPv6Address(int(ip))
    return Address(str(plain.ipv4_mapped or plain), address.port)


def pairable(local: Address, remote: Address) -> bool:
    """Whether two addresses can make a pair: one family, and loopback only with loopback."""
    if local.version != remote.version:
        return False
    return (reach(local.ip) is Reach.LOOPBACK) == (reach(remote.ip) is Reach.LOOPBACK)


class RemoteCandidates:
    """The peer's candidates by address: at most so many signalled, so many peer-reflexive."""

    __slots__ = ("_by_address", "_config", "_drops", "_peer_reflexive", "_refused")

    def __init__(self, config: IceConfig, drops: Drops) -> None:
        self._config = config
        self._drops = drops
        self._by_address: dict[Address, Candidate] = {}
        self._refused: set[Address] = set()
        self._peer_reflexive = 0

    def get(self, address: Address) -> Candidate | None:
        """The candidate at ``address``, or None."""
        return self._by_address.get(address)

    def signalled(self, candidate: Candidate) -> Candidate | None:
        """Take a candidate the peer told us of: as it is now known, or None when refused or no news.

        One that was met first as peer-reflexive takes on its signalled type and priority (RFC 8838 §11).
        """
        candidate = _at(candidate, normal(candidate.address))
        known = self._by_address.get(candidate.address)
        reason = self._refusal(candidate, known)
        if reason is not None:
            self._drops.add(f"remote candidate: {reason}")
            return None
        if known is not None:
            self._peer_reflexive -= 1
        self._by_address[candidate.address] = candidate
        return candidate

    def discovered(
        self, address: Address, priority: int, foundation: str, *, by_relay: bool = False
    ) -> Candidate | None:
        """A new peer-reflexive candidate (RFC 8445 §7.3.1.3), or None when refused.

        A quarter of the places is kept for those met by a relay of ours: two NATs whose every answer comes
        from another port fill the rest in seconds, and the relay is then the only way.
        """
        reason = self.refusal(address)
        if reason is None and address in self._refused:
            reason = "its type is refused by policy"
        if reason is None and self._peer_reflexive >= self._places(by_relay=by_relay):
            reason = "too many peer-reflexive candidates"
        if reason is not None:
            self._drops.add(f"remote candidate: {reason}")
            return None
        candidate = Candidate(
            foundation=foundation, priority=priority, address=address, type=CandidateType.PEER_REFLEXIVE
        )
        self._by_address[address] = candidate
        self._peer_reflexive += 1
        return candidate

    def _places(self, *, by_relay: bool) -> int:
        most = self._config.max_peer_reflexive
        return most if by_relay else most - most // _RELAY_SHARE

    def refusal(self, address: Address) -> str | None:
        """Why nothing is sent to ``address`` in this session, in a fixed phrase; None when it may be."""
        return refusal(address) or self._config.remote_filter.refusal(address)

    def is_refused(self, address: Address) -> bool:
        """True for an address whose signalled candidate the policy refused."""
        return address in self._refused

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._by_address.values())

    def __len__(self) -> int:
        return len(self._by_address)

    def _refusal(self, candidate: Candidate, known: Candidate | None) -> str | None:
        if candidate.component != 1:
            return "not of component 1"
        if reason := self.refusal(candidate.address):
            return reason
        relayed = candidate.type is CandidateType.RELAYED
        if relayed and self._config.policy is TransportPolicy.DIRECT:
            if len(self._refused) < self._config.max_remote_candidates:
                self._refused.add(candidate.address)
            return "relayed, and the policy is direct"
        if known is not None and known.type is not CandidateType.PEER_REFLEXIVE:
            return "known already"
        if len(self._by_address) - self._peer_reflexive >= self._config.max_remote_candidates:
            return "too many"
        return None


def _at(candidate: Candidate, address: Address) -> Candidate:
    return replace(candidate, address=address, base=address)
