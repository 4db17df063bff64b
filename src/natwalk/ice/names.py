"""Candidates that go by a name: ours to publish, the peer's to resolve.

(draft-ietf-mmusic-mdns-ice-candidates.) A name hides an address from everybody but the machines on one
network. Whoever sends us names makes us ask that network, so what is asked is bounded: a few names in a
session, a few seconds for each, and never a name outside ``.local``.
"""

from __future__ import annotations

from uuid import UUID

from natwalk.core import IPAddress, RandomBytes
from natwalk.ice.candidate import Candidate, NamedCandidate
from natwalk.ice.config import TransportPolicy
from natwalk.ice.events import NameWanted
from natwalk.ice.session import Session

_MAX_WAITING = 4
"""Candidates that may wait for one name: a machine has few sockets in one session."""


class OwnNames:
    """The names of our addresses: one for each, random, and never used again in another session."""

    __slots__ = ("_names", "_random_bytes")

    def __init__(self, random_bytes: RandomBytes) -> None:
        self._random_bytes = random_bytes
        self._names: dict[IPAddress, str] = {}

    def name(self, ip: IPAddress) -> tuple[str, bool]:
        """The name of ``ip``, and whether it was made just now."""
        known = self._names.get(ip)
        if known is not None:
            return known, False
        name = f"{UUID(bytes=self._random_bytes(16), version=4)}.local"
        self._names[ip] = name
        return name, True


class PeerNames:
    """The peer's names that are being looked up; remembers all it asked for, at most ``max_names``."""

    __slots__ = ("_asked", "_session", "_waiting")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._asked: dict[str, IPAddress | None] = {}
        self._waiting: dict[str, tuple[float, list[NamedCandidate]]] = {}

    def want(self, candidate: NamedCandidate, now: float) -> Candidate | None:
        """Take a candidate with a name: what it stands for when that is known, else None.

        A name that is new is asked for by an event; what is refused is counted in the session's drops.
        """
        name, config = candidate.name, self._session.config
        if (ip := self._asked.get(name)) is not None:
            return candidate.resolved(ip)
        if config.policy is TransportPolicy.RELAY:
            self._refuse("a name, and the policy is relay")
        elif name in self._waiting:
            if len(self._waiting[name][1]) < _MAX_WAITING:
                self._waiting[name][1].append(candidate)
            else:
                self._refuse("too many with one name")
        elif name in self._asked:
            self._refuse("its name does not resolve")
        elif len(self._asked) >= config.max_names:
            self._refuse("too many names")
        else:
            self._asked[name] = None
            self._waiting[name] = (now + config.name_timeout, [candidate])
            self._session.events.put(NameWanted(name))
        return None

    def resolved(self, name: str, ip: IPAddress | None) -> list[Candidate]:
        """The candidates that ``name`` was looked up for; none when that failed or comes too late."""
        _, waiting = self._waiting.pop(name, (0.0, []))
        if not waiting:
            self._session.drops.add("a name resolved that nobody waits for")
        elif ip is None:
            self._refuse("its name does not resolve")
        else:
            self._asked[name] = ip
            return [candidate.resolved(ip) for candidate in waiting]
        return []

    def handle_timeout(self, now: float) -> None:
        """Wait no longer for names that had their time."""
        for name, (due, _) in list(self._waiting.items()):
            if due <= now:
                self.resolved(name, None)

    @property
    def pending(self) -> bool:
        """Whether a name is being looked up: a candidate may still come of it."""
        return bool(self._waiting)

    def next_timeout(self) -> float | None:
        """When a name has had its time."""
        return min((due for due, _ in self._waiting.values()), default=None)

    def close(self) -> None:
        """Wait for nothing any more."""
        self._waiting.clear()

    def _refuse(self, reason: str) -> None:
        self._session.drops.add(f"remote candidate: {reason}")
