"""What a TURN client keeps about its peers: permissions, channels and what waits for them.

A permission is asked for the first time something is sent to a host, and refreshed before its 300 seconds
are over (RFC 8656 §9). A peer that talks back gets a channel, which saves 32 bytes a datagram (§12).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address
from typing import Final

from natwalk.core import Address, Deadlines, Drops, IPAddress, Outbox, Path, RandomBytes, Transmit
from natwalk.stun import (
    CHANNEL_NUMBER,
    DATA,
    DONT_FRAGMENT,
    XOR_PEER_ADDRESS,
    Attribute,
    Method,
    encode,
    indication,
)
from natwalk.turn.channel_data import CHANNEL_MIN, HEADER_LENGTH, pack_header
from natwalk.turn.client_events import (
    ChannelFailed,
    PermissionDenied,
    PermissionRefreshFailed,
    TurnClientEvent,
)
from natwalk.turn.client_requests import Answer, Request

PERMISSION_REFRESH: Final = 200.0  # of 300 s, RFC 8656 §9; one lost transaction takes 39.5 s
PERMISSION_LIFETIME: Final = 300.0  # RFC 8656 §9
CHANNEL_REFRESH: Final = 300.0  # of 600 s, RFC 8656 §12
DENIAL_HOLD: Final = 30.0
MAX_PEER_HOSTS: Final = 256
MAX_PEERS: Final = 512
MAX_QUEUED_PER_PEER: Final = 16
MAX_QUEUED: Final = 512
CHANNEL_AFTER_SENT: Final = 4
CHANNEL_AFTER_SENT_UNANSWERED: Final = 32


class _State(Enum):
    ABSENT = "absent"
    REQUESTED = "requested"
    ACTIVE = "active"
    DENIED = "denied"


class _Timer(Enum):
    PERMISSION = "permission"
    CHANNEL = "channel"


@dataclass(slots=True)
class _Permission:
    ip: IPAddress
    state: _State = _State.ABSENT
    expires: float = 0.0
    waiting: deque[tuple[bytes, Address, bool]] = field(default_factory=deque)


@dataclass(slots=True)
class _Peer:
    address: Address
    channel: int | None = None
    state: _State = _State.ABSENT
    sent: int = 0
    heard: bool = False


class PeerTable:
    """Permissions and channels of one allocation, and the datagrams that wait for a permission."""

    def __init__(
        self,
        path: Path,
        ask: Callable[[Request, float], None],
        transmits: Outbox[Transmit],
        events: Outbox[TurnClientEvent],
        *,
        random_bytes: RandomBytes,
        drops: Drops,
    ) -> None:
        self.path = path
        self._ask = ask
        self._transmits = transmits
        self._events = events
        self._random_bytes = random_bytes
        self._drops = drops
        self._permissions: dict[str, _Permission] = {}
        self._peers: dict[Address, _Peer] = {}
        self._by_channel: dict[int, _Peer] = {}
        self._waiting = 0
        self._timers: Deadlines[tuple[_Timer, str | Address]] = Deadlines()

    def permit(self, ip: IPAddress, now: float) -> None:
        """Ask for a permission for ``ip`` unless there is one or it is on its way."""
        permission = self._permission(_host(ip))
        if permission is None:
            self._events.put(PermissionDenied(ip, None, "too many peers"))
        elif permission.state is _State.ABSENT or permission.state is _State.DENIED:
            self._request_permission(permission, now)

    def bind(self, peer: Address, now: float) -> None:
        """Ask for a channel to ``peer`` unless there is one or it is on its way."""
        entry = self._peer(peer)
        if entry is None:
            self._events.put(PermissionDenied(peer.ip, None, "too many peers"))
        elif entry.state is _State.ABSENT or entry.state is _State.DENIED:
            self._request_channel(entry, now)

    def send(self, data: bytes, peer: Address, now: float, dont_fragment: bool = False) -> None:
        """Relay ``data`` to ``peer`` by the cheapest way there is, or queue it behind the permission.

        ChannelData cannot ask for the DF bit, so ``dont_fragment`` takes a Send indication (RFC 8656 §11.1).
        """
        entry = self._peers.get(peer)
        bound = entry is not None and entry.state is _State.ACTIVE
        if bound and entry is not None and entry.channel is not None and not dont_fragment:
            self._send_on_channel(entry.channel, data)
            return
        permission = self._permission(peer.host)
        if permission is None:
            self._drops.add("too many peers")
        elif permission.state is _State.ACTIVE:
            self._send_indication(data, peer, dont_fragment)
            self._count_sent(peer, now)
        elif permission.state is _State.DENIED:
            self._drops.add("sent to a peer the server refuses")
        else:
            if permission.state is _State.ABSENT:
                self._request_permission(permission, now)
            self._queue(permission, data, peer, dont_fragment)

    def on_channel(self, channel: int, now: float) -> Address | None:
        """The peer behind ``channel``, or None when we never asked for that number."""
        entry = self._by_channel.get(channel)
        if entry is None:
            return None
        entry.heard = True
        return entry.address

    def is_permitted(self, peer: Address) -> bool:
        """True when the server may let ``peer`` through: asked for, and not refused."""
        permission = self._permissions.get(peer.host)
        return permission is not None and permission.state in {_State.REQUESTED, _State.ACTIVE}

    def on_data(self, peer: Address, now: float) -> bool:
        """Note a Data indication from ``peer``; False when it has no permission (RFC 8656 §11.4)."""
        if not self.is_permitted(peer):
            return False
        entry = self._peer(peer)
        if entry is not None:
            entry.heard = True
        return True

    def is_bound(self, peer: Address) -> bool:
        """True when datagrams to ``peer`` travel as ChannelData."""
        entry = self._peers.get(peer)
        return entry is not None and entry.state is _State.ACTIVE

    def on_answer(self, answer: Answer, now: float) -> None:
        """Take the end of a CreatePermission or ChannelBind request."""
        subject = answer.request.subject
        if answer.request.method is Method.CHANNEL_BIND and isinstance(subject, Address):
            self._channel_answer(self._peers[subject], answer, now)
        elif subject is not None and not isinstance(subject, Address):
            self._permission_answer(self._permissions[_host(subject)], answer, now)

    def handle_timeout(self, now: float) -> None:
        """Refresh what is due, and let what was denied be asked again."""
        for timer, key in self._timers.due(now):
            if isinstance(key, Address):
                peer = self._peers[key]
                if peer.state is _State.DENIED:
                    peer.state = _State.ABSENT
                elif peer.channel is not None:
                    self._ask_channel(peer, peer.channel, now)
            elif timer is _Timer.PERMISSION:
                permission = self._permissions[key]
                if permission.state is _State.DENIED:
                    permission.state = _State.ABSENT
                else:
                    self._ask_permission(permission, now)

    def next_timeout(self) -> float | None:
        """When the next refresh is due, or None."""
        return self._timers.next_timeout()

    def forget(self) -> None:
        """Drop every permission, channel and waiting datagram."""
        self._permissions.clear()
        self._peers.clear()
        self._by_channel.clear()
        self._timers.clear()
        self._waiting = 0

    def _permission(self, host: str) -> _Permission | None:
        found = self._permissions.get(host)
        if found is None and len(self._permissions) < MAX_PEER_HOSTS:
            found = self._permissions[host] = _Permission(ip_address(host))
        return found

    def _peer(self, address: Address) -> _Peer | None:
        found = self._peers.get(address)
        if found is None and len(self._peers) < MAX_PEERS:
            found = self._peers[address] = _Peer(address)
        return found

    def _request_permission(self, permission: _Permission, now: float) -> None:
        permission.state = _State.REQUESTED
        self._ask_permission(permission, now)

    def _ask_permission(self, permission: _Permission, now: float) -> None:
        attributes = ((XOR_PEER_ADDRESS, Address(_host(permission.ip), 0)),)
        self._ask(Request(Method.CREATE_PERMISSION, attributes, permission.ip), now)

    def _request_channel(self, peer: _Peer, now: float) -> None:
        if peer.channel is None:
            peer.channel = CHANNEL_MIN + len(self._by_channel)
            self._by_channel[peer.channel] = peer
        peer.state = _State.REQUESTED
        self._ask_channel(peer, peer.channel, now)

    def _ask_channel(self, peer: _Peer, channel: int, now: float) -> None:
        attributes = ((CHANNEL_NUMBER, channel), (XOR_PEER_ADDRESS, peer.address))
        self._ask(Request(Method.CHANNEL_BIND, attributes, peer.address), now)

    def _permission_answer(self, permission: _Permission, answer: Answer, now: float) -> None:
        if answer.message is not None:
            self._permission_active(permission, now)
            return
        if permission.state is _State.ACTIVE and answer.timed_out and now < permission.expires:
            self._events.put(PermissionRefreshFailed(permission.ip, answer.reason))
            self._ask_permission(permission, now)
            return
        self._waiting -= len(permission.waiting)
        permission.waiting.clear()
        permission.state = _State.DENIED
        self._timers.set((_Timer.PERMISSION, _host(permission.ip)), now + DENIAL_HOLD)
        self._events.put(PermissionDenied(permission.ip, answer.code, answer.reason))

    def _permission_active(self, permission: _Permission, now: float) -> None:
        permission.state = _State.ACTIVE
        permission.expires = now + PERMISSION_LIFETIME
        self._timers.set((_Timer.PERMISSION, _host(permission.ip)), now + PERMISSION_REFRESH)
        self._waiting -= len(permission.waiting)
        while permission.waiting:
            data, peer, dont_fragment = permission.waiting.popleft()
            self.send(data, peer, now, dont_fragment)

    def _channel_answer(self, peer: _Peer, answer: Answer, now: float) -> None:
        key = (_Timer.CHANNEL, peer.address)
        if answer.message is not None:
            peer.state = _State.ACTIVE
            self._timers.set(key, now + CHANNEL_REFRESH)
            permission = self._permission(peer.address.host)
            if permission is not None:
                self._permission_active(permission, now)  # a ChannelBind installs one too, RFC 8656 §12.2
            return
        peer.state = _State.DENIED
        self._timers.set(key, now + CHANNEL_REFRESH)
        self._events.put(ChannelFailed(peer.address, answer.code, answer.reason))
        permission = self._permissions.get(peer.address.host)
        if permission is None or permission.state is not _State.ACTIVE:
            self._events.put(PermissionDenied(peer.address.ip, answer.code, answer.reason))

    def _send_on_channel(self, channel: int, data: bytes) -> None:
        # a stream has no datagrams to end the message, so it is padded (RFC 8656 §12.5)
        padding = bytes(-(HEADER_LENGTH + len(data)) % 4) if self.path.transport.is_stream else b""
        self._transmits.put(Transmit(pack_header(channel, len(data)) + data + padding, self.path))

    def _send_indication(self, data: bytes, peer: Address, dont_fragment: bool) -> None:
        attributes: tuple[Attribute, ...] = ((XOR_PEER_ADDRESS, peer), (DATA, data))
        if dont_fragment:
            attributes += ((DONT_FRAGMENT, True),)
        message = indication(Method.SEND, self._random_bytes(12), *attributes)
        self._transmits.put(Transmit(encode(message), self.path))

    def _count_sent(self, peer: Address, now: float) -> None:
        entry = self._peer(peer)
        if entry is None or entry.state is not _State.ABSENT:
            return
        entry.sent += 1
        due = CHANNEL_AFTER_SENT if entry.heard else CHANNEL_AFTER_SENT_UNANSWERED
        if entry.sent >= due:
            self._request_channel(entry, now)

    def _queue(self, permission: _Permission, data: bytes, peer: Address, dont_fragment: bool) -> None:
        if len(permission.waiting) >= MAX_QUEUED_PER_PEER or self._waiting >= MAX_QUEUED:
            self._drops.add("the queue in front of a permission is full")
            return
        permission.waiting.append((data, peer, dont_fragment))
        self._waiting += 1


def _host(ip: IPAddress) -> str:
    """The text that addresses have for ``ip``; ``str`` spells v4-mapped ones in two ways."""
    return Address(str(ip), 0).host
