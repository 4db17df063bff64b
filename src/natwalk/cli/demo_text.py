"""The demo in lines of text: for outputs that are not a terminal, and the summary at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from natwalk.cli.demo_lab import Event
from natwalk.cli.demo_story import Route, Story, number
from natwalk.nat import describe


def plain_lines(event: Event, story: Story) -> Iterator[str]:
    """``event`` in words, for an output that is not a terminal; ``story`` has taken it already."""
    at = number(event.get("at")) or 0.0
    side = str(event.get("side"))
    who = {"a": "A", "b": "B", "server": "server"}.get(side, "")
    for text in _plain_texts(event, story):
        yield f"{at:7.3f} s  {who:<6}  {text}"


def _plain_texts(event: Event, story: Story) -> Iterator[str]:
    match event.get("event"):
        case "topology":
            yield from picture_lines(story)
        case "start":
            yield f"$ {event['command']}"
        case "code":
            yield f"code {event['code']}"
        case "candidate":
            whose = "own" if event.get("of", "local") == "local" else "peer's"
            yield f"{whose} candidate {event['type']} {event['address']}"
        case "nat":
            whose = "own" if event.get("of", "local") == "local" else "peer's"
            yield f"{whose} NAT: {mapping_text(str(event.get('mapping')))}"
        case "server-trouble":
            yield f"server {event.get('server') or ''}: {event.get('reason')}"
        case "path-lost":
            yield f"path lost: {event.get('reason')}"
        case "check":
            reason = f": {event['reason']}" if event.get("reason") else ""
            yield f"check {event.get('local')} -> {event.get('remote')} {event.get('state')}{reason}"
        case "path":
            route = story.sides[str(event["side"])].route
            if route is not None:
                yield route_text(route)
        case "connected":
            yield "connected: both sides are authenticated"
        case "done":
            yield f"done: {event.get('bytes')} bytes, sha256 {event.get('sha256')}"
        case "no-namespaces":
            yield f"no network namespaces here: {event['reason']} ({event['hint']})"
            yield "running the same two peers in the simulator instead"
        case "error" | "failed":
            yield f"error: {event.get('message')} {event.get('hint') or ''}".rstrip()
        case "output":
            yield str(event.get("text", ""))


_MAPPINGS: Final = {
    "no-nat": "there is none",
    "unknown": "not known",
    "udp-silent": "no server answers over UDP",
}


def mapping_text(mapping: str) -> str:
    """What a peer found out about its NAT, in words; RFC 4787's where there are some."""
    return _MAPPINGS.get(mapping, f"{mapping} mapping")


def route_text(route: Route) -> str:
    """One line about a path: kind, both ends with their candidate types, round trip, why."""
    rtt = f", {route.rtt_ms:.1f} ms" if route.rtt_ms is not None else ""
    ends = f"{route.local} ({route.local_type}) <-> {route.remote} ({route.remote_type})"
    why = f": {route.reason}" if route.reason else ""
    return f"path {route.kind}, {ends}{rtt}{why}"


def picture_lines(story: Story) -> Iterator[str]:
    """The topology as lines of text."""
    place = "network namespaces of this machine" if story.where == "namespaces" else "the simulator"
    yield f"an internet in {place}" + (f", because {story.why}" if story.why else "")
    where = story.addresses
    if story.same_lan:
        yield f"A {where.get('a', '')} and B {where.get('b', '')} on one LAN behind {_nat(story, 'a')}"
    else:
        yield f"A {where.get('a', '')} -- {_nat(story, 'a')} -- internet"
        yield f"B {where.get('b', '')} -- {_nat(story, 'b')} -- internet"
    yield f"server {where.get('server', '')} -- internet"


def _nat(story: Story, side: str) -> str:
    address = story.addresses.get(f"nat_{side}")
    return f"NAT {address or ''} [{describe(story.kinds[side])}]".replace("  ", " ")


def summary_lines(story: Story) -> list[str]:
    """The end of the demo in a few lines."""
    summary = story.summary()
    route = story.sides["b"].route
    lines = []
    if route is not None:
        lines.append(
            f"path        {route.kind}: {route.reason}" if route.reason else f"path        {route.kind}"
        )
    if story.first_byte_seconds is not None:
        lines.append(f"first byte  {story.first_byte_seconds:.2f} s after the receiver was started")
    rate = summary["bytes_per_second"]
    if isinstance(rate, int):
        lines.append(
            f"transfer    {size_text(story.size)} in {story.sides['b'].seconds:.2f} s, {size_text(rate)}/s"
        )
    if story.result is not None:
        verdict = "equal on both sides" if story.ok else "NOT EQUAL"
        lines.append(f"sha256      {verdict}: {story.result[1]}")
    return lines


def size_text(size: float) -> str:
    """``size`` bytes with a decimal unit, as rates and sizes of disks are given."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size:.0f} B"
