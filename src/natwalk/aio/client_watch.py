"""How long a connected client may say nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from natwalk.aio.stream_limits import ClientLimits


class ClientWatch:
    """The deadlines of one connection: for its first message, then for the next while it has no allocation.

    ``close`` is called once, with the reason, when one has passed. ``may_be_idle`` tells whether the client
    has an allocation. There is one timer, which a message does not touch.
    """

    def __init__(
        self,
        limits: ClientLimits,
        *,
        close: Callable[[str], None],
        may_be_idle: Callable[[], bool],
    ) -> None:
        self._idle_timeout = limits.idle_timeout
        self._close = close
        self._may_be_idle = may_be_idle
        self._loop = asyncio.get_running_loop()
        self._last_message: float | None = None
        self._timer = self._loop.call_later(limits.first_message_timeout, self._first_is_late)

    def message_received(self) -> None:
        """The client sent a message."""
        first = self._last_message is None
        self._last_message = self._loop.time()
        if first:
            self._wait(self._idle_timeout)

    def cancel(self) -> None:
        """Watch no more; harmless when repeated."""
        self._timer.cancel()

    def _first_is_late(self) -> None:
        self._close("no message in time")

    def _wait(self, delay: float) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(delay, self._check)

    def _check(self) -> None:
        assert self._last_message is not None
        left = self._last_message + self._idle_timeout - self._loop.time()
        if left > 0:
            self._wait(left)
        elif self._may_be_idle():
            self._wait(self._idle_timeout)
        else:
            self._close("idle without an allocation")
