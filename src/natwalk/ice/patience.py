"""When an agent may say that nothing works (RFC 8863)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from natwalk.ice.config import IceConfig
from natwalk.ice.events import IceFailed
from natwalk.ice.pair import PairInfo

_DETAIL_LINES: Final = 20


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


def verdict(pairs: Sequence[PairInfo]) -> IceFailed:
    """What to say when nothing works: how many pairs were tried, and why the best of them do not."""
    lines = [
        f"{p.local.type.value} {p.local.address} -> {p.remote.type.value} {p.remote.address}: "
        + (p.reason or "no answer")
        for p in pairs[:_DETAIL_LINES]
    ]
    count = len(pairs)
    reason = f"none of {count} pairs of addresses works" if count else "there is no pair of addresses to try"
    return IceFailed(reason, "\n".join(lines))
