"""When an agent may say that nothing works (RFC 8863)."""

from __future__ import annotations

from natwalk.ice.config import IceConfig


class Patience:
    """The PAC timer (RFC 8863 §4): runs while there is no valid pair, from when checks could start."""

    __slots__ = ("_config", "_started")

    def __init__(self, config: IceConfig) -> None:
        self._config = config
        self._started: float | None = None

    def start(self, now: float) -> None:
        """There is no valid pair at ``now``: wait for one."""
        self._started = now

    def stop(self) -> None:
        """There is a valid pair."""
        self._started = None

    def over_at(self, *, exhausted: bool) -> float | None:
        """When to give up; sooner if nothing is left to try. None while there is a valid pair."""
        if self._started is None:
            return None
        return self._started + (self._config.early_failure if exhausted else self._config.patience)
