"""The peer connections of TCP allocations: ids, states, and what waits for a client (RFC 6062 §5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from natwalk.core import Address, Deadlines, Outbox, Path, RandomBytes
from natwalk.stun import Message
from natwalk.turn.allocation import Allocation, Relay
from natwalk.turn.public_addresses import PublicAddresses
from natwalk.turn.server_events import (
    ConnectionJoined,
    ConnectionReleased,
    ConnectWanted,
    TurnServerEvent,
)

CONNECT_TIMEOUT: Final = 30.0
"""Seconds a connection to a peer may take (RFC 6062 §5.2: at least 30)."""
BIND_TIMEOUT: Final = 30.0
"""Seconds a client may take to bind a connection (RFC 6062 §5.2, §5.3: at least 30)."""
_ID_TRIES: Final = 64  # each fails with less than one in 2**16: never reached by chance


class ConnectionState(Enum):
    """How far a peer connection has come."""

    CONNECTING = "connecting"
    UNBOUND = "unbound"
    JOINED = "joined"


@dataclass(slots=True, eq=False)
class PeerConnection:
    """A TCP connection between ``relay`` and ``peer``, and the client connection it is joined with.

    ``peer`` is the address the client knows.
    ``request`` is the Connect that waits for it to open; None when the peer connected.
    """

    id: int
    relay: Relay
    peer: Address
    state: ConnectionState
    request: Message | None = None
    client: Path | None = None

    @property
    def allocation(self) -> Allocation:
        """Whose connection it is."""
        return self.relay.allocation


class PeerConnections:
    """Every peer connection of a server; what ends here is told to the driver once."""

    def __init__(
        self,
        events: Outbox[TurnServerEvent],
        random_bytes: RandomBytes,
        public: PublicAddresses | None = None,
    ) -> None:
        self._events = events
        self._public = public or PublicAddresses()
        self._random_bytes = random_bytes
        self._by_id: dict[int, PeerConnection] = {}
        self._by_client: dict[Path, PeerConnection] = {}
        self._deadlines: Deadlines[PeerConnection] = Deadlines()

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[PeerConnection]:
        return iter(self._by_id.values())

    def get(self, connection_id: int) -> PeerConnection | None:
        """The connection with that id, or None."""
        return self._by_id.get(connection_id)

    def joined(self, client: Path) -> PeerConnection | None:
        """The peer connection that the client connection ``client`` is joined with, or None."""
        return self._by_client.get(client)

    def connect(self, relay: Relay, peer: Address, request: Message, now: float) -> None:
        """Have a connection from ``relay`` to ``peer`` opened, to answer ``request`` then."""
        connection = self._add(relay, peer, ConnectionState.CONNECTING, request)
        self._deadlines.set(connection, now + CONNECT_TIMEOUT)
        self._events.put(ConnectWanted(connection.id, relay.address, self._public.bound(peer)))

    def accept(self, relay: Relay, peer: Address, now: float) -> PeerConnection:
        """Take in the connection that ``peer`` opened to ``relay``."""
        connection = self._add(relay, peer, ConnectionState.UNBOUND, None)
        self._deadlines.set(connection, now + BIND_TIMEOUT)
        return connection

    def opened(self, connection: PeerConnection, now: float) -> None:
        """The connection that was wanted is there; a client has 30 seconds to bind it."""
        connection.state = ConnectionState.UNBOUND
        connection.request = None
        self._deadlines.set(connection, now + BIND_TIMEOUT)

    def join(self, connection: PeerConnection, client: Path) -> None:
        """Have ``connection`` spliced with the client connection ``client``."""
        connection.state = ConnectionState.JOINED
        connection.client = client
        self._by_client[client] = connection
        self._deadlines.cancel(connection)
        self._events.put(ConnectionJoined(connection.id, client))

    def forget(self, connection: PeerConnection) -> None:
        """The driver has closed ``connection``."""
        del self._by_id[connection.id]
        connection.allocation.connections.pop(connection.peer, None)
        self._deadlines.cancel(connection)
        if connection.client is not None:
            del self._by_client[connection.client]

    def release(self, connection: PeerConnection) -> None:
        """Forget ``connection`` and have the driver close it."""
        self.forget(connection)
        self._events.put(ConnectionReleased(connection.id))

    def release_all(self, relay: Relay) -> None:
        """Release every connection of ``relay``, which ends."""
        for connection in list(relay.allocation.connections.values()):
            if connection.relay is relay:
                self.release(connection)

    def withdraw(self, denied: Callable[[Address], bool]) -> list[PeerConnection]:
        """Release every connection whose peer is ``denied``; returns those still connecting."""
        cut = [connection for connection in self if denied(connection.peer)]
        for connection in cut:
            self.release(connection)
        return [connection for connection in cut if connection.state is ConnectionState.CONNECTING]

    def handle_timeout(self, now: float) -> list[PeerConnection]:
        """Release what took too long; returns those that were still connecting, to answer for."""
        due = self._deadlines.due(now)
        for connection in due:
            self.release(connection)
        return [connection for connection in due if connection.state is ConnectionState.CONNECTING]

    def next_timeout(self) -> float | None:
        """When a connection has taken too long, or None."""
        return self._deadlines.next_timeout()

    def _add(
        self, relay: Relay, peer: Address, state: ConnectionState, request: Message | None
    ) -> PeerConnection:
        connection = PeerConnection(self._fresh_id(), relay, peer, state, request)
        self._by_id[connection.id] = connection
        relay.allocation.connections[peer] = connection
        return connection

    def _fresh_id(self) -> int:
        """32 random bits that no connection has: an id must not tell the next."""
        for _ in range(_ID_TRIES):
            connection_id = int.from_bytes(self._random_bytes(4), "big")
            if connection_id and connection_id not in self._by_id:
                return connection_id
        raise RuntimeError("random_bytes repeats itself")
