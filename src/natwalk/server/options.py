"""Every option of ``natwalk.toml`` as a list: its dotted key, its environment variable, its kind.

The list is read off the schema, so that a new key has its variable and its place in the tests at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from typing import Final

from msgspec import inspect

from natwalk.server.schema import Document

PREFIX: Final = "NATWALK_"
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})

Scalar = str | int | float | bool
OptionValue = Scalar | list[Scalar] | dict[str, str]


class Kind(Enum):
    """How the text of an environment variable becomes a value."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    YES_OR_NO = "yes or no"
    LIST = "list"
    INTEGERS = "list of integers"
    PAIRS = "pairs"
    """A small table: ``NAME=VALUE`` and a space between two of them."""
    TABLE = "table"
    """Only in the file: a variable cannot hold it."""


@dataclass(frozen=True, slots=True)
class Option:
    """One key of the file. ``key`` is dotted (``turn.limits.allocations``)."""

    key: str
    kind: Kind

    @property
    def variable(self) -> str | None:
        """The environment variable that sets it, or None for a table."""
        if self.kind is Kind.TABLE:
            return None
        return PREFIX + self.key.replace(".", "_").replace("-", "_").upper()


def options() -> tuple[Option, ...]:
    """Every option, in the order of the schema."""
    return tuple(_of_section(inspect.type_info(Document), ""))


def from_environment(environ: Mapping[str, str]) -> dict[str, OptionValue]:
    """The options that ``environ`` sets, by dotted key; a value that does not parse stays text.

    The conversion that follows then refuses it with its key, as it would in the file.
    """
    found: dict[str, OptionValue] = {}
    for option in options():
        text = None if option.variable is None else environ.get(option.variable)
        if text is not None:
            found[option.key] = _value(option.kind, text)
    return found


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """A sentence for each variable that looks like an option of the server and is none."""
    known = {option.variable for option in options() if option.variable is not None} | _COMMAND_LINE
    sections = tuple({"_".join(name.split("_")[:2]) + "_" for name in known - _COMMAND_LINE})
    sentences = []
    for name in sorted(environ):
        if name in known or not name.startswith(sections):
            continue
        near = get_close_matches(name, known, n=1)
        hint = f", did you mean {near[0]}?" if near else ""
        sentences.append(f"the environment has {name}, which is no option of the server{hint}")
    return sentences


_COMMAND_LINE: Final = frozenset(
    {
        "NATWALK_HTTP_PORT",
        "NATWALK_STUN_PORT",
        "NATWALK_RELAY_ADDRESS",
        "NATWALK_ADMIN_SERVER",
        "NATWALK_ADMIN_TOKEN",
        "NATWALK_ADMIN_TLS_NAME",
        "NATWALK_ADMIN_CA_FILE",
        "NATWALK_TURN_USERNAME",
        "NATWALK_TURN_PASSWORD",
        "NATWALK_TURN_PASSWORD_FILE",
        "NATWALK_TURN_SECRET_FILE",
        "NATWALK_TURN_SECONDS",
        "NATWALK_TURN_CA_FILE",
    }
)


def _of_section(section: inspect.Type, prefix: str) -> Iterator[Option]:
    assert isinstance(section, inspect.StructType)
    for field in section.fields:
        kind = _plain(field.type)
        key = prefix + field.encode_name
        if isinstance(kind, inspect.StructType):
            yield from _of_section(kind, key + ".")
        else:
            yield Option(key, _kind(kind))


def _plain(kind: inspect.Type) -> inspect.Type:
    """The type of an optional value when it is there."""
    if isinstance(kind, inspect.UnionType):
        [kind] = [each for each in kind.types if not isinstance(each, inspect.NoneType)]
    return kind


def _kind(kind: inspect.Type) -> Kind:
    match kind:
        case inspect.IntType():
            return Kind.INTEGER
        case inspect.FloatType():
            return Kind.NUMBER
        case inspect.BoolType():
            return Kind.YES_OR_NO
        case inspect.ListType(item_type=inspect.IntType()):
            return Kind.INTEGERS
        case inspect.ListType(item_type=inspect.StructType()) | inspect.DictType():
            return Kind.TABLE
        case inspect.ListType():
            return Kind.LIST
        case inspect.Metadata(extra={"variable": "pairs"}):
            return Kind.PAIRS
        case inspect.StrType() | inspect.LiteralType():
            return Kind.TEXT
        case _:
            raise TypeError(f"{kind} has no form as an environment variable")


def _value(kind: Kind, text: str) -> OptionValue:
    match kind:
        case Kind.LIST:
            return list(text.split())
        case Kind.INTEGERS:
            return [_number(word, int) for word in text.split()]
        case Kind.PAIRS:
            pairs = [word.partition("=") for word in text.split()]
            return {name: value for name, _, value in pairs} if all(sign for _, sign, _ in pairs) else text
        case Kind.INTEGER:
            return _number(text, int)
        case Kind.NUMBER:
            return _number(text, float)
        case Kind.YES_OR_NO:
            lowered = text.strip().lower()
            return True if lowered in _TRUE else False if lowered in _FALSE else text
        case _:
            return text


def _number(text: str, kind: type[int] | type[float]) -> Scalar:
    try:
        return kind(text)
    except ValueError:
        return text
