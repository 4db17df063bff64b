"""A usage record for each allocation, and one line a window about everything that was refused or dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from natwalk.core import Address, Transport
from natwalk.server.log import ServerLog
from natwalk.turn import AllocationCreated, AllocationEnded, TurnServerEvent

WINDOW: Final = 10.0
"""Seconds between two lines about drops."""

_Key = tuple[Address, Transport]


class UsageRecords:
    """Hears a TURN server's events and logs who used what, when an allocation ends.

    ``created`` and ``ended`` count allocations by transport and by reason; ``relayed`` sums what ended ones
    moved. It remembers only allocations that are there, which the server bounds.
    """

    def __init__(self, log: ServerLog, clock: Callable[[], float]) -> None:
        self.created: Counter[Transport] = Counter()
        self.ended: Counter[str] = Counter()
        self.relayed: Counter[str] = Counter()
        self._log = log
        self._clock = clock
        self._started: dict[_Key, float] = {}

    def hear(self, event: TurnServerEvent) -> None:
        """Take an event; those that are not about allocations are passed over."""
        match event:
            case AllocationCreated():
                self.created[event.transport] += 1
                self._started[event.relay, event.relay_transport] = self._clock()
                self._log.debug(
                    "allocation", user=event.username, transport=event.transport.value, client=event.client
                )
            case AllocationEnded():
                self._ended(event)
            case _:
                pass

    def _ended(self, event: AllocationEnded) -> None:
        since = self._started.pop((event.relay, event.relay_transport), self._clock())
        counters = event.counters
        self.ended[event.reason.value] += 1
        for name in ("packets_to_peers", "bytes_to_peers", "packets_from_peers", "bytes_from_peers"):
            self.relayed[name] += getattr(counters, name)
        if self._log.section.usage:
            self._log.info(
                "usage",
                user=event.username,
                transport=event.transport.value,
                relay_transport=event.relay_transport.value,
                seconds=round(self._clock() - since, 1),
                bytes_to_peers=counters.bytes_to_peers,
                bytes_from_peers=counters.bytes_from_peers,
                packets_to_peers=counters.packets_to_peers,
                packets_from_peers=counters.packets_from_peers,
                peers=counters.peers,
                reason=event.reason.value,
                client=event.client,
                relay=event.relay,
                **({} if event.advertised in (None, event.relay) else {"advertised": event.advertised}),
            )


class DropReports:
    """Turns counters of drops into one line a window, whatever their number."""

    def __init__(self, log: ServerLog) -> None:
        self._log = log
        self._seen: Counter[str] = Counter()

    def report(self, counts: Mapping[str, int], lines_dropped: int) -> None:
        """Log what ``counts`` grew by since the last call, the five commonest reasons by name, if it grew."""
        news = Counter(counts) - self._seen
        self._seen = Counter(counts)
        if news:
            common = [f"{reason} ({number})" for reason, number in news.most_common(5)]
            self._log.warning("dropped", packets=news.total(), window_seconds=WINDOW, reasons=common)
        if lines_dropped:
            self._log.warning("log lines were dropped", lines=lines_dropped)
