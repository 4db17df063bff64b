"""Where log lines go: to a descriptor, from a thread of its own, bounded, and never in the way of the server.

Standard error may be a pipe nobody reads, a full disk or closed. A line that cannot be written is dropped
and counted; the event loop never waits for one. What an attacker can make the server say is bounded, too:
lines beyond a rate are dropped, and one line says how many.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import threading
import time
from collections.abc import Callable
from typing import Final

_QUEUED: Final = 1024
_LONGEST: Final = 16_384
_FLUSH_SECONDS: Final = 1.0
RATE: Final = 48 * 1024
"""Bytes a second that are written for ever."""
BURST: Final = 256 * 1024
"""Bytes that may be written at once before that."""


class LineWriter:
    """Writes lines to ``descriptor``. ``dropped`` counts those that were not, for whatever reason."""

    def __init__(
        self,
        descriptor: int,
        *,
        rate: float = RATE,
        burst: float = BURST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        self._rate = rate
        self._burst = burst
        self._budget = burst
        self._clock = clock
        self._filled = clock()
        self._unsaid = 0
        self._queue: queue.Queue[bytes | None] = queue.Queue(_QUEUED)
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="natwalk-log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> bool:
        """Queue ``line``; False when it was dropped. Returns at once.

        Further lines in it are indented, so that nobody can forge one.
        """
        return self.write_text(line.replace("\n", "\n  "))

    def write_text(self, text: str) -> bool:
        """Queue ``text`` as it is, with a line break after it; False when it was dropped."""
        data = text.encode("utf-8", "backslashreplace")[:_LONGEST] + b"\n"
        now = self._clock()
        self._budget = min(self._burst, self._budget + (now - self._filled) * self._rate)
        self._filled = now
        if self._closing or len(data) > self._budget:
            self._drop()
            return False
        try:
            self._queue.put_nowait(data)
        except queue.Full:
            self._drop()
            return False
        self._budget -= len(data)
        return True

    def unsaid(self) -> int:
        """How many lines were dropped since this was last asked."""
        number, self._unsaid = self._unsaid, 0
        return number

    def close(self) -> None:
        """Write what is queued, for a second at most, and end the thread if it can end."""
        self._closing = True
        with contextlib.suppress(queue.Full):  # then the thread is stuck, and the process ends without it
            self._queue.put_nowait(None)
        self._thread.join(_FLUSH_SECONDS)

    def _drop(self) -> None:
        self.dropped += 1
        self._unsaid += 1

    def _run(self) -> None:
        while (data := self._queue.get()) is not None:
            if not self._written(data):
                self.dropped += 1

    def _written(self, data: bytes) -> bool:
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                try:
                    select.select([], [self._descriptor], [])
                except (OSError, ValueError):
                    return False
            except OSError:  # closed, or no space left: there is nobody to tell
                return False
        return True
