"""Which addresses an application lets an agent use, on its own side or on the peer's."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from natwalk.core import Address, IPAddress, Reach, canonical, reach

_Network = IPv4Network | IPv6Network

PUBLIC: Final = frozenset({Reach.GLOBAL, Reach.DOCUMENTATION})
"""Reaches of addresses that tell nothing of a private network; documentation addresses stand for public
ones in laboratories."""


@dataclass(frozen=True, slots=True)
class AddressFilter:
    """Networks, IP versions and ports an address must be in; by default every address passes.

    ``allow`` and ``deny`` are networks as text (``10.0.0.0/8``, ``fd00::/8``, one address alone); what is
    denied stays denied whatever is allowed, and an empty ``allow`` allows all. ``ports`` is the first and
    the last port that pass. Raises :class:`ValueError`, naming the value, for what is no network, no IP
    version or no range.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    versions: frozenset[int] = frozenset({4, 6})
    ports: tuple[int, int] = (1, 65_535)
    _allowed: tuple[_Network, ...] = field(init=False, repr=False, compare=False, default=())
    _denied: tuple[_Network, ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        if not self.versions or not self.versions <= {4, 6}:
            raise ValueError(f"IP versions {sorted(self.versions)} are not out of 4 and 6")
        first, last = self.ports
        if not 1 <= first <= last <= 65_535:
            raise ValueError(f"ports {first} to {last} are no range of ports")
        object.__setattr__(self, "_allowed", tuple(ip_network(text) for text in self.allow))
        object.__setattr__(self, "_denied", tuple(ip_network(text) for text in self.deny))

    def refusal(self, address: Address) -> str | None:
        """Why ``address`` does not pass, in a fixed phrase; None when it does.

        What an address embeds is looked at (:func:`natwalk.core.canonical`), not how it is spelt.
        """
        if not self.ports[0] <= address.port <= self.ports[1]:
            return "its port is filtered"
        return self.ip_refusal(address.ip)

    def ip_refusal(self, ip: IPAddress) -> str | None:
        """Why no port of ``ip`` passes, in a fixed phrase; None when one may."""
        plain = canonical(ip)
        if ip.version not in self.versions or plain.version not in self.versions:
            return "its IP version is filtered"
        if any(plain in network for network in self._denied):
            return "its network is filtered"
        if self._allowed and not any(plain in network for network in self._allowed):
            return "its network is filtered"
        return None


ANY_ADDRESS: Final = AddressFilter()
"""Lets everything pass."""


def is_public(address: Address) -> bool:
    """Whether ``address`` may be shown to anybody: it names no place inside a private network."""
    return reach(address.ip) in PUBLIC
