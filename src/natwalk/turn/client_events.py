"""What a TURN client tells its application."""

from __future__ import annotations

from dataclasses import dataclass, field

from natwalk.core import Address, IPAddress, Path
from natwalk.stun import AddressErrorCode, IcmpError


@dataclass(frozen=True, slots=True)
class Allocated:
    """The relayed address is ours; ``mapped`` is how the server sees us; ``lifetime`` is in seconds.

    ``additional`` is the relayed address of the other IP version, when both were asked for; if one of them
    was not granted ``address_errors`` says why. ``reservation_token`` claims the next higher port.
    """

    relayed: Address
    mapped: Address | None
    lifetime: int
    additional: Address | None = None
    reservation_token: bytes | None = field(default=None, repr=False)
    address_errors: tuple[AddressErrorCode, ...] = ()


@dataclass(frozen=True, slots=True)
class AllocationFailed:
    """No allocation came about; ``code`` is the server's error code, None when it gave none.

    With code 300 ``alternate`` is the server to ask instead and ``alternate_domain`` the name its
    certificate has to have; both come from a server that proved it knows the credentials. Ask
    :class:`Redirects` whether to go there.
    """

    code: int | None
    reason: str
    timed_out: bool = False
    alternate: Address | None = None
    alternate_domain: str | None = None


@dataclass(frozen=True, slots=True)
class AllocationLost:
    """The allocation that was there is gone: it ran out or the server no longer knows it."""

    reason: str


@dataclass(frozen=True, slots=True)
class RefreshFailed:
    """The allocation could not be refreshed this time; it is tried again ``retry_in`` seconds from now.

    ``code`` is None when the server did not answer. :class:`AllocationLost` follows if none succeeds.
    """

    code: int | None
    reason: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class PermissionDenied:
    """The server will not relay to ``peer`` (any more), or did not answer (``code`` None)."""

    peer: IPAddress
    code: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class PermissionRefreshFailed:
    """Nobody answered the refresh of the permission for ``peer``, which still holds; it is asked again."""

    peer: IPAddress
    reason: str


@dataclass(frozen=True, slots=True)
class ChannelFailed:
    """No channel to ``peer`` (any more); datagrams go as indications while the permission holds."""

    peer: Address
    code: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class PeerData:
    """A datagram that ``peer`` sent to the relayed address."""

    data: bytes
    peer: Address


@dataclass(frozen=True, slots=True)
class PeerUnreachable:
    """ICMP told the server about a datagram of ours for ``peer`` (RFC 8656 §11.6)."""

    peer: Address
    error: IcmpError


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """The server has a TCP connection with ``peer``; bind it within 30 s (RFC 6062 §4.3).

    ``incoming`` says that the peer opened it (RFC 6062 §4.4).
    """

    peer: Address
    connection_id: int
    incoming: bool = False


@dataclass(frozen=True, slots=True)
class ConnectFailed:
    """The server has no TCP connection with ``peer``; ``code`` None: it did not answer."""

    peer: Address
    code: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Migrated:
    """The allocation is at home on ``path`` now (RFC 8016 §3.2); the old socket is not needed any more."""

    path: Path


@dataclass(frozen=True, slots=True)
class MigrationFailed:
    """The allocation stays where it was; ``path`` is where it did not get to."""

    path: Path
    code: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Stranded:
    """The connection under a mobile allocation has ended: move it elsewhere before its lifetime is over."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Closed:
    """The allocation was given back, or nobody answered that it was; the client is done."""


TurnClientEvent = (
    Allocated
    | AllocationFailed
    | AllocationLost
    | RefreshFailed
    | PermissionDenied
    | PermissionRefreshFailed
    | ChannelFailed
    | PeerData
    | PeerUnreachable
    | PeerConnected
    | ConnectFailed
    | Migrated
    | MigrationFailed
    | Stranded
    | Closed
)
