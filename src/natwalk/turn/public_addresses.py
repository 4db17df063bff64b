"""What the server's own addresses are called outside, where a NAT maps them one to one.

A cloud's machine has a private address, and the provider's router gives it a public one. Sockets are bound to
the private address, clients are told the public one: clients, permissions and the peer policy know only the
names from outside, sockets and data planes only the addresses that are bound. Ports are the same.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from ipaddress import ip_address
from types import MappingProxyType
from typing import Final

from natwalk.core import Address, IPAddress, canonical


class PublicAddresses:
    """Translates between addresses of this machine and those advertised for them; false when there are none.

    ``advertised_hosts`` maps hosts that are bound to hosts that are told. Raises ValueError naming what is
    not one to one.
    """

    def __init__(self, advertised_hosts: Mapping[str, str] = MappingProxyType({})) -> None:
        for bound, told in advertised_hosts.items():
            if _checked(bound).version != _checked(told).version:
                raise ValueError(f"{bound} and its public address {told} are not of one IP version")
        self.advertised_hosts: Final = MappingProxyType(dict(advertised_hosts))
        self._bound_hosts = {told: bound for bound, told in advertised_hosts.items()}
        if len(self._bound_hosts) < len(advertised_hosts):
            raise ValueError("two addresses have the same public address")
        if both := self._bound_hosts.keys() & advertised_hosts.keys():
            raise ValueError(f"{min(both)} is a public address and has one")

    def __bool__(self) -> bool:
        return bool(self._bound_hosts)

    def advertised(self, address: Address) -> Address:
        """What clients know the bound ``address`` by: itself, unless it is mapped."""
        host = self.advertised_hosts.get(address.host)
        return address if host is None else Address(host, address.port)

    def bound(self, address: Address) -> Address:
        """Where a socket reaches what clients know as ``address``: itself, unless it is ours and mapped."""
        host = self._bound_hosts.get(address.host)
        return address if host is None else Address(host, address.port)

    def as_advertised(self, relays: Container[Address]) -> Container[Address]:
        """A view of the bound addresses ``relays`` that has them under the names clients know."""
        return _Advertised(self, relays) if self else relays


class _Advertised(Container[Address]):
    def __init__(self, public: PublicAddresses, relays: Container[Address]) -> None:
        self._public = public
        self._relays = relays

    def __contains__(self, address: object) -> bool:
        if not isinstance(address, Address) or address.host in self._public.advertised_hosts:
            return False
        return self._public.bound(address) in self._relays


def _checked(host: str) -> IPAddress:
    try:
        ip = ip_address(host)
    except ValueError:
        raise ValueError(f"public address entry {host!r} is not an IP address") from None
    single = not (ip.is_unspecified or ip.is_multicast)
    if not single or canonical(ip) != ip or str(ip) != host:
        raise ValueError(f"public address entry {host!r} is not one address in canonical form")
    return ip
