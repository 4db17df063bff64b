"""The demo's live screen: a picture of the topology, what each side knows, the path, the progress."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from natwalk.cli.demo_story import SideStory, Story
from natwalk.cli.demo_text import mapping_text, picture_lines, size_text, summary_lines
from natwalk.nat import describe

_BOX = 18
_GAP = 3
_WIDE = 5 * _BOX + 4 * _GAP
"""Columns the picture needs; narrower screens get it as lines of text."""
_SHOWN_CANDIDATES = 6
_COLOURS = {"direct": "green", "relay": "yellow"}


def screen(story: Story, width: int) -> RenderableType:
    """Everything there is to see of ``story`` now, on a screen of ``width`` columns."""
    if not story.where:
        return Text("natwalk demo  building an internet", style="bold")
    parts: list[RenderableType] = [_title(story)]
    if width >= _WIDE:
        parts += [_picture(story), _path_line(story, width)]
    else:
        parts += [Text(line) for line in picture_lines(story)]
    parts += [_kinds(story), Rule(style="dim"), _sides(story), Rule(style="dim"), _progress(story, width)]
    if story.result is not None:
        parts.append(_summary(story))
    return Group(*parts)


def _title(story: Story) -> Text:
    place = "network namespaces of this machine" if story.where == "namespaces" else "the simulator"
    text = Text("natwalk demo", style="bold")
    text.append(f"  an internet in {place}", style="dim")
    if story.why:
        text.append(f"\nno namespaces here: {story.why}", style="yellow")
    return text


def _picture(story: Story) -> RenderableType:
    """Boxes from A to B, connected by lines."""
    boxes = [_box("A", "sends", story.addresses.get("a", ""))]
    if story.same_lan:
        boxes.append(_box("B", "receives", story.addresses.get("b", "")))
    boxes += _nat_box(story, "a")
    boxes.append(_box("internet", "server", story.addresses.get("server", "")))
    if not story.same_lan:
        boxes += _nat_box(story, "b")
        boxes.append(_box("B", "receives", story.addresses.get("b", "")))
    grid = Table.grid(padding=0)
    row: list[RenderableType] = []
    for box in boxes:
        if row:
            row.append(Text("\n\n" + "━" * _GAP, style="dim"))
        row.append(box)
    grid.add_row(*row)
    return grid


def _box(title: str, first: str, second: str) -> Panel:
    return Panel(Text(f"{first}\n{second}", justify="center"), title=title, width=_BOX, padding=0)


def _nat_box(story: Story, side: str) -> list[Panel]:
    if story.kinds[side] == "none":
        return []
    return [_box(f"NAT {side}", story.kinds[side], story.addresses.get(f"nat_{side}", ""))]


def _path_line(story: Story, width: int) -> Text:
    route = story.sides["b"].route or story.sides["a"].route
    if route is None:
        return Text("")
    label = f" {route.kind} " if route.kind == "direct" else f" {route.kind} through the server "
    on_lan = story.same_lan and route.kind == "direct"
    length = 2 * _BOX + _GAP if on_lan else min(width, 5 * _BOX + 4 * _GAP)
    return Text(f"A {label:━^{length - 4}} B", style=_COLOURS.get(route.kind, ""))


def _kinds(story: Story) -> Text:
    """The kinds in users' words and in RFC 4787's."""
    lines = [f"NAT a  {describe(story.kinds['a'])}"] if story.kinds["a"] else []
    if not story.same_lan and story.kinds["b"]:
        lines.append(f"NAT b  {describe(story.kinds['b'])}")
    return Text("\n".join(lines), style="dim")


def _sides(story: Story) -> RenderableType:
    a = _side("A", story.sides["a"])
    b = _side("B", story.sides["b"])
    grid = Table.grid(expand=True)
    grid.add_column(ratio=1)
    grid.add_column(ratio=1)
    grid.add_row(a, b)
    return grid


def _side(name: str, side: SideStory) -> RenderableType:
    """What one peer has learned: its candidates, its NAT, its checks, its path."""
    text = Text(f"{name} learned\n", style="bold")
    for kind, address in side.candidates[:_SHOWN_CANDIDATES]:
        text.append(f"  {kind:<6} {address}\n", style="not bold")
    if len(side.candidates) > _SHOWN_CANDIDATES:
        text.append(f"  and {len(side.candidates) - _SHOWN_CANDIDATES} more\n", style="dim not bold")
    if side.nat:
        text.append(f"  NAT    {mapping_text(side.nat)}\n", style="not bold")
    if side.checks:
        good, bad = side.count("succeeded"), side.count("failed")
        text.append(f"  checks {good} passed, {bad} failed\n", style="not bold")
    for route in side.routes[-3:]:
        rtt = f", {route.rtt_ms:.1f} ms" if route.rtt_ms is not None else ""
        text.append(f"  path   {route.kind} at {route.at:.2f} s{rtt}\n", style=_COLOURS.get(route.kind, ""))
        text.append(f"         {route.remote} ({route.remote_type})\n", style="not bold")
    if side.lost:
        text.append(f"  path   lost: {side.lost}\n", style="red not bold")
    elif side.route is not None and side.route.reason:
        text.append(f"         {side.route.reason}\n", style="italic not bold")
    return text


def _progress(story: Story, width: int) -> RenderableType:
    """The receiver's progress, rate and first byte."""
    receiver = story.sides["b"]
    total = receiver.total or story.size
    grid = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=max(total, 1), completed=receiver.bytes, width=max(10, min(50, width - 50)))
    numbers = Text(f"{size_text(receiver.bytes)} of {size_text(total)}")
    rate = f"{size_text(receiver.rate)}/s" if receiver.rate else ""
    first = story.first_byte_seconds
    after = f"first byte after {first:.2f} s" if first is not None else _waiting(story)
    grid.add_row(bar, numbers, Text(rate, style="cyan"), Text(after, style="dim"))
    return grid


def _waiting(story: Story) -> str:
    receiver = story.sides["b"]
    if receiver.route is not None:
        return "a path is there"
    if receiver.started_at is not None:
        return "looking for a path"
    return "B has the code" if story.code else "starting"


def _summary(story: Story) -> RenderableType:
    text = Text("\n".join(summary_lines(story)))
    return Panel(text, title="whole" if story.ok else "damaged", border_style="green" if story.ok else "red")
