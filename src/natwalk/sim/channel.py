"""A reliable, ordered channel of text messages between two hosts: what a WebSocket is to the cores.

It stands for an outbound TCP connection, so NATs and firewalls let it pass. It can be cut and restored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from natwalk.sim.clock import Clock, SimulationError
from natwalk.sim.trace import Happening, Trace


class ChannelEnd:
    """One end of a channel. Set the three callbacks before the simulation runs."""

    def __init__(self, channel: Channel, place: str) -> None:
        self.place = place
        self.on_message: Callable[[str], None] = _ignore_message
        self.on_made: Callable[[], None] = _ignore
        """The connection is there: at the start and after each restoration."""
        self.on_lost: Callable[[], None] = _ignore
        self._channel = channel
        self.closing = False

    @property
    def connected(self) -> bool:
        """Whether a message sent now can arrive."""
        return self._channel.connected and not self.closing

    def send(self, text: str) -> None:
        """Send one message; lost without a word when the channel is down or goes down meanwhile."""
        self._channel.carry(self, text)

    def close(self) -> None:
        """End the connection once what this end has sent is there: both ends hear ``on_lost`` then."""
        self._channel.finish(self)


class Channel:
    """Two ends and the way between; ``delay`` is one-way, in seconds. Make it by :meth:`Network.channel`."""

    IN_FLIGHT: Final = 10_000

    def __init__(
        self,
        places: tuple[str, str],
        delay: float,
        clock: Clock,
        trace: Trace,
        serial: Callable[[], int],
    ) -> None:
        self.delay = delay
        self.connected = False
        self.name = "~".join(places)
        self.a = ChannelEnd(self, places[0])
        self.b = ChannelEnd(self, places[1])
        self._clock = clock
        self._trace = trace
        self._serial = serial
        self._life = 0
        self._in_flight = 0
        self._last_arrival = 0.0

    def restore(self) -> None:
        """Connect, or connect again: both ends hear ``on_made`` one round trip later."""
        self._life += 1
        self._trace.add(self._clock.now, Happening.SCENARIO, self.name, 0, None, "connecting")
        self._clock.call_at(self._clock.now + 2 * self.delay, self._made, self._life)

    def cut(self) -> None:
        """Break the connection: what is under way is lost, both ends hear ``on_lost`` now."""
        self._life += 1
        self._in_flight = 0
        if not self.connected:
            return
        self.connected = False
        self._trace.add(self._clock.now, Happening.SCENARIO, self.name, 0, None, "cut")
        for end in (self.a, self.b):
            self._clock.call_at(self._clock.now, end.on_lost)

    def finish(self, closer: ChannelEnd) -> None:
        """Cut it when all that is under way has arrived; what :meth:`ChannelEnd.close` calls."""
        if not closer.connected:
            return
        closer.closing = True
        self._last_arrival = max(self._last_arrival, self._clock.now + self.delay)
        self._clock.call_at(self._last_arrival, self._finished, self._life)

    def carry(self, sender: ChannelEnd, text: str) -> None:
        """Take one message from ``sender`` to the other end; what :meth:`ChannelEnd.send` calls."""
        if not sender.connected:
            return
        if self._in_flight >= self.IN_FLIGHT:
            raise SimulationError(f"{self.IN_FLIGHT} messages under way on {self.name}")
        serial = self._serial()
        self._in_flight += 1
        receiver = self.b if sender is self.a else self.a
        self._trace.add(self._clock.now, Happening.MESSAGE_SENT, sender.place, serial, None, _brief(text))
        self._last_arrival = max(self._last_arrival, self._clock.now + self.delay)
        self._clock.call_at(self._last_arrival, self._arrive, receiver, text, serial, self._life)

    def _made(self, life: int) -> None:
        if life == self._life:
            self.connected = True
            self.a.closing = self.b.closing = False
            self._trace.add(self._clock.now, Happening.SCENARIO, self.name, 0, None, "connected")
            self.a.on_made()
            self.b.on_made()

    def _finished(self, life: int) -> None:
        if life == self._life:
            self.cut()

    def _arrive(self, receiver: ChannelEnd, text: str, serial: int, life: int) -> None:
        if life == self._life:
            self._in_flight -= 1
            place = receiver.place
            self._trace.add(self._clock.now, Happening.MESSAGE_RECEIVED, place, serial, None, _brief(text))
            receiver.on_message(text)


def _brief(text: str) -> str:
    return f"{len(text)} characters"


def _ignore() -> None:
    """Nobody listens at this end."""


def _ignore_message(text: str) -> None:
    """Nobody listens at this end."""
