"""Messages out of a byte stream: STUN and TURN over TCP and TLS (RFC 8489 §6.2.2, RFC 8656 §12.5)."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final

from natwalk.core import MalformedMessage
from natwalk.stun.codecs import MAGIC_COOKIE
from natwalk.turn.channel_data import CHANNEL_MAX
from natwalk.turn.channel_data import HEADER_LENGTH as CHANNEL_HEADER_LENGTH

MESSAGE_LIMIT: Final = 65_536
"""Bytes of the longest message taken, header included; what is buffered never exceeds it."""

_STUN_HEADER_LENGTH: Final = 20
_TYPE_AND_LENGTH: Final = Struct("!HH")
_COOKIE: Final = Struct("!I")
_COOKIE_AT: Final = 4
_COOKIE_END: Final = 8
_DATA_INDICATION: Final = b"\x00\x17"


class StreamFramer:
    """Cuts one direction of a stream into STUN messages and ChannelData.

    :meth:`feed` yields lazily: who stops in the middle, because a ConnectionBind made raw data of what
    follows (RFC 6062 §5.4), gets the bytes not yet taken from :meth:`rest`. After a MalformedMessage the
    stream has no next message and must be closed.
    """

    __slots__ = ("_buffer", "_channel_max", "_skip")

    def __init__(self, *, channel_max: int = CHANNEL_MAX) -> None:
        self._buffer = bytearray()
        self._channel_max = channel_max
        self._skip = 0  # bytes of padding still to come

    @property
    def buffered(self) -> int:
        """How many bytes of an incomplete message are held, or, while iterating, not yet taken."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that ``data`` completes, in order.

        A STUN message comes as it is; ChannelData without its padding, as soon as its data are complete.
        The bytes are taken at once, iterated over or not. Iterating raises MalformedMessage on a first byte
        of neither protocol, a STUN header without its magic cookie or with a length that is no multiple of
        4, a channel number out of range, and a message longer than ``MESSAGE_LIMIT``.
        """
        if not self._buffer and not self._skip and self._end_of_message(data) == len(data):
            self._skip = -len(data) & 3
            return iter((data,))  # the usual segment: one message
        self._buffer += data
        return self._messages()

    def rest(self) -> bytes:
        """The bytes not taken by a message, which the framer forgets: they belong to another protocol."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def _messages(self) -> Iterator[bytes]:
        buffer = self._buffer
        while True:
            if self._skip:
                skipped = min(self._skip, len(buffer))
                del buffer[:skipped]
                self._skip -= skipped
            end = self._end_of_message(buffer)
            if end is None or end > len(buffer):
                return
            message = bytes(memoryview(buffer)[:end])
            del buffer[:end]
            self._skip = -end & 3  # 0 after a STUN message, which is a multiple of 4
            yield message

    def _end_of_message(self, data: bytes | bytearray) -> int | None:
        """Where the first message of ``data`` ends, without padding; None while that cannot be said."""
        if not data:
            return None
        first = data[0]
        if first > 0x3F:
            return self._end_of_channel_data(data)
        size = len(data)
        if size >= _COOKIE_END and _COOKIE.unpack_from(data, _COOKIE_AT)[0] != MAGIC_COOKIE:
            raise MalformedMessage("a stream carries neither STUN nor ChannelData")
        if size < _TYPE_AND_LENGTH.size:
            return None
        length = _TYPE_AND_LENGTH.unpack_from(data)[1]
        end: int = _STUN_HEADER_LENGTH + length
        if length & 3 or end > MESSAGE_LIMIT:
            raise MalformedMessage(f"a STUN message in a stream states a length of {length}")
        return end if size >= _COOKIE_END else None

    def _end_of_channel_data(self, data: bytes | bytearray) -> int | None:
        if data[0] > self._channel_max >> 8:
            raise MalformedMessage(f"a message in a stream begins with {data[0]:#04x}")
        if len(data) < CHANNEL_HEADER_LENGTH:
            return None
        length = _TYPE_AND_LENGTH.unpack_from(data)[1]
        end: int = CHANNEL_HEADER_LENGTH + length
        if end > MESSAGE_LIMIT:
            raise MalformedMessage(f"ChannelData in a stream states a length of {length}")
        return end


def carries_data(message: bytes) -> bool:
    """Whether a server's message to a client is ChannelData or a Data indication (RFC 8656 §11, §12).

    Those carry a peer's datagram, which may be lost like any; a response may not.
    """
    return message[:1] > b"\x3f" or message[:2] == _DATA_INDICATION
