"""The TURN client: one allocation, on one local socket, at one server (RFC 8656)."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final

from natwalk.core import (
    Address,
    Drops,
    IPAddress,
    LocalProtocolError,
    MalformedMessage,
    Outbox,
    Path,
    RandomBytes,
    RemoteProtocolError,
    Timers,
    Transmit,
    Transport,
    earliest,
)
from natwalk.stun import (
    ALTERNATE_DOMAIN,
    ALTERNATE_SERVER,
    LIFETIME,
    MOBILITY_TICKET,
    Message,
    MessageClass,
    Method,
    decode,
    is_stun,
)
from natwalk.turn.channel_data import HEADER_LENGTH, is_channel_data
from natwalk.turn.client_answer import Grant, read_grant
from natwalk.turn.client_arrivals import Arrivals
from natwalk.turn.client_auth import Authenticator, Credentials
from natwalk.turn.client_connections import ConnectionBind, ConnectTable
from natwalk.turn.client_events import (
    Allocated,
    AllocationFailed,
    AllocationLost,
    Closed,
    Migrated,
    MigrationFailed,
    RefreshFailed,
    Stranded,
    TurnClientEvent,
)
from natwalk.turn.client_options import AllocationOptions
from natwalk.turn.client_peers import PeerTable
from natwalk.turn.client_requests import Answer, Request, Requester

MAX_DATA: Final = 65_000

_REFRESH_MIN: Final = 5.0
_REFRESH_MAX: Final = 1800.0
_CLOSE_RC: Final = 3  # and Rm 4: a server that is gone holds nobody up for more than 3.5 s
_CLOSE_RM: Final = 4
_TURN_METHODS: Final = frozenset(Method) - {Method.BINDING}
_SEND_OVERHEAD: Final = {4: 20 + 12 + 4 + 3, 6: 20 + 24 + 4 + 3}  # header, XOR-PEER-ADDRESS, DATA, padding
_MOST_PADDING: Final = 3  # of ChannelData on a stream, RFC 8656 §12.5
_MISMATCH: Final = 437
_MOBILITY_FORBIDDEN: Final = 405


class _State(Enum):
    IDLE = "idle"
    ALLOCATING = "allocating"
    ALLOCATED = "allocated"
    CLOSING = "closing"
    ENDED = "ended"


class _Timer(Enum):
    REFRESH = "refresh"
    EXPIRY = "expiry"


class TurnClient:
    """A core that gets a relayed address and moves datagrams through it.

    ``server`` and ``local`` are the ends of the 5-tuple and ``transport`` what is between them; over a
    stream every transmit is a whole message and ``receive`` wants whole messages (RFC 8489 §6.2.2). After
    :class:`AllocationFailed`, :class:`AllocationLost` or :class:`Closed` the client is done: make a new one.
    Raises ValueError when ``options`` want a TCP allocation over anything but TCP or TLS (RFC 6062 §4.1).
    """

    def __init__(
        self,
        server: Address,
        local: Address,
        credentials: Credentials,
        *,
        random_bytes: RandomBytes,
        transport: Transport = Transport.UDP,
        options: AllocationOptions | None = None,
    ) -> None:
        self.options = options or AllocationOptions()
        if self.options.relay is Transport.TCP and not transport.is_stream:
            raise ValueError(f"a TCP allocation cannot be made over {transport} (RFC 6062 §4.1)")
        self.mapped: Address | None = None
        self.drops = Drops()
        self._random_bytes = random_bytes
        self._grant: Grant | None = None
        self._mobility = self.options.mobility
        self._ticket: bytes | None = None
        self._left: Path | None = None
        self._moving: Requester | None = None
        self._stranded: str | None = None
        self._state = _State.IDLE
        self._timers: Timers[_Timer] = Timers()
        self._transmits: Outbox[Transmit] = Outbox()
        self._events: Outbox[TurnClientEvent] = Outbox()
        path = Path(local, server, transport)
        self._requester = self._new_requester(path, Authenticator(credentials))
        self._connects = ConnectTable(self._events)
        self._peers = PeerTable(
            path,
            self._ask,
            self._transmits,
            self._events,
            random_bytes=random_bytes,
            drops=self.drops,
        )
        self._arrivals = Arrivals(self._peers, self._events, self.drops, self.options.relay)

    @property
    def path(self) -> Path:
        """The 5-tuple of the allocation."""
        return self._requester.path

    @property
    def server(self) -> Address:
        """The server's end of the 5-tuple."""
        return self.path.remote

    @property
    def local(self) -> Address:
        """Our end of the 5-tuple."""
        return self.path.local

    @property
    def relayed(self) -> Address | None:
        """The relayed address, the first one of two; None while there is none."""
        return self._grant.relayed[0] if self._grant is not None else None

    @property
    def relayed_addresses(self) -> tuple[Address, ...]:
        """The relayed addresses: none, one, or one of each IP version."""
        return self._grant.relayed if self._grant is not None else ()

    @property
    def mobile(self) -> bool:
        """Whether the server gave a ticket to move the allocation with (RFC 8016 §3.1)."""
        return self._ticket is not None

    @property
    def busy(self) -> bool:
        """Whether a request waits for its answer."""
        return self._requester.busy

    def relayed_for(self, version: int) -> Address | None:
        """The relayed address that peers of IP ``version`` (4 or 6) reach; None when there is none."""
        return next((address for address in self.relayed_addresses if address.version == version), None)

    def allocate(self, now: float) -> None:
        """Ask for the allocation (RFC 8656 §7.1); ends in Allocated or AllocationFailed."""
        if self._state is not _State.IDLE:
            raise LocalProtocolError(f"allocate() on a client that is {self._state.value}")
        self._state = _State.ALLOCATING
        self._ask(Request(Method.ALLOCATE, self.options.attributes(mobility=self._mobility)), now)

    def create_permission(self, peers: Iterable[IPAddress], now: float) -> None:
        """Let ``peers`` send to the relayed address, and keep it so (RFC 8656 §10)."""
        self._require_allocation("create_permission()")
        for ip in peers:
            self._check_family(ip.version)
            self._peers.permit(ip, now)

    def bind_channel(self, peer: Address, now: float) -> None:
        """Bind a channel to ``peer``, and keep it bound (RFC 8656 §12.1)."""
        self._require_allocation("bind_channel()", Transport.UDP)
        self._check_family(peer.version)
        self._peers.bind(peer, now)

    def send(self, data: bytes, peer: Address, now: float, *, dont_fragment: bool = False) -> None:
        """Relay ``data`` to ``peer``, getting permission first if need be (16 datagrams wait at most).

        A channel is bound after the first few datagrams. ``dont_fragment`` has the server set the DF bit
        (RFC 8656 §14); ICMP answers come as :class:`PeerUnreachable`. What the server refuses is dropped
        and counted. Raises :class:`LocalProtocolError` without an allocation, for a peer of another IP
        version and for more than 65,000 bytes.
        """
        self._require_allocation("send()", Transport.UDP)
        self._check_family(peer.version)
        if len(data) > MAX_DATA:
            raise LocalProtocolError(f"{len(data)} bytes are more than a relayed datagram holds")
        self._peers.send(data, peer, now, dont_fragment)

    def connect(self, peer: Address, now: float) -> None:
        """Have the server connect to ``peer`` by TCP; ends in PeerConnected or ConnectFailed (RFC 6062 §4.3).

        Raises :class:`LocalProtocolError` without a TCP allocation, for a peer of another IP version, and
        while a connection to the same peer is being asked for.
        """
        self._require_allocation("connect()", Transport.TCP)
        self._check_family(peer.version)
        self._connects.connect(self._requester, peer, now)

    def bind_connection(self, connection_id: int, path: Path, now: float) -> ConnectionBind:
        """The core that makes a new connection to the server, ``path``, carry a peer connection."""
        self._require_allocation("bind_connection()", Transport.TCP)
        drops = Drops()
        requester = Requester(
            path, self._requester.authenticator.copy(), random_bytes=self._random_bytes, drops=drops
        )
        return ConnectionBind(requester, connection_id, drops, now)

    def migrate(self, local: Address, now: float) -> None:
        """Move the allocation to the socket ``local``; ends in Migrated or MigrationFailed (RFC 8016 §3.2).

        What peers send meanwhile still counts on the old socket. Raises :class:`LocalProtocolError`
        without an allocation or a ticket, and while another move is under way.
        """
        self._require_allocation("migrate()")
        if self._ticket is None:
            raise LocalProtocolError("the server gave no mobility ticket for this allocation")
        if self._moving is not None:
            raise LocalProtocolError("the allocation is already moving")
        self._moving = self._new_requester(
            self.path._replace(local=local), self._requester.authenticator.copy()
        )
        attributes = ((LIFETIME, self.options.lifetime), (MOBILITY_TICKET, self._ticket))
        self._moving.send(Request(Method.REFRESH, attributes), now)

    def close(self, now: float) -> None:
        """Give the allocation back (a Refresh with LIFETIME 0, RFC 8656 §8); ends in Closed."""
        if self._state in {_State.CLOSING, _State.ENDED}:
            return
        may_exist = self._state is _State.ALLOCATED or (
            self._state is _State.ALLOCATING and self._requester.authenticated
        )
        if self._stranded is not None:
            may_exist = False  # there is no connection to give it back on
        self._forget()
        if not may_exist:
            self._end(Closed())
            return
        self._state = _State.CLOSING
        self._ask(Request(Method.REFRESH, ((LIFETIME, 0),), rc=_CLOSE_RC, rm=_CLOSE_RM), now)

    def disconnected(self, path: Path, reason: str, now: float) -> None:
        """The stream or DTLS association on ``path`` has ended, and the allocation with it.

        Unless it is the one the allocation is moving to or has moved away from, or there is a ticket: then
        :class:`Stranded` asks for a move. Said again of the same path, the allocation is given up.
        """
        if self._moving is not None and path == self._moving.path:
            self._stay(self._moving, None, reason)
        elif path != self.path:
            return
        elif self._moving is not None:
            self._stranded = reason  # a server may close what it has moved away from before it says so
        elif self._state is _State.CLOSING:
            self._forget()
            self._end(Closed())
        elif self._state is _State.ALLOCATED and self._ticket is not None and self._stranded is None:
            self._stranded = reason
            self._events.put(Stranded(path, reason))
        elif self._state is _State.ALLOCATED:
            self._lose(reason)
        elif self._state is _State.ALLOCATING:
            self._forget()
            self._end(AllocationFailed(None, reason))

    def overhead(self, peer: Address) -> int:
        """Bytes the relay adds to a datagram for ``peer`` between here and the server, at most."""
        if not self._peers.is_bound(peer):
            return _SEND_OVERHEAD[peer.version]
        return HEADER_LENGTH + (_MOST_PADDING if self.path.transport.is_stream else 0)

    def owns(self, datagram: bytes, path: Path) -> bool:
        """True when ``datagram`` is TURN from the server of this allocation, to its socket."""
        if not self._is_ours(path):
            return False
        if is_channel_data(datagram):
            return True
        return is_stun(datagram) and _method(datagram) in _TURN_METHODS

    def receive(self, datagram: bytes, path: Path, now: float) -> None:
        """Take a datagram; what is not from the server, or not to be believed, is dropped."""
        if not self._is_ours(path):
            self.drops.add("not from the server")
        elif self._state is _State.ENDED:
            self.drops.add("after the end")
        elif is_channel_data(datagram):
            self._arrivals.receive_channel_data(datagram, now)
        else:
            self._receive_stun(datagram, path, now)

    def handle_timeout(self, now: float) -> None:
        """Retransmit, refresh and give up what is due."""
        for answer in self._requester.handle_timeout(now):
            self._on_answer(answer, now)
        for answer in self._moving.handle_timeout(now) if self._moving is not None else ():
            self._moved(answer, now)
        for timer in self._timers.due(now):
            if self._state is not _State.ALLOCATED:
                break
            if timer is _Timer.EXPIRY:
                self._lose("the allocation expired before it could be refreshed")
            else:
                self._ask(Request(Method.REFRESH, ((LIFETIME, self.options.lifetime),)), now)
        self._peers.handle_timeout(now)

    def poll_transmit(self) -> Transmit | None:
        """The next datagram for the server, or None."""
        moving = self._moving.poll_transmit() if self._moving is not None else None
        return moving or self._requester.poll_transmit() or self._transmits.poll()

    def poll_event(self) -> TurnClientEvent | None:
        """The next event, or None."""
        return self._events.poll()

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` is due, or None."""
        return earliest(
            self._requester.next_timeout(),
            self._moving.next_timeout() if self._moving is not None else None,
            self._timers.next_timeout(),
            self._peers.next_timeout(),
        )

    def _new_requester(self, path: Path, authenticator: Authenticator) -> Requester:
        return Requester(path, authenticator, random_bytes=self._random_bytes, drops=self.drops)

    def _ask(self, request: Request, now: float) -> None:
        self._requester.send(request, now)

    def _is_ours(self, path: Path) -> bool:
        if path in (self.path, self._left):
            return True
        return self._moving is not None and path == self._moving.path

    def _receive_stun(self, datagram: bytes, path: Path, now: float) -> None:
        try:
            message = decode(datagram)
        except MalformedMessage:
            self.drops.add("malformed STUN message")
            return
        if message.message_class is MessageClass.INDICATION:
            self._arrivals.receive_indication(message, now)
        elif message.message_class is MessageClass.REQUEST:
            self.drops.add("a STUN message a client does not take")
        elif self._moving is not None and path == self._moving.path:
            if (answer := self._moving.receive(message, path, now)) is not None:
                self._moved(answer, now)
        elif (answer := self._requester.receive(message, path, now)) is not None:
            self._on_answer(answer, now)

    def _on_answer(self, answer: Answer, now: float) -> None:
        method = answer.request.method
        if self._state is _State.ENDED:
            return
        if self._state is _State.CLOSING:
            self._forget()
            self._end(Closed())
        elif method is Method.ALLOCATE:
            self._allocate_answered(answer, now)
        elif answer.code == _MISMATCH:
            self._lose("the server does not know the allocation any more")
        elif method is Method.REFRESH:
            self._refresh_answered(answer, now)
        elif method is Method.CONNECT:
            self._connects.on_answer(answer)
        else:
            self._peers.on_answer(answer, now)

    def _allocate_answered(self, answer: Answer, now: float) -> None:
        if answer.message is None:
            if answer.code == _MOBILITY_FORBIDDEN and self._mobility:
                self._mobility = False
                self._ask(Request(Method.ALLOCATE, self.options.attributes(mobility=False)), now)
                return
            self._forget()
            self._end(self._refusal(answer))
            return
        try:
            grant = read_grant(answer.message, self.options)
        except RemoteProtocolError as problem:
            # The server made an allocation that is of no use: give it back, once (RFC 8656 §7.3).
            self._forget()
            self._ask(Request(Method.REFRESH, ((LIFETIME, 0),), rc=1, rm=1), now)
            self._end(AllocationFailed(None, str(problem)))
            return
        self._state = _State.ALLOCATED
        self._grant, self.mapped = grant, grant.mapped
        self._ticket = grant.ticket if self._mobility else None
        self._arm(grant.lifetime, now)
        relayed, *more = grant.relayed
        self._events.put(
            Allocated(
                relayed,
                grant.mapped,
                grant.lifetime,
                more[0] if more else None,
                grant.reservation_token,
                grant.address_errors,
            )
        )

    def _refusal(self, answer: Answer) -> AllocationFailed:
        error = answer.error
        if answer.code != 300 or error is None:
            return AllocationFailed(answer.code, answer.reason, answer.timed_out)
        alternates = error.all(ALTERNATE_SERVER)
        alternate = next((each for each in alternates if each.version == self.server.version), None)
        return AllocationFailed(
            answer.code,
            answer.reason,
            alternate=alternate,
            alternate_domain=error.get(ALTERNATE_DOMAIN),
        )

    def _refresh_answered(self, answer: Answer, now: float) -> None:
        if answer.message is not None:
            self._refreshed(answer.message, now)
            return
        expiry = self._timers.get(_Timer.EXPIRY)
        if expiry is not None:  # once more in half the time that is left
            retry_in = max((expiry - now) / 2, _REFRESH_MIN)
            self._timers.set(_Timer.REFRESH, now + retry_in)
            self._events.put(RefreshFailed(answer.code, answer.reason, retry_in))

    def _refreshed(self, message: Message, now: float) -> None:
        self._ticket = message.get(MOBILITY_TICKET) or self._ticket
        self._arm(message.get(LIFETIME) or 0, now)

    def _moved(self, answer: Answer, now: float) -> None:
        moving, self._moving = self._moving, None
        if moving is None or self._state is not _State.ALLOCATED:
            return
        if answer.message is None:
            self._stay(moving, answer.code, answer.reason)
            return
        self._stranded = None
        left, self._requester = self._requester, moving
        self._left = left.path
        self._peers.path = moving.path
        self.mapped = None  # a Refresh does not say it (RFC 8656 §8.3)
        left.hand_over(moving, now)
        self._refreshed(answer.message, now)
        self._events.put(Migrated(moving.path))

    def _stay(self, moving: Requester, code: int | None, reason: str) -> None:
        self._moving = None
        self._events.put(MigrationFailed(moving.path, code, reason))
        if self._stranded is not None:
            self._events.put(Stranded(self.path, self._stranded))

    def _arm(self, lifetime: int, now: float) -> None:
        half = min(max(lifetime / 2, _REFRESH_MIN), _REFRESH_MAX)
        self._timers.set(_Timer.REFRESH, now + half)
        self._timers.set(_Timer.EXPIRY, now + max(lifetime, 2 * half))

    def _lose(self, reason: str) -> None:
        self._forget()
        self._end(AllocationLost(reason))

    def _end(self, event: TurnClientEvent) -> None:
        self._state = _State.ENDED
        self._grant = None
        self._events.put(event)

    def _forget(self) -> None:
        self._requester.forget()
        self._moving = None
        self._timers.clear()
        self._peers.forget()
        self._connects.forget()

    def _require_allocation(self, command: str, relay: Transport | None = None) -> None:
        if self._state is not _State.ALLOCATED:
            raise LocalProtocolError(f"{command} on a client that is {self._state.value}")
        if relay is not None and self.options.relay is not relay:
            raise LocalProtocolError(f"{command} on a {self.options.relay} allocation")

    def _check_family(self, version: int) -> None:
        if self.relayed_for(version) is None:
            raise LocalProtocolError(f"an IPv{version} peer behind the relayed address {self.relayed}")


def _method(datagram: bytes) -> int:
    """The method in the type field of a STUN header (RFC 8489 §5)."""
    kind = (datagram[0] << 8) | datagram[1]
    return (kind & 0x000F) | (kind & 0x00E0) >> 1 | (kind & 0x3E00) >> 2
