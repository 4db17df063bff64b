"""The TURN server: every client and every relay socket of one process (RFC 8656 over UDP)."""

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
)
from natwalk.stun import (
    SOFTWARE,
    Attribute,
    Behaviour,
    BindingServer,
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
from natwalk.turn.control import METHODS, Control
from natwalk.turn.guard import PeerGuard
from natwalk.turn.relay import DataPlane
from natwalk.turn.replies import Failure, Later, Raw, Success
from natwalk.turn.server_events import EndReason, RelayReleased, TurnServerEvent
from natwalk.turn.table import AllocationTable

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


class TurnServer:
    """A core that relays for authenticated clients.

    ``path.local`` tells it whether a datagram came to a listener (:meth:`add_listener`) or to a relay
    socket it asked for with RelayWanted. Plain Binding requests to a listener are answered, too.
    """

    def __init__(self, config: TurnConfig, *, random_bytes: RandomBytes) -> None:
        self.config = config
        self.drops = Drops()
        self._listeners: set[Address] = set()
        self._transmits: Outbox[Transmit] = Outbox(OUTBOX_LIMIT)
        self._events: Outbox[TurnServerEvent] = Outbox(OUTBOX_LIMIT)
        self._table = AllocationTable(self._events)
        self._guard = PeerGuard(
            config.policy, config.relay_addresses, config.port_range, self._table.by_relay
        )
        self._plane = DataPlane(self._table, self._guard, self._transmits, self.drops, random_bytes)
        self._admission = Admission(config, random_bytes=random_bytes)
        self._allocator = Allocator(config, self._table, self._events, random_bytes)
        self._control = Control(config, self._table, self._guard, self._allocator)
        self._binding = BindingServer(software=config.software, random_bytes=random_bytes)
        self._binding.drops = self.drops
        self._by_relay = self._table.by_relay
        self._last_channel_byte = config.channel_max >> 8

    def add_listener(self, address: Address) -> None:
        """Serve clients on the socket bound to ``address``, and refuse it as a peer from now on."""
        self._listeners.add(address)
        self.add_own_endpoint(address)

    def add_own_endpoint(self, address: Address) -> None:
        """Refuse ``address`` as a peer, in running allocations too: an HTTP port, an interface's address."""
        self._guard.add_endpoint(address)
        self._table.withdraw(lambda peer: self._guard.check(peer) is not None)

    def set_wall_offset(self, wall_minus_monotonic: float) -> None:
        """Unix time minus ``now``; until it is known, no TURN REST credential is valid."""
        self._admission.wall_offset = wall_minus_monotonic
        self._binding.wall_offset = wall_minus_monotonic

    def set_behaviour(self, behaviour: Behaviour | None) -> None:
        """Take part in behaviour discovery (RFC 5780 §6) on those addresses, which must be listeners."""
        self._binding.set_behaviour(behaviour)

    def receive(self, datagram: bytes, path: Path, now: float) -> None:
        """Take one datagram from a client or a peer."""
        allocation = self._by_relay.get(path.local)
        if allocation is not None:
            self._plane.from_peer(allocation, datagram, path, now)
        elif path.local not in self._listeners:
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

    def relay_opened(self, token: int, now: float) -> None:
        """The socket of a RelayWanted is bound. Raises LocalProtocolError on an unknown token."""
        outcome = self._allocator.opened(token)
        if outcome is None:
            return
        pending, reply = outcome
        response = self._encode(pending.request, pending.granted, reply)
        self._allocator.establish(pending, response, now)
        self._transmits.put(Transmit(response, pending.path))

    def relay_failed(self, token: int, now: float) -> None:
        """The socket of a RelayWanted could not be bound; another port is tried, or the client told.

        Raises LocalProtocolError on an unknown token.
        """
        outcome = self._allocator.failed(token)
        if outcome is not None:
            pending, reply = outcome
            response = self._encode(pending.request, pending.granted, reply)
            self._transmits.put(Transmit(response, pending.path))

    def close(self, now: float) -> None:
        """End every allocation; what waits for a socket is forgotten."""
        self._allocator.abandon()
        for allocation in list(self._by_relay.values()):
            self._table.end(allocation, EndReason.SHUTDOWN)

    def handle_timeout(self, now: float) -> None:
        """Let expire what is due."""
        self._table.handle_timeout(now)

    def poll_transmit(self) -> Transmit | None:
        """The next datagram, to a client or a peer, or None."""
        return self._transmits.poll()

    def poll_event(self) -> TurnServerEvent | None:
        """The next event, or None."""
        event = self._events.poll()
        if isinstance(event, RelayReleased):
            self._allocator.release(event.address)
        return event

    def next_timeout(self) -> float | None:
        """When the next thing expires, or None."""
        return self._table.next_timeout()

    @property
    def stats(self) -> TurnStats:
        """How much the server holds right now."""
        allocations = self._table.by_client.values()
        return TurnStats(
            allocations=len(allocations),
            flows=self._table.flows,
            permissions=sum(len(allocation.permissions) for allocation in allocations),
            listeners=len(self._listeners),
            dropped=self.drops.total,
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
        known = allocation.granted if allocation is not None else None
        verdict = self._admission.admit(request, path, now, known)
        match verdict:
            case Ignored(reason):
                self.drops.add(reason)
            case Refused():
                self._transmits.put(Transmit(_refusal(request, verdict), path))
            case Granted():
                reply = self._control.handle(request, path, verdict, allocation, now)
                if not isinstance(reply, Later):
                    self._transmits.put(Transmit(self._encode(request, verdict, reply), path))

    def _live(self, path: Path, now: float) -> Allocation | None:
        allocation = self._table.by_client.get(path)
        if allocation is not None and allocation.expires <= now:
            self._table.handle_timeout(now)  # the driver is about to, but the datagram came first
            return None
        return allocation

    def _encode(self, request: Message, granted: Granted, reply: Success | Failure | Raw) -> bytes:
        match reply:
            case Raw(data):
                return data
            case Success(attributes):
                message = success(request, *attributes, *self._software())
            case Failure():
                message = error(request, reply.code, reply.reason, *reply.attributes)
        return encode(message, integrity_key=granted.key, sha256=granted.sha256)

    def _software(self) -> tuple[Attribute, ...]:
        return () if self.config.software is None else ((SOFTWARE, self.config.software),)


def _refusal(request: Message, refused: Refused) -> bytes:
    return encode(error(request, refused.code, "", *refused.attributes))
