"""Middleboxes one behind the other: a home router behind a carrier-grade NAT, a firewall behind a NAT."""

from __future__ import annotations

from collections.abc import Sequence

from natwalk.core import Drops
from natwalk.nat.packet import Dropped, Middlebox, Packet, Side, Translation, Verdict


class Layers:
    """Several boxes as one: ``boxes`` go from the host outwards.

    A packet that one of them turns around (hairpinning) comes back through those inside of it; so do the
    answers they give.
    """

    def __init__(self, boxes: Sequence[Middlebox]) -> None:
        self.boxes = tuple(boxes)
        self.drops = Drops()

    def outbound(self, packet: Packet, now: float) -> Verdict:
        """Judge a packet from the host by every box on its way."""
        return self._outwards(packet, 0, now)

    def inbound(self, packet: Packet, now: float) -> Verdict:
        """Judge a packet from the internet by every box on its way."""
        return self._inwards(packet, len(self.boxes), now)

    def reset(self, now: float) -> None:
        """Have every box lose its state."""
        for box in self.boxes:
            box.reset(now)

    def next_answer(self) -> float | None:
        """When the first of the boxes has an answer that it held back."""
        times = [at for box in self.boxes if (at := box.next_answer()) is not None]
        return min(times, default=None)

    def answers(self, now: float) -> list[Translation]:
        """Answers that were held back until ``now``, through the boxes on their way."""
        out: list[Translation] = []
        for depth, box in enumerate(self.boxes):
            for packet, side in box.answers(now):
                if side is Side.EXTERNAL:
                    verdict = self._outwards(packet, depth + 1, now)
                else:
                    verdict = self._inwards(packet, depth, now)
                if isinstance(verdict, Translation):
                    out.append(verdict)
        return out

    def _outwards(self, packet: Packet, first: int, now: float) -> Verdict:
        """Through the boxes from the one at ``first``."""
        for depth in range(first, len(self.boxes)):
            verdict = self.boxes[depth].outbound(packet, now)
            if isinstance(verdict, Dropped):
                return self._drop(verdict, Side.INTERNAL, depth, now)
            packet, side = verdict
            if side is Side.INTERNAL:
                return self._inwards(packet, depth, now)
        return Translation(packet, Side.EXTERNAL)

    def _inwards(self, packet: Packet, beyond: int, now: float) -> Verdict:
        """Through the boxes inside of the one at ``beyond``."""
        for depth in range(beyond - 1, -1, -1):
            verdict = self.boxes[depth].inbound(packet, now)
            if isinstance(verdict, Dropped):
                return self._drop(verdict, Side.EXTERNAL, depth, now)
            packet = verdict.packet
        return Translation(packet, Side.INTERNAL)

    def _drop(self, dropped: Dropped, back: Side, depth: int, now: float) -> Dropped:
        """Bring the answer back to where the packet came from, if it gets there."""
        self.drops.add(dropped.reason.value)
        if dropped.answer is None:
            return dropped
        if back is Side.INTERNAL:
            verdict = self._inwards(dropped.answer, depth, now)
        else:
            verdict = self._outwards(dropped.answer, depth + 1, now)
        arrives = isinstance(verdict, Translation) and verdict.side is back
        return dropped._replace(
            answer=verdict.packet if isinstance(verdict, Translation) and arrives else None
        )
