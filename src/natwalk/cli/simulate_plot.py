"""The figures of ``natwalk simulate`` as one SVG picture: shares by pair of networks, and times."""

from __future__ import annotations

from typing import Any, Final
from xml.sax.saxutils import escape

WIDTH: Final = 860
_LEFT: Final = 230
_RIGHT: Final = 110
_BAR: Final = 18
_STEP: Final = 28
_SHARES: Final = (("direct", "#1b7f4d"), ("relayed", "#e0a526"), ("failed", "#b3362b"))
_TIMES: Final = (("first byte", "first_byte_ms"), ("direct path", "direct_ms"))
_QUANTILES: Final = (("p50", "#2b5d8a"), ("p95", "#6d9dc5"), ("p99", "#b9d2e6"))
_FONT: Final = "font-family='system-ui, sans-serif'"


def draw(document: dict[str, Any]) -> str:
    """The picture of what ``--json`` would print."""
    parts = [_text(16, 30, f"{document['population']}: {document['title']}", size=17, weight="600")]
    without = f", without {', '.join(document['without'])}" if document["without"] else ""
    parts.append(_text(16, 50, f"{document['pairs']} pairs, seed {document['seed']}{without}", fill="#555"))
    y = 84
    parts += _legend(y, _SHARES)
    y += 16
    rows = [("all pairs", document["pairs"], document["share"])]
    if document["by_arithmetic"] is not None:
        rows.append(("all pairs, by arithmetic", None, document["by_arithmetic"]))
    rows += [(row["pair"], row["pairs"], row) for row in document["by_network_pair"]]
    for label, count, shares in rows:
        parts += _stacked(y, label, count, shares)
        y += _STEP
    y += 30
    parts.append(_text(16, y, "Time", weight="600"))
    parts += _legend(y, _QUANTILES)
    y += 16
    longest = max((document[key]["p99"] or 0 for _, key in _TIMES), default=0) or 1
    for label, key in _TIMES:
        parts += _nested(y, label, document[key], longest)
        y += _STEP
    height = y + 12
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height}' "
        f"viewBox='0 0 {WIDTH} {height}'>"
    )
    return "\n".join([head, f"<rect width='{WIDTH}' height='{height}' fill='#fff'/>", *parts, "</svg>", ""])


def _stacked(y: int, label: str, count: int | None, shares: dict[str, float]) -> list[str]:
    """One row of shares, each with its figure where there is room."""
    parts = [_text(_LEFT - 10, y + 13, label, anchor="end")]
    x, room = float(_LEFT), WIDTH - _LEFT - _RIGHT
    for name, colour in _SHARES:
        width = shares[name] * room
        parts.append(_rect(x, y, width, colour))
        if width > 36:
            parts.append(_text(x + width / 2, y + 13, f"{shares[name]:.1%}", anchor="middle", fill="#fff"))
        x += width
    if count is not None:
        parts.append(_text(WIDTH - _RIGHT + 10, y + 13, f"{count} pairs", fill="#555"))
    return parts


def _nested(y: int, label: str, values: dict[str, float | None], longest: float) -> list[str]:
    """One row of quantiles from 0, the longest behind; their figures beside it."""
    parts = [_text(_LEFT - 10, y + 13, label, anchor="end")]
    room = WIDTH - _LEFT - 200
    for name, colour in reversed(_QUANTILES):
        parts.append(_rect(_LEFT, y, (values[name] or 0) / longest * room, colour))
    figures = " / ".join("-" if values[name] is None else f"{values[name]:.0f}" for name, _ in _QUANTILES)
    parts.append(_text(_LEFT + room + 10, y + 13, f"{figures} ms", fill="#555"))
    return parts


def _legend(y: int, entries: tuple[tuple[str, str], ...]) -> list[str]:
    parts: list[str] = []
    for number, (name, colour) in enumerate(entries):
        x = _LEFT + number * 90
        parts += [f"<rect x='{x}' y='{y - 10}' width='12' height='12' fill='{colour}'/>"]
        parts.append(_text(x + 18, y, name))
    return parts


def _rect(x: float, y: float, width: float, colour: str) -> str:
    return f"<rect x='{x:.1f}' y='{y}' width='{width:.1f}' height='{_BAR}' fill='{colour}'/>"


def _text(
    x: float, y: float, text: str, *, size: int = 12, fill: str = "#222", anchor: str = "", weight: str = ""
) -> str:
    more = f" text-anchor='{anchor}'" if anchor else ""
    more += f" font-weight='{weight}'" if weight else ""
    return f"<text x='{x:.1f}' y='{y}' font-size='{size}' fill='{fill}' {_FONT}{more}>{escape(text)}</text>"
