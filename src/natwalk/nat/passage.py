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

from natwalk.nat.kinds import KINDS, kind_spec


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
    """Reaches the relay where UDP is blocked."""


TODAY: Final = Abilities(guessing=False, relay_over_tcp=False)
"""The one switch: what this version is expected to do."""

_ORDER: Final = (
    "none",
    "full-cone",
    "address-restricted",
    "port-restricted",
    "cgnat",
    "symmetric",
    "udp-blocked",
)
_LETTERS: Final = """
D D D D D D R
  D D D D D R
    D D D D R
      D D B R
        D B R
          R R
            R
"""
"""Upper triangle, rows and columns in the order above. The harder layer rules a carrier NAT in front of a
home router, here both with endpoint-independent mapping; symmetric stands for random ports."""

PASSAGES: Final[collections.abc.Mapping[tuple[str, str], Passage]] = MappingProxyType(
    {
        pair: Passage(letter)
        for (a, b), letter in zip(combinations_with_replacement(_ORDER, 2), _LETTERS.split(), strict=True)
        for pair in ((a, b), (b, a))
    }
)
"""For every ordered pair of kinds."""


def passage(kind_a: str, kind_b: str) -> Passage:
    """The letter for a pair of kinds; raises ValueError for a kind no table knows."""
    return PASSAGES[kind_spec(kind_a).name, kind_spec(kind_b).name]


def expected(kind_a: str, kind_b: str, *, same_lan: bool = False, abilities: Abilities = TODAY) -> Outcome:
    """What two peers with those ``abilities`` and a relay end up on; on one LAN that is always direct.

    Raises ValueError for a kind no table knows.
    """
    letter = passage(kind_a, kind_b)
    if same_lan or letter is Passage.DIRECT or (letter is Passage.GUESSED and abilities.guessing):
        return Outcome.DIRECT
    udp = all(KINDS[kind].passes_udp for kind in (kind_a, kind_b))
    return Outcome.RELAY if udp or abilities.relay_over_tcp else Outcome.NONE
