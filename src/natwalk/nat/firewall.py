"""A firewall that translates nothing and lets UDP pass or not."""

from __future__ import annotations

from natwalk.core import Drops
from natwalk.nat.config import FirewallConfig
from natwalk.nat.packet import Dropped, DropReason, Packet, Side, Translation, Verdict


class Firewall:
    """A middlebox without translation: every packet passes unchanged, or none does."""

    def __init__(self, config: FirewallConfig) -> None:
        self.config = config
        self.drops = Drops()

    def outbound(self, packet: Packet, now: float) -> Verdict:
        """Judge a packet from inside."""
        return self._judge(packet, Side.EXTERNAL)

    def inbound(self, packet: Packet, now: float) -> Verdict:
        """Judge a packet from outside."""
        return self._judge(packet, Side.INTERNAL)

    def reset(self, now: float) -> None:
        """Lose all state: there is none."""

    def next_answer(self) -> float | None:
        """None: it holds no answers back."""
        return None

    def answers(self, now: float) -> list[Translation]:
        """None ever."""
        return []

    def _judge(self, packet: Packet, side: Side) -> Verdict:
        if self.config.udp:
            return Translation(packet, side)
        self.drops.add(DropReason.UDP_BLOCKED.value)
        return Dropped(DropReason.UDP_BLOCKED)
