"""The one gate every peer address passes: the policy, and what belongs to the server itself.

A relay on the server's own address sees services that trust it. The server's own hosts are therefore
refused, except for relay ports that are open right now: two peers behind hard NATs may well be allocated
by the same server. An ``allow`` entry that covers an own host (a laboratory on one machine) opens it but
for the listeners and the closed ports of the relay range. Behind a NAT that maps the server's addresses one
to one, an own host is judged by the name it has outside; under the one that is bound it is never a peer.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

from natwalk.core import Address, canonical
from natwalk.turn.policy import Denial, PeerPolicy
from natwalk.turn.public_addresses import PublicAddresses

MAX_ENDPOINTS: Final = 1024


class PeerGuard:
    """Says of every peer address why it is refused, or that it is not.

    ``open_relays`` holds the relayed addresses in use and ``open_tcp_relays`` those of TCP allocations, as
    clients know them; both are read at every check, never copied.
    """

    def __init__(
        self,
        policy: PeerPolicy,
        relay_hosts: Iterable[str],
        port_range: tuple[int, int],
        open_relays: Container[Address],
        open_tcp_relays: Container[Address] = (),
        public: PublicAddresses | None = None,
    ) -> None:
        self._policy = policy
        self._public = public or PublicAddresses()
        advertised = self._public.advertised_hosts
        self._relay_hosts = frozenset(advertised.get(host, host) for host in relay_hosts)
        self._own_always = {*self._relay_hosts, *advertised, *advertised.values()}
        self._own_hosts = set(self._own_always)
        self._port_range = range(port_range[0], port_range[1] + 1)
        self._open_relays = open_relays
        self._open_tcp_relays = open_tcp_relays
        self._added: set[Address] = set()
        self._current: frozenset[Address] = frozenset()
        self._endpoints: set[Address] = set()
        self._everywhere: set[int] = set()

    def set_policy(self, policy: PeerPolicy) -> None:
        """Judge by ``policy`` from now on."""
        self._policy = policy

    def add_endpoint(self, address: Address) -> bool:
        """Refuse ``address`` and its host from now on; an unspecified host means the port on every own host.

        False when that changes nothing. Raises :class:`ValueError` past 1024 endpoints.
        """
        return self._index(self._added | {address}, self._current)

    def set_endpoints(self, addresses: Iterable[Address]) -> bool:
        """Refuse ``addresses`` instead of those the last call named; those added one by one stay.

        Addresses of interfaces and back ends come and go. False when that changes nothing. Raises
        :class:`ValueError` past 1024 endpoints.
        """
        return self._index(self._added, frozenset(addresses))

    def _index(self, added: set[Address], current: frozenset[Address]) -> bool:
        if (added, current) == (self._added, self._current):
            return False
        everything = {Address(_plain_host(a.host), a.port) for a in added | current}
        bound = {a for a in everything if not ip_address(a.host).is_unspecified}
        everywhere = {a.port for a in everything - bound}
        if len(everything) > MAX_ENDPOINTS:
            # a machine of many addresses has the same services at all of them: each port at every own host
            everywhere = {a.port for a in everything}
            bound = {Address(a.host, 0) for a in bound}
            if len(bound) + len(everywhere) > MAX_ENDPOINTS:
                raise ValueError(f"more than {MAX_ENDPOINTS} own endpoints")
        self._added, self._current = added, current
        self._everywhere = everywhere
        self._endpoints = bound | {self._public.advertised(a) for a in bound}
        self._own_hosts = {*self._own_always, *(a.host for a in self._endpoints)}
        return True

    def is_own(self, host: str) -> bool:
        """True when ``host`` is an address of the server itself."""
        return host in self._own_hosts

    def check_permission(self, address: Address) -> Denial | None:
        """Why no permission may be had for the host of ``address``, or None (RFC 8656 §10.2).

        Deviates from RFC 8656 §10.2, which ignores the port: a request that names a listener is refused,
        so that whoever tries that hears a clear no.
        """
        if self._is_listener(address):
            return Denial("own", str(address))
        if address.host not in self._relay_hosts:
            return self._host_denial(address.host)
        denial = self._policy.check_host(address.host)
        return None if self._policy.overridable(address.host) else denial

    def check(self, address: Address) -> Denial | None:
        """Why no datagram may go to or come from ``address``, or None."""
        return self._check(address, self._open_relays)

    def check_connect(self, address: Address) -> Denial | None:
        """Why no TCP connection may go to or come from ``address``, or None (RFC 6062 §5.2, §5.3)."""
        return self._check(address, self._open_tcp_relays)

    def _check(self, address: Address, open_relays: Container[Address]) -> Denial | None:
        if _plain_host(address.host) not in self._own_hosts:
            return self._policy.check(address)
        if self._is_listener(address):
            return Denial("own", str(address))
        if address in open_relays and self._policy.overridable(address.host):
            return None
        denial = self._host_denial(address.host) or self._policy.check(address)
        relay_host = _plain_host(address.host) in self._relay_hosts
        if denial is None and relay_host and address.port in self._port_range:
            return Denial("own", "no relay is open on this port")
        return denial

    def _host_denial(self, host: str) -> Denial | None:
        denial = self._policy.check_host(host)
        plain = _plain_host(host)
        if plain in self._public.advertised_hosts:
            return Denial("own", host)
        own = plain in self._own_hosts
        if denial is None and own and not self._policy.allows_explicitly(host):
            return Denial("own", host)
        return denial

    def _is_listener(self, address: Address) -> bool:
        host = _plain_host(address.host)
        if Address(host, address.port) in self._endpoints:
            return True
        return address.port in self._everywhere and host in self._own_hosts


@lru_cache(maxsize=4096)
def _plain_host(host: str) -> str:
    return str(canonical(ip_address(host)))
