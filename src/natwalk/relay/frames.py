"""Frames: what client and relay say to each other over one byte stream.

A frame is a type (1 byte), the length of what follows (4 bytes, big-endian) and that. Types this version does
not know are skipped, up to ``FRAME_LIMIT``, so that a newer side may say more; a length that a known type
cannot have ends the connection before a byte of the frame is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum
from struct import Struct
from types import MappingProxyType
from typing import Final

from natwalk.core import MalformedMessage

KEY_LENGTH: Final = 32
"""Bytes of a public key, which is an address here."""
PACKET_LIMIT: Final = 65_536
"""Bytes of the longest packet that is relayed."""
FRAME_LIMIT: Final = 1 << 20
"""Bytes of the longest frame of an unknown type that is skipped."""
PING_LENGTH: Final = 8

_HEADER: Final = Struct("!BI")
HEADER_LENGTH: Final = _HEADER.size
_EXTENSIBLE: Final = 512  # handshakes may grow; what is behind the part that is known is ignored


class FrameType(IntEnum):
    """What a frame is; C is the client, S the server."""

    CHALLENGE = 0x01
    """S: version, its key, a nonce."""
    PROOF = 0x02
    """C: version, its key, a nonce, a signature."""
    WELCOME = 0x03
    """S: a signature, and after how many seconds of silence it hangs up (16 bits)."""
    REFUSED = 0x04
    """S: a code and a sentence; the connection ends."""
    SEND = 0x10
    """C: the key of the receiver, a packet."""
    PACKET = 0x11
    """S: the key of the sender, a packet."""
    GONE = 0x12
    """S: a key and why nothing reaches it."""
    PING = 0x13
    """Both: 8 bytes that the other side sends back."""
    PONG = 0x14
    """Both: the 8 bytes of a PING."""
    STANDING = 0x15
    """S: 1 when packets for the key come here, 0 when a newer connection of that key gets them."""
    RESTARTING = 0x16
    """S: in how many milliseconds to come back, and for how many to try (32 bits each)."""


BOUNDS: Final[Mapping[int, tuple[int, int]]] = MappingProxyType(
    {
        FrameType.CHALLENGE: (65, _EXTENSIBLE),
        FrameType.PROOF: (129, _EXTENSIBLE),
        FrameType.WELCOME: (66, _EXTENSIBLE),
        FrameType.REFUSED: (1, _EXTENSIBLE),
        FrameType.SEND: (KEY_LENGTH, KEY_LENGTH + PACKET_LIMIT),
        FrameType.PACKET: (KEY_LENGTH, KEY_LENGTH + PACKET_LIMIT),
        FrameType.GONE: (KEY_LENGTH + 1, _EXTENSIBLE),
        FrameType.PING: (PING_LENGTH, PING_LENGTH),
        FrameType.PONG: (PING_LENGTH, PING_LENGTH),
        FrameType.STANDING: (1, _EXTENSIBLE),
        FrameType.RESTARTING: (8, _EXTENSIBLE),
    }
)
"""The least and the most bytes a frame of each type has behind its header."""


def frame(kind: FrameType, *parts: bytes) -> bytes:
    """The bytes of one frame."""
    return b"".join((_HEADER.pack(kind, sum(map(len, parts))), *parts))


class FrameReader:
    """Cuts one direction of a stream into frames; holds less than one frame of the largest known type."""

    __slots__ = ("_buffer", "_skip", "ignored")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skip = 0
        self.ignored = 0
        """How many frames were of an unknown type."""

    @property
    def buffered(self) -> int:
        """Bytes of an incomplete frame that are held."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Type and contents of each frame that ``data`` completes, in order.

        Iterating raises MalformedMessage at a length that cannot be; after that, or when it is left before
        its end, the stream has no next frame and must be closed.
        """
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        self._buffer += data
        return self._frames()

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        buffer = self._buffer
        at = 0
        try:
            while len(buffer) - at >= HEADER_LENGTH:
                kind, length = _HEADER.unpack_from(buffer, at)
                start = at + HEADER_LENGTH
                end = start + length
                bounds = BOUNDS.get(kind)
                if bounds is None:
                    if length > FRAME_LIMIT:
                        raise MalformedMessage(f"a frame of the unknown type {kind:#04x} has {length} bytes")
                    self.ignored += 1
                    self._skip = max(0, end - len(buffer))
                    at = min(end, len(buffer))
                    continue
                if not bounds[0] <= length <= bounds[1]:
                    raise MalformedMessage(f"a frame of type {kind:#04x} has {length} bytes")
                if end > len(buffer):
                    return
                contents = bytes(memoryview(buffer)[start:end])
                at = end
                yield kind, contents
        finally:
            del buffer[:at]
