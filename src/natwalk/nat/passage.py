"""What should get through between two kinds of NAT: the expected result of every test and every screen.

The letters are those of the table in :data:`PASSAGES`: D direct by hole punching, B direct only with port
guessing, R by a relay. What they come down to depends on what the program can do; :data:`TODAY` says that
in one place, for the tests, the simulator and the laboratory alike.
"""

from __future__ import annotations

import collections.abc
from dataclasses import dataclass
from enum import Enum
from itertools import combinations_with_replacement
from types import MappingProxyType
from typing import Final

from natwalk.nat.box_config import (
    BasicNatConfig,
    FirewallConfig,
    LayerConfig,
    Nat64Config,
    TwiceNatConfig,
)
from natwalk.nat.config import FlowConfig, NatConfig
from natwalk.nat.dimensions import Allocation, Filtering, Mapping
from natwalk.nat.kinds import KINDS, KindSpec
from natwalk.nat.presets import preset

SMALL_BLOCK: Final = 4096
"""Ports of one subscriber that can still be guessed when both sides have so few: 122 probes for 98 %."""


class Passage(Enum):
    """How two peers can reach each other over UDP and IPv4, without port mapping protocols."""

    DIRECT = "D"
    GUESSED = "B"
    RELAYED = "R"


class Outcome(Enum):
    """What a connection ends up on."""

    DIRECT = "direct"
    RELAY = "relay"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What the program can do beyond hole punching over UDP and a relay reached over UDP."""

    guessing: bool
    """Finds the ports of a symmetric NAT opposite an easier one."""
    relay_over_tcp: bool
    """Reaches the relay where UDP is blocked, by TCP on a port that is not."""


TODAY: Final = Abilities(guessing=False, relay_over_tcp=True)
"""The one switch: what this version is expected to do."""

_ORDER: Final = (
    "none",
    "full-cone",
    "address-restricted",
    "port-restricted",
    "cgnat",
    "symmetric-regular",
    "symmetric-block",
    "symmetric",
    "udp-blocked",
)
_LETTERS: Final = """
D D D D D D D D R
  D D D D D D D R
    D D D D D D R
      D D B B B R
        D B B B R
          B B R R
            B R R
              R R
                R
"""
"""Upper triangle, rows and columns in the order above. The harder layer rules a carrier NAT in front of a
home router, here both with endpoint-independent mapping. Symmetric stands for random ports out of all; the
two before it for ports one after another, and for random ones inside a subscriber's block."""

ROWS: Final = _ORDER
"""What :func:`row` may say: the kinds, and the two sorts of symmetric NAT whose ports can be guessed."""

PASSAGES: Final[collections.abc.Mapping[tuple[str, str], Passage]] = MappingProxyType(
    {
        pair: Passage(letter)
        for (a, b), letter in zip(combinations_with_replacement(_ORDER, 2), _LETTERS.split(), strict=True)
        for pair in ((a, b), (b, a))
    }
)
"""For every ordered pair of kinds."""


_BY_FILTER: Final = ("full-cone", "address-restricted", "port-restricted")
"""Rows of endpoint-independent mapping, from the easiest filter to the hardest."""
_FILTERS: Final = tuple(Filtering)
_SYMMETRIC: Final = ("symmetric-regular", "symmetric-block", "symmetric")
"""Rows of mapping that depends on the destination, from the easiest ports to guess to the hardest."""


def row(what: str | KindSpec) -> str:
    """Which of :data:`ROWS` a preset behaves like, mostly a kind: its hardest layer rules.

    A port that is kept towards everybody does not depend on the destination, as long as no two hosts want it.
    Raises ValueError for a name no table knows.
    """
    spec = preset(what) if isinstance(what, str) else what
    if KINDS.get(spec.name) == spec:
        return spec.name
    if not all(map(_lets_udp_pass, spec.layers)):
        return "udp-blocked"
    hardest = -1
    symmetric = -1
    for layer in spec.layers:
        flow: FlowConfig | None = None
        match layer:
            case FirewallConfig():
                flow = layer.flow
            case NatConfig():
                flow = layer
            case TwiceNatConfig() | Nat64Config():
                flow = layer.nat
            case BasicNatConfig():
                pass
        if isinstance(flow, NatConfig) and _moves(flow):
            symmetric = max(symmetric, _SYMMETRIC.index(_sort(flow)))
        if flow is not None:
            hardest = max(hardest, _FILTERS.index(flow.filtering))
    if symmetric >= 0:
        return _SYMMETRIC[symmetric]
    return "none" if hardest < 0 else _BY_FILTER[hardest]


def _moves(config: NatConfig) -> bool:
    """Whether another destination sees another port."""
    if config.mapping is Mapping.ENDPOINT_INDEPENDENT or config.allocation is Allocation.OVERLOAD:
        return False
    return not (config.share_ports and config.allocation is Allocation.PRESERVE)


def _sort(config: NatConfig) -> str:
    """Whose ports move: how they do."""
    match config.allocation:
        case Allocation.SEQUENTIAL:
            return "symmetric-regular"
        case Allocation.BLOCK if config.block_size * config.blocks_per_subscriber <= SMALL_BLOCK:
            return "symmetric-block"
        case _:
            return "symmetric"


def _lets_udp_pass(layer: LayerConfig) -> bool:
    return not isinstance(layer, FirewallConfig) or (layer.udp and layer.udp_ports is None)


def passage(kind_a: str | KindSpec, kind_b: str | KindSpec) -> Passage:
    """The letter for a pair of kinds or presets; raises ValueError for a name no table knows."""
    return PASSAGES[row(kind_a), row(kind_b)]


def expected(
    kind_a: str | KindSpec,
    kind_b: str | KindSpec,
    *,
    same_lan: bool = False,
    abilities: Abilities = TODAY,
) -> Outcome:
    """What two peers with those ``abilities`` and a relay end up on; on one LAN that is always direct.

    Raises ValueError for a name no table knows.
    """
    if same_lan:
        return Outcome.DIRECT
    return between(row(kind_a), row(kind_b), abilities=abilities)


def between(row_a: str, row_b: str, *, abilities: Abilities = TODAY) -> Outcome:
    """What two peers end up on whose NATs behave like these :data:`ROWS`; raises KeyError for others."""
    letter = PASSAGES[row_a, row_b]
    if letter is Passage.DIRECT or (letter is Passage.GUESSED and abilities.guessing):
        return Outcome.DIRECT
    udp = "udp-blocked" not in (row_a, row_b)
    return Outcome.RELAY if udp or abilities.relay_over_tcp else Outcome.NONE
