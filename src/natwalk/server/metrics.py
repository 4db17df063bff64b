"""``/metrics`` for Prometheus: read off the server when somebody asks, with a bounded number of labels.

No label holds a user, an address or anything else that comes from outside: reasons and transports are words
of the code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from natwalk import __version__
from natwalk.core import Transport
from natwalk.relay import RefusalCode
from natwalk.server.state import Services
from natwalk.turn import EndReason, TurnStats

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_RELAYED: Final = {
    "bytes": ("bytes_to_peers", "bytes_from_peers"),
    "packets": ("packets_to_peers", "packets_from_peers"),
}


class Metrics:
    """The metrics of one server, in a registry of its own."""

    def __init__(self, services: Services) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_ServerCollector(services))
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """All metrics in the text format of Prometheus, ``CONTENT_TYPE``."""
        return generate_latest(self._registry)


class _ServerCollector(Collector):
    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        """Every metric of the server as it is now."""
        yield from self._turn()
        yield from self._relayed()
        yield from self._dropped()
        yield from self._relay()
        yield from self._rest()

    def _turn(self) -> Iterator[Metric]:
        stats = self._services.turn.stats
        records = self._services.records
        there = GaugeMetricFamily("natwalk_turn_allocations", "Allocations there are.", labels=["transport"])
        for transport in Transport:
            there.add_metric([transport.value], stats.by_transport.get(transport, 0))
        yield there
        yield _gauge("turn_permissions", "Permissions there are.", stats.permissions)
        yield _gauge("turn_flows", "Channels that forward.", stats.flows)
        yield _gauge("turn_peer_connections", "TCP connections to peers.", stats.connections)
        created = _counter("turn_allocations_created", "Allocations made.", ["transport"])
        for transport in Transport:
            created.add_metric([transport.value], records.created[transport])
        yield created
        ended = _counter("turn_allocations_ended", "Allocations that ended, and why.", ["reason"])
        for reason in EndReason:
            ended.add_metric([reason.value], records.ended[reason.value])
        yield ended
        yield from self._refused(stats)

    def _refused(self, stats: TurnStats) -> Iterator[Metric]:
        responses = _counter("turn_error_responses", "Error responses, challenges included.", ["code"])
        for code, number in sorted(stats.errors.items()):
            responses.add_metric([str(code)], number)
        yield responses
        yield _count("turn_rate_limited", "Requests that were not answered.", stats.rate_limited)
        yield _count("turn_throttled", "Datagrams over a limit of bandwidth or bytes.", stats.throttled)
        yield _gauge("turn_throttled_users", "Users over such a limit.", stats.throttled_users)
        yield _count("turn_peers_refused", "Attempts to reach one new peer too many.", stats.peers_refused)
        yield _gauge("turn_scanners", "Users who try too many peers.", stats.scanners)
        yield _gauge(
            "client_connections", "Connections of clients over TCP and TLS.", self._services.turn.connections
        )

    def _relayed(self) -> Iterator[Metric]:
        """Of allocations that are there and of those that ended."""
        totals = Counter(self._services.records.relayed)
        for summary in self._services.turn.core.summaries(0.0):
            for names in _RELAYED.values():
                for name in names:
                    totals[name] += getattr(summary.counters, name)
        for unit, (to_peers, from_peers) in _RELAYED.items():
            family = _counter(f"turn_relayed_{unit}", f"Application {unit} relayed.", ["direction"])
            family.add_metric(["to_peers"], totals[to_peers])
            family.add_metric(["from_peers"], totals[from_peers])
            yield family

    def _dropped(self) -> Iterator[Metric]:
        turn = self._services.turn
        family = _counter("dropped", "Packets and connections that were not served, and why.", ["reason"])
        for reason, number in sorted((turn.core.drops.counts + turn.drops.counts).items()):
            family.add_metric([reason], number)
        yield family

    def _relay(self) -> Iterator[Metric]:
        if self._services.relay is None:
            return
        core = self._services.relay.core
        stats = core.stats
        yield _gauge("relay_connections", "Connections to the relay.", core.connections)
        yield _gauge("relay_clients", "Those that have proved a key.", core.clients)
        yield _count("relay_packets", "Packets relayed.", stats.packets)
        yield _count("relay_bytes", "Bytes in them.", stats.bytes)
        yield _count("relay_packets_dropped", "Packets dropped for slow receivers.", stats.dropped)
        yield _count("relay_packets_undeliverable", "Packets to keys that are not here.", stats.undeliverable)
        yield _count("relay_notices", "Notices that a peer is gone.", stats.notices)
        refused = _counter("relay_refused", "Connections refused, and why.", ["code"])
        for code in RefusalCode:
            refused.add_metric([code.name.lower()], stats.refused[code.name.lower()])
        yield refused

    def _rest(self) -> Iterator[Metric]:
        services = self._services
        health, hub = services.health, services.hub.core
        yield _gauge("rendezvous_connections", "Clients of the rendezvous service.", hub.connections)
        yield _gauge("rendezvous_mailboxes", "Mailboxes there are.", hub.mailboxes)
        yield _gauge("draining", "1 while no new allocations are granted.", int(health.draining))
        yield _gauge(
            "config_last_reload_successful", "1 when the last reload was good.", int(health.last_reload_good)
        )
        reloads = _counter("config_reloads", "Reloads of the configuration.", ["result"])
        reloads.add_metric(["good"], health.reloads)
        reloads.add_metric(["refused"], health.reload_failures)
        yield reloads
        yield _gauge(
            "event_loop_lag_seconds", "Longest delay of the event loop since last asked.", health.take_lag()
        )
        yield _count("log_lines_dropped", "Log lines that were not written.", services.lines_dropped)
        if services.config.tls is not None:
            yield _gauge(
                "certificate_expiry_timestamp_seconds",
                "Unix time at which the certificate ends.",
                services.config.tls.not_after,
            )
        build = GaugeMetricFamily(
            "natwalk_build_info", "Always 1; says which version runs.", None, ["version"]
        )
        build.add_metric([__version__], 1)
        yield build


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"natwalk_{name}", text, value)


def _counter(name: str, text: str, labels: list[str]) -> CounterMetricFamily:
    return CounterMetricFamily(f"natwalk_{name}", text, labels=labels)


def _count(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"natwalk_{name}", text, value)
