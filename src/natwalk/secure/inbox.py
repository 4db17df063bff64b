"""Events on their way to the application: merged, bounded, and held back until the peer is proven."""

from __future__ import annotations

from collections import deque
from typing import Final

from natwalk.secure.events import SecureClosed, SecureConnected, SecureEvent, StreamData

HELD_BACK_LIMIT: Final = 16 << 20
"""Bytes held back before the proof; a lost proof is repaired in about a round trip, long before this."""

UNREAD_LIMIT: Final = 128 << 20
"""Bytes an application may leave unread; one that drains after every input never comes near."""

EVENT_COST: Final = 256
"""What an event counts beside its data, so that many empty ones are bounded too."""

LARGE: Final = 16 << 10
"""Bytes from which data is handed on as it is: merging would cost a copy and save little."""

REASON_LIMIT: Final = 200


class Inbox:
    """The event queue of one connection.

    Adjacent small data of one stream becomes one StreamData. Until ``release`` nothing but the end comes out.
    """

    def __init__(self) -> None:
        self._events: deque[SecureEvent] = deque()
        self._stream = -1  # whose data waits in _chunks to be merged
        self._chunks: list[bytes] = []
        self._size = 0
        self._held = True
        self._sealed = False

    @property
    def overflowing(self) -> bool:
        """Whether more waits than is allowed; the connection ends then."""
        return self._size > (HELD_BACK_LIMIT if self._held else UNREAD_LIMIT)

    def stream_data(self, stream_id: int, data: bytes, fin: bool) -> None:
        """Queue bytes of a stream."""
        if self._sealed or not (data or fin):
            return
        if stream_id != self._stream or len(data) >= LARGE:
            self._merge()
            self._stream = stream_id
        self._chunks.append(data)
        self._size += len(data) + EVENT_COST
        if fin:
            self._merge(fin=True)

    def put(self, event: SecureEvent, size: int = 0) -> None:
        """Queue an event that carries ``size`` bytes."""
        if not self._sealed:
            self._merge()
            self._events.append(event)
            self._size += size + EVENT_COST

    def release(self) -> None:
        """The peer is proven: SecureConnected, then all that was held back."""
        self._merge()
        self._held = False
        self._events.appendleft(SecureConnected())

    def close(self, event: SecureClosed) -> None:
        """The last event; what was held back from an unproven peer is forgotten."""
        if self._sealed:
            return
        self._merge()
        if self._held:
            self._events.clear()
            self._held = False
        self._events.append(event)
        self._sealed = True

    def poll(self) -> SecureEvent | None:
        """The next event, or None."""
        if self._held:
            return None
        self._merge()
        if not self._events:
            self._size = 0
            return None
        return self._events.popleft()

    def _merge(self, *, fin: bool = False) -> None:
        if self._chunks:
            data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
            self._events.append(StreamData(self._stream, data, fin))
            self._chunks.clear()
        self._stream = -1


def printable(text: str) -> str:
    """A close reason as it may be shown: printable ASCII, at most 200 characters, the rest as ``?``."""
    return "".join(c if " " <= c <= "~" else "?" for c in text[:REASON_LIMIT])
