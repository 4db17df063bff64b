"""What a secure connection tells its application, and why it ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

APPLICATION_CODE_LIMIT: Final = 1 << 32
"""Codes of applications, in ``close``, ``reset_stream`` and ``stop_stream``, are below this."""


class CloseCode(IntEnum):
    """Codes of SecureClosed that are not the application's own."""

    NORMAL = 0
    AUTHENTICATION_FAILED = 0x1_0000_0001
    HANDSHAKE_TIMEOUT = 0x1_0000_0002
    IDLE_TIMEOUT = 0x1_0000_0003
    TRANSPORT_ERROR = 0x1_0000_0004
    OVERFLOW = 0x1_0000_0005


@dataclass(frozen=True, slots=True)
class SecureConnected:
    """Both ends have authenticated each other."""


@dataclass(frozen=True, slots=True)
class StreamData:
    """In-order bytes of a stream, also its first; ``fin`` with the last ones, which may be none."""

    stream_id: int
    data: bytes = field(repr=False)
    fin: bool


@dataclass(frozen=True, slots=True)
class StreamReset:
    """The peer will send nothing more on the stream; what was in flight is lost."""

    stream_id: int
    code: int


@dataclass(frozen=True, slots=True)
class StreamStopped:
    """The peer wants nothing more of the stream; sending on it is over."""

    stream_id: int
    code: int


@dataclass(frozen=True, slots=True)
class DatagramReceived:
    """An unreliable datagram (RFC 9221 §5)."""

    data: bytes


@dataclass(frozen=True, slots=True)
class SecureClosed:
    """The end, always the last event. ``code`` is a CloseCode or the application's own.

    ``by_peer`` says that the peer closed; ``reason`` is printable text of at most 200 characters.
    """

    code: int
    reason: str
    by_peer: bool


SecureEvent = SecureConnected | StreamData | StreamReset | StreamStopped | DatagramReceived | SecureClosed
