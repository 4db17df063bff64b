"""Populations: which networks peers are in, with which NATs, as a file says it, and pairs drawn from them.

A population file is TOML. Networks have shares; each has its NATs, with shares again, and chances of IPv6 and
of blocked UDP, and a link. ``sources`` say where each number is from. Drawing a pair takes a seed and the
number of the pair alone, so that any process can draw any pair.
"""

from __future__ import annotations

import math
import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from itertools import accumulate
from random import Random
from typing import Final

from natwalk.nat import KINDS, FirewallConfig, KindSpec, NatConfig, describe, preset
from natwalk.sim.link import LinkConfig
from natwalk.sim.population_file import PopulationError, Table

__all__ = [
    "BLOCKED",
    "LinkDraw",
    "NetworkKind",
    "PairDraw",
    "PeerDraw",
    "Population",
    "PopulationError",
    "load",
    "parse",
    "shipped",
    "shipped_text",
]

BLOCKED: Final = KINDS["udp-blocked"]


@dataclass(frozen=True, slots=True)
class PeerDraw:
    """One peer, as drawn."""

    network: str
    nat: KindSpec
    ipv6: bool
    access: LinkConfig

    @property
    def blocked(self) -> bool:
        """Whether UDP does not get out."""
        return not self.nat.passes_udp


@dataclass(frozen=True, slots=True)
class PairDraw:
    """Two peers; with ``one_nat`` both are behind the outermost NAT of the first, in LANs of their own."""

    number: int
    seed: int
    """Of the pair's own simulation."""
    a: PeerDraw
    b: PeerDraw
    one_nat: bool

    @property
    def ipv6(self) -> bool:
        """Whether both have IPv6."""
        return self.a.ipv6 and self.b.ipv6


@dataclass(frozen=True, slots=True)
class LinkDraw:
    """What access links of a network are like; times in seconds, one-way."""

    delay: tuple[float, float]
    """Smallest and largest; drawn so that each doubling is as likely."""
    jitter: float = 0.0
    loss: float = 0.0
    burst: float | None = None

    def draw(self, rng: Random) -> LinkConfig:
        """One link."""
        low, high = self.delay
        delay = low * math.exp(rng.random() * math.log(high / low))
        return LinkConfig(delay=delay, jitter=min(self.jitter, delay), loss=self.loss, burst=self.burst)


@dataclass(frozen=True)
class NetworkKind:
    """One kind of network peers are in."""

    name: str
    share: float
    nats: Mapping[str, float]
    specs: Mapping[str, KindSpec]
    """What each name in ``nats`` stands for."""
    link: LinkDraw
    ipv6: float = 0.0
    udp_blocked: float = 0.0
    sources: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def _names(self) -> tuple[tuple[str, ...], list[float]]:
        return tuple(self.nats), list(accumulate(self.nats.values()))

    def draw(self, rng: Random) -> PeerDraw:
        """One peer of this network. It always takes the same number of random numbers."""
        names, edges = self._names
        nat = self.specs[names[_pick(edges, rng.random())]]
        ipv6 = rng.random() < self.ipv6
        blocked = rng.random() < self.udp_blocked
        access = self.link.draw(rng)
        return PeerDraw(self.name, BLOCKED if blocked else nat, ipv6 and not blocked, access)


@dataclass(frozen=True)
class Population:
    """Where peers are. Make it by :func:`load` or :func:`parse`."""

    name: str
    title: str
    networks: tuple[NetworkKind, ...]
    opposite: KindSpec | None = None
    """The NAT of every second peer, for questions about one NAT instead of two."""
    one_nat: float = 0.0
    """Share of pairs whose peers are behind one and the same outermost NAT."""
    sources: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def _edges(self) -> list[float]:
        return list(accumulate(network.share for network in self.networks))

    def draw(self, seed: int, number: int) -> PairDraw:
        """The pair called ``number``: the same in every process and for any number of pairs."""
        rng = Random(f"{seed}/{number}")  # noqa: S311
        a, b = (self.networks[_pick(self._edges, rng.random())].draw(rng) for _ in range(2))
        one_nat = rng.random() < self.one_nat
        if self.opposite is not None:
            b = PeerDraw("opposite", self.opposite, b.ipv6, b.access)
        if one_nat:
            b = PeerDraw(a.network, a.nat, a.ipv6, b.access)
        return PairDraw(number, rng.getrandbits(48), a, b, one_nat)


