"""The TURN server: every client and every relay socket of one process.

RFC 8656 over UDP, TCP, TLS and DTLS, TCP allocations (RFC 6062) and mobility (RFC 8016).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from types import MappingProxyType
from typing import Final

from natwalk.core import (
    Address,
    Drops,
    LocalProtocolError,
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
    decode_readable,
    encode,
    error,
    success,
)
from natwalk.turn.admission import Admission, Granted, Ignored, Refused
from natwalk.turn.allocation import Allocation
from natwalk.turn.allocator import Allocator
from natwalk.turn.bandwidth import Meter
from natwalk.turn.config import TurnConfig, TurnLimits
from natwalk.turn.connections import PeerConnections
from natwalk.turn.control import METHODS, Control
from natwalk.turn.guard import PeerGuard
from natwalk.turn.mobility import Mobility
from natwalk.turn.newpeers import NewPeers
from natwalk.turn.public_addresses import PublicAddresses
from natwalk.turn.relay import DataPlane
from natwalk.turn.reload import Drain, check_changeable, cut_off
from natwalk.turn.replies import Deferred, Failure, Later, Raw, Success
from natwalk.turn.server_events import (
    AllocationEnded,
    AllocationSummary,
    EndReason,
    RelayReleased,
    TurnServerEvent,
)
from natwalk.turn.stats import TurnStats
from natwalk.turn.table import AllocationTable
from natwalk.turn.tcp_relays import TcpRelays

OUTBOX_LIMIT: Final = 65_536

_BINDING: Final = frozenset({b"\x00\x01", b"\x00\x11"})
"""How a Binding request and a Binding indication (a partner's order) begin."""


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
        self._events: Outbox[TurnServerEvent] = Outbox(_most_events(config.limits))
        public = PublicAddresses(config.public_addresses)
        self._connections = PeerConnections(self._events, random_bytes, public)
        self._table = table = AllocationTable(self._events, self._connections, public)
        open_relays = public.as_advertised(table.by_relay)
        self._guard = PeerGuard(
            config.policy,
            config.relay_addresses,
            config.port_range,
            open_relays,
            public.as_advertised(table.by_tcp_relay),
            public,
        )
        self._new_peers = new_peers = NewPeers(config.limits, open_relays)
        self._drain = Drain()
        self._errors: Counter[int] = Counter()
        self._packets_of_ended = self._bytes_of_ended = 0
        self._plane = DataPlane(table, self._guard, self._transmits, self.drops, random_bytes, new_peers)
        self._plane.meter = Meter.wanted(config.limits)
        self._admission = Admission(config, random_bytes=random_bytes)
        self._allocator = Allocator(config, table, self._events, random_bytes)
        self._mobility = Mobility(table, self._events, random_bytes)
        self._tcp = TcpRelays(
            config,
            table,
            self._guard,
            self._connections,
            self._transmits,
            self.drops,
            random_bytes,
            new_peers,
        )
        self._control = Control(
            config, table, self._guard, self._allocator, self._mobility, self._tcp, new_peers
        )
        self._binding = BindingServer(
            software=config.software, classic=config.classic_stun, random_bytes=random_bytes
        )
        self._binding.drops = self.drops
        self._by_relay = table.by_relay
        self._last_channel_byte = config.channel_max >> 8

    def add_listener(self, address: Address, transport: Transport = Transport.UDP) -> None:
        """Serve clients that reach ``address`` over ``transport``, and refuse it as a peer from now on."""
        self._listeners.add((address, transport))
        self.add_own_endpoint(address)

    def add_own_endpoint(self, address: Address) -> None:
        """Refuse ``address`` as a peer, in running allocations too: an HTTP port, an interface's address."""
        if self._guard.add_endpoint(address):
            self._withdraw()

    def set_own_endpoints(self, addresses: Iterable[Address]) -> None:
        """Refuse ``addresses`` as peers instead of those named before: interfaces and back ends now.

        Listeners and what :meth:`add_own_endpoint` named stay. Raises ValueError past 1024 endpoints.
        """
        if self._guard.set_endpoints(addresses):
            self._withdraw()

    def set_wall_offset(self, wall_minus_monotonic: float) -> None:
        """Unix time minus ``now``; until it is known, no TURN REST credential is valid."""
        self._admission.wall_offset = wall_minus_monotonic
        self._binding.wall_offset = wall_minus_monotonic

    def set_behaviour(self, behaviour: Behaviour | None) -> None:
        """Take part in behaviour discovery (RFC 5780 §6) on the addresses of ``behaviour``; None: no more.

        Raises LocalProtocolError, having changed nothing, when one of them is no listener over UDP.
        """
        for address in () if behaviour is None else behaviour.local_addresses:
            if (address, Transport.UDP) not in self._listeners:
                raise LocalProtocolError(f"{address} of behaviour discovery is no listener")
        self._binding.set_behaviour(behaviour)

    def receive(self, datagram: bytes, path: Path, now: float) -> None:
        """Take one datagram from a client or a peer, or one whole message from a client's stream."""
        relay = self._by_relay.get(path.local)
        if relay is not None and path.transport is Transport.UDP:
            self._plane.from_peer(relay, datagram, path, now)
        elif len(datagram) >= 4 and 0x40 <= datagram[0] <= self._last_channel_byte:
            self._plane.from_channel(datagram, path, now)  # whoever has an allocation came to a listener
        elif (path.local, path.transport) not in self._listeners:
            self.drops.add("on a socket that is no listener")
        elif path.remote.port == 0 or len(datagram) < 4:
            self.drops.add("too short, or from port 0")
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
        self._catch_up(now)
        self._allocator.cancel(path)
        if self._tcp.client_closed(path):
            return
        allocation = self._table.by_client.get(path)
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
        allocation = self._tcp.transferred(connection_id, to_peer, from_peer)
        if self._plane.meter is None or allocation is None:
            return 0.0
        return self._plane.meter.debit(allocation.granted.account, to_peer + from_peer, now)

    def reconfigure(self, config: TurnConfig, now: float) -> None:
        """Go by ``config`` from now on: users, secrets, keys, policy, limits and the rest.

        What the new policy denies is cut at once. Allocations end whose user is gone or has another password,
        or whose secret or key is gone. Raises ValueError, having changed nothing, when ``config`` has another
        realm, other relay addresses or another port range.
        """
        check_changeable(self.config, config)
        old_limits, self.config = self.config.limits, config
        self._events.limit = max(_most_events(old_limits), _most_events(config.limits))
        self._admission.reconfigure(config)
        self._guard.set_policy(config.policy)
        for part in (self._allocator, self._control, self._tcp):
            part.configure(config)
        self._binding.set_software(config.software)
        self._binding.classic = config.classic_stun
        self._last_channel_byte = config.channel_max >> 8
        if config.limits != old_limits:
            self._new_peers.configure(config.limits)
            meter, old_meter = Meter.wanted(config.limits), self._plane.meter
            if meter is not None and old_meter is not None:
                meter.inherit(old_meter)
            self._plane.meter = meter
        self._cut_off(lambda granted: not self._admission.still_grants(granted))
        self._withdraw()

    def disconnect(self, username: str, now: float) -> int:
        """End every allocation of ``username``, the name sent or the account it stands for; how many.

        It may come back unless its credentials are taken away with :meth:`reconfigure`.
        """
        return self._cut_off(lambda granted: username in (granted.username, granted.account))

    def drain(self, now: float, alternate: Address | None = None) -> None:
        """Take no new allocations; those there are live on, and are refreshed.

        Who asks for one is sent to ``alternate`` (300, RFC 8489 §10) or told that there is no room (508).
        """
        self._drain.start(alternate)

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
        elif isinstance(event, AllocationEnded):
            counters = event.counters
            self._packets_of_ended += counters.packets_to_peers + counters.packets_from_peers
            self._bytes_of_ended += counters.bytes_to_peers + counters.bytes_from_peers
        return event

    def next_timeout(self) -> float | None:
        """When the next thing expires, or None."""
        earliest = self._table.next_timeout()
        for part in (self._allocator, self._connections):
            at = part.next_timeout()
            if at is not None and (earliest is None or at < earliest):
                earliest = at
        return earliest

    @property
    def allocations(self) -> int:
        """How many allocations there are; unlike ``stats`` as fast with thousands as with one."""
        return self._table.allocations

    @property
    def stats(self) -> TurnStats:
        """How much the server holds right now, and has done so far; goes through all allocations."""
        packets, relayed = self._packets_of_ended, self._bytes_of_ended
        transports: Counter[Transport] = Counter()
        for allocation in self._table:
            transports[allocation.path.transport] += 1
            packets += allocation.packets_to_peers + allocation.packets_from_peers
            relayed += allocation.bytes_to_peers + allocation.bytes_from_peers
        meter = self._plane.meter
        return TurnStats(
            allocations=self._table.allocations,
            flows=self._table.flows,
            permissions=self._table.permissions,
            listeners=len(self._listeners),
            dropped=self.drops.total,
            connections=len(self._connections),
            relay_ports=self._allocator.ports_in_use,
            by_transport=MappingProxyType(transports),
            errors=MappingProxyType(self._errors + self._admission.refusals),
            rate_limited=self._admission.unanswered,
            packets_relayed=packets,
            bytes_relayed=relayed,
            throttled=0 if meter is None else meter.throttled,
            throttled_users=0 if meter is None else meter.limited,
            peers_refused=self._new_peers.throttled,
            scanners=self._new_peers.suspects,
            draining=self._drain.active,
        )

    def _withdraw(self) -> None:
        """Cut what the guard refuses now."""
        guard = self._guard
        self._table.withdraw(lambda peer: guard.check(peer) is not None)
        self._table.withdraw_permissions(lambda host: guard.check_permission(Address(host, 0)) is not None)
        for answer in self._tcp.withdraw(lambda peer: guard.check_connect(peer) is not None):
            self._answer(answer)

    def _cut_off(self, revoked: Callable[[Granted], bool]) -> int:
        return cut_off(self._table, self._allocator, self._events, revoked)

    def _receive_stun(self, datagram: bytes, path: Path, now: float) -> None:
        try:
            message = decode(datagram)
        except MalformedMessage:
            self._receive_malformed(datagram, path, now)
            return
        if message.message_class is MessageClass.INDICATION and message.method == Method.SEND:
            self._plane.from_send(message, path, now)
        elif message.message_class is MessageClass.REQUEST and message.method in METHODS:
            self._receive_request(message, path, now)
        else:
            self.drops.add("a STUN message a TURN server does not take")

    def _receive_malformed(self, datagram: bytes, path: Path, now: float) -> None:
        """Answer a request whose attributes make no sense (RFC 8656 §7.2: 400); drop all else."""
        try:
            message, malformed = decode_readable(datagram)
        except MalformedMessage:
            self.drops.add("neither STUN nor ChannelData")
            return
        if message.message_class is MessageClass.REQUEST and message.method in METHODS:
            self._receive_request(message, path, now, malformed)
        else:
            self.drops.add("a STUN message with a malformed attribute")

    def _receive_request(
        self, request: Message, path: Path, now: float, malformed: tuple[str, ...] = ()
    ) -> None:
        self._catch_up(now)
        allocation = self._table.by_client.get(path)
        holder = allocation or self._holder_elsewhere(request)
        known = holder.granted if holder is not None else None
        verdict = self._admission.admit(request, path, now, known)
        match verdict:
            case Ignored(reason):
                self.drops.add(reason)
            case Refused():
                self._transmits.put(Transmit(_refusal(request, verdict), path))
            case Granted():
                closed = self._closed_to(request, path, verdict, allocation, now)
                if malformed:
                    closed = Failure(400, f"{malformed[0]} is malformed")
                reply = closed or self._control.handle(request, path, verdict, allocation, now)
                if isinstance(reply, Raw):
                    self._transmits.put(Transmit(reply.data, path))
                elif not isinstance(reply, Later):
                    self._answer(Deferred(request, path, verdict, reply))

    def _holder_elsewhere(self, request: Message) -> Allocation | None:
        """Whose allocation on another 5-tuple ``request`` speaks of, by a ticket or a connection's id."""
        if request.method == Method.REFRESH:
            return self._mobility.holder(request)
        if request.method == Method.CONNECTION_BIND:
            return self._tcp.holder(request)
        return None

    def _closed_to(
        self, request: Message, path: Path, granted: Granted, allocation: Allocation | None, now: float
    ) -> Failure | None:
        """Why the client may not have the new allocation it asks for, or None when that is to be seen."""
        if request.method != Method.ALLOCATE or allocation is not None or self._allocator.waits(path):
            return None
        if (refusal := self._drain.refusal(path)) is not None:
            return refusal
        meter = self._plane.meter
        if meter is not None and meter.exhausted(granted.account, now):
            return Failure(486, "the bytes of a day are used up")
        return None

    def _answer(self, answer: Deferred | None) -> None:
        if answer is None:
            return
        request = answer.request
        data = self._encode(request, answer.granted, answer.reply)
        allocation = self._table.by_client.get(answer.path)
        if allocation is not None and allocation.transaction_id == request.transaction_id:
            allocation.response = data
        self._transmits.put(Transmit(data, answer.path))

    def _catch_up(self, now: float) -> None:
        """Let expire what is due: the driver is about to, but this came first."""
        due = self.next_timeout()
        if due is not None and due <= now:
            self.handle_timeout(now)

    def _encode(self, request: Message, granted: Granted, reply: Success | Failure) -> bytes:
        if isinstance(reply, Success):
            message = success(request, *reply.attributes, *self._software())
        else:
            self._errors[reply.code] += 1
            message = error(request, reply.code, reply.reason, *reply.attributes)
        return encode(message, integrity_key=granted.key, sha256=granted.sha256)

    def _software(self) -> tuple[Attribute, ...]:
        return () if self.config.software is None else ((SOFTWARE, self.config.software),)


def _most_events(limits: TurnLimits) -> int:
    """The bound of the queue of events: all there may be can end at one time, and no end may get lost."""
    each = limits.channels_per_allocation + limits.connections_per_allocation + 4
    return OUTBOX_LIMIT + limits.allocations * each


def _refusal(request: Message, refused: Refused) -> bytes:
    return encode(error(request, refused.code, "", *refused.attributes))
