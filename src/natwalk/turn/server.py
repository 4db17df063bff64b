"""The TURN server: every client and every relay socket of one process.

RFC 8656 over UDP, TCP, TLS and DTLS, TCP allocations (RFC 6062) and mobility (RFC 8016).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from natwalk.core import (
    Address,
    Drops,
    MalformedMessage,
    Outbox,
    Path,
    RandomBytes,
    Transmit,
    Transport,
)
from natwalk.stun import (
    SOFTWARE,
    Attribute,
    Behaviour,
    BindingServer,
    IcmpError,
    Message,
    MessageClass,
    Method,
    decode,
    encode,
    error,
    success,
)
from natwalk.turn.admission import Admission, Granted, Ignored, Refused
from natwalk.turn.allocation import Allocation
from natwalk.turn.allocator import Allocator
from natwalk.turn.config import TurnConfig
from natwalk.turn.connections import PeerConnections
from natwalk.turn.control import METHODS, Control
from natwalk.turn.guard import PeerGuard
from natwalk.turn.mobility import Mobility
from natwalk.turn.relay import DataPlane
from natwalk.turn.replies import Deferred, Failure, Later, Raw, Success
from natwalk.turn.server_events import (
    AllocationSummary,
    EndReason,
    RelayReleased,
    TurnServerEvent,
)
from natwalk.turn.table import AllocationTable
from natwalk.turn.tcp_relays import TcpRelays

OUTBOX_LIMIT: Final = 65_536

_BINDING: Final = frozenset({b"\x00\x01", b"\x00\x11"})
"""How a Binding request and a Binding indication (a partner's order) begin."""


@dataclass(frozen=True, slots=True)
class TurnStats:
    """Sizes of a server's tables, for metrics."""

    allocations: int
    flows: int
    permissions: int
    listeners: int
    dropped: int
    connections: int = 0
    relay_ports: int = 0


class TurnServer:
    """A core that relays for authenticated clients.

    ``path`` tells it whether a datagram came to a listener (:meth:`add_listener`) or to a relay socket it
    asked for with RelayWanted. Plain Binding requests to a listener are answered, too. Over a stream the
    driver gives it one whole message at a time, and sends what it gets as it is.
    """

    def __init__(self, config: TurnConfig, *, random_bytes: RandomBytes) -> None:
        self.config = config
        self.drops = Drops()
        self._listeners: set[tuple[Address, Transport]] = set()
        self._transmits: Outbox[Transmit] = Outbox(OUTBOX_LIMIT)
        self._events: Outbox[TurnServerEvent] = Outbox(OUTBOX_LIMIT)
        self._connections = PeerConnections(self._events, random_bytes)
        self._table = table = AllocationTable(self._events, self._connections)
        self._guard = PeerGuard(
            config.policy, config.relay_addresses, config.port_range, table.by_relay, table.by_tcp_relay
        )
        self._plane = DataPlane(table, self._guard, self._transmits, self.drops, random_bytes)
        self._admission = Admission(config, random_bytes=random_bytes)
        self._allocator = Allocator(config, table, self._events, random_bytes)
        self._mobility = Mobility(table, self._events, random_bytes)
        self._tcp = TcpRelays(
            config, table, self._guard, self._connections, self._transmits, self.drops, random_bytes
        )
        self._control = Control(config, table, self._guard, self._allocator, self._mobility, self._tcp)
        self._binding = BindingServer(software=config.software, random_bytes=random_bytes)
        self._binding.drops = self.drops
        self._by_relay = table.by_relay
        self._last_channel_byte = config.channel_max >> 8

    def add_listener(self, address: Address, transport: Transport = Transport.UDP) -> None:
        """Serve clients that reach ``address`` over ``transport``, and refuse it as a peer from now on."""
        self._listeners.add((address, transport))
        self.add_own_endpoint(address)

    def add_own_endpoint(self, address: Address) -> None:
        """Refuse ``address`` as a peer, in running allocations too: an HTTP port, an interface's address."""
        self._guard.add_endpoint(address)
        self._table.withdraw(lambda peer: self._guard.check(peer) is not None)
        for answer in self._tcp.withdraw(lambda peer: self._guard.check_connect(peer) is not None):
            self._answer(answer)

    def set_wall_offset(self, wall_minus_monotonic: float) -> None:
        """Unix time minus ``now``; until it is known, no TURN REST credential is valid."""
        self._admission.wall_offset = wall_minus_monotonic
        self._binding.wall_offset = wall_minus_monotonic

    def set_behaviour(self, behaviour: Behaviour | None) -> None:
        """Take part in behaviour discovery (RFC 5780 §6) on those addresses, which must be listeners."""
        self._binding.set_behaviour(behaviour)

    def receive(self, datagram: bytes, path: Path, now: float) -> None:
        """Take one datagram from a client or a peer, or one whole message from a client's stream."""
        relay = self._by_relay.get(path.local)
        if relay is not None and path.transport is Transport.UDP:
            self._plane.from_peer(relay, datagram, path, now)
        elif (path.local, path.transport) not in self._listeners:
            self.drops.add("on a socket that is no listener")
        elif path.remote.port == 0 or len(datagram) < 4:
            self.drops.add("too short, or from port 0")
        elif 0x40 <= datagram[0] <= self._last_channel_byte:
            self._plane.from_channel(datagram, path, now)
        elif datagram[:2] in _BINDING:
            self._binding.receive(datagram, path, now)
            while (out := self._binding.poll_transmit()) is not None:
                self._transmits.put(out)
        else:
            self._receive_stun(datagram, path, now)

    def client_closed(self, path: Path, now: float) -> None:
        """The client's stream or DTLS association ``path`` has ended, and the 5-tuple with it.

        Its allocation ends, unless a mobility ticket lets the client come back (RFC 8016); a peer connection
        joined with it is released. Harmless when there is nothing of that client.
        """
        self._allocator.cancel(path)
        if self._tcp.client_closed(path):
            return
        allocation = self._live(path, now)
        if allocation is None:
            return
        if allocation.ticket:
            self._table.detach(allocation)
        else:
            self._table.end(allocation, EndReason.CLIENT_GONE)

    def has_allocation(self, path: Path) -> bool:
        """Whether the client on ``path`` has an allocation; a driver closes idle connections of others."""
        return path in self._table.by_client

    def summaries(self, now: float) -> list[AllocationSummary]:
        """Every allocation as its operator sees it at ``now``."""
        return [allocation.summary(now) for allocation in self._table]

    def relay_opened(self, token: int, now: float) -> None:
        """The socket of a RelayWanted is bound. Raises LocalProtocolError on an unknown token."""
        self._answer(self._allocator.opened(token, now))

    def relay_failed(self, token: int, now: float) -> None:
        """The socket of a RelayWanted could not be bound; another port is tried, or the client told.

        Raises LocalProtocolError on an unknown token.
        """
        self._answer(self._allocator.failed(token, now))

    def icmp_received(self, relay: Address, peer: Address, error: IcmpError, now: float) -> None:
        """An ICMP error came about a datagram sent from ``relay`` to ``peer`` (RFC 8656 §11.5)."""
        self._plane.from_icmp(relay, peer, error, now)

    def peer_accepted(self, relay: Address, peer: Address, now: float) -> int | None:
        """``peer`` opened a TCP connection to ``relay``: its id, or None to close it (RFC 6062 §5.3).

        Nothing is to be read from it before ConnectionJoined.
        """
        return self._tcp.accepted(relay, peer, now)

    def peer_connected(self, connection_id: int, now: float) -> None:
        """The connection of a ConnectWanted is open; harmless when it was released meanwhile."""
        self._answer(self._tcp.connected(connection_id, now))

    def peer_connect_failed(self, connection_id: int, now: float) -> None:
        """The connection of a ConnectWanted cannot be had; harmless when it was released meanwhile."""
        self._answer(self._tcp.connect_failed(connection_id))

    def connection_closed(self, connection_id: int, now: float) -> None:
        """A peer connection has ended, at either side, and both are closed (RFC 6062 §5.5).

        Harmless when it was released meanwhile.
        """
        self._tcp.closed(connection_id)

    def transferred(self, connection_id: int, to_peer: int, from_peer: int, now: float) -> float:
        """Count the bytes a joined connection moved since the last call.

        Returns for how many seconds the driver must not read from either side.
        """
        self._tcp.transferred(connection_id, to_peer, from_peer)
        return 0.0

    def close(self, now: float) -> None:
        """End every allocation; what waits for a socket is forgotten."""
        self._allocator.abandon()
        for allocation in list(self._table):
            self._table.end(allocation, EndReason.SHUTDOWN)

    def handle_timeout(self, now: float) -> None:
        """Let expire what is due."""
        self._table.handle_timeout(now)
        self._allocator.handle_timeout(now)
        for answer in self._tcp.handle_timeout(now):
            self._answer(answer)

    def poll_transmit(self) -> Transmit | None:
        """The next datagram, to a client or a peer, or None."""
        return self._transmits.poll()

    def poll_event(self) -> TurnServerEvent | None:
        """The next event, or None."""
        event = self._events.poll()
        if isinstance(event, RelayReleased):
            self._allocator.released(event.address)
        return event

    def next_timeout(self) -> float | None:
        """When the next thing expires, or None."""
        parts = (self._table, self._allocator, self._connections)
        return min((at for part in parts if (at := part.next_timeout()) is not None), default=None)

    @property
    def stats(self) -> TurnStats:
        """How much the server holds right now."""
        return TurnStats(
            allocations=self._table.allocations,
            flows=self._table.flows,
            permissions=self._table.permissions,
            listeners=len(self._listeners),
            dropped=self.drops.total,
            connections=len(self._connections),
            relay_ports=self._allocator.ports_in_use,
        )

    def _receive_stun(self, datagram: bytes, path: Path, now: float) -> None:
        try:
            message = decode(datagram)
        except MalformedMessage:
            self.drops.add("neither STUN nor ChannelData")
            return
        if message.message_class is MessageClass.INDICATION and message.method == Method.SEND:
            self._plane.from_send(message, path, now)
        elif message.message_class is MessageClass.REQUEST and message.method in METHODS:
            self._receive_request(message, path, now)
        else:
            self.drops.add("a STUN message a TURN server does not take")

    def _receive_request(self, request: Message, path: Path, now: float) -> None:
        allocation = self._live(path, now)
        holder = allocation or self._mobility.holder(request) or self._tcp.holder(request)
        known = holder.granted if holder is not None else None
        verdict = self._admission.admit(request, path, now, known)
        match verdict:
            case Ignored(reason):
                self.drops.add(reason)
            case Refused():
                self._transmits.put(Transmit(_refusal(request, verdict), path))
            case Granted():
                reply = self._control.handle(request, path, verdict, allocation, now)
                if isinstance(reply, Raw):
                    self._transmits.put(Transmit(reply.data, path))
                elif not isinstance(reply, Later):
                    self._answer(Deferred(request, path, verdict, reply))

    def _answer(self, answer: Deferred | None) -> None:
        if answer is None:
            return
        request = answer.request
        data = self._encode(request, answer.granted, answer.reply)
        allocation = self._table.by_client.get(answer.path)
        if allocation is not None and allocation.transaction_id == request.transaction_id:
            allocation.response = data
        self._transmits.put(Transmit(data, answer.path))

    def _live(self, path: Path, now: float) -> Allocation | None:
        allocation = self._table.by_client.get(path)
        if allocation is not None and allocation.expires <= now:
            self.handle_timeout(now)  # the driver is about to, but the datagram came first
            return None
        return allocation

    def _encode(self, request: Message, granted: Granted, reply: Success | Failure) -> bytes:
        if isinstance(reply, Success):
            message = success(request, *reply.attributes, *self._software())
        else:
            message = error(request, reply.code, reply.reason, *reply.attributes)
        return encode(message, integrity_key=granted.key, sha256=granted.sha256)

    def _software(self) -> tuple[Attribute, ...]:
        return () if self.config.software is None else ((SOFTWARE, self.config.software),)


def _refusal(request: Message, refused: Refused) -> bytes:
    return encode(error(request, refused.code, "", *refused.attributes))
