"""Usage records and the line about drops."""

from __future__ import annotations

import json
from collections import Counter

from natwalk.core import Address, Transport
from natwalk.server.log import ServerLog
from natwalk.server.records import DropReports, UsageRecords
from natwalk.server.schema import LogSection
from natwalk.turn import AllocationCreated, AllocationEnded, Counters, EndReason

CLIENT, LISTENER, RELAY = (Address("192.0.2.1", n) for n in (1, 2, 3))


class Collected:
    def __init__(self) -> None:
        self.events: list[dict[str, object]] = []

    def write(self, line: str) -> bool:
        self.events.append({k: v for k, v in json.loads(line).items() if k not in ("time", "level")})
        return True


def make(**keys: object) -> tuple[ServerLog, list[dict[str, object]]]:
    collected = Collected()
    return ServerLog(collected, LogSection(format="json", **keys)), collected.events  # type: ignore[arg-type]


def created(transport: Transport = Transport.TLS) -> AllocationCreated:
    return AllocationCreated(CLIENT, LISTENER, "alice", RELAY, 600, transport, (RELAY,))


def ended(transport: Transport = Transport.TLS) -> AllocationEnded:
    return AllocationEnded(
        CLIENT, LISTENER, "alice", RELAY, EndReason.DELETED, Counters(1, 20, 3, 40, 2), transport
    )


def test_an_allocation_leaves_a_record() -> None:
    log, events = make()
    now = 100.0
    records = UsageRecords(log, lambda: now)
    records.hear(created())
    now = 112.34
    records.hear(ended())
    assert events == [
        {
            "event": "usage",
            "user": "alice",
            "transport": "tls",
            "relay_transport": "udp",
            "seconds": 12.3,
            "bytes_to_peers": 20,
            "bytes_from_peers": 40,
            "packets_to_peers": 1,
            "packets_from_peers": 3,
            "peers": 2,
            "reason": "deleted",
        }
    ]
    assert records.created == Counter({Transport.TLS: 1})
    assert records.ended == Counter({"deleted": 1})
    assert records.relayed["bytes_to_peers"] == 20


def test_addresses_are_in_it_when_asked_for() -> None:
    log, events = make(addresses=True)
    records = UsageRecords(log, lambda: 0.0)
    records.hear(created())
    records.hear(ended())
    assert (events[0]["client"], events[0]["relay"]) == ("192.0.2.1:1", "192.0.2.1:3")


def test_records_can_be_off_and_are_counted_all_the_same() -> None:
    log, events = make(usage=False)
    records = UsageRecords(log, lambda: 0.0)
    records.hear(created())
    records.hear(ended())
    assert events == []
    assert records.ended.total() == 1


def test_drops_are_one_line_a_window_with_the_commonest_reasons() -> None:
    """FAULTS 54: whatever the number of packets, one line."""
    log, events = make()
    reports = DropReports(log)
    counts = {f"reason {n}": n for n in range(1, 9)}
    reports.report(counts, 0)
    reports.report(counts, 0)
    reports.report(counts | {"reason 8": 100_008}, 7)
    assert [event["event"] for event in events] == ["dropped", "dropped", "log lines were dropped"]
    assert events[0]["packets"] == 36
    assert len(events[0]["reasons"]) == 5  # type: ignore[arg-type]
    assert events[1]["reasons"] == ["reason 8 (100000)"]
    assert events[2]["lines"] == 7
