"""Configuration of a TURN server: values checked on construction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from types import MappingProxyType

from natwalk.turn.channel_data import CHANNEL_MAX, CHANNEL_MAX_RFC5766
from natwalk.turn.policy import PeerPolicy


@dataclass(frozen=True, slots=True)
class TurnLimits:
    """Bounds of a TURN server; rates are per second and per source (IPv4 address, IPv6 /64)."""

    allocations: int = 4096
    allocations_per_user: int = 12
    permissions_per_allocation: int = 256
    channels_per_allocation: int = 256
    refusals_rate: float = 10.0
    refusals_burst: float = 20.0
    tracked_sources: int = 4096
    failures_per_user: int = 5
    failures_per_source: int = 50

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"limit {name} is {getattr(self, name)}, less than 1")


@dataclass(frozen=True, slots=True)
class TurnConfig:
    """What a TURN server is told at start; secrets stay out of its repr.

    ``users`` maps names to passwords; ``auth_secrets`` are those of TURN REST credentials, the first being
    the current one. ``relay_addresses`` are addresses of this machine that relay sockets are bound to, on
    ports of ``port_range`` (both ends included). ``rfc5766_channels`` takes channel numbers up to 0x7FFF,
    as clients older than RFC 8656 choose them. Raises ValueError naming the value that is wrong.
    """

    realm: str = "natwalk"
    users: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    auth_secrets: tuple[str, ...] = field(default=(), repr=False)
    relay_addresses: tuple[str, ...] = ()
    port_range: tuple[int, int] = (49152, 65535)
    policy: PeerPolicy = field(default_factory=PeerPolicy)
    limits: TurnLimits = field(default_factory=TurnLimits)
    nonce_lifetime: float = 600.0
    nonce_secret: bytes = field(default=b"", repr=False)
    software: str | None = None
    rfc5766_channels: bool = False

    @property
    def channel_max(self) -> int:
        """The highest channel number taken."""
        return CHANNEL_MAX_RFC5766 if self.rfc5766_channels else CHANNEL_MAX

    def __post_init__(self) -> None:
        if not 0 < len(self.realm) < 128 or not self.realm.isprintable():
            raise ValueError(f"realm {self.realm!r} is not 1 to 127 printable characters (RFC 8489 §14.9)")
        for name, password in self.users.items():
            if not name or not password:
                raise ValueError(f"user {name!r} needs a name and a password")
        if not all(self.auth_secrets):
            raise ValueError("a TURN REST secret is empty")
        for host in self.relay_addresses:
            _check_relay_address(host)
        low, high = self.port_range
        if not 1024 <= low <= high <= 65535:
            raise ValueError(f"relay ports {low}-{high} are not a range within 1024-65535")
        if self.nonce_lifetime <= 0:
            raise ValueError(f"nonce lifetime {self.nonce_lifetime} is not positive")


def _check_relay_address(host: str) -> None:
    try:
        ip = ip_address(host)
    except ValueError:
        raise ValueError(f"relay address {host!r} is not an IP address") from None
    if ip.is_unspecified or ip.is_multicast or str(ip) != host:
        raise ValueError(f"relay address {host!r} is not one address of this machine in canonical form")
