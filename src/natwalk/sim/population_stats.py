"""What many pairs came to: counts and histograms that merge in any order to the same figures.

Everything is integers, so a sum does not depend on who added first: one process and many give the same.
Memory does not grow with the number of pairs: a histogram has one count a millisecond, or a packet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from natwalk.nat import Outcome
from natwalk.sim.population import PairDraw
from natwalk.sim.population_run import Means, PairResult, run_pair

V = TypeVar("V")

TECHNIQUES: Final[Mapping[str, str]] = {
    "punching": "hole punching: mapped addresses by STUN, checks from both sides",
    "ipv6": "IPv6, where both have it",
    "relay": "the TURN relay, over UDP or else over TCP",
    "relay-tcp": "the relay over TCP, where UDP is blocked",
}
"""What this version does and can be told to go without."""

ABSENT: Final[Mapping[str, str]] = {
    "birthday": "guessing the ports of a symmetric NAT, many sockets at once",
    "prediction": "guessing the ports of a NAT that counts",
    "portmap": "asking the router for a port: NAT-PMP, PCP, UPnP IGD",
    "tcp-punching": "hole punching over TCP",
}
"""What this version does not do: going without changes nothing."""

LONGEST: Final = 60_000
"""Milliseconds and packets a histogram tells apart; what is more counts as this."""
BYTES_STEP: Final = 64
"""Relayed bytes are counted in steps of this, rounded up."""


@dataclass(slots=True)
class Histogram:
    """Counts of whole numbers up to LONGEST: quantiles are exact."""

    counts: Counter[int] = field(default_factory=Counter)

    def add(self, value: int) -> None:
        """Count one value."""
        self.counts[min(value, LONGEST)] += 1

    def quantile(self, share: float) -> int | None:
        """The smallest value that at least ``share`` of all are not above; None without any."""
        total = self.counts.total()
        seen = 0
        for value in sorted(self.counts):
            seen += self.counts[value]
            if seen >= share * total:
                return value
        return None

    def mean(self) -> float | None:
        """The average, to two decimals; None without any."""
        total = self.counts.total()
        if not total:
            return None
        return round(sum(value * count for value, count in self.counts.items()) / total, 2)

    def report(self, scale: int = 1) -> dict[str, float | None]:
        """Mean, p50, p95 and p99, each times ``scale``."""
        mean = self.mean()
        found: dict[str, float | None] = {"mean": None if mean is None else round(mean * scale, 2)}
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
            value = self.quantile(share)
            found[name] = None if value is None else value * scale
        return found


@dataclass(slots=True)
class Tally:
    """The figures of some pairs of one population."""

    pairs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    by_networks: dict[str, Counter[str]] = field(default_factory=dict)
    by_kinds: dict[str, Counter[str]] = field(default_factory=dict)
    without: dict[str, Counter[str]] = field(default_factory=dict)
    """By technique: outcomes of the same pairs without it."""
    first_byte: Histogram = field(default_factory=Histogram)
    direct: Histogram = field(default_factory=Histogram)
    packets: Histogram = field(default_factory=Histogram)
    relay_steps: Histogram = field(default_factory=Histogram)
    first_byte_relayed: int = 0
    """Pairs whose first byte was there before a direct path was."""

    def add(self, draw: PairDraw, result: PairResult) -> None:
        """Count one pair."""
        outcome = result.outcome.value
        self.pairs += 1
        self.outcomes[outcome] += 1
        _count(self.by_networks, pair_name(draw.a.network, draw.b.network), outcome)
        _count(self.by_kinds, pair_name(draw.a.nat.name, draw.b.nat.name), outcome)
        self.packets.add(result.packets)
        self.relay_steps.add(-(-result.relay_bytes // BYTES_STEP))
        if result.first_byte is not None:
            self.first_byte.add(result.first_byte)
            self.first_byte_relayed += result.direct is None or result.first_byte < result.direct
        if result.direct is not None:
            self.direct.add(result.direct)

    def add_without(self, technique: str, outcome: Outcome) -> None:
        """Count what the pair just added would have come to without a technique."""
        _count(self.without, technique, outcome.value)

    def merge(self, other: Tally) -> None:
        """Add all of another's figures."""
        self.pairs += other.pairs
        self.first_byte_relayed += other.first_byte_relayed
        self.outcomes.update(other.outcomes)
        for mine, theirs in (
            (self.by_networks, other.by_networks),
            (self.by_kinds, other.by_kinds),
            (self.without, other.without),
        ):
            for name, counts in theirs.items():
                mine.setdefault(name, Counter()).update(counts)
        for name in _HISTOGRAMS:
            getattr(self, name).counts.update(getattr(other, name).counts)

    def to_json(self) -> dict[str, Any]:
        """Everything, for a file; :meth:`from_json` reads it back."""
        return {
            "pairs": self.pairs,
            "first_byte_relayed": self.first_byte_relayed,
            "outcomes": _sorted(self.outcomes),
            **{
                name: {key: _sorted(value) for key, value in sorted(getattr(self, name).items())}
                for name in _TABLES
            },
            **{name: _sorted(getattr(self, name).counts) for name in _HISTOGRAMS},
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Tally:
        """What :meth:`to_json` made; raises KeyError, TypeError or ValueError when it did not."""
        tally = cls(pairs=int(values["pairs"]), first_byte_relayed=int(values["first_byte_relayed"]))
        tally.outcomes = Counter({str(key): int(count) for key, count in values["outcomes"].items()})
        for name in _TABLES:
            table = {str(key): Counter(dict(counts)) for key, counts in values[name].items()}
            setattr(tally, name, table)
        for name in _HISTOGRAMS:
            counts = Counter({int(key): int(count) for key, count in values[name].items()})
            setattr(tally, name, Histogram(counts))
        return tally


_TABLES: Final = ("by_networks", "by_kinds", "without")
_HISTOGRAMS: Final = ("first_byte", "direct", "packets", "relay_steps")


def simulate(
    draws: Iterable[PairDraw], without: frozenset[str] = frozenset(), *, compare: bool = True
) -> Tally:
    """Run pairs one after the other, without the techniques named.

    With ``compare`` each pair whose fate may hang on a technique is run again without it.
    """
    tally = Tally()
    means = _means(without)
    for draw in draws:
        result = run_pair(draw, means)
        tally.add(draw, result)
        if compare:
            for technique in TECHNIQUES:
                if technique not in without:
                    tally.add_without(technique, _without(technique, draw, result, without))
    return tally


def _without(technique: str, draw: PairDraw, result: PairResult, without: frozenset[str]) -> Outcome:
    """What a pair comes to without one more technique; run again only when that can matter."""
    if result.outcome is Outcome.NONE or (technique == "ipv6" and not draw.ipv6):
        return result.outcome
    if technique == "relay":
        return Outcome.DIRECT if result.outcome is Outcome.DIRECT else Outcome.NONE
    if (technique == "relay-tcp") != (result.outcome is Outcome.RELAY):
        return result.outcome  # neither hangs on the other: a direct path on the relay, and the reverse
    if technique == "relay-tcp" and not (draw.a.blocked or draw.b.blocked):
        return result.outcome
    return run_pair(draw, _means(without | {technique})).outcome


def _means(without: Set[str]) -> Means:
    return Means(**{name.replace("-", "_"): name not in without for name in TECHNIQUES})


def pair_name(a: str, b: str) -> str:
    """How a pair of kinds is called, whichever side is which."""
    return " × ".join(sorted((a, b)))


def report(tally: Tally, without: Iterable[str] = ()) -> dict[str, Any]:
    """The figures as programs read them: shares of all pairs, times in milliseconds."""
    return {
        "pairs": tally.pairs,
        "share": shares(tally.outcomes),
        "first_byte_ms": tally.first_byte.report(),
        "first_byte_on_relay": _part(tally.first_byte_relayed, tally.first_byte.counts.total()),
        "direct_ms": tally.direct.report(),
        "packets": tally.packets.report(),
        "relay_bytes": tally.relay_steps.report(BYTES_STEP),
        "techniques": {name: _adds(name, tally, without) for name in (*TECHNIQUES, *ABSENT)},
        "by_network_pair": _table(tally.by_networks),
        "by_kind_pair": _table(tally.by_kinds),
    }


def shares(outcomes: Mapping[str, int]) -> dict[str, float]:
    """Direct, relayed and failed as shares, to four decimals."""
    total = sum(outcomes.values())
    counts = {outcome: outcomes.get(outcome.value, 0) for outcome in Outcome}
    return {name: _part(count, total) for name, count in share_names(counts)}


def share_names(by_outcome: Mapping[Outcome, V]) -> list[tuple[str, V]]:
    """Values by outcome under the names that reports use, in their order."""
    names = (("direct", Outcome.DIRECT), ("relayed", Outcome.RELAY), ("failed", Outcome.NONE))
    return [(name, by_outcome[outcome]) for name, outcome in names]


def _adds(name: str, tally: Tally, without: Iterable[str]) -> dict[str, Any]:
    """What a technique adds: the difference between the same pairs with and without it."""
    if name in ABSENT:
        return {"used": False, "why": "not in this version"}
    if name in without:
        return {"used": False, "why": "left out by --without"}
    if name not in tally.without:
        return {"used": True}
    here, there = tally.outcomes, tally.without[name]
    direct, none = Outcome.DIRECT.value, Outcome.NONE.value
    return {
        "used": True,
        "adds_direct": _part(here[direct] - there[direct], tally.pairs),
        "adds_connected": _part(there[none] - here[none], tally.pairs),
    }


def _table(counts: Mapping[str, Counter[str]]) -> list[dict[str, Any]]:
    """Rows by number of pairs, the most first."""
    rows = sorted(counts.items(), key=lambda row: (-row[1].total(), row[0]))
    return [{"pair": name, "pairs": each.total(), **shares(each)} for name, each in rows]


def _count(table: dict[str, Counter[str]], row: str, column: str) -> None:
    table.setdefault(row, Counter())[column] += 1


def _part(count: int, total: int) -> float:
    return round(count / total, 4) if total else 0.0


def _sorted(counts: Mapping[Any, int]) -> dict[str, int]:
    return {str(key): counts[key] for key in sorted(counts)}
