"""What happened, in order: one record an incident, kept up to a bound or streamed as text."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import NamedTuple

from natwalk.nat import Packet
from natwalk.sim.dissect import of_packet


class Happening(Enum):
    """What a record is about; the value is its mark in the text."""

    SEND = ">"
    RECEIVE = "<"
    TRANSLATE = "="
    DROP = "x"
    DUPLICATE = "+"
    CORRUPT = "~"
    MESSAGE_SENT = ")"
    MESSAGE_RECEIVED = "("
    EVENT = "!"
    SCENARIO = "#"


class Record(NamedTuple):
    """One incident: when (virtual seconds), what, at which node or link, with which packet."""

    time: float
    what: Happening
    place: str
    serial: int
    """Number of the datagram or message since the start, the same on its whole way; 0 when there is none."""
    packet: Packet | None
    note: str
    """A drop's reason, the packet's addresses before translation, an event's name, a message's summary."""

    def __str__(self) -> str:
        return f"{self.time:12.6f}  {self.what.value} {self.place:<12} {self._subject()}".rstrip()

    def _subject(self) -> str:
        packet = self.packet
        if packet is None:
            return f"#{self.serial} {self.note}" if self.serial else self.note
        flow = f"#{self.serial} {packet.source} -> {packet.destination}"
        match self.what:
            case Happening.TRANSLATE:
                return f"{flow}  was {self.note}"
            case Happening.DROP:
                return f"{flow}  {self.note}"
            case _:
                return f"{flow}  {len(packet.payload)} B  {of_packet(packet)}"


class Trace:
    """The records of one run.

    Keeps the newest ``limit`` of them (0: none) and hands every line to ``sink`` as it happens.
    """

    def __init__(self, limit: int = 50_000, sink: Callable[[str], None] | None = None) -> None:
        self.limit = limit
        self.forgotten = 0
        self._records: deque[Record] = deque(maxlen=limit)
        self._sink = sink
        self.enabled = limit > 0 or sink is not None

    def add(
        self, time: float, what: Happening, place: str, serial: int, packet: Packet | None, note: str = ""
    ) -> None:
        """Note one incident; a no-op when nobody keeps or reads it."""
        if not self.enabled:
            return
        record = Record(time, what, place, serial, packet, note)
        if self.limit and len(self._records) == self.limit:
            self.forgotten += 1
        self._records.append(record)
        if self._sink is not None:
            self._sink(str(record))

    @property
    def records(self) -> tuple[Record, ...]:
        """What is kept, oldest first."""
        return tuple(self._records)

    def select(self, *what: Happening, place: str | None = None) -> list[Record]:
        """The kept records about any of ``what``, at ``place`` if it is given."""
        return [r for r in self._records if r.what in what and (place is None or r.place == place)]

    def text(self, last: int | None = None) -> str:
        """All that is kept, or the ``last`` records of it, a line each."""
        records = self.records if last is None else self.records[-last:]
        return "\n".join(self._lines(records))

    def _lines(self, records: Iterable[Record]) -> Iterable[str]:
        if self.forgotten:
            yield f"({self.forgotten} earlier records are not kept)"
        yield from map(str, records)
