"""A trace as a sequence diagram in SVG: the same arrows as :mod:`natwalk.sim.diagram`, to look at."""

from __future__ import annotations

from html import escape
from typing import Final

from natwalk.sim.diagram import Arrow, arrows, columns_of, node_of
from natwalk.sim.dissect import of_packet
from natwalk.sim.trace import Happening, Record, Trace

_ROW: Final = 24
_TOP: Final = 64
_TIMES: Final = 96
"""Pixels of the column with the times."""
_COLUMN: Final = 230
_STYLE: Final = """
text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:#24292f}
.node{font-weight:bold;font-size:14px;text-anchor:middle}
.time{fill:#6e7781;text-anchor:end}
.words{text-anchor:middle;font-size:11px;paint-order:stroke;stroke:#fff;stroke-width:4px}
.life{stroke:#d0d7de;stroke-width:2}
.gap{stroke:#eaeef2;stroke-width:1}
.scenario{fill:#8250df;font-style:italic}
.event{fill:#6e7781;font-size:11px;paint-order:stroke;stroke:#fff;stroke-width:4px}
"""
_COLOURS: Final = {
    "STUN": "#0969da",
    "ChannelData": "#9a6700",
    "QUIC": "#1a7f37",
    "message": "#8250df",
    "data": "#57606a",
    "dropped": "#cf222e",
}


def sequence_svg(trace: Trace, *nodes: str, since: float = 0.0, until: float = float("inf")) -> str:
    """The kept records between two times (virtual seconds) as a drawing, with ``nodes`` as columns.

    Columns and arrows are those of :func:`~natwalk.sim.sequence`; rows are equally far apart, whatever the
    time between them. What was dropped ends in a cross with the reason.
    """
    rows = arrows(record for record in trace.records if since <= record.time <= until)
    columns = nodes or columns_of(rows)
    at = {node: _TIMES + _COLUMN // 2 + number * _COLUMN for number, node in enumerate(columns)}
    drawn: list[str] = []
    y = _TOP + _ROW
    for row in rows:
        shapes = _arrow(row, at, y) if isinstance(row, Arrow) else _note(row, at, y)
        if shapes:
            moment = row.sent.time if isinstance(row, Arrow) else row.time
            drawn.append(f'<text class="time" x="{_TIMES - 12}" y="{y + 4}">{moment:.6f}</text>')
            drawn += shapes
            y += _ROW
    width = _TIMES + _COLUMN * len(at) + 12
    lifelines = [
        f'<line class="life" x1="{x}" y1="{_TOP - 16}" x2="{x}" y2="{y}"/>'
        f'<text class="node" x="{x}" y="{_TOP - 28}">{escape(node)}</text>'
        for node, x in at.items()
    ]
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y + _ROW}" '
            f'width="{width}" height="{y + _ROW}" role="img">',
            "<title>Who sent what, time going down</title>",
            f"<style>{_STYLE}</style>",
            "<defs>" + "".join(_marker(name, colour) for name, colour in _COLOURS.items()) + "</defs>",
            f'<rect width="{width}" height="{y + _ROW}" fill="#fff"/>',
            *lifelines,
            *drawn,
            "</svg>\n",
        )
    )


def _marker(name: str, colour: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
        f'orient="auto-start-reverse"><path d="M0 0 8 4 0 8Z" fill="{colour}"/></marker>'
    )


def _sort(arrow: Arrow) -> str:
    if arrow.end is not None and arrow.end.what is Happening.DROP:
        return "dropped"
    if arrow.sent.packet is None:
        return "message"
    first = of_packet(arrow.sent.packet).partition(" ")[0]
    return first if first in _COLOURS else "data"


def _arrow(arrow: Arrow, at: dict[str, int], y: int) -> list[str]:
    start = at.get(arrow.sent.place)
    stop = start if arrow.end is None else at.get(node_of(arrow.end))
    if start is None or stop is None:
        return []
    sort = _sort(arrow)
    colour = _COLOURS[sort]
    middle = (start + stop) / 2 if start != stop else start + _COLUMN // 2
    shapes = []
    if start != stop:
        end = "" if sort == "dropped" else f' marker-end="url(#{sort})"'
        shapes.append(
            f'<line x1="{start}" y1="{y}" x2="{stop}" y2="{y}" stroke="{colour}" stroke-width="1.5"{end}/>'
        )
    shapes.append(f'<circle cx="{start}" cy="{y}" r="3" fill="{colour}"/>')
    if sort == "dropped":
        shapes.append(
            f'<path d="M{stop - 5} {y - 5}l10 10m0-10l-10 10" stroke="{colour}" stroke-width="2.5"/>'
        )
    shapes.append(f'<text class="words" x="{middle:g}" y="{y - 5}">{escape(arrow.words)}</text>')
    return shapes


def _note(record: Record, at: dict[str, int], y: int) -> list[str]:
    x = at.get(record.place)
    if record.what is Happening.EVENT:
        if x is None:
            return []
        return [
            f'<rect x="{x - 4}" y="{y - 4}" width="8" height="8" fill="#6e7781"/>',
            f'<text class="event" x="{x + 9}" y="{y + 4}">{escape(record.note)}</text>',
        ]
    right = _TIMES + _COLUMN * len(at)
    words = escape(f"{record.place}: {record.note}")
    return [
        f'<line class="gap" x1="{_TIMES}" y1="{y}" x2="{right}" y2="{y}"/>',
        f'<text class="words scenario" x="{(_TIMES + right) // 2}" y="{y + 4}">{words}</text>',
    ]
