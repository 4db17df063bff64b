"""What authenticated requests do: Refresh, CreatePermission, ChannelBind (RFC 8656 §8, §10, §12)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from natwalk.core import Path, Transport
from natwalk.stun import (
    ACCESS_TOKEN,
    CHANNEL_NUMBER,
    CONNECTION_ID,
    DATA,
    DONT_FRAGMENT,
    EVEN_PORT,
    LIFETIME,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    MOBILITY_TICKET,
    NONCE,
    PASSWORD_ALGORITHM,
    REALM,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    USERHASH,
    USERNAME,
    XOR_PEER_ADDRESS,
    Attribute,
    Message,
    Method,
)
from natwalk.turn.admission import Granted
from natwalk.turn.allocation import Allocation, granted_lifetime
from natwalk.turn.allocator import Allocator
from natwalk.turn.channel_data import CHANNEL_MIN
from natwalk.turn.config import TurnConfig
from natwalk.turn.guard import PeerGuard
from natwalk.turn.identities import Mechanism
from natwalk.turn.mobility import Mobility
from natwalk.turn.newpeers import NewPeers
from natwalk.turn.replies import Failure, Raw, Reply, Success, forbidden, unknown_attributes
from natwalk.turn.server_events import EndReason
from natwalk.turn.table import AllocationTable
from natwalk.turn.tcp_relays import TcpRelays
from natwalk.turn.wishes import IP_VERSIONS

METHODS: Final = frozenset(
    {
        Method.ALLOCATE,
        Method.REFRESH,
        Method.CREATE_PERMISSION,
        Method.CHANNEL_BIND,
        Method.CONNECT,
        Method.CONNECTION_BIND,
    }
)
"""Methods whose requests are handled."""

_SUPPORTED: Final = frozenset(
    spec.type
    for spec in (
        ACCESS_TOKEN,
        CHANNEL_NUMBER,
        CONNECTION_ID,
        DATA,
        DONT_FRAGMENT,
        EVEN_PORT,
        LIFETIME,
        MESSAGE_INTEGRITY,
        MESSAGE_INTEGRITY_SHA256,
        NONCE,
        PASSWORD_ALGORITHM,
        REALM,
        REQUESTED_ADDRESS_FAMILY,
        REQUESTED_TRANSPORT,
        RESERVATION_TOKEN,
        USERHASH,
        USERNAME,
        XOR_PEER_ADDRESS,
    )
)
"""Comprehension-required attributes this server acts on, or has acted on when a request gets here."""


class Control:
    """The request handlers of a server; each returns what to answer."""

    def __init__(
        self,
        config: TurnConfig,
        table: AllocationTable,
        guard: PeerGuard,
        allocator: Allocator,
        mobility: Mobility,
        tcp: TcpRelays,
        new_peers: NewPeers,
    ) -> None:
        self.configure(config)
        self._table = table
        self._guard = guard
        self._allocator = allocator
        self._mobility = mobility
        self._tcp = tcp
        self._new_peers = new_peers

    def configure(self, config: TurnConfig) -> None:
        """Go by ``config`` from now on."""
        self._limits = config.limits
        self._channel_max = config.channel_max
        self._mobile = config.mobility

    def handle(
        self, request: Message, path: Path, granted: Granted, allocation: Allocation | None, now: float
    ) -> Reply:
        """What to answer ``request`` with; ``allocation`` is the one on ``path``, if any."""
        types = (spec.type for spec, _ in request.attributes)
        unknown = tuple(dict.fromkeys(t for t in types if t < 0x8000 and t not in _SUPPORTED))
        if unknown:
            return unknown_attributes(unknown)
        if request.method == Method.ALLOCATE:
            return self._allocator.allocate(request, path, granted, now)
        if request.method == Method.CONNECTION_BIND:
            if self._allocator.waits(path):
                return Failure(400, "an allocation is being made on this connection")
            return self._tcp.bind(request, path, granted)
        if request.method == Method.REFRESH and MOBILITY_TICKET in request:
            return self._refresh_with_ticket(request, path, granted, now)
        if allocation is None:
            return self._without_allocation(request, path, granted)
        if not granted.owns(allocation.granted):
            return Failure(441)
        if request.method == Method.REFRESH:
            return self._refresh(request, allocation, granted, now)
        if request.method == Method.CREATE_PERMISSION:
            return self._create_permission(request, allocation, now)
        if request.method == Method.CONNECT:
            return self._tcp.connect(request, allocation, now)
        return self._bind_channel(request, allocation, now)

    def _without_allocation(self, request: Message, path: Path, granted: Granted) -> Reply:
        # A client that gives up sends its Allocate and this Refresh in one breath.
        given_up = request.method == Method.REFRESH and request.get(LIFETIME) == 0
        if given_up and self._allocator.cancel(path, granted):
            return Success(((LIFETIME, 0),))
        return Failure(437)

    def _refresh_with_ticket(self, request: Message, path: Path, granted: Granted, now: float) -> Reply:
        """RFC 8016 §3.2.2: the ticket says which allocation, wherever its client is now."""
        if not self._mobile:
            return Failure(405)
        if self._allocator.waits(path):
            return Failure(437)
        claimed = self._mobility.claim(request, path, granted, now)
        if isinstance(claimed, Failure | Raw):
            return claimed
        reply = self._refresh(request, claimed, granted, now)
        if isinstance(reply, Failure) or not claimed.ticket:
            return reply
        ticket: Attribute = (MOBILITY_TICKET, claimed.ticket)
        return Success((*reply.attributes, ticket))

    def _refresh(
        self, request: Message, allocation: Allocation, granted: Granted, now: float
    ) -> Success | Failure:
        """RFC 8656 §8.2; with REQUESTED-ADDRESS-FAMILY for one of two relayed addresses only."""
        relays = allocation.relays
        family = request.get(REQUESTED_ADDRESS_FAMILY)
        if family is not None:
            relays = tuple(r for r in relays if r.address.version == IP_VERSIONS.get(family))
            if not relays:
                return Failure(443)
        requested = request.get(LIFETIME)
        if requested == 0:
            for relay in relays:
                self._table.end_relay(relay, EndReason.DELETED)
            return Success(((LIFETIME, 0),))
        if granted.mechanism is Mechanism.OAUTH:
            # a new token goes on where the old one ends; quotas still count the allocation where they did
            allocation.granted = replace(granted, account=allocation.granted.account)
        lifetime = granted.cap(granted_lifetime(requested), now)
        for relay in relays:
            self._table.extend(relay, now + lifetime)
        return Success(((LIFETIME, lifetime),))

    def _create_permission(self, request: Message, allocation: Allocation, now: float) -> Reply:
        """RFC 8656 §10.2: all of the peers, or none."""
        peers = request.all(XOR_PEER_ADDRESS)
        if not peers:
            return Failure(400, "XOR-PEER-ADDRESS is missing")
        if any(allocation.relay_of(peer.version) is None for peer in peers):
            return Failure(443)
        for peer in peers:
            if (denial := self._guard.check_permission(peer)) is not None:
                return forbidden(denial)
        permissions = allocation.permissions
        wanted = {peer.host for peer in peers}
        more = sum(host not in permissions for host in wanted)
        if more and len(permissions) + more > self._limits.permissions_per_allocation:
            return Failure(508, "too many permissions")
        for host in wanted:
            self._table.permit(allocation, host, now)
        return Success()

    def _bind_channel(self, request: Message, allocation: Allocation, now: float) -> Reply:
        """RFC 8656 §12.2."""
        number, peer = request.get(CHANNEL_NUMBER), request.get(XOR_PEER_ADDRESS)
        if allocation.transport is not Transport.UDP:
            return Failure(400, "the allocation relays TCP")
        if number is None or peer is None:
            return Failure(400, "CHANNEL-NUMBER or XOR-PEER-ADDRESS is missing")
        if not CHANNEL_MIN <= number <= self._channel_max:
            return Failure(400, f"a channel is {CHANNEL_MIN:#x} to {self._channel_max:#x}")
        relay = allocation.relay_of(peer.version)
        if relay is None:
            return Failure(443)
        if (denial := self._guard.check(peer)) is not None:
            return forbidden(denial)
        if allocation.conflicts(number, self._table.public.bound(peer), now):
            return Failure(400, "the channel or the peer is bound otherwise")
        limits = self._limits
        new = number not in allocation.channels
        if new and len(allocation.channels) >= limits.channels_per_allocation:
            return Failure(508, "too many channels")
        permissions = allocation.permissions
        if peer.host not in permissions and len(permissions) >= limits.permissions_per_allocation:
            return Failure(508, "too many permissions")
        if not self._new_peers.allow(allocation.granted.account, peer, now):
            return Failure(508, "too many new peers")
        self._table.bind(relay, number, peer, now)
        return Success()