def shipped() -> tuple[str, ...]:
    """Names of the populations that come with natwalk."""
    folder = resources.files("natwalk.sim") / "populations"
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir()))


def shipped_text(name: str) -> str:
    """The file of a shipped population; raises PopulationError for a name there is none of."""
    if name not in shipped():
        raise PopulationError(f"no population is called {name!r}; there are: {', '.join(shipped())}")
    return (resources.files("natwalk.sim") / "populations" / f"{name}.toml").read_text(encoding="utf-8")


def load(name: str) -> Population:
    """A shipped population; raises PopulationError for a name there is none of."""
    return parse(shipped_text(name))


def parse(text: str) -> Population:
    """The population that TOML says; raises PopulationError, naming the key, when it says none."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PopulationError(f"not TOML: {error}") from error
    return _population(Table(document, ""))


def _population(table: Table) -> Population:
    own = {name: sub.kind(name) for name, sub in table.tables("nat")}
    networks = tuple(_network(sub, own) for sub in table.list_of_tables("network"))
    names = [network.name for network in networks]
    if len(set(names)) < len(names):
        raise PopulationError(f"network: two are called {next(n for n in names if names.count(n) > 1)!r}")
    _whole("network.share", [network.share for network in networks])
    opposite = table.text("opposite", "")
    population = Population(
        name=table.text("name"),
        title=table.text("title"),
        networks=networks,
        opposite=_spec("opposite", opposite, own) if opposite else None,
        one_nat=table.share("one-nat", 0.0),
        sources=table.texts("sources", ("one-nat", "opposite")),
    )
    table.finish()
    if population.one_nat:
        for network in networks:
            for name, spec in network.specs.items():
                if not spec.layers or not isinstance(spec.layers[-1], NatConfig):
                    raise PopulationError(f"one-nat: {name} in {network.name} has no NAT to be behind")
    return population


def _network(table: Table, own: Mapping[str, KindSpec]) -> NetworkKind:
    nats = table.shares("nats")
    _whole(table.key("nats"), list(nats.values()))
    low, high = table.range("delay-ms")
    network = NetworkKind(
        name=table.text("name"),
        share=table.share("share"),
        nats=nats,
        specs={name: _spec(table.key(f"nats.{name}"), name, own) for name in nats},
        link=LinkDraw(
            delay=(low / 1000, high / 1000),
            jitter=table.number("jitter-ms", 0.0) / 1000,
            loss=table.share("loss", 0.0),
            burst=table.number("burst", 0.0) or None,
        ),
        ipv6=table.share("ipv6", 0.0),
        udp_blocked=table.share("udp-blocked", 0.0),
        sources=table.texts(
            "sources", ("share", "nats", "ipv6", "udp-blocked", "delay-ms", "jitter-ms", "loss", "burst")
        ),
    )
    table.finish()
    try:
        network.link.draw(Random(0))  # noqa: S311
    except ValueError as error:
        raise PopulationError(f"{table.key('loss')}: {error}") from error
    return network


def _spec(key: str, name: str, own: Mapping[str, KindSpec]) -> KindSpec:
    if name in own:
        return own[name]
    try:
        spec = preset(name)
    except ValueError as error:
        raise PopulationError(f"{key}: {error}") from error
    for layer in spec.layers:
        portal = isinstance(layer, FirewallConfig) and layer.portal is not None
        if portal or not isinstance(layer, NatConfig | FirewallConfig):
            raise PopulationError(f"{key}: {name} is not for peers of a population: {describe(layer)}")
    return spec


def _whole(key: str, shares: list[float]) -> None:
    if not math.isclose(sum(shares), 1.0, abs_tol=1e-6):
        raise PopulationError(f"{key}: shares add up to {sum(shares):.6g}, not to 1")


def _pick(edges: list[float], at: float) -> int:
    return min(bisect_right(edges, at), len(edges) - 1)
