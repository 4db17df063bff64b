"""What a middlebox does, as plain tables: for topology files and for the process that runs the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, Final

import msgspec

from natwalk.nat import (
    BasicNatConfig,
    FirewallConfig,
    LayerConfig,
    Nat64Config,
    NatConfig,
    TwiceNatConfig,
)

Table = dict[str, Any]

BOXES: Final[Mapping[str, type[LayerConfig]]] = MappingProxyType(
    {
        "nat": NatConfig,
        "firewall": FirewallConfig,
        "basic-nat": BasicNatConfig,
        "twice-nat": TwiceNatConfig,
        "nat64": Nat64Config,
    }
)
"""What a layer can be; the key ``box`` of a table says which, ``nat`` if none does."""


def layer_of(table: Mapping[str, Any]) -> LayerConfig:
    """The layer a table describes, by the fields of its configuration, with ``-`` or ``_`` in their names.

    Raises ValueError that names the key which is unknown or whose value is wrong.
    """
    given = {key.replace("-", "_"): value for key, value in table.items()}
    box = given.pop("box", "nat")
    config = BOXES.get(box)
    if config is None:
        raise ValueError(f"box {box!r} is none of {', '.join(BOXES)}")
    known = {field.name for field in fields(config)}
    for key in given:
        if key not in known:
            raise ValueError(f"unknown key {key.replace('_', '-')!r} of a {box}")
    try:
        return msgspec.convert(given, config)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


def table_of(layer: LayerConfig) -> Table:
    """The table from which :func:`layer_of` makes the same layer again."""
    name = next(name for name, config in BOXES.items() if type(layer) is config)
    return {"box": name, **msgspec.to_builtins(layer)}
