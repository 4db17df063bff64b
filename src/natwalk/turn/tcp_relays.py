"""Connect, ConnectionBind and connections from peers: TCP allocations (RFC 6062 §5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from natwalk.core import Address, Drops, Outbox, Path, RandomBytes, Transmit, Transport
from natwalk.stun import CONNECTION_ID, XOR_PEER_ADDRESS, Message, Method, encode, indication
from natwalk.turn.admission import Granted
from natwalk.turn.allocation import Allocation
from natwalk.turn.config import TurnConfig
from natwalk.turn.connections import ConnectionState, PeerConnection, PeerConnections
from natwalk.turn.guard import PeerGuard
from natwalk.turn.newpeers import NewPeers
from natwalk.turn.replies import Deferred, Failure, Later, Reply, Success, forbidden
from natwalk.turn.table import AllocationTable

_FAILED: Final = Failure(447)


class TcpRelays:
    """What clients and peers do with TCP allocations."""

    def __init__(
        self,
        config: TurnConfig,
        table: AllocationTable,
        guard: PeerGuard,
        connections: PeerConnections,
        transmits: Outbox[Transmit],
        drops: Drops,
        random_bytes: RandomBytes,
        new_peers: NewPeers,
    ) -> None:
        self._new_peers = new_peers
        self._limits = config.limits
        self._table = table
        self._guard = guard
        self._connections = connections
        self._transmits = transmits
        self._drops = drops
        self._random_bytes = random_bytes

    def configure(self, config: TurnConfig) -> None:
        """Go by the limits of ``config`` from now on."""
        self._limits = config.limits

    def connect(self, request: Message, allocation: Allocation, now: float) -> Reply:
        """RFC 6062 §5.2: Later, as the answer comes with the connection.

        It needs no permission and installs none.
        """
        peer = request.get(XOR_PEER_ADDRESS)
        if allocation.transport is not Transport.TCP:
            return Failure(400, "the allocation relays UDP")
        if peer is None:
            return Failure(400, "XOR-PEER-ADDRESS is missing")
        if peer in allocation.connections:
            return Failure(446)
        relay = allocation.relay_of(peer.version)
        if relay is None:
            return Failure(443)
        if (denial := self._guard.check_connect(peer)) is not None:
            return forbidden(denial)
        if len(allocation.connections) >= self._limits.connections_per_allocation:
            return Failure(508, "too many connections")
        if not self._new_peers.allow(allocation.granted.account, peer, now):
            return Failure(508, "too many new peers")
        self._connections.connect(relay, peer, request, now)
        return Later()

    def bind(self, request: Message, path: Path, granted: Granted) -> Reply:
        """RFC 6062 §5.4: from here on the client connection ``path`` belongs to the peer."""
        connection_id = request.get(CONNECTION_ID)
        if not path.transport.is_stream:
            return Failure(400, "ConnectionBind comes over TCP or TLS")
        if connection_id is None:
            return Failure(400, "CONNECTION-ID is missing")
        if path in self._table.by_client:
            return Failure(400, "an allocation was made on this connection")
        connection = self._connections.get(connection_id)
        if connection is None or connection.state is not ConnectionState.UNBOUND:
            return Failure(400, "no connection waits under this id")
        if not granted.owns(connection.allocation.granted):
            return Failure(441)
        self._connections.join(connection, path)
        return Success()

    def holder(self, request: Message) -> Allocation | None:
        """The allocation of the connection that the ConnectionBind ``request`` names, or None."""
        connection_id = request.get(CONNECTION_ID)
        connection = None if connection_id is None else self._connections.get(connection_id)
        return None if connection is None else connection.allocation

    def accepted(self, relay_address: Address, peer: Address, now: float) -> int | None:
        """RFC 6062 §5.3: the id of the connection, told to the client too, or None when it is refused."""
        relay = self._table.by_tcp_relay.get(relay_address)
        if relay is None or relay.expires <= now or relay.allocation.away:
            self._drops.add("a connection to a relay that is not open")
            return None
        peer = self._table.public.advertised(peer)
        if (reason := self._refusal(relay.allocation, peer, now)) is not None:
            self._drops.add(reason)
            return None
        connection = self._connections.accept(relay, peer, now)
        attributes = ((XOR_PEER_ADDRESS, peer), (CONNECTION_ID, connection.id))
        attempt = indication(Method.CONNECTION_ATTEMPT, self._random_bytes(12), *attributes)
        self._transmits.put(Transmit(encode(attempt), relay.allocation.path))
        return connection.id

    def connected(self, connection_id: int, now: float) -> Deferred | None:
        """The connection that was wanted is there: what to answer, or None when it is not wanted any more."""
        connection = self._connections.get(connection_id)
        if connection is None or connection.request is None:
            return None
        answer = _answer(connection, Success(((CONNECTION_ID, connection.id),)))
        self._connections.opened(connection, now)
        return answer

    def connect_failed(self, connection_id: int) -> Deferred | None:
        """The connection that was wanted cannot be had: what to answer, if anything."""
        connection = self._connections.get(connection_id)
        if connection is None or connection.request is None:
            return None
        self._connections.forget(connection)
        return _answer(connection, _FAILED)

    def closed(self, connection_id: int) -> None:
        """The driver has closed that connection, and the client's (RFC 6062 §5.5); harmless when unknown."""
        connection = self._connections.get(connection_id)
        if connection is not None:
            self._connections.forget(connection)

    def client_closed(self, path: Path) -> bool:
        """Release the connection joined with the client connection ``path``; False when there is none."""
        connection = self._connections.joined(path)
        if connection is None:
            return False
        self._connections.release(connection)
        return True

    def transferred(self, connection_id: int, to_peer: int, from_peer: int) -> Allocation | None:
        """Count bytes that were relayed; returns the allocation they count for, or None."""
        connection = self._connections.get(connection_id)
        if connection is None:
            return None
        allocation = connection.allocation
        allocation.bytes_to_peers += to_peer
        allocation.bytes_from_peers += from_peer
        return allocation

    def withdraw(self, denied: Callable[[Address], bool]) -> list[Deferred]:
        """Release the connections whose peer is ``denied``; returns the answers to Connects among them."""
        return [_answer(connection, Failure(403)) for connection in self._connections.withdraw(denied)]

    def handle_timeout(self, now: float) -> list[Deferred]:
        """Release what took longer than 30 seconds; returns the answers to Connects among them."""
        return [_answer(connection, _FAILED) for connection in self._connections.handle_timeout(now)]

    def _refusal(self, allocation: Allocation, peer: Address, now: float) -> str | None:
        if not allocation.permits(peer.host, now):
            return "a connection from a peer without permission"
        if self._guard.check_connect(peer) is not None:
            return "a connection from a peer that is refused"
        if peer in allocation.connections:
            return "a connection from a peer that is connected"
        if len(allocation.connections) >= self._limits.connections_per_allocation:
            return "one connection too many from a peer"
        return None


def _answer(connection: PeerConnection, reply: Success | Failure) -> Deferred:
    request, allocation = connection.request, connection.allocation
    assert request is not None
    return Deferred(request, allocation.path, allocation.granted, reply)
