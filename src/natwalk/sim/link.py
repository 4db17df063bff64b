"""Links: delay, jitter, loss in bursts, reordering, duplicates, damage, a rate with a queue, an MTU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from natwalk.nat import Packet
from natwalk.sim.clock import Clock
from natwalk.sim.trace import Happening, Trace

Deliver = Callable[[Packet, int], None]
"""Takes a packet and its serial number at the far end."""

Tap = Deliver
"""Looks at a packet and its serial number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkConfig:
    """How one direction of a link behaves. Times are in seconds; raises ValueError when impossible.

    Packets keep their order except for the share ``reorder`` of them, whatever the jitter.
    """

    delay: float = 0.0
    jitter: float = 0.0
    """Uniform, added to or taken from ``delay``."""
    loss: float = 0.0
    """Share of packets lost, in the long run."""
    burst: float | None = None
    """Mean number of packets lost in a row (Gilbert-Elliott); None: each is lost independently."""
    reorder: float = 0.0
    reorder_delay: float = 0.010
    """By how much a reordered packet comes later than it would."""
    duplicate: float = 0.0
    corrupt: float = 0.0
    """Share of packets in which one bit of the payload flips and no checksum notices."""
    rate: float | None = None
    """Bits a second; None: no limit."""
    queue_bytes: int = 256 * 1024
    """What may wait for the rate limit, headers included; the rest is dropped."""
    mtu: int = 1500
    """Largest IP packet in bytes; larger ones vanish."""

    def __post_init__(self) -> None:
        for name in ("loss", "reorder", "duplicate", "corrupt"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, not {getattr(self, name)}")
        if self.delay < 0 or not 0 <= self.jitter <= self.delay:
            raise ValueError(f"delay {self.delay} and jitter {self.jitter} would let packets arrive early")
        if self.burst is not None and (self.burst < 1 or self.loss >= self.burst / (self.burst + 1)):
            raise ValueError(f"bursts of {self.burst} packets cannot lose {self.loss:.0%}")
        if self.rate is not None and self.rate <= 0:
            raise ValueError(f"rate must be positive, not {self.rate}")
        if not 68 <= self.mtu <= 65_535:
            raise ValueError(f"an MTU of IP is between 68 and 65535, not {self.mtu}")


class Pipe:
    """One direction of a link."""

    def __init__(
        self, name: str, config: LinkConfig, clock: Clock, trace: Trace, rng: Random, deliver: Deliver
    ) -> None:
        self.name = name
        self.config = config
        self.up = True
        self.tap: Tap | None = None
        """Sees every packet that goes on the line, lost there or not."""
        self.far_tap: Tap | None = None
        """Sees every packet that comes off the line."""
        self.sent = 0
        self.lost = 0
        self._clock = clock
        self._trace = trace
        self._rng = rng
        self._deliver = deliver
        self._free_at = 0.0
        self._last_arrival = 0.0
        self._bad = False

    def send(self, packet: Packet, serial: int) -> None:
        """Carry ``packet`` to the far end, or not."""
        config = self.config
        self.sent += 1
        size = packet.size
        now = self._clock.now
        if not self.up:
            self._drop(packet, serial, "link down")
        elif size > config.mtu:
            self._drop(packet, serial, f"{size} bytes exceed the MTU of {config.mtu}")
        elif config.rate is not None and self._waiting(config.rate) + size > config.queue_bytes:
            self._drop(packet, serial, "queue full")
        else:
            if self.tap is not None:
                self.tap(packet, serial)
            if config.rate is not None:
                self._free_at = max(self._free_at, now) + size * 8 / config.rate
            if config.loss and self._loses():
                self._drop(packet, serial, "lost")
                return
            if config.corrupt and packet.payload and self._rng.random() < config.corrupt:
                packet = self._corrupted(packet, serial)
            self._carry(packet, serial)
            if config.duplicate and self._rng.random() < config.duplicate:
                self._trace.add(now, Happening.DUPLICATE, self.name, serial, packet)
                self._carry(packet, serial)

    def _waiting(self, rate: float) -> int:
        """Bytes in the queue, the one being sent included."""
        return round(max(0.0, self._free_at - self._clock.now) * rate / 8)

    def _carry(self, packet: Packet, serial: int) -> None:
        config = self.config
        arrival = config.delay + (self._clock.now if config.rate is None else self._free_at)
        if config.jitter:
            arrival += self._rng.uniform(-config.jitter, config.jitter)
        if config.reorder and self._rng.random() < config.reorder:
            arrival += config.reorder_delay
        else:
            arrival = self._last_arrival = max(arrival, self._last_arrival)
        deliver = self._deliver if self.far_tap is None else self._arrive
        self._clock.call_at(arrival, deliver, packet, serial)

    def _arrive(self, packet: Packet, serial: int) -> None:
        if self.far_tap is not None:
            self.far_tap(packet, serial)
        self._deliver(packet, serial)

    def _loses(self) -> bool:
        """Whether the next packet is lost; moves the Gilbert-Elliott state (good loses none, bad all)."""
        config = self.config
        if config.burst is None:
            return self._rng.random() < config.loss
        leave_bad = 1 / config.burst
        enter_bad = leave_bad * config.loss / (1 - config.loss)
        self._bad = self._rng.random() >= leave_bad if self._bad else self._rng.random() < enter_bad
        return self._bad

    def _corrupted(self, packet: Packet, serial: int) -> Packet:
        payload = bytearray(packet.payload)
        bit = self._rng.randrange(8 * len(payload))
        payload[bit // 8] ^= 1 << bit % 8
        damaged = packet._replace(payload=bytes(payload))
        self._trace.add(self._clock.now, Happening.CORRUPT, self.name, serial, damaged)
        return damaged

    def _drop(self, packet: Packet, serial: int, why: str) -> None:
        self.lost += 1
        self._trace.add(self._clock.now, Happening.DROP, self.name, serial, packet, why)


class Link:
    """Two pipes between an inner node (a host, a home router) and the router outside of it."""

    def __init__(self, name: str, outward: Pipe, inward: Pipe, clock: Clock, trace: Trace) -> None:
        self.name = name
        self.outward = outward
        self.inward = inward
        self._clock = clock
        self._trace = trace

    def down(self) -> None:
        """Cut it: packets sent from now on are lost; those under way arrive."""
        self._set(False)

    def up(self) -> None:
        """Mend it."""
        self._set(True)

    def configure(self, **changes: float | int | None) -> None:
        """Change fields of :class:`LinkConfig` in both directions, for packets sent from now on."""
        for pipe in (self.outward, self.inward):
            self.configure_pipe(pipe, **changes)

    def configure_pipe(self, pipe: Pipe, **changes: float | int | None) -> None:
        """Change fields of :class:`LinkConfig` in one direction only."""
        pipe.config = replace(pipe.config, **changes)  # type: ignore[arg-type]
        words = " ".join(f"{name}={value}" for name, value in changes.items())
        self._trace.add(self._clock.now, Happening.SCENARIO, pipe.name, 0, None, words)

    def _set(self, up: bool) -> None:
        self.outward.up = self.inward.up = up
        self._trace.add(self._clock.now, Happening.SCENARIO, self.name, 0, None, "up" if up else "down")
