"""Every exception natwalk raises on purpose, in one tree with one root."""

from __future__ import annotations


class NatError(Exception):
    """Root of every error natwalk raises on purpose."""


class ProtocolError(NatError):
    """A protocol was not followed, by the caller or by the peer."""


class LocalProtocolError(ProtocolError):
    """The caller broke a core's contract; a bug on this side."""


class RemoteProtocolError(ProtocolError):
    """The other side sent something its protocol does not allow."""


class MalformedMessage(RemoteProtocolError):
    """Bytes that are not a message: the only error a decoder may raise on wire bytes."""


class IntegrityError(RemoteProtocolError):
    """A message's integrity check is missing or does not verify."""


class ErrorResponse(NatError):
    """The other side answered a request with an error code (RFC 8489 §14.8)."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"{code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class TransactionTimeout(NatError, TimeoutError):
    """A request was sent as often as its schedule allows and nothing came back."""
