"""Once a second: look whether the event loop is on time and whether files changed, report, tell systemd."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from natwalk.server.records import WINDOW, DropReports
from natwalk.server.reload import FileWatch
from natwalk.server.state import Services
from natwalk.server.systemd import Notifier

_BEAT: Final = 1.0


class Heartbeat:
    """A timer on the event loop. When the loop is stuck it stops, and so do the signs of life to systemd."""

    def __init__(
        self,
        services: Services,
        notifier: Notifier,
        watch: FileWatch,
        on_change: Callable[[], None],
        lines_dropped: Callable[[], int],
    ) -> None:
        self.watch = watch
        self._services = services
        self._notifier = notifier
        self._on_change = on_change
        self._lines_dropped = lines_dropped
        self._reports = DropReports(services.log)
        self._loop = asyncio.get_running_loop()
        self._interval = min(_BEAT, notifier.watchdog_interval or _BEAT)
        self._reported = self._loop.time()
        self._due = self._loop.time() + self._interval
        self._timer = self._loop.call_at(self._due, self._beat)

    def close(self) -> None:
        """Stop the timer, and say what was not said yet."""
        self._timer.cancel()
        self._report()

    def _beat(self) -> None:
        now = self._loop.time()
        health = self._services.health
        health.loop_lag = max(health.loop_lag, now - self._due)
        self._notifier.alive()
        if self.watch.changed():
            self._on_change()
        if now - self._reported >= WINDOW:
            self._reported = now
            self._report()
        self._due = now + self._interval
        self._timer = self._loop.call_at(self._due, self._beat)

    def _report(self) -> None:
        turn = self._services.turn
        dropped = self._lines_dropped()
        self._services.lines_dropped += dropped
        self._reports.report(turn.core.drops.counts + turn.drops.counts, dropped)
