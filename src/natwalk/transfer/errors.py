"""How a transfer ends badly, in words both sides can show."""

from __future__ import annotations

from enum import StrEnum

from natwalk.core import NatError


class FailureKind(StrEnum):
    """What went wrong, as both sides call it on the wire."""

    REFUSED = "refused"
    """The receiver's user did not want the files."""
    CANCELLED = "cancelled"
    """A user or program stopped the transfer on purpose."""
    STORAGE = "storage"
    """The receiver could not write: disk full, no permission."""
    SOURCE = "source"
    """The sender could not read what it offered."""
    INTEGRITY = "integrity"
    """What arrived is not what was sent."""
    VERSION = "version"
    """The two sides speak no common version of the protocol."""
    PROTOCOL = "protocol"
    """The other side sent something the protocol does not allow."""


class TransferError(NatError):
    """The transfer is over and not all of it worked; ``by_peer`` says which side found out."""

    def __init__(self, kind: FailureKind, message: str, *, by_peer: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.by_peer = by_peer


class TransferInterrupted(NatError):
    """The connection ended before the transfer did; it can go on over another one."""
