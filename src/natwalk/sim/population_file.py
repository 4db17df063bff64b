"""Reads a population's TOML key by key: every mistake names its key, and no key goes unread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from enum import Enum
from typing import Any, Final

from natwalk.core import NatError
from natwalk.nat import FirewallConfig, KindSpec, LayerConfig, NatConfig

_LAYERS: Final = ("nat", "firewall")
_NOT_SAID: Final = frozenset(
    {"public_addresses", "router_address", "independent_ports", "flow", "portal", "udp_ports", "tcp_ports"}
)


class PopulationError(NatError, ValueError):
    """A population file that says something impossible or unknown; the message names the key."""


class Table:
    """One table of the file. Every getter raises PopulationError, naming the key, for what is wrong."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values = values
        self._where = where
        self._read: set[str] = set()

    def key(self, name: str) -> str:
        """``name`` with the tables it is in."""
        return f"{self._where}.{name}" if self._where else name

    def text(self, name: str, default: str | None = None) -> str:
        """A string."""
        value = self._get(name, default)
        if not isinstance(value, str):
            raise PopulationError(f"{self.key(name)} must be text, not {value!r}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A number that is not negative."""
        return self._number(name, self._get(name, default))

    def share(self, name: str, default: float | None = None) -> float:
        """A number from 0 to 1."""
        return self._share(name, self._get(name, default))

    def shares(self, name: str) -> dict[str, float]:
        """A table of shares by name, in the order of the file."""
        values = self._table(name, self._get(name))
        return {each: self._share(f"{name}.{each}", value) for each, value in values.items()}

    def range(self, name: str) -> tuple[float, float]:
        """Two positive numbers, the smaller first; or one, which is both."""
        value = self._get(name)
        values = value if isinstance(value, list) else [value, value]
        numbers = [self._number(name, each) for each in values]
        if len(numbers) != 2 or not 0 < numbers[0] <= numbers[1]:
            raise PopulationError(f"{self.key(name)} must be one positive number or two, the smaller first")
        return numbers[0], numbers[1]

    def texts(self, name: str, allowed: tuple[str, ...]) -> dict[str, str]:
        """A table of strings under some of the ``allowed`` names; empty when it is not there."""
        table = Table(self._table(name, self._get(name, {})), self.key(name))
        found = {each: table.text(each, "") for each in allowed}
        table.finish()
        return {each: text for each, text in found.items() if text}

    def tables(self, name: str) -> list[tuple[str, Table]]:
        """The tables in the table ``name``, with their names; none when it is not there."""
        values = self._table(name, self._get(name, {}))
        return [
            (each, Table(self._table(f"{name}.{each}", value), self.key(f"{name}.{each}")))
            for each, value in values.items()
        ]

    def list_of_tables(self, name: str) -> list[Table]:
        """The tables of the array ``name``, one at least."""
        values = self._get(name)
        if not isinstance(values, list) or not values:
            raise PopulationError(f"{self.key(name)} must be [[{self.key(name)}]] tables")
        return [
            Table(self._table(f"{name}[{number}]", value), self.key(f"{name}[{number}]"))
            for number, value in enumerate(values, start=1)
        ]

    def kind(self, name: str) -> KindSpec:
        """The table as a kind of NAT of the file's own: ``layers`` from the peer outwards, ``source``."""
        layers = tuple(table.layer() for table in self.list_of_tables("layers"))
        spec = KindSpec(name, "as its file says", layers, self.text("source", ""))
        self.finish()
        return spec

    def layer(self) -> LayerConfig:
        """The table as one layer: ``box`` is ``nat`` or ``firewall``, the rest is its configuration."""
        box = self.text("box", "nat")
        if box not in _LAYERS:
            raise PopulationError(f"{self.key('box')} must be one of {', '.join(_LAYERS)}, not {box!r}")
        return self._config(NatConfig if box == "nat" else FirewallConfig)

    def finish(self) -> None:
        """Raise PopulationError when the file has keys here that nobody asked for."""
        unknown = [name for name in self._values if name not in self._read]
        if unknown:
            known = ", ".join(sorted(self._read))
            raise PopulationError(f"{self.key(unknown[0])} is not a key of a population; here are: {known}")

    def _config(self, kind: type[NatConfig] | type[FirewallConfig]) -> LayerConfig:
        options: dict[str, Any] = {}
        for each in fields(kind):
            name = each.name.replace("_", "-")
            if each.name not in _NOT_SAID and self._get(name, ()) != ():
                options[each.name] = self._option(name, False if each.default is MISSING else each.default)
        self.finish()
        try:
            return kind(**options)
        except (TypeError, ValueError) as error:
            raise PopulationError(f"{self._where}: {error}") from error

    def _option(self, name: str, default: object) -> object:
        """The value of a configuration's field, as its default is."""
        value = self._get(name)
        if isinstance(default, Enum):
            values = {str(each.value).replace(" ", "-"): each for each in type(default)}
            if value not in values:
                raise PopulationError(f"{self.key(name)} must be one of {', '.join(values)}, not {value!r}")
            return values[value]
        if isinstance(default, bool):
            if not isinstance(value, bool):
                raise PopulationError(f"{self.key(name)} must be true or false, not {value!r}")
            return value
        if isinstance(default, tuple):
            low, high = self.range(name)
            return int(low), int(high)
        number = self._number(name, value, signed=True)
        return int(number) if isinstance(default, int) else number

    def _get(self, name: str, default: object = None) -> Any:
        self._read.add(name)
        value = self._values.get(name, default)
        if value is None:
            raise PopulationError(f"{self.key(name)} is missing")
        return value

    def _table(self, name: str, value: object) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise PopulationError(f"{self.key(name)} must be a table, not {value!r}")
        return value

    def _number(self, name: str, value: object, *, signed: bool = False) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not (signed or value >= 0):
            raise PopulationError(
                f"{self.key(name)} must be a number{'' if signed else ' from 0'}, not {value!r}"
            )
        return float(value)

    def _share(self, name: str, value: object) -> float:
        number = self._number(name, value)
        if number > 1:
            raise PopulationError(f"{self.key(name)} must be from 0 to 1, not {value!r}")
        return number
