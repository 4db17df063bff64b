"""How two peers are to meet."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from natwalk.peer.events import ResumeToken
from natwalk.rendezvous import Code


class Role(Enum):
    """OFFER makes the code and controls ICE and QUIC; ACCEPT was given the code."""

    OFFER = "offer"
    ACCEPT = "accept"


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """How to meet: by a fresh code (OFFER), by the code given (ACCEPT), or by a resume token (both).

    ``connect_timeout`` is the seconds between the peer's arrival and an authenticated connection.
    Raises ValueError when the role and what it needs do not fit.
    """

    role: Role
    code: Code | None = None
    resume: ResumeToken | None = None
    connect_timeout: float = 60.0
    agent: str = "natwalk"

    def __post_init__(self) -> None:
        if self.role is Role.ACCEPT and self.code is None and self.resume is None:
            raise ValueError("accepting needs a code or a resume token")
        if self.role is Role.OFFER and self.code is not None:
            raise ValueError("the offering side gets its code from the server")
