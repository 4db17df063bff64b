"""Turns the rooms' ways to fail into the few that a caller can act on."""

from __future__ import annotations

from typing import Final

from natwalk.peer.events import Failure
from natwalk.rendezvous import FailureCode
from natwalk.secure import CloseCode

_NOT_FOUND: Final = {
    FailureCode.UNKNOWN_NAMEPLATE,
    FailureCode.CROWDED,
    FailureCode.EXPIRED,
    FailureCode.GONE,
}

_CLOSES: Final = {
    CloseCode.AUTHENTICATION_FAILED: Failure.AUTHENTICATION,
    CloseCode.HANDSHAKE_TIMEOUT: Failure.TIMEOUT,
    CloseCode.IDLE_TIMEOUT: Failure.PEER_GONE,
    CloseCode.TRANSPORT_ERROR: Failure.PROTOCOL,
    CloseCode.OVERFLOW: Failure.PROTOCOL,
}


def of_rendezvous(code: FailureCode) -> Failure:
    """What a refusal of the rendezvous server means for the connection."""
    return Failure.CODE_NOT_FOUND if code in _NOT_FOUND else Failure.REFUSED


def of_close(code: int, *, by_peer: bool) -> Failure:
    """What the end of the QUIC connection means."""
    if code in _CLOSES:
        return _CLOSES[CloseCode(code)]
    return Failure.PEER_CLOSED if by_peer else Failure.PROTOCOL
