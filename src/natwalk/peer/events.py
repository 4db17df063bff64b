"""What a connection to a peer tells its driver and its application."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from natwalk.core import Address
from natwalk.ice import PairInfo
from natwalk.path import PathInfo, RelayLinkReleased, RelayLinkWanted, SocketsReleased, SocketsWanted
from natwalk.secure import DatagramReceived, StreamData, StreamReset, StreamStopped


class Failure(Enum):
    """Why there is no connection, in the classes a caller can act on."""

    WRONG_CODE = "wrong-code"
    CODE_NOT_FOUND = "code-not-found"
    REFUSED = "refused"
    """The server would not help: a limit, or a message it did not understand."""
    NO_PATH = "no-path"
    AUTHENTICATION = "authentication"
    PEER_GONE = "peer-gone"
    """The peer vanished: killed, or cut off for longer than a repair may take."""
    PEER_CLOSED = "peer-closed"
    """The peer ended the connection in order."""
    PROTOCOL = "protocol"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class ResumeToken:
    """Lets the two sides of one connection, and only them, meet again after either was killed.

    Both derive it from the key their code gave them; neither the code nor the server is needed to trust it.
    """

    mailbox: str
    secret: bytes

    def __repr__(self) -> str:
        return f"ResumeToken(mailbox={self.mailbox!r}, secret=<hidden>)"


@dataclass(frozen=True, slots=True)
class CodeReady:
    """Tell the other person this code; it works once."""

    code: str


@dataclass(frozen=True, slots=True)
class PeerArrived:
    """Someone with the right code, or the right resume token, is at the other end of the mailbox."""

    resume: ResumeToken


@dataclass(frozen=True, slots=True)
class PeerUnavailable:
    """The peer left the mailbox; data may still flow on the path."""


@dataclass(frozen=True, slots=True)
class CandidateSeen:
    """A candidate of ours or of the peer's, for whoever watches."""

    side: str
    """``local`` or ``remote``."""
    type: str
    address: Address
    related: Address | None


@dataclass(frozen=True, slots=True)
class NatSeen:
    """What a side learned of its own NAT."""

    side: str
    mapping: str


@dataclass(frozen=True, slots=True)
class CheckSeen:
    """A candidate pair was validated or failed."""

    local: Address
    remote: Address
    local_type: str
    remote_type: str
    ok: bool
    reason: str
    rtt: float | None

    @classmethod
    def of(cls, pair: PairInfo, *, ok: bool) -> CheckSeen:
        """What became of ``pair``."""
        return cls(
            pair.local.address,
            pair.remote.address,
            pair.local.type.value,
            pair.remote.type.value,
            ok,
            pair.reason,
            pair.rtt,
        )


@dataclass(frozen=True, slots=True)
class ServerTrouble:
    """A STUN or TURN server did not help."""

    server: Address | None
    reason: str


@dataclass(frozen=True, slots=True)
class PathChosen:
    """Application data takes this path from now on; the first one and every change."""

    info: PathInfo


@dataclass(frozen=True, slots=True)
class PathBroken:
    """No path carries data at the moment; a repair is under way."""

    reason: str


@dataclass(frozen=True, slots=True)
class Connected:
    """Both sides are authenticated; streams and datagrams may be used."""

    resume: ResumeToken


@dataclass(frozen=True, slots=True)
class Ended:
    """The connection is over; nothing follows. ``failure`` is None after an orderly end of our own."""

    failure: Failure | None
    reason: str


PeerEvent = (
    CodeReady
    | PeerArrived
    | PeerUnavailable
    | CandidateSeen
    | NatSeen
    | CheckSeen
    | ServerTrouble
    | PathChosen
    | PathBroken
    | Connected
    | SocketsWanted
    | SocketsReleased
    | RelayLinkWanted
    | RelayLinkReleased
    | StreamData
    | StreamReset
    | StreamStopped
    | DatagramReceived
    | Ended
)
