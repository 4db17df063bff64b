"""All allocations of a server, found by client and by relay, and what expires when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum

from natwalk.core import Address, Deadlines, Outbox, Path, Transport
from natwalk.turn.accounts import Accounts
from natwalk.turn.allocation import (
    CHANNEL_LIFETIME,
    PERMISSION_LIFETIME,
    Allocation,
    Channel,
    Relay,
)
from natwalk.turn.connections import PeerConnections
from natwalk.turn.public_addresses import PublicAddresses
from natwalk.turn.server_events import (
    AllocationEnded,
    EndReason,
    RelayReleased,
    TurnServerEvent,
)


class _Expiry(Enum):
    RELAY = "relay"
    PERMISSION = "permission"
    CHANNEL = "channel"
    QUARANTINE = "quarantine"


_Key = tuple[_Expiry, Allocation | Relay, str | int]


class AllocationTable:
    """The allocations, their deadlines on one heap, and the flows they publish.

    ``by_client``, ``by_relay`` (UDP) and ``by_tcp_relay`` are for others to look up in, ``by_ticket`` as
    well; only the table changes them. All these are addresses that are bound; ``public`` says what clients
    know them by. ``accounts`` counts what quotas limit; ``allocations``, ``flows`` and
    ``permissions`` are totals.
    """

    def __init__(
        self,
        events: Outbox[TurnServerEvent],
        connections: PeerConnections,
        public: PublicAddresses | None = None,
    ) -> None:
        self.public = public or PublicAddresses()
        self.by_client: dict[Path, Allocation] = {}
        self.by_relay: dict[Address, Relay] = {}
        self.by_tcp_relay: dict[Address, Relay] = {}
        self.by_ticket: dict[bytes, Allocation] = {}
        self.accounts = Accounts()
        self.allocations = 0
        self.flows = 0
        self.permissions = 0
        self._events = events
        self._connections = connections
        self._deadlines: Deadlines[_Key] = Deadlines()
        self._bound_to_relay: dict[Address, set[Channel]] = {}

    def __iter__(self) -> Iterator[Allocation]:
        for relays in (self.by_relay, self.by_tcp_relay):
            for relay in relays.values():
                if relay.allocation.relays[0] is relay:
                    yield relay.allocation

    def add(self, allocation: Allocation, addresses: tuple[Address, ...], expires: float) -> None:
        """Take a new allocation in that has these relayed ``addresses`` until ``expires``."""
        self.allocations += 1
        self.by_client[allocation.path] = allocation
        allocation.relays = tuple(
            Relay(address, expires, allocation, self.public.advertised(address)) for address in addresses
        )
        for relay in allocation.relays:
            self._relays(allocation)[relay.address] = relay
            self._deadlines.set((_Expiry.RELAY, relay, 0), expires)

    def extend(self, relay: Relay, expires: float) -> None:
        """Let ``relay`` live until ``expires``."""
        relay.expires = expires
        self._deadlines.set((_Expiry.RELAY, relay, 0), expires)

    def end(self, allocation: Allocation, reason: EndReason) -> None:
        """Take ``allocation`` out, with every flow over it or to it."""
        for relay in allocation.relays:
            self._close_relay(relay)
        for host in allocation.permissions:
            self._deadlines.cancel((_Expiry.PERMISSION, allocation, host))
        self.permissions -= len(allocation.permissions)
        allocation.permissions.clear()
        allocation.relays = ()
        self.set_ticket(allocation, b"")
        if not allocation.away:
            del self.by_client[allocation.path]
        self.allocations -= 1
        self.accounts.release(allocation.granted.account)
        self._events.put(
            AllocationEnded(
                allocation.path.remote,
                allocation.path.local,
                allocation.granted.username,
                allocation.relay,
                reason,
                allocation.counters,
                allocation.path.transport,
                allocation.transport,
                self.public.advertised(allocation.relay),
            )
        )

    def end_relay(self, relay: Relay, reason: EndReason) -> None:
        """Take one relayed address out; an allocation that has no other ends for ``reason``.

        Permissions and channels of the other address family are not touched (RFC 8656 §8.2).
        """
        allocation = relay.allocation
        if len(allocation.relays) == 1:
            self.end(allocation, reason)
            return
        version = relay.address.version
        for host in [host for host in allocation.permissions if Address(host, 0).version == version]:
            self._deadlines.cancel((_Expiry.PERMISSION, allocation, host))
            self._forget_permission(allocation, host)
        self._close_relay(relay)
        allocation.relays = tuple(other for other in allocation.relays if other is not relay)

    def move(self, allocation: Allocation, path: Path, now: float) -> None:
        """Make ``path`` the 5-tuple of ``allocation``; its channels go on from there (RFC 8016 §3.2.2)."""
        self.detach(allocation)
        allocation.path = path
        allocation.padded = path.transport.is_stream
        allocation.away = False
        self.by_client[path] = allocation
        for channel in allocation.channels.values():
            if channel.peer.host in allocation.permissions:
                self._start_flow(allocation, channel, now)

    def detach(self, allocation: Allocation) -> None:
        """The 5-tuple of ``allocation`` is gone; it waits for its client to come back with the ticket."""
        if allocation.away:
            return
        for channel in allocation.channels.values():
            self._stop_flow(allocation, channel)
        del self.by_client[allocation.path]
        allocation.away = True

    def set_ticket(self, allocation: Allocation, ticket: bytes) -> None:
        """Let ``ticket`` find ``allocation``, and the one before it; empty: none does any more."""
        stale = (allocation.old_ticket,) if ticket else (allocation.old_ticket, allocation.ticket)
        for old in stale:
            self.by_ticket.pop(old, None)
        allocation.old_ticket = allocation.ticket if ticket else b""
        allocation.ticket = ticket
        if ticket:
            self.by_ticket[ticket] = allocation

    def permit(self, allocation: Allocation, host: str, now: float) -> None:
        """Install or refresh the permission for ``host`` (RFC 8656 §9)."""
        expires = now + PERMISSION_LIFETIME
        if host not in allocation.permissions:
            self.permissions += 1
            allocation.peers += 1
        allocation.permissions[host] = expires
        self._deadlines.set((_Expiry.PERMISSION, allocation, host), expires)
        for channel in allocation.by_host.get(host, ()):
            self._start_flow(allocation, channel, now)

    def bind(self, relay: Relay, number: int, peer: Address, now: float) -> None:
        """Bind or refresh a channel that does not conflict, and the permission with it (RFC 8656 §12.2)."""
        allocation = relay.allocation
        channel = allocation.channels.get(number)
        if channel is None:
            bound = self.public.bound(peer)
            channel = Channel(number, peer, relay, Path(relay.address, bound))
            allocation.channels[number] = channel
            allocation.by_peer[bound] = channel
            allocation.by_host.setdefault(peer.host, []).append(channel)
            if bound in self.by_relay:
                self._bound_to_relay.setdefault(bound, set()).add(channel)
        channel.expires = now + CHANNEL_LIFETIME
        self._deadlines.cancel((_Expiry.QUARANTINE, allocation, number))
        self._deadlines.set((_Expiry.CHANNEL, allocation, number), channel.expires)
        self.permit(allocation, peer.host, now)

    def withdraw(self, denied: Callable[[Address], bool]) -> None:
        """Unbind every channel whose peer is ``denied``."""
        for allocation in self:
            for channel in [ch for ch in allocation.channels.values() if denied(ch.peer)]:
                self._forget_channel(allocation, channel)

    def withdraw_permissions(self, denied: Callable[[str], bool]) -> None:
        """Forget every permission for a host that is ``denied``."""
        for allocation in self:
            for host in [host for host in allocation.permissions if denied(host)]:
                self._deadlines.cancel((_Expiry.PERMISSION, allocation, host))
                self._forget_permission(allocation, host)

    def handle_timeout(self, now: float) -> None:
        """End what is due."""
        while due := self._deadlines.due(now):  # twice at most: an expired channel goes into quarantine
            for kind, holder, key in due:
                if isinstance(holder, Relay):
                    if holder in holder.allocation.relays:
                        self.end_relay(holder, EndReason.EXPIRED)
                else:
                    self._expire(kind, holder, key)

    def next_timeout(self) -> float | None:
        """When the next thing expires, or None."""
        return self._deadlines.next_timeout()

    def _relays(self, allocation: Allocation) -> dict[Address, Relay]:
        return self.by_relay if allocation.transport is Transport.UDP else self.by_tcp_relay

    def _close_relay(self, relay: Relay) -> None:
        allocation = relay.allocation
        for channel in [ch for ch in allocation.channels.values() if ch.relay is relay]:
            self._forget_channel(allocation, channel)
        self._connections.release_all(relay)
        self._deadlines.cancel((_Expiry.RELAY, relay, 0))
        relay.expires = 0.0
        del self._relays(allocation)[relay.address]
        if allocation.transport is Transport.UDP:
            for channel in list(self._bound_to_relay.get(relay.address, ())):
                self._forget_channel(channel.relay.allocation, channel)
        self._events.put(RelayReleased(relay.address, allocation.transport))

    def _expire(self, kind: _Expiry, allocation: Allocation, key: str | int) -> None:
        if isinstance(key, str):
            self._forget_permission(allocation, key)
        elif (channel := allocation.channels.get(key)) is None:
            return  # its allocation ended in the same instant
        elif kind is _Expiry.CHANNEL:
            self._stop_flow(allocation, channel)
            self._deadlines.set((_Expiry.QUARANTINE, allocation, key), channel.quarantined_until)
        else:
            self._forget_channel(allocation, channel)

    def _forget_permission(self, allocation: Allocation, host: str) -> None:
        if allocation.permissions.pop(host, None) is not None:
            self.permissions -= 1
        for channel in allocation.by_host.get(host, ()):
            self._stop_flow(allocation, channel)

    def _start_flow(self, allocation: Allocation, channel: Channel, now: float) -> None:
        until = min(channel.expires, allocation.permissions[channel.peer.host])
        if until <= now:
            return
        channel.until = until
        if not channel.flowing and not allocation.away:
            channel.flowing = True
            self.flows += 1
            self._events.put(allocation.flow_added(channel))

    def _stop_flow(self, allocation: Allocation, channel: Channel) -> None:
        channel.until = 0.0
        if channel.flowing:
            channel.flowing = False
            self.flows -= 1
            self._events.put(allocation.flow_removed(channel))

    def _forget_channel(self, allocation: Allocation, channel: Channel) -> None:
        self._stop_flow(allocation, channel)
        self._deadlines.cancel((_Expiry.CHANNEL, allocation, channel.number))
        self._deadlines.cancel((_Expiry.QUARANTINE, allocation, channel.number))
        del allocation.channels[channel.number]
        at = channel.path.remote
        del allocation.by_peer[at]
        _discard(allocation.by_host, channel.peer.host, channel)
        bound = self._bound_to_relay.get(at)
        if bound is not None:
            bound.discard(channel)
            if not bound:
                del self._bound_to_relay[at]


def _discard(index: dict[str, list[Channel]], host: str, channel: Channel) -> None:
    channels = index[host]
    channels.remove(channel)
    if not channels:
        del index[host]
