"""How much may be sent on a stream before the application at the other end has read some of it.

QUIC's own windows follow what arrived, not what was read, so a slow reader would have to keep everything.
Each side therefore tells the other, on a stream of its own, how many bytes of each stream its application
has taken. A writer that minds :meth:`Credit.room` never has more than ``WINDOW`` bytes outstanding.
"""

from __future__ import annotations

import struct
from typing import Final

from natwalk.core import MalformedMessage

WINDOW: Final = 16 << 20
"""Bytes of one stream that may be under way or unread, unless the sending side wants fewer."""
REPORT_EVERY: Final = 1 << 20
"""Bytes read between two reports; far less than any side's window."""
_REPORT: Final = struct.Struct("!QQ")


class Credit:
    """Both directions of all streams of one connection; streams that ended are forgotten."""

    def __init__(self) -> None:
        self.window = WINDOW
        """What this side allows itself; at least twice ``REPORT_EVERY``, or it would wait for reports."""
        self._sent: dict[int, int] = {}
        self._granted: dict[int, int] = {}
        self._taken: dict[int, int] = {}
        self._told: dict[int, int] = {}
        self._partial = b""

    def room(self, stream_id: int) -> int:
        """Bytes that may be sent on a stream now; 0 or less means to wait."""
        return self._granted.get(stream_id, 0) + self.window - self._sent.get(stream_id, 0)

    def sent(self, stream_id: int, size: int) -> None:
        """``size`` bytes were sent on a stream."""
        self._sent[stream_id] = self._sent.get(stream_id, 0) + size

    def taken(self, stream_id: int, size: int) -> bytes:
        """The application read ``size`` bytes of a stream; the report to send, empty when it can wait."""
        total = self._taken[stream_id] = self._taken.get(stream_id, 0) + size
        if total - self._told.get(stream_id, 0) < REPORT_EVERY:
            return b""
        self._told[stream_id] = total
        return _REPORT.pack(stream_id, total)

    def feed(self, data: bytes) -> None:
        """Take bytes of the peer's stream of reports.

        Raises MalformedMessage when the peer claims to have read what was never sent.
        """
        data = self._partial + data
        whole = len(data) - len(data) % _REPORT.size
        self._partial = data[whole:]
        for stream_id, total in _REPORT.iter_unpack(data[:whole]):
            sent = self._sent.get(stream_id)
            if sent is None:
                continue  # it ended meanwhile
            if total > sent:
                raise MalformedMessage(f"the peer read {total} of {sent} bytes")
            self._granted[stream_id] = max(total, self._granted.get(stream_id, 0))

    def end_sending(self, stream_id: int) -> None:
        """Nothing more will be sent on a stream."""
        self._sent.pop(stream_id, None)
        self._granted.pop(stream_id, None)

    def end_receiving(self, stream_id: int) -> None:
        """Nothing more will arrive on a stream."""
        self._taken.pop(stream_id, None)
        self._told.pop(stream_id, None)

    def __len__(self) -> int:
        return len(self._sent.keys() | self._taken.keys())
