"""What the demo's events add up to: the state both the live screen and the summary are made from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from natwalk.cli.demo_lab import Event

MAX_CANDIDATES: Final = 32
MAX_PATHS: Final = 64


@dataclass(frozen=True, slots=True)
class Route:
    """One path in use: ``kind`` is ``direct`` or ``relay``; ``rtt_ms`` is None while not measured."""

    kind: str
    local: str
    remote: str
    local_type: str
    remote_type: str
    rtt_ms: float | None
    reason: str
    at: float


@dataclass(slots=True)
class SideStory:
    """One peer as far as its events tell."""

    candidates: list[tuple[str, str]] = field(default_factory=list)
    """Type and address of its own candidates, in the order they were learned."""
    nat: str = ""
    """What it found out about its NAT, in RFC 4787's words."""
    checks: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By candidate pair: the state of its check, and the reason of a failure."""
    routes: list[Route] = field(default_factory=list)
    lost: str = ""
    """Why there is no path at the moment, after there was one."""
    connected_at: float | None = None
    started_at: float | None = None
    first_byte_at: float | None = None
    bytes: int = 0
    total: int = 0
    rate: float = 0.0
    sha256: str = ""
    seconds: float = 0.0

    @property
    def route(self) -> Route | None:
        """The path in use."""
        return self.routes[-1] if self.routes else None

    def count(self, state: str) -> int:
        """How many checks are in ``state``."""
        return sum(1 for now, _ in self.checks.values() if now == state)


class Story:
    """Takes events one by one; the screen reads the attributes."""

    def __init__(self) -> None:
        self.where = ""
        """``namespaces`` or ``simulator``."""
        self.why = ""
        """Why not in namespaces, when it is the simulator."""
        self.kinds: dict[str, str] = {"a": "", "b": ""}
        self.addresses: dict[str, str] = {}
        self.same_lan = False
        self.size = 0
        self.code = ""
        self.at = 0.0
        """Seconds since the start at which the latest event happened."""
        self.sides: dict[str, SideStory] = {"a": SideStory(), "b": SideStory()}
        self.result: tuple[str, str] | None = None
        """SHA-256 of the file sent and of the file received, as read from the disks."""

    def take(self, event: Event) -> None:
        """Note one event; those it does not know change nothing."""
        self.at = max(self.at, number(event.get("at")) or 0.0)
        side = self.sides.get(str(event.get("side")))
        match event.get("event"):
            case "topology":
                self._take_topology(event)
            case "result":
                self.result = (str(event["sent"]), str(event["received"]))
            case "code":
                self.code = str(event["code"])
            case name if side is not None:
                _take_side(side, str(name), event)

    def _take_topology(self, event: Event) -> None:
        self.where = str(event["where"])
        self.why = str(event.get("why", ""))
        self.kinds = {"a": str(event["nat_a"]), "b": str(event["nat_b"])}
        self.same_lan = bool(event.get("same_lan"))
        self.size = int(number(event.get("size")) or 0)
        addresses = event.get("addresses")
        if isinstance(addresses, dict):
            self.addresses = {str(name): str(address) for name, address in addresses.items()}

    @property
    def ok(self) -> bool:
        """Whether the file arrived: the hashes of both files, and those both peers report, are equal."""
        if self.result is None:
            return False
        sent, received = self.result
        return sent == received and {side.sha256 for side in self.sides.values()} <= {sent}

    @property
    def first_byte_seconds(self) -> float | None:
        """From the receiver's start to its first byte."""
        receiver = self.sides["b"]
        if receiver.started_at is None or receiver.first_byte_at is None:
            return None
        return receiver.first_byte_at - receiver.started_at

    def summary(self) -> Event:
        """The demo in one object: what moved, how, why that way, how fast, and whether it is whole."""
        receiver = self.sides["b"]
        route = receiver.route
        first = self.first_byte_seconds
        return {
            "event": "summary",
            "side": "demo",
            "at": self.at,
            "ok": self.ok,
            "where": self.where,
            "path": route.kind if route else None,
            "reason": route.reason if route else None,
            "rtt_ms": route.rtt_ms if route else None,
            "first_byte_seconds": None if first is None else round(first, 4),
            "bytes": self.size,
            "seconds": round(receiver.seconds, 4),
            "bytes_per_second": round(self.size / receiver.seconds) if receiver.seconds else None,
            "sha256_sent": self.result[0] if self.result else None,
            "sha256_received": self.result[1] if self.result else None,
        }


def _take_side(side: SideStory, name: str, event: Event) -> None:
    at = number(event.get("at")) or 0.0
    match name:
        case "start":
            side.started_at = at
        case "candidate" if event.get("of", "local") == "local":
            candidate = (str(event["type"]), str(event["address"]))
            if candidate not in side.candidates and len(side.candidates) < MAX_CANDIDATES:
                side.candidates.append(candidate)
        case "nat" if event.get("of", "local") == "local":
            side.nat = str(event.get("mapping", ""))
        case "check":
            pair = f"{event.get('local')} {event.get('remote')}"
            if pair in side.checks or len(side.checks) < MAX_CANDIDATES**2:
                side.checks[pair] = (str(event.get("state")), str(event.get("reason") or ""))
        case "path-lost":
            side.lost = str(event.get("reason") or "no path")
        case "path":
            side.lost = ""
            _take_route(side, _route(event, at))
        case "connected":
            side.connected_at = at
        case "progress" | "done":
            _take_progress(side, event, at, done=name == "done")


def _take_route(side: SideStory, route: Route) -> None:
    """Note a change of path, or what is newly known of the present one."""
    now = side.route
    if now is not None and (now.kind, now.local, now.remote) == (route.kind, route.local, route.remote):
        side.routes[-1] = replace(route, at=now.at)
    elif len(side.routes) < MAX_PATHS:
        side.routes.append(route)
    else:
        side.routes[-1] = route


def _take_progress(side: SideStory, event: Event, at: float, *, done: bool) -> None:
    side.bytes = int(number(event.get("bytes")) or 0)
    side.total = int(number(event.get("total")) or side.total or side.bytes)
    side.rate = number(event.get("rate")) or 0.0
    if side.bytes and side.first_byte_at is None:
        side.first_byte_at = at
    if done:
        side.total = side.bytes
        side.sha256 = str(event.get("sha256", ""))
        side.seconds = number(event.get("seconds")) or 0.0


def _route(event: Event, at: float) -> Route:
    words = {name: str(event.get(name) or "") for name in _ROUTE_WORDS}
    return Route(**words, rtt_ms=number(event.get("rtt_ms")), at=at)


_ROUTE_WORDS: Final = ("kind", "local", "remote", "local_type", "remote_type", "reason")


def number(value: object) -> float | None:
    """``value`` when it is a number, else None."""
    return float(value) if isinstance(value, (int, float)) else None
