"""Two secure connections in memory, on a virtual clock, over links that may misbehave."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from natwalk.core import Drops
from natwalk.secure import Identity, SecureConnected, SecureConnection, SecureEvent, StreamData
from natwalk.secure.early import EarlyData
from natwalk.secure.engine import Engine, EngineSettings
from natwalk.secure.login import Login
from natwalk.secure.session import Session

CLIENT_IDENTITY = Identity.generate()
SERVER_IDENTITY = Identity.generate()
AUTH_KEY = b"k" * 32

Fault = Callable[[random.Random, bytes, float], list[tuple[float, bytes]]]
"""What becomes of a datagram: a list of (extra delay, bytes) deliveries."""


def no_fault(rng: random.Random, data: bytes, now: float) -> list[tuple[float, bytes]]:
    return [(0.0, data)]


def seeded_bytes(seed: int) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


def make_client(**options: Any) -> SecureConnection:
    settings: dict[str, Any] = {
        "is_client": True,
        "identity": CLIENT_IDENTITY,
        "peer_fingerprint": SERVER_IDENTITY.fingerprint,
        "auth_key": AUTH_KEY,
        "random_bytes": seeded_bytes(1),
    }
    return SecureConnection(**{**settings, **options})


def make_server(**options: Any) -> SecureConnection:
    settings: dict[str, Any] = {
        "is_client": False,
        "identity": SERVER_IDENTITY,
        "peer_fingerprint": CLIENT_IDENTITY.fingerprint,
        "auth_key": AUTH_KEY,
        "random_bytes": seeded_bytes(2),
    }
    return SecureConnection(**{**settings, **options})


def make_session(
    *, original_destination: bytes | None = None, identity: Identity = SERVER_IDENTITY
) -> Session:
    """A client's session, or with the destination of an Initial a server's with that identity."""
    is_client = original_destination is None
    mine, peer = (CLIENT_IDENTITY, SERVER_IDENTITY) if is_client else (identity, CLIENT_IDENTITY)
    pin = peer.fingerprint if is_client else None
    return Session(
        Engine(EngineSettings(), mine, pin=pin, original_destination=original_destination),
        Login(is_client, mine, peer.fingerprint, AUTH_KEY, seeded_bytes(3)),
        Drops(),
        early=EarlyData() if is_client else None,
        keepalive=15.0,
    )


@dataclass
class Pair:
    """A client, a server, and the link between them: the smallest driver that keeps the contract."""

    client: SecureConnection = field(default_factory=make_client)
    server: SecureConnection = field(default_factory=make_server)
    delay: float = 0.02
    fault: Fault = no_fault
    seed: int = 0
    now: float = 1000.0
    on_event: Callable[[SecureConnection, SecureEvent], None] | None = None

    def __post_init__(self) -> None:
        self.events: dict[int, list[SecureEvent]] = {id(self.client): [], id(self.server): []}
        self.sent: dict[int, list[bytes]] = {id(self.client): [], id(self.server): []}
        self._rng = random.Random(self.seed)
        self._queue: list[tuple[float, int, SecureConnection, bytes]] = []
        self._number = count()
        self.steps = 0

    @property
    def client_events(self) -> list[SecureEvent]:
        return self.events[id(self.client)]

    @property
    def server_events(self) -> list[SecureEvent]:
        return self.events[id(self.server)]

    def start(self) -> Pair:
        for end in (self.server, self.client):
            end.start(self.now)
            self.flush(end)
        return self

    def connect(self) -> Pair:
        self.start()
        self.run_until(lambda: all(SecureConnected() in events for events in self.events.values()))
        return self

    def other(self, end: SecureConnection) -> SecureConnection:
        return self.server if end is self.client else self.client

    def flush(self, end: SecureConnection) -> None:
        for data in end.datagrams(self.now):
            self.sent[id(end)].append(data)
            for extra, delivered in self.fault(self._rng, data, self.now):
                at = self.now + self.delay + extra
                heapq.heappush(self._queue, (at, next(self._number), self.other(end), delivered))
        while (event := end.poll_event()) is not None:
            self.events[id(end)].append(event)
            if self.on_event is not None:
                self.on_event(end, event)

    def step(self) -> bool:
        """Do the next thing that is due; False when nothing ever will be."""
        timers = [(due, end) for end in (self.client, self.server) if (due := end.next_timeout()) is not None]
        first = min(timers, key=lambda timer: timer[0], default=None)
        if first is not None and (not self._queue or first[0] < self._queue[0][0]):
            self.now, end = max(self.now, first[0]), first[1]
            end.handle_timeout(self.now)
        elif self._queue:
            at, _, end, data = heapq.heappop(self._queue)
            self.now = max(self.now, at)
            end.receive(data, self.now)
        else:
            return False
        self.flush(end)
        self.steps += 1
        return True

    def run_until(self, done: Callable[[], bool], *, seconds: float = 120.0, steps: int = 200_000) -> None:
        deadline = self.now + seconds
        for _ in range(steps):
            if done():
                return
            if not self.step() or self.now > deadline:
                break
        assert done(), f"not done at {self.now - deadline + seconds:.3f} s; events {self.describe()}"

    def run(self, seconds: float, steps: int = 200_000) -> None:
        """Let that much virtual time pass."""
        deadline = self.now + seconds
        for _ in range(steps):
            timers = [due for end in (self.client, self.server) if (due := end.next_timeout()) is not None]
            upcoming = min([*timers, *(entry[0] for entry in self._queue[:1])], default=None)
            if upcoming is None or upcoming > deadline:
                break
            self.step()
        else:
            raise AssertionError(f"more than {steps} steps in {seconds} s")
        self.now = deadline

    def received(self, end: SecureConnection, stream_id: int) -> bytes:
        return b"".join(
            event.data
            for event in self.events[id(end)]
            if isinstance(event, StreamData) and event.stream_id == stream_id
        )

    def finished(self, end: SecureConnection, stream_id: int) -> bool:
        return any(
            isinstance(event, StreamData) and event.stream_id == stream_id and event.fin
            for event in self.events[id(end)]
        )

    def describe(self) -> str:
        return "; ".join(
            f"{'client' if end is self.client else 'server'} {end.state.name}: "
            f"{[type(event).__name__ for event in self.events[id(end)][-3:]]} drops {dict(end.drops.counts)}"
            for end in (self.client, self.server)
        )
