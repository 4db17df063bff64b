"""Writing a ``natwalk.toml``: tables in the order of the reference, values as TOML spells them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

TomlValue = str | int | float | bool | list[str] | dict[str, str]

_TABLES: Final = (
    "server",
    "stun",
    "turn",
    "turn.users",
    "turn.peers",
    "turn.limits",
    "tls",
    "log",
    "metrics",
)


def tables(keys: Mapping[str, TomlValue], users: Mapping[str, str]) -> list[str]:
    """The lines of all tables; those of a dotted key that begins with ``#`` are commented out."""
    found: dict[str, list[str]] = {}
    for dotted, value in keys.items():
        table, _, key = dotted.rpartition(".")
        mark = "# " if table.startswith("#") else ""
        found.setdefault(table, []).append(f"{mark}{key} = {_value(value)}")
    if users:
        found["turn.users"] = [f"{_value(name)} = {_value(word)}" for name, word in users.items()]
    lines = []
    for table in sorted(found, key=_order):
        mark = "# " if table.startswith("#") else ""
        lines += ["", f"{mark}[{table.lstrip('#')}]", *found[table]]
    return lines


def _order(table: str) -> int:
    return _TABLES.index(table.lstrip("#"))


def _value(value: TomlValue) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_value(each) for each in value)}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_value(key)} = {_value(each)}' for key, each in value.items())} }}"
    if isinstance(value, str):
        # what JSON escapes is a basic string of TOML, too, but for the delete character
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower()
