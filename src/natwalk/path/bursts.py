"""Datagrams waiting to be sent, kept together as long as they take the same path."""

from __future__ import annotations

from collections import deque
from typing import Final

from natwalk.core import Path, Transmit

MAX_WAITING: Final = 16_384
"""Datagrams waiting for the driver; newer ones are refused. A driver that drains never comes near."""


class Bursts:
    """A bounded queue of datagrams that hands out runs of the same path in one piece."""

    __slots__ = ("_runs", "_waiting", "refused")

    def __init__(self) -> None:
        self._runs: deque[tuple[Path, list[bytes]]] = deque()
        self._waiting = 0
        self.refused = 0

    def __len__(self) -> int:
        return self._waiting

    def put(self, path: Path, datagrams: list[bytes]) -> None:
        """Queue ``datagrams`` for ``path``; what exceeds the bound is refused and counted."""
        room = MAX_WAITING - self._waiting
        if len(datagrams) > room:
            self.refused += len(datagrams) - room
            datagrams = datagrams[:room]
        if not datagrams:
            return
        self._waiting += len(datagrams)
        if self._runs and self._runs[-1][0] == path:
            self._runs[-1][1].extend(datagrams)
        else:
            self._runs.append((path, list(datagrams)))

    def poll(self) -> tuple[Path, list[bytes]] | None:
        """The oldest run, or None."""
        if not self._runs:
            return None
        run = self._runs.popleft()
        self._waiting -= len(run[1])
        return run

    def poll_one(self) -> Transmit | None:
        """The oldest datagram, or None."""
        if not self._runs:
            return None
        path, datagrams = self._runs[0]
        datagram = datagrams.pop(0)
        self._waiting -= 1
        if not datagrams:
            self._runs.popleft()
        return Transmit(datagram, path)
