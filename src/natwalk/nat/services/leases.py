"""What the mapping services share: who may have which external port, for how long.

The rules are those of a router that is not everybody's: only hosts of the LAN are served, and each only for
itself (RFC 6887 §13.1 is not offered).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address, ip_network

from natwalk.core import Address
from natwalk.nat.engine import Nat
from natwalk.nat.gateway_config import GatewayConfig, ServiceQuirk
from natwalk.nat.packet import DropReason, IpProtocol
from natwalk.nat.services.limits import RateLimit
from natwalk.nat.table import Guest

PRIVATE_EXTERNAL = "10.77.0.2"
"""What a router says that is itself behind another one, or broken."""


class Refusal(Enum):
    """Why there is no lease."""

    NOT_AUTHORIZED = "not authorized"
    CONFLICT = "somebody else has that port"
    NO_PORT = "no port is free"
    QUOTA = "too many for one client"


@dataclass(slots=True)
class Lease:
    """One mapping a host asked for; ``expires_at`` in the clock of ``now``, infinity for never."""

    protocol: IpProtocol
    internal: Address
    external: Address
    expires_at: float
    nonce: bytes = b""
    """Of PCP; empty for the other services."""
    label: str = ""
    """The description of UPnP."""


class Leases:
    """The leases of one router, kept in its NAT; ``now`` is the NAT's."""

    def __init__(self, nat: Nat, config: GatewayConfig, now: float) -> None:
        self.config = config
        self._nat = nat
        self._network = ip_network(config.network)
        self._limit = RateLimit(config.rate, config.burst)
        self._started = now
        self._leases: dict[tuple[IpProtocol, Address], Lease] = {}

    def serves(self, source: Address) -> bool:
        """Whether ``source`` is a host of the LAN: not from elsewhere, not the router, not everybody."""
        network, ip = self._network, ip_address(source.host.partition("%")[0])
        nobody = (network.network_address, network.broadcast_address, ip_address(self.config.address))
        return ip.version == network.version and ip in network and ip not in nobody

    def allows(self, client: str, now: float) -> bool:
        """Whether ``client`` asks slowly enough."""
        return self._limit.allows(client, now)

    def epoch(self, now: float) -> int:
        """Seconds since the table was empty (RFC 6886 §3.6, RFC 6887 §8.5)."""
        return int(now - self._started) & 0xFFFFFFFF

    def external_host(self) -> str:
        """The external address, as this router says it."""
        if ServiceQuirk.PRIVATE_EXTERNAL_ADDRESS in self.config.quirks:
            return PRIVATE_EXTERNAL
        return self._nat.public_addresses[0]

    def open(
        self,
        protocol: IpProtocol,
        internal: Address,
        external_port: int,
        lifetime: float,
        now: float,
        *,
        exact: bool = False,
        guests: tuple[Guest, ...] = (),
        nonce: bytes = b"",
        label: str = "",
    ) -> Lease | Refusal:
        """Make or renew the lease of ``internal``, which the caller knows to be the one who asks.

        ``external_port`` is a wish, 0 for none, unless ``exact``. A lease of another service, or made with
        another ``nonce``, is not touched.
        """
        self._forget_gone(now)
        old = self._leases.get((protocol, internal))
        if old is not None and old.nonce != nonce:
            return Refusal.NOT_AUTHORIZED
        if 0 < external_port < self.config.lowest_port and exact:
            return Refusal.NOT_AUTHORIZED
        if old is None and self._count(internal.host) >= self.config.mappings_per_client:
            return Refusal.QUOTA
        if old is not None and exact and old.external.port != external_port:
            return Refusal.CONFLICT
        wish = external_port if external_port >= self.config.lowest_port else None
        external = self._nat.forward(
            protocol, internal, lifetime, now, external_port=wish, exact=exact, guests=guests
        )
        if external is DropReason.NO_PORT:
            return Refusal.CONFLICT if exact else Refusal.NO_PORT
        if isinstance(external, DropReason):
            return Refusal.QUOTA if external is DropReason.SUBSCRIBER_FULL else Refusal.NO_PORT
        lease = Lease(protocol, internal, external, now + lifetime, nonce, label)
        self._leases[protocol, internal] = lease
        return lease

    def hold(
        self, internal: Address, remote: Address, lifetime: float, now: float
    ) -> tuple[Address, float] | Refusal:
        """Keep the UDP mapping from ``internal`` to ``remote``: its external address, the seconds left."""
        held = self._nat.hold(internal, remote, lifetime, now)
        if isinstance(held, DropReason):
            return Refusal.QUOTA if held is DropReason.SUBSCRIBER_FULL else Refusal.NO_PORT
        return held

    def close(self, lease: Lease, now: float) -> None:
        """End a lease."""
        self._nat.unforward(lease.protocol, lease.internal, now)
        self._leases.pop((lease.protocol, lease.internal), None)

    def of(self, protocol: IpProtocol, internal: Address, now: float) -> Lease | None:
        """The lease of ``internal``, or None."""
        self._forget_gone(now)
        return self._leases.get((protocol, internal))

    def at(self, protocol: IpProtocol, external_port: int, now: float) -> Lease | None:
        """The lease of an external port, or None."""
        return next(
            (
                lease
                for lease in self.all(now)
                if lease.protocol is protocol and lease.external.port == external_port
            ),
            None,
        )

    def all(self, now: float) -> tuple[Lease, ...]:
        """Every lease there is, oldest first."""
        self._forget_gone(now)
        return tuple(self._leases.values())

    def reset(self, now: float) -> None:
        """Begin anew, as the NAT did: the epoch starts again."""
        self._leases.clear()
        self._started = now

    def _count(self, host: str) -> int:
        return sum(lease.internal.host == host for lease in self._leases.values())

    def _forget_gone(self, now: float) -> None:
        """Forget what has ended, or what a full table evicted."""
        for key, lease in list(self._leases.items()):
            if lease.expires_at <= now or self._nat.forwarded(*key, now) is None:
                del self._leases[key]
