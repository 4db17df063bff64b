"""Configuration of a TURN server: values checked on construction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from types import MappingProxyType

from natwalk.stun import Algorithm, PreparationError, opaque_string
from natwalk.turn.channel_data import CHANNEL_MAX, CHANNEL_MAX_RFC5766
from natwalk.turn.policy import PeerPolicy
from natwalk.turn.public_addresses import PublicAddresses


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
    connections_per_allocation: int = 64
    """Peer connections of a TCP allocation, connecting ones and unbound ones included (RFC 6062)."""
    bandwidth_per_user: int | None = None
    """Relayed bytes a second, both directions together, of one user; None for no limit."""
    bandwidth: int | None = None
    """The same of the whole server."""
    bytes_per_user_per_day: int | None = None
    """Relayed bytes of one user in any 24 hours; None for no limit."""
    new_peers_rate: float = 20.0
    """Distinct peer addresses a second that one user may start to talk to, beyond ``new_peers_burst``."""
    new_peers_burst: float = 200.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"limit {name} is {value}, less than 1")


@dataclass(frozen=True, slots=True)
class OAuthKey:
    """A key of RFC 7635: ``kid`` names it in USERNAME, ``key`` is 16 or 32 bytes for AES-GCM tokens.

    ``not_before`` and ``not_after`` are Unix times in seconds, for rotation.
    """

    kid: str
    key: bytes = field(repr=False)
    not_before: float = 0.0
    not_after: float = float("inf")

    def __post_init__(self) -> None:
        if not self.kid or len(self.key) not in {16, 32}:
            raise ValueError(f"OAuth key {self.kid!r} needs a name and 16 or 32 bytes")


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
    public_addresses: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Addresses of this machine, and what clients know each by: behind a NAT that maps them one to one."""
    port_range: tuple[int, int] = (49152, 65535)
    policy: PeerPolicy = field(default_factory=PeerPolicy)
    limits: TurnLimits = field(default_factory=TurnLimits)
    nonce_lifetime: float = 600.0
    nonce_secret: bytes = field(default=b"", repr=False)
    software: str | None = None
    classic_stun: bool = True
    """Whether Binding requests of RFC 3489, which have no magic cookie, are answered."""
    rfc5766_channels: bool = False
    tcp_relays: bool = False
    """Whether RFC 6062 allocations are granted; they can reach any TCP service the policy does not refuse."""
    mobility: bool = True
    """Whether allocations may move to another 5-tuple with a ticket (RFC 8016)."""
    password_algorithms: tuple[Algorithm, ...] = (Algorithm.SHA256, Algorithm.MD5)
    """Offered in this order (RFC 8489 §9.2.1); ``(MD5,)`` alone offers nothing, as older servers do."""
    oauth_keys: tuple[OAuthKey, ...] = field(default=(), repr=False)
    """Keys shared with authorization servers (RFC 7635); none: no third-party authorization."""
    third_party_authorization: str = ""
    """The name this server has with the authorization server, told to clients and bound into tokens
    (RFC 7635 §6.1); empty for the realm."""

    @property
    def oauth_server_name(self) -> str:
        """What THIRD-PARTY-AUTHORIZATION carries (RFC 7635 §6.1)."""
        return self.third_party_authorization or self.realm

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
            _check_prepared(name, password)
        if not self.password_algorithms or len(set(self.password_algorithms)) < len(self.password_algorithms):
            raise ValueError("password algorithms are one or more, each once")
        if len(self.oauth_server_name.encode()) > 255:
            raise ValueError("the name of this server in tokens is longer than 255 bytes")
        if not all(self.auth_secrets):
            raise ValueError("a TURN REST secret is empty")
        for host in self.relay_addresses:
            _check_relay_address(host)
        mapped = PublicAddresses(self.public_addresses).advertised_hosts.values()
        if both := {*mapped} & {*self.relay_addresses}:
            raise ValueError(f"{min(both)} is a relay address and the public address of another")
        low, high = self.port_range
        if not 1024 <= low <= high <= 65535:
            raise ValueError(f"relay ports {low}-{high} are not a range within 1024-65535")
        if 0 < len(self.nonce_secret) < 16:
            raise ValueError(f"a nonce secret of {len(self.nonce_secret)} bytes is too short: at least 16")
        if self.nonce_lifetime <= 0:
            raise ValueError(f"nonce lifetime {self.nonce_lifetime} is not positive")


def _check_prepared(name: str, password: str) -> None:
    for text, what in ((name, "name"), (password, "password")):
        try:
            opaque_string(text)
        except PreparationError as problem:
            raise ValueError(f"the {what} of user {name!r} cannot be sent: {problem}") from None


def _check_relay_address(host: str) -> None:
    try:
        ip = ip_address(host)
    except ValueError:
        raise ValueError(f"relay address {host!r} is not an IP address") from None
    if ip.is_unspecified or ip.is_multicast or str(ip) != host:
        raise ValueError(f"relay address {host!r} is not one address of this machine in canonical form")
