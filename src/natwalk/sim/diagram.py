"""A trace as a sequence diagram in text: one column a node, one arrow a datagram, time going down."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from natwalk.sim.dissect import of_packet
from natwalk.sim.trace import Happening, Record, Trace

WIDTH: Final = 14
_STARTS: Final = (Happening.SEND, Happening.MESSAGE_SENT)
_ENDS: Final = (Happening.RECEIVE, Happening.MESSAGE_RECEIVED, Happening.DROP)


@dataclass(frozen=True, slots=True)
class Arrow:
    """One datagram or message: from its sender to where it arrived or was dropped."""

    sent: Record
    end: Record | None
    """None: still under way when the trace ends."""

    @property
    def words(self) -> str:
        """What it is, how long it took (milliseconds), and why it was dropped if it was."""
        what = self.sent.note if self.sent.packet is None else of_packet(self.sent.packet)
        if self.end is None:
            return f"{what}  (under way)"
        took = f"{(self.end.time - self.sent.time) * 1e3:.1f} ms"
        return f"{what}  {took}" + (f"  {self.end.note}" if self.end.what is Happening.DROP else "")


def arrows(records: Iterable[Record]) -> list[Arrow | Record]:
    """Datagrams and messages as arrows, scenario notes and events as they are, in order of their start."""
    rows: list[Arrow | Record] = []
    where: dict[int, int] = {}
    for record in records:
        if record.what in _STARTS:
            where[record.serial] = len(rows)
            rows.append(Arrow(record, None))
        elif record.what in (Happening.EVENT, Happening.SCENARIO):
            rows.append(record)
        elif record.what in _ENDS and (at := where.get(record.serial)) is not None:
            row = rows[at]
            if isinstance(row, Arrow) and row.end is None:
                rows[at] = Arrow(row.sent, record)
    return rows


def sequence(trace: Trace, *nodes: str, since: float = 0.0, until: float = float("inf")) -> str:
    """The kept records between two times (virtual seconds) as a diagram, with ``nodes`` as columns.

    Without ``nodes``: every node that sent, received or dropped anything. What was dropped on a link ends
    at the node the link leads to.
    """
    rows = arrows(r for r in trace.records if since <= r.time <= until)
    columns = nodes or columns_of(rows)
    at = {node: number * WIDTH + WIDTH // 2 for number, node in enumerate(columns)}
    lines = [f"{'seconds':>12} " + "".join(f"{node:^{WIDTH}}" for node in columns).rstrip()]
    for row in rows:
        line = _arrow(row, at) if isinstance(row, Arrow) else _note(row, at)
        if line is not None:
            lines.append(line)
    return "\n".join(lines)


def columns_of(rows: list[Arrow | Record]) -> tuple[str, ...]:
    """Every node that an arrow begins or ends at, in order of appearance."""
    seen: dict[str, None] = {}
    for row in rows:
        if isinstance(row, Arrow):
            seen.setdefault(row.sent.place)
            if row.end is not None:
                seen.setdefault(node_of(row.end))
    return tuple(seen)


def node_of(record: Record) -> str:
    """The node a record is at; of a link ``a>b``, the far one."""
    return record.place.rpartition(">")[2]


def _arrow(arrow: Arrow, at: dict[str, int]) -> str | None:
    start = at.get(arrow.sent.place)
    stop = start if arrow.end is None else at.get(node_of(arrow.end))
    if start is None or stop is None:
        return None
    lifelines = _lifelines(at)
    low, high = min(start, stop), max(start, stop)
    lifelines[low:high] = "-" * (high - low)
    lifelines[stop] = ">" if stop > start else "<"
    lifelines[start] = "o"
    if arrow.end is not None and arrow.end.what is Happening.DROP:
        lifelines[stop] = "x"
    return f"{arrow.sent.time:12.6f} {''.join(lifelines).ljust(len(at) * WIDTH)} {arrow.words}"


def _note(record: Record, at: dict[str, int]) -> str | None:
    lifelines = _lifelines(at)
    if record.what is Happening.EVENT:
        column = at.get(record.place)
        if column is None:
            return None
        lifelines[column] = "!"
    return f"{record.time:12.6f} {''.join(lifelines).ljust(len(at) * WIDTH)} [{record.place}] {record.note}"


def _lifelines(at: dict[str, int]) -> list[str]:
    line = [" "] * (len(at) * WIDTH)
    for column in at.values():
        line[column] = "|"
    return line
