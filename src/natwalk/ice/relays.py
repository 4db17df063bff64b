"""Our relayed addresses: TURN clients that look like further local sockets to the rest of the agent.

A datagram sent from a relayed address goes to the peer through the TURN server; one that arrives there
comes out with ``Path(relayed address, peer)``, as if a socket of ours had received it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from natwalk.core import Address, LocalProtocolError, Path, Transmit, Transport, earliest
from natwalk.ice.config import TurnServerAddress
from natwalk.ice.events import StreamReleased, StreamWanted
from natwalk.ice.session import Session
from natwalk.turn import (
    Allocated,
    AllocationFailed,
    AllocationLost,
    AllocationOptions,
    Closed,
    PasswordCredentials,
    PeerData,
    PermissionDenied,
    TurnClient,
)


@dataclass(frozen=True, slots=True)
class RelayUp:
    """A relayed address is there; ``path`` is our socket and the TURN server."""

    path: Path
    relayed: Address
    mapped: Address | None


@dataclass(frozen=True, slots=True)
class RelayDown:
    """An allocation never came about (``relayed`` is None) or is gone."""

    path: Path
    relayed: Address | None
    reason: str


@dataclass(frozen=True, slots=True)
class RelayRefuses:
    """The server will not relay to ``peer``, an IP address as text."""

    relayed: Address
    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Relayed:
    """A datagram that came in at a relayed address."""

    data: bytes
    path: Path


RelayEvent = RelayUp | RelayDown | RelayRefuses | Relayed


def slot(server: TurnServerAddress) -> Path:
    """What stands for the path to a server over a stream while nobody knows from where it will leave."""
    nowhere = Address("::" if server.address.version == 6 else "0.0.0.0", 0)  # noqa: S104 - not bound
    return Path(nowhere, server.address, server.transport)


class Relays:
    """The TURN clients of one agent: at most one for each local address and server, or for each stream."""

    __slots__ = ("_by_path", "_by_relayed", "_queued", "_session", "_wanted")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._by_path: dict[Path, TurnClient] = {}
        self._by_relayed: dict[Address, TurnClient] = {}
        self._queued: list[RelayEvent] = []
        self._wanted: set[TurnServerAddress] = set()

    def want(self, server: TurnServerAddress) -> None:
        """Ask for a connection to a server that is not reached over UDP."""
        if server not in self._wanted:
            self._wanted.add(server)
            self._session.events.put(StreamWanted(server))

    def stream_opened(self, server: TurnServerAddress, local: Address, now: float) -> None:
        """The connection is there, from ``local``: allocate on it. LocalProtocolError if nobody wanted it."""
        if server not in self._wanted:
            raise LocalProtocolError(f"nobody asked for a stream to {server.address}")
        self._wanted.discard(server)
        self.allocate(server, local, now)

    def stream_failed(self, server: TurnServerAddress, reason: str) -> None:
        """There is no connection to be had; harmless when nobody wanted it."""
        if server in self._wanted:
            self._wanted.discard(server)
            self._queued.append(RelayDown(slot(server), None, reason))

    def stream_closed(self, path: Path, reason: str) -> None:
        """The connection at ``path`` is no more, and its allocation with it; harmless when released."""
        client = self._by_path.get(path)
        if client is not None:
            self._queued.append(self._down(path, self._relayed(client), reason, released=False))

    def allocate(self, server: TurnServerAddress, base: Address, now: float) -> None:
        """Start an allocation from ``base``; an event says how it ends."""
        client = TurnClient(
            server.address,
            base,
            PasswordCredentials(server.username, server.password),
            random_bytes=self._session.random_bytes,
            transport=server.transport,
            options=AllocationOptions(family=base.version if base.version == 6 else None),
        )
        self._by_path[Path(base, server.address, server.transport)] = client
        client.allocate(now)

    def allocated(self, path: Path) -> TurnClient | None:
        """The client on ``path``, our socket and a server, once it has a relayed address."""
        client = self._by_path.get(path)
        return client if client is not None and client.relayed is not None else None

    def is_pending(self, path: Path) -> bool:
        """True while the allocation on ``path`` has been asked for and not answered."""
        client = self._by_path.get(path)
        return client is not None and client.relayed is None

    def is_relayed(self, local: Address) -> bool:
        """True when ``local`` is a relayed address of ours."""
        return local in self._by_relayed

    def owns(self, datagram: bytes, path: Path) -> bool:
        """True when a datagram belongs to the allocation on ``path``."""
        client = self._by_path.get(path)
        return client is not None and client.owns(datagram, path)

    def receive(self, datagram: bytes, path: Path, now: float) -> None:
        """Take a datagram from a TURN server; what it carried comes out of :meth:`events`."""
        self._by_path[path].receive(datagram, path, now)

    def send(self, data: bytes, path: Path, now: float) -> None:
        """Send from the relayed address ``path.local`` to ``path.remote``."""
        client = self._by_relayed.get(path.local)
        if client is None or client.relayed is None:
            self._session.drops.add("sent from a relayed address that is gone")
        else:
            client.send(data, path.remote, now)

    def drop(self, path: Path, reason: str) -> None:
        """Give up the allocation on ``path``, if there is one, because it cannot work any more."""
        client = self._by_path.get(path)
        relayed = self._relayed(client) if client is not None else None
        if relayed is not None:
            self._queued.append(self._down(path, relayed, reason))

    def events(self) -> Iterator[RelayEvent]:
        """Everything that has happened since the last call."""
        while self._queued:
            yield self._queued.pop(0)
        for path, client in list(self._by_path.items()):
            while (event := client.poll_event()) is not None:
                relayed = self._relayed(client)
                match event:
                    case PeerData(data, peer):
                        if relayed is not None:
                            yield Relayed(data, Path(relayed, peer))
                    case Allocated(address, mapped, _):
                        self._by_relayed[address] = client
                        yield RelayUp(path, address, mapped)
                    case AllocationFailed(code, reason):
                        yield self._down(path, None, f"{code} {reason}" if code else reason)
                    case AllocationLost(reason):
                        yield self._down(path, relayed, reason)
                    case Closed():
                        self._down(path, relayed, "closed")
                    case PermissionDenied(ip, code, reason):
                        if relayed is not None:
                            phrase = f"the relay refuses {ip} ({code or 'no answer'} {reason})"
                            yield RelayRefuses(relayed, str(ip), phrase.replace(" )", ")"))
                    case _:
                        pass  # a refresh that will be tried again, a channel not bound: data go on

    def handle_timeout(self, now: float) -> None:
        """Let every client do what is due."""
        for client in list(self._by_path.values()):
            client.handle_timeout(now)

    def poll_transmit(self) -> Transmit | None:
        """The next datagram for a TURN server, or None."""
        for client in self._by_path.values():
            if (out := client.poll_transmit()) is not None:
                return out
        return None

    def next_timeout(self) -> float | None:
        """When a client is due, or None."""
        return earliest(*(client.next_timeout() for client in self._by_path.values()))

    def close(self, now: float) -> None:
        """Give every allocation back."""
        self._wanted.clear()
        for client in list(self._by_path.values()):
            client.close(now)

    def __len__(self) -> int:
        return len(self._by_path)

    def _relayed(self, client: TurnClient) -> Address | None:
        """The relayed address we know ``client`` by; the client itself forgets it as soon as it is lost."""
        return next((address for address, known in self._by_relayed.items() if known is client), None)

    def _down(self, path: Path, relayed: Address | None, reason: str, *, released: bool = True) -> RelayDown:
        self._by_path.pop(path, None)
        if released and path.transport is not Transport.UDP:
            self._session.events.put(StreamReleased(path))
        if relayed is not None:
            self._by_relayed.pop(relayed, None)
        return RelayDown(path, relayed, reason)
