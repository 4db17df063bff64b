"""Layouts in TOML: see ``docs/reference/lab-topology.md``."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Final

from natwalk.lab.behaviour import layer_of, table_of
from natwalk.lab.conditions import Conditions
from natwalk.lab.layout import HostLayout, Layout, LayoutError, NatLayout, NetworkLayout, number_in
from natwalk.nat import KINDS, KindSpec, preset

Table = dict[str, Any]

_TOP: Final = ("title", "network", "nat", "host", "server")
_NETWORK: Final = ("subnet", "subnet6", "mtu")
_NAT: Final = ("kind", "outside", "inside", "address", "by", "cable", "behaviour", "layers")
_HOST: Final = ("network", "address", "addresses", "cable", "run")
_CABLE: Final = ("delay-ms", "jitter-ms", "loss", "burst", "rate-mbit")


def read_layout(path: Path) -> Layout:
    """The layout in the file ``path``. Raises LayoutError naming the file and the place, OSError."""
    try:
        return parse_layout(path.read_text(encoding="utf-8"))
    except (LayoutError, UnicodeDecodeError) as error:
        raise LayoutError(f"{path}: {error}") from error


def parse_layout(text: str) -> Layout:
    """The layout in TOML ``text``. Raises LayoutError that names the key which is unknown or wrong."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LayoutError(f"not TOML: {error}") from error
    _known(document, "the file", _TOP)
    networks = _each(document, "network", lambda name, table: _network(name, table))
    by_name = {network.name: network for network in networks}
    nats = _each(document, "nat", lambda name, table: _nat(name, table, by_name))
    hosts = _each(document, "host", lambda name, table: _host(name, table, by_name))
    hosts += _each(document, "server", lambda name, table: _host(name, table, by_name))
    return Layout(networks=networks, nats=nats, hosts=hosts, title=_text(document, "title", ""))


def _each(document: Table, kind: str, make: Callable[[str, Table], Any]) -> list[Any]:
    tables = document.get(kind, {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise LayoutError(f"{kind} is written [{kind}.NAME]")
    made = []
    for name, table in tables.items():
        try:
            made.append(make(name, table))
        except (ValueError, TypeError) as error:
            raise LayoutError(f"[{kind}.{name}]: {error}") from error
    return made


def _network(name: str, table: Table) -> NetworkLayout:
    _known(table, "it", _NETWORK)
    subnet6 = _text(table, "subnet6", "")
    return NetworkLayout(
        name=name,
        subnet=IPv4Network(_text(table, "subnet")),
        subnet6=IPv6Network(subnet6) if subnet6 else None,
        mtu=int(table.get("mtu", 1500)),
    )


def _nat(name: str, table: Table, networks: dict[str, NetworkLayout]) -> NatLayout:
    _known(table, "it", _NAT)
    outside = _text(table, "outside")
    spec = _spec(table)
    by = _text(table, "by", "kernel" if spec in KINDS.values() and len(spec.layers) == 1 else "engine")
    if by not in ("kernel", "engine"):
        raise LayoutError(f"by is 'kernel' or 'engine', not {by!r}")
    return NatLayout(
        name=name,
        spec=spec,
        outside=outside,
        inside=_text(table, "inside"),
        number=_numbers(table, outside, networks, 2)[0],
        engine=by == "engine",
        cable=_cable(table),
    )


def _spec(table: Table) -> KindSpec:
    """The kind; ``behaviour`` changes its one layer, or says all of it when there is no kind."""
    layers = table.get("layers")
    behaviour = table.get("behaviour", {})
    kind = table.get("kind")
    if layers is not None:
        if kind is not None or behaviour:
            raise LayoutError("layers stand alone: neither kind nor behaviour beside them")
        return KindSpec("custom", "custom", tuple(layer_of(layer) for layer in layers))
    if kind is None:
        if not behaviour:
            raise LayoutError("it needs a kind, a behaviour or layers")
        return KindSpec("custom", "custom", (layer_of(behaviour),))
    spec = preset(str(kind))
    if not behaviour:
        return spec
    if len(spec.layers) != 1:
        raise LayoutError(f"{kind} has {len(spec.layers)} layers: write them out as layers")
    changes = {key.replace("-", "_"): value for key, value in behaviour.items()}
    return KindSpec("custom", spec.classic, (layer_of({**table_of(spec.layers[0]), **changes}),))


def _host(name: str, table: Table, networks: dict[str, NetworkLayout]) -> HostLayout:
    _known(table, "it", _HOST)
    network = _text(table, "network")
    run = table.get("run", [])
    lines = [run] if isinstance(run, str) else run
    if not isinstance(lines, list):
        raise LayoutError("run is a command line or a list of them")
    return HostLayout(
        name=name,
        network=network,
        numbers=_numbers(table, network, networks, 10),
        cable=_cable(table),
        run=tuple(tuple(shlex.split(line)) for line in lines),
    )


def _numbers(table: Table, network: str, networks: dict[str, NetworkLayout], default: int) -> tuple[int, ...]:
    addresses = table.get("addresses", [table["address"]] if "address" in table else [])
    if not isinstance(addresses, list):
        raise LayoutError("addresses is a list")
    if network not in networks:
        raise LayoutError(f"there is no network {network!r}")
    numbers = [number_in(networks[network], str(address)) for address in addresses]
    return tuple(dict.fromkeys(numbers)) or (default,)


def _cable(table: Table) -> Conditions | None:
    cable = table.get("cable")
    if cable is None:
        return None
    if not isinstance(cable, dict):
        raise LayoutError("cable is a table: { delay-ms = 20, loss = 0.01 }")
    _known(cable, "cable", _CABLE)
    return conditions_of(cable)


def conditions_of(table: Table) -> Conditions:
    """Conditions of ``delay-ms``, ``jitter-ms``, ``loss``, ``burst`` and ``rate-mbit``. Raises ValueError."""
    for key in table:
        if key not in _CABLE:
            raise LayoutError(f"unknown key {key!r} in cable: known are {', '.join(_CABLE)}")
    rate = table.get("rate-mbit")
    return Conditions(
        delay=float(table.get("delay-ms", 0)) / 1000,
        jitter=float(table.get("jitter-ms", 0)) / 1000,
        loss=float(table.get("loss", 0)),
        burst=float(table.get("burst", 1)),
        rate=None if rate is None else float(rate) * 1e6,
    )


def _known(table: Table, where: str, keys: tuple[str, ...]) -> None:
    for key in table:
        if key not in keys:
            raise LayoutError(f"unknown key {key!r} in {where}: known are {', '.join(keys)}")


def _text(table: Table, key: str, default: str | None = None) -> str:
    value = table.get(key, default)
    if value is None:
        raise LayoutError(f"{key} is missing")
    if not isinstance(value, str):
        raise LayoutError(f"{key} is text, not {value!r}")
    return value
