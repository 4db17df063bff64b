"""Answers to unsolicited SYNs that are held back, in case our own SYN goes out meanwhile (RFC 5382 §4.3)."""

from __future__ import annotations

from collections import deque
from typing import Final

from natwalk.core import Address
from natwalk.nat.packet import Packet


class HeldAnswers:
    """SYNs that wait to be answered; bounded, more are not answered at all."""

    LIMIT: Final = 256

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._waiting: deque[tuple[float, Packet]] = deque()

    def hold(self, syn: Packet, now: float) -> None:
        """Have ``syn`` answered when its time has come."""
        if len(self._waiting) < self.LIMIT:
            self._waiting.append((now + self._delay, syn))

    def forget(self, external: Address, remote: Address) -> None:
        """Our SYN went out from ``external`` to ``remote``: the one that came from there needs no answer."""
        flow = (external, remote)
        self._waiting = deque((at, syn) for at, syn in self._waiting if (syn.destination, syn.source) != flow)

    def next_due(self) -> float | None:
        """When the next one is to be answered; None when none waits."""
        return self._waiting[0][0] if self._waiting else None

    def due(self, now: float) -> list[Packet]:
        """Those to be answered by ``now``, which then wait no longer."""
        due: list[Packet] = []
        while self._waiting and self._waiting[0][0] <= now:
            due.append(self._waiting.popleft()[1])
        return due

    def clear(self) -> None:
        """Forget all."""
        self._waiting.clear()

    def __len__(self) -> int:
        return len(self._waiting)
