"""What the engine's last event means to the application."""

from __future__ import annotations

from qh3.quic.events import ConnectionTerminated

from natwalk.core import LocalProtocolError
from natwalk.secure.engine import BAD_CERTIFICATE, IDLE_REASON
from natwalk.secure.events import APPLICATION_CODE_LIMIT, CloseCode, SecureClosed
from natwalk.secure.inbox import printable

WRONG_CERTIFICATE = SecureClosed(
    CloseCode.AUTHENTICATION_FAILED, "the peer did not show the expected certificate", by_peer=False
)


def explain(event: ConnectionTerminated, *, by_peer: bool) -> SecureClosed:
    """Our word for how the engine ended; ``by_peer`` when it was draining."""
    code, reason = event.error_code, printable(event.reason_phrase)
    if by_peer and event.frame_type is None and (code < APPLICATION_CODE_LIMIT or code in set(CloseCode)):
        return SecureClosed(code, reason, by_peer)
    if not by_peer and event.reason_phrase == IDLE_REASON:
        return SecureClosed(
            CloseCode.IDLE_TIMEOUT, "nothing was heard from the peer for too long", by_peer=False
        )
    if not by_peer and code == BAD_CERTIFICATE:
        return WRONG_CERTIFICATE
    return SecureClosed(
        CloseCode.TRANSPORT_ERROR, printable(f"{reason or 'QUIC error'} ({code:#x})"), by_peer
    )


def check_code(code: int) -> None:
    """Raise LocalProtocolError unless ``code`` is one that applications may use."""
    if not 0 <= code < APPLICATION_CODE_LIMIT:
        raise LocalProtocolError(f"code {code} is not between 0 and 2**32 - 1")
