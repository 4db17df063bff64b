"""From a file, the environment and flags to a Document, or to one good sentence about what is wrong."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Final, cast

import msgspec

from natwalk.server.errors import ConfigError
from natwalk.server.options import from_environment
from natwalk.server.schema import Document

FIX: Final = "correct it in {where}, or run natwalk serve without it for the defaults"
_MAX_FILE: Final = 1 << 20
_SECRET_TABLES: Final = ("turn.users",)

Table = dict[str, "Value"]
Value = str | int | float | bool | list["Value"] | Table
Flags = Mapping[str, str | int | float | bool | list[str] | dict[str, str] | None]
"""Values from flags by dotted key (``server.listen``); None means not given."""


def read_document(path: Path | None, flags: Flags, environ: Mapping[str, str]) -> tuple[Document, str]:
    """The file ``path`` (None: no file), overridden by ``environ``, overridden by ``flags``; and its name.

    Raises ConfigError, which names the key that is unknown or the value that cannot be.
    """
    table = {} if path is None else _read(path)
    variables = from_environment(environ)
    where = "the flags" if path is None and not variables else str(path or "the environment")
    for key, value in (variables | {k: v for k, v in flags.items() if v is not None}).items():
        _set(table, key, cast(Value, value))
    try:
        return msgspec.convert(table, Document), where
    except msgspec.ValidationError as error:
        raise _explained(error, table, where) from None


def _read(path: Path) -> Table:
    hint = "give the path of a natwalk.toml, or none for the defaults"
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint) from error
    if len(data) > _MAX_FILE:
        raise ConfigError(f"{path} is longer than 1 MiB", hint)
    try:
        table: Table = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {error}", "correct the file (https://toml.io)") from error
    return table


def _set(table: Table, key: str, value: Value) -> None:
    *sections, last = key.split(".")
    for section in sections:
        inner = table.setdefault(section, {})
        if not isinstance(inner, dict):
            return  # the conversion that follows says what is wrong with it
        table = inner
    table[last] = list(value) if isinstance(value, list) else value


def _explained(error: msgspec.ValidationError, table: Table, where: str) -> ConfigError:
    """A sentence that names the key and the value; values of ``turn.users`` are secrets and are not shown."""
    text, _, place = str(error).partition(" - at `$")
    keys = re.findall(r"[^.\[\]`]+", place)
    dotted = ".".join(key for key in keys if not key.isdigit() and key != "...")
    unknown = re.search(r"unknown field `([^`]*)`", text)
    if unknown:
        key = f"{dotted}.{unknown[1]}".lstrip(".")
        near = get_close_matches(unknown[1], _keys(Document), n=1)
        hint = f"did you mean {near[0]}?" if near else f"remove it from {where}"
        return ConfigError(f"unknown key {key} in {where}", hint)
    value: Value | None = table
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and key.isdigit():
            value = value[int(key)]
        else:
            value = None
    shown = "" if dotted.startswith(_SECRET_TABLES) or value is None else f" is {str(value)[:100]!r}"
    reason = text.replace("`", "")
    return ConfigError(
        f"{dotted or 'the file'}{shown}: {reason[:1].lower()}{reason[1:]}", FIX.format(where=where)
    )


def _keys(struct: type[msgspec.Struct]) -> list[str]:
    """Every key of a table and of the tables in it."""
    keys: list[str] = []
    for item in msgspec.structs.fields(struct):
        keys.append(item.encode_name)
        if isinstance(item.default, msgspec.Struct):
            keys.extend(_keys(type(item.default)))
    return keys
