"""What a router in user space is told, and the names of its two devices."""

from __future__ import annotations

from typing import Final

import msgspec

from natwalk.lab.behaviour import Table

INSIDE: Final = "natin"
OUTSIDE: Final = "natout"


class BoxPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One stack of middleboxes, innermost first, and the external addresses of the outermost."""

    layers: list[Table]
    public: list[str]
    inside: int = 4
    """The IP version of its inner side."""


class RouterPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a router is told: ``boxes`` for the IP versions it translates, perhaps a seed and services."""

    boxes: list[BoxPlan]
    seed: int | None = None
    services: Table | None = None
    """The fields of a :class:`~natwalk.nat.GatewayConfig`, of the innermost layer of the first box."""
