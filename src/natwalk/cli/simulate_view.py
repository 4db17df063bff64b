"""The figures of ``natwalk simulate`` as tables for people."""

from __future__ import annotations

from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

_SHARES: Final = ("direct", "relayed", "failed")
_KINDS_SHOWN: Final = 12
_TIMES: Final = (
    ("first byte", "first_byte_ms", "ms"),
    ("direct path", "direct_ms", "ms"),
    ("packets of both peers", "packets", ""),
    ("relayed bytes", "relay_bytes", "B"),
)


def show(document: dict[str, Any], console: Console | None = None) -> None:
    """Print ``document``, what ``--json`` would print, as tables on stdout."""
    console = console or Console(highlight=False)
    console.print(f"{document['population']}: {document['title']}", markup=False)
    console.print(f"{document['pairs']} pairs, seed {document['seed']}", markup=False)
    for table in (_total(document), _figures(document), _techniques(document)):
        console.print(table)
    console.print(_pairs("between networks", document["by_network_pair"]))
    kinds = document["by_kind_pair"]
    title = "between NATs"
    if len(kinds) > _KINDS_SHOWN:
        title += f" (the {_KINDS_SHOWN} most frequent of {len(kinds)})"
    console.print(_pairs(title, kinds[:_KINDS_SHOWN]))


def _total(document: dict[str, Any]) -> Table:
    table = _table("all pairs", "", *_SHARES)
    table.add_row("simulated", *_percents(document["share"]))
    if document["by_arithmetic"] is not None:
        table.add_row("by arithmetic", *_percents(document["by_arithmetic"]))
    return table


def _figures(document: dict[str, Any]) -> Table:
    table = _table("a pair", "", "mean", "p50", "p95", "p99")
    for title, key, unit in _TIMES:
        values = document[key]
        cells = (values[name] for name in ("mean", "p50", "p95", "p99"))
        table.add_row(title, *("-" if value is None else f"{value:.0f} {unit}".rstrip() for value in cells))
    early = document["first_byte_on_relay"]
    table.caption = f"the first byte took a relay, before there was a direct path, in {early:.1%} of pairs"
    return table


def _techniques(document: dict[str, Any]) -> Table:
    table = _table("what each technique adds", "", "direct", "connected", "")
    for name, values in document["techniques"].items():
        adds = [values.get(key) for key in ("adds_direct", "adds_connected")]
        cells = ["" if value is None else f"{value * 100:+.1f} %" for value in adds]
        table.add_row(name, *cells, values.get("why", ""))
    return table


def _pairs(title: str, rows: list[dict[str, Any]]) -> Table:
    table = _table(title, "", "pairs", *_SHARES)
    for row in rows:
        table.add_row(row["pair"], str(row["pairs"]), *_percents(row))
    return table


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD)
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    return table


def _percents(shares: dict[str, float]) -> list[str]:
    return [f"{shares[name] * 100:.1f} %" for name in _SHARES]
