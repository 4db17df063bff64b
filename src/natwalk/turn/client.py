"""The TURN client: one allocation, on one local socket, at one server (RFC 8656 over UDP)."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any, Final

from natwalk.core import (
    Address,
    Drops,
    IPAddress,
    LocalProtocolError,
    MalformedMessage,
    Outbox,
    Path,
    RandomBytes,
    Reach,
    Timers,
    Transmit,
    earliest,
    reach,
)
from natwalk.stun import (
    DATA,
    LIFETIME,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    XOR_MAPPED_ADDRESS,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    Message,
    MessageClass,
    Method,
    decode,
    is_stun,
)
from natwalk.turn.channel_data import HEADER_LENGTH, decode_channel_data, is_channel_data
from natwalk.turn.client_events import (
    Allocated,
    AllocationFailed,
    AllocationLost,
    Closed,
    PeerData,
    TurnClientEvent,
)
from natwalk.turn.client_peers import PeerTable
from natwalk.turn.client_requests import Answer, Request, Requester

UDP: Final = 17
MAX_DATA: Final = 65_000
FAMILIES: Final = {4: 1, 6: 2}  # REQUESTED-ADDRESS-FAMILY by IP version, RFC 8656 §18.6

_REFRESH_MIN: Final = 5.0
_REFRESH_MAX: Final = 1800.0
_CLOSE_RC: Final = 3  # and Rm 4: a server that is gone holds nobody up for more than 3.5 s
_CLOSE_RM: Final = 4
_TURN_METHODS: Final = frozenset(
    {Method.ALLOCATE, Method.REFRESH, Method.DATA, Method.CREATE_PERMISSION, Method.CHANNEL_BIND}
)
_SEND_OVERHEAD: Final = {4: 20 + 12 + 4 + 3, 6: 20 + 24 + 4 + 3}  # header, XOR-PEER-ADDRESS, DATA, padding


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

    ``lifetime`` is the one asked for, in seconds; ``family`` is the IP version (4 or 6) of the relayed
    address wanted, None for the server's default. After :class:`AllocationFailed`,
    :class:`AllocationLost` or :class:`Closed` the client is done: make a new one. Raises ValueError on
    another family and on a username or password that cannot be prepared (RFC 8265 §4.2).
    """

    def __init__(
        self,
        server: Address,
        local: Address,
        username: str,
        password: str,
        *,
        random_bytes: RandomBytes,
        lifetime: int = 600,
        family: int | None = None,
    ) -> None:
        if family not in {None, 4, 6}:
            raise ValueError(f"family {family!r} is not 4, 6 or None")
        self.server = server
        self.local = local
        self.relayed: Address | None = None
        self.mapped: Address | None = None
        self.drops = Drops()
        self._lifetime = lifetime
        self._family = family
        self._path = Path(local, server)
        self._state = _State.IDLE
        self._timers: Timers[_Timer] = Timers()
        self._transmits: Outbox[Transmit] = Outbox()
        self._events: Outbox[TurnClientEvent] = Outbox()
        self._requester = Requester(
            self._path, username, password, random_bytes=random_bytes, drops=self.drops
        )
        self._peers = PeerTable(
            self._path,
            self._requester.send,
            self._transmits,
            self._events,
            random_bytes=random_bytes,
            drops=self.drops,
        )

    def allocate(self, now: float) -> None:
        """Ask for the allocation (RFC 8656 §7.1); ends in Allocated or AllocationFailed."""
        if self._state is not _State.IDLE:
            raise LocalProtocolError(f"allocate() on a client that is {self._state.value}")
        self._state = _State.ALLOCATING
        attributes: tuple[tuple[Any, Any], ...] = ((REQUESTED_TRANSPORT, UDP), (LIFETIME, self._lifetime))
        if self._family is not None:
            attributes += ((REQUESTED_ADDRESS_FAMILY, FAMILIES[self._family]),)
        self._requester.send(Request(Method.ALLOCATE, attributes), now)

    def create_permission(self, peers: Iterable[IPAddress], now: float) -> None:
        """Let ``peers`` send to the relayed address, and keep it so (RFC 8656 §10)."""
        self._require_allocation("create_permission()")
        for ip in peers:
            self._check_family(ip.version)
            self._peers.permit(ip, now)

    def bind_channel(self, peer: Address, now: float) -> None:
        """Bind a channel to ``peer``, and keep it bound (RFC 8656 §12.1)."""
        self._require_allocation("bind_channel()")
        self._check_family(peer.version)
        self._peers.bind(peer, now)

    def send(self, data: bytes, peer: Address, now: float) -> None:
        """Relay ``data`` to ``peer``, getting permission first if need be (16 datagrams wait at most).

        A channel is bound after the first few datagrams. What the server refuses is dropped and counted.
        Raises :class:`LocalProtocolError` without an allocation, for a peer of the other IP version and
        for more than 65,000 bytes.
        """
        self._require_allocation("send()")
        self._check_family(peer.version)
        if len(data) > MAX_DATA:
            raise LocalProtocolError(f"{len(data)} bytes are more than a relayed datagram holds")
        self._peers.send(data, peer, now)

    def close(self, now: float) -> None:
        """Give the allocation back (a Refresh with LIFETIME 0, RFC 8656 §8); ends in Closed."""
        if self._state in {_State.CLOSING, _State.ENDED}:
            return
        may_exist = self._state is _State.ALLOCATED or (
            self._state is _State.ALLOCATING and self._requester.authenticated
        )
        self._forget()
        if not may_exist:
            self._end(Closed())
            return
        self._state = _State.CLOSING
        self._requester.send(Request(Method.REFRESH, ((LIFETIME, 0),), rc=_CLOSE_RC, rm=_CLOSE_RM), now)

    def overhead(self, peer: Address) -> int:
        """Bytes the relay adds to a datagram for ``peer`` between here and the server, at most."""
        return HEADER_LENGTH if self._peers.is_bound(peer) else _SEND_OVERHEAD[peer.version]

    def owns(self, datagram: bytes, path: Path) -> bool:
        """True when ``datagram`` is TURN from the server of this allocation, to its socket."""
        if path != self._path:
            return False
        if is_channel_data(datagram):
            return True
        return is_stun(datagram) and _method(datagram) in _TURN_METHODS

    def receive(self, datagram: bytes, path: Path, now: float) -> None:
        """Take a datagram; what is not from the server, or not to be believed, is dropped."""
        if path != self._path:
            self.drops.add("not from the server")
        elif self._state is _State.ENDED:
            self.drops.add("after the end")
        elif is_channel_data(datagram):
            self._receive_channel_data(datagram, now)
        else:
            self._receive_stun(datagram, path, now)

    def handle_timeout(self, now: float) -> None:
        """Retransmit, refresh and give up what is due."""
        for answer in self._requester.handle_timeout(now):
            self._on_answer(answer, now)
        for timer in self._timers.due(now):
            if self._state is not _State.ALLOCATED:
                break
            if timer is _Timer.EXPIRY:
                self._lose("the allocation expired before it could be refreshed")
            else:
                self._requester.send(Request(Method.REFRESH, ((LIFETIME, self._lifetime),)), now)
        self._peers.handle_timeout(now)

    def poll_transmit(self) -> Transmit | None:
        """The next datagram for the server, or None."""
        return self._requester.poll_transmit() or self._transmits.poll()

    def poll_event(self) -> TurnClientEvent | None:
        """The next event, or None."""
        return self._events.poll()

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` is due, or None."""
        return earliest(
            self._requester.next_timeout(), self._timers.next_timeout(), self._peers.next_timeout()
        )

    def _receive_channel_data(self, datagram: bytes, now: float) -> None:
        try:
            channel, data = decode_channel_data(datagram)
        except MalformedMessage:
            self.drops.add("malformed ChannelData")
            return
        peer = self._peers.on_channel(channel, now)
        if peer is None:
            self.drops.add("ChannelData on a channel never bound")
        else:
            self._events.put(PeerData(data, peer))

    def _receive_stun(self, datagram: bytes, path: Path, now: float) -> None:
        try:
            message = decode(datagram)
        except MalformedMessage:
            self.drops.add("malformed STUN message")
            return
        if message.message_class is MessageClass.INDICATION and message.method == Method.DATA:
            self._receive_data_indication(message, now)
        elif message.message_class in {MessageClass.SUCCESS, MessageClass.ERROR}:
            answer = self._requester.receive(message, path, now)
            if answer is not None:
                self._on_answer(answer, now)
        else:
            self.drops.add("a STUN message a client does not take")

    def _receive_data_indication(self, message: Message, now: float) -> None:
        peer, data = message.get(XOR_PEER_ADDRESS), message.get(DATA)
        if peer is None or data is None or message.unknown_required:
            self.drops.add("a Data indication that is incomplete")
        elif not self._peers.on_data(peer, now):
            self.drops.add("data from a peer without permission")
        else:
            self._events.put(PeerData(data, peer))

    def _on_answer(self, answer: Answer, now: float) -> None:
        method = answer.request.method
        if self._state is _State.ENDED:
            return
        if self._state is _State.CLOSING:
            self._forget()
            self._end(Closed())
        elif method is Method.ALLOCATE:
            self._allocate_answered(answer, now)
        elif answer.code == 437:
            self._lose("the server does not know the allocation any more")
        elif method is Method.REFRESH:
            self._refresh_answered(answer, now)
        else:
            self._peers.on_answer(answer, now)

    def _allocate_answered(self, answer: Answer, now: float) -> None:
        if answer.message is None:
            self._forget()
            self._end(AllocationFailed(answer.code, answer.reason, answer.timed_out))
            return
        message = answer.message
        relayed, lifetime = message.get(XOR_RELAYED_ADDRESS), message.get(LIFETIME)
        mapped = message.get(XOR_MAPPED_ADDRESS)
        if relayed is None or lifetime is None:
            self._fail("the server's answer lacks XOR-RELAYED-ADDRESS or LIFETIME", now)
        elif not _sane(relayed) or (self._family is not None and relayed.version != self._family):
            self._fail(f"the server offers {relayed}, which cannot be a relayed address here", now)
        else:
            self._state = _State.ALLOCATED
            self.relayed = relayed
            self.mapped = mapped if mapped is not None and _sane(mapped) else None
            self._arm(lifetime, now)
            self._events.put(Allocated(relayed, self.mapped, lifetime))

    def _refresh_answered(self, answer: Answer, now: float) -> None:
        if answer.message is not None:
            self._arm(answer.message.get(LIFETIME) or 0, now)
            return
        expiry = self._timers.get(_Timer.EXPIRY)
        if expiry is not None:  # once more in half the time that is left
            self._timers.set(_Timer.REFRESH, now + max((expiry - now) / 2, _REFRESH_MIN))

    def _arm(self, lifetime: int, now: float) -> None:
        half = min(max(lifetime / 2, _REFRESH_MIN), _REFRESH_MAX)
        self._timers.set(_Timer.REFRESH, now + half)
        self._timers.set(_Timer.EXPIRY, now + max(lifetime, 2 * half))

    def _fail(self, reason: str, now: float) -> None:
        # The server made an allocation that is of no use: give it back, once (RFC 8656 §7.3).
        self._forget()
        self._requester.send(Request(Method.REFRESH, ((LIFETIME, 0),), rc=1, rm=1), now)
        self._end(AllocationFailed(None, reason))

    def _lose(self, reason: str) -> None:
        self._forget()
        self._end(AllocationLost(reason))

    def _end(self, event: TurnClientEvent) -> None:
        self._state = _State.ENDED
        self.relayed = None
        self._events.put(event)

    def _forget(self) -> None:
        self._requester.forget()
        self._timers.clear()
        self._peers.forget()

    def _require_allocation(self, command: str) -> None:
        if self._state is not _State.ALLOCATED:
            raise LocalProtocolError(f"{command} on a client that is {self._state.value}")

    def _check_family(self, version: int) -> None:
        if self.relayed is not None and self.relayed.version != version:
            raise LocalProtocolError(f"an IPv{version} peer behind the relayed address {self.relayed}")


def _method(datagram: bytes) -> int:
    """The method in the type field of a STUN header (RFC 8489 §5)."""
    kind = (datagram[0] << 8) | datagram[1]
    return (kind & 0x000F) | (kind & 0x00E0) >> 1 | (kind & 0x3E00) >> 2


def _sane(address: Address) -> bool:
    return address.port != 0 and reach(address.ip) not in {Reach.UNSPECIFIED, Reach.MULTICAST}
