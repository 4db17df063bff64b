"""The short way through a router in user space: what the engine said of a flow holds for a moment.

Of a flow's packets the engine judges one every :data:`MOMENT`; those between have the same bytes exchanged
without being taken apart. So timers are refreshed and run out up to a moment late, and nothing else differs:
whatever may change what becomes of another flow (a new one, above all) makes all that is known void.
"""

from __future__ import annotations

from typing import Final

from natwalk.lab.behaviour import layer_of
from natwalk.lab.router_plan import RouterPlan
from natwalk.nat import FirewallConfig, NatConfig, Side
from natwalk.nat.checksum import MODULUS

MOMENT: Final = 0.01
"""Seconds."""
FLOWS: Final = 4096
"""Flows known at a time; with one more all are forgotten."""
LOW_TTL: Final = 16
"""Packets with fewer hops left go the long way."""
_TCP_CHECKSUM: Final = 36
_CHECKSUM_AT: Final = {17: 26, 6: _TCP_CHECKSUM}
_TCP_EDGES: Final = 0x07  # FIN, SYN, RST


class FastPath:
    """What is known of a router's flows: IPv4 without options, UDP and the middle of TCP connections."""

    def __init__(self) -> None:
        self._patches: dict[bytes, _Patch] = {}
        self._age = 0

    def take(self, data: bytes, side: Side, now: float) -> tuple[bytearray, Side] | None:
        """What came from ``side`` translated, and where it goes; None when the engine must be asked."""
        patch = self._patches.get(data[9:10] + data[12:24])
        if (
            patch is None
            or patch.age != self._age
            or now >= patch.until
            or patch.came is not side
            or len(data) > patch.size
            or data[8] < LOW_TTL
            or not _is_plain(data)
        ):
            return None
        return patch.apply(data), patch.goes

    def learn(self, data: bytes, side: Side, translated: bytes, goes: Side, now: float) -> None:
        """Note what the engine made of ``data``; all else is void if it is not what it made of it before."""
        if not (_is_plain(data) and _is_plain(translated)):
            self.forget()
            return
        key = data[9:10] + data[12:24]
        patch = self._patches.get(key)
        if patch is None or patch.came is not side or not patch.makes(data, translated, goes):
            if len(self._patches) >= FLOWS:
                self._patches.clear()
            patch = self._patches[key] = _Patch(data, side, translated, goes)
            self.forget()
        patch.age = self._age
        patch.until = now + MOMENT
        patch.size = max(patch.size, len(data))

    def forget(self) -> None:
        """Have the engine asked about everything anew."""
        self._age += 1


class _Patch:
    """What is exchanged in the packets of one flow."""

    __slots__ = ("age", "at", "came", "ends", "goes", "header", "size", "transport", "ttl", "until")

    def __init__(self, data: bytes, came: Side, translated: bytes, goes: Side) -> None:
        self.came, self.goes = came, goes
        self.age, self.until = 0, 0.0
        self.size = len(data)
        self.at = _CHECKSUM_AT[data[9]]
        self.ends = translated[12:24]
        self.ttl = translated[8] - data[8]
        self.transport = _sum(translated[12:24]) - _sum(data[12:24])
        self.header = _sum(translated[12:20]) - _sum(data[12:20]) + (self.ttl << 8)

    def makes(self, data: bytes, translated: bytes, goes: Side) -> bool:
        """Whether it says the same as the engine just did."""
        return self.goes is goes and self.ends == translated[12:24] and self.ttl == translated[8] - data[8]

    def apply(self, data: bytes) -> bytearray:
        """``data`` with addresses, ports and hops exchanged and both checksums adjusted (RFC 1624 §3)."""
        out = bytearray(data)
        out[12:24] = self.ends
        out[8] = min(data[8] + self.ttl, 255)
        value = ((data[10] << 8 | data[11]) - self.header) % MODULUS
        out[10], out[11] = value >> 8, value & 0xFF
        at = self.at
        old = data[at] << 8 | data[at + 1]
        if old or at == _TCP_CHECKSUM:
            value = (old - self.transport) % MODULUS or (MODULUS if at != _TCP_CHECKSUM else 0)
            out[at], out[at + 1] = value >> 8, value & 0xFF
        return out


def cacheable(plan: RouterPlan) -> bool:
    """Whether what becomes of a packet depends on its flow alone, never on what it carries."""
    layers = [layer_of(table) for box in plan.boxes for table in box.layers]
    return all(
        isinstance(layer, NatConfig)
        or (isinstance(layer, FirewallConfig) and not layer.only_stun and layer.portal is None)
        for layer in layers
    )


def _is_plain(data: bytes) -> bool:
    """Whether it is a whole IPv4 packet without options, of UDP or from the middle of a TCP connection."""
    if data[0] != 0x45 or data[6] & 0x3F or data[7]:
        return False
    protocol = data[9]
    if protocol == 17:
        return len(data) >= 28 and (data[24] << 8 | data[25]) == len(data) - 20
    return protocol == 6 and len(data) >= 40 and not data[33] & _TCP_EDGES


def _sum(data: bytes) -> int:
    return sum(data[at] << 8 | data[at + 1] for at in range(0, len(data), 2))
