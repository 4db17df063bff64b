"""All allocations of a server, found by client and by relay, and what expires when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import Enum

from natwalk.core import Address, Deadlines, Outbox, Path
from natwalk.turn.allocation import (
    CHANNEL_LIFETIME,
    PERMISSION_LIFETIME,
    Allocation,
    Channel,
)
from natwalk.turn.server_events import (
    AllocationEnded,
    EndReason,
    RelayReleased,
    TurnServerEvent,
)


class _Expiry(Enum):
    ALLOCATION = "allocation"
    PERMISSION = "permission"
    CHANNEL = "channel"
    QUARANTINE = "quarantine"


_Key = tuple[_Expiry, Allocation, str | int]


class AllocationTable:
    """The allocations, their deadlines on one heap, and the flows they publish.

    ``by_client`` and ``by_relay`` are for the data plane to look up in; only the table changes them.
    """

    def __init__(self, events: Outbox[TurnServerEvent]) -> None:
        self.by_client: dict[Path, Allocation] = {}
        self.by_relay: dict[Address, Allocation] = {}
        self.accounts: Counter[str] = Counter()
        self.flows = 0
        self._events = events
        self._deadlines: Deadlines[_Key] = Deadlines()

    def add(self, allocation: Allocation) -> None:
        """Take a new allocation in."""
        self.by_client[allocation.path] = allocation
        self.by_relay[allocation.relay] = allocation
        self._deadlines.set((_Expiry.ALLOCATION, allocation, 0), allocation.expires)

    def extend(self, allocation: Allocation, expires: float) -> None:
        """Let ``allocation`` live until ``expires``."""
        allocation.expires = expires
        self._deadlines.set((_Expiry.ALLOCATION, allocation, 0), expires)

    def end(self, allocation: Allocation, reason: EndReason) -> None:
        """Take ``allocation`` out, with every flow over it or to it."""
        for channel in list(allocation.channels.values()):
            self._forget_channel(allocation, channel)
        for host in allocation.permissions:
            self._deadlines.cancel((_Expiry.PERMISSION, allocation, host))
        allocation.permissions.clear()
        self._deadlines.cancel((_Expiry.ALLOCATION, allocation, 0))
        del self.by_client[allocation.path]
        del self.by_relay[allocation.relay]
        self.release_account(allocation.granted.account)
        self._unbind_all(allocation.relay)
        self._events.put(RelayReleased(allocation.relay))
        self._events.put(
            AllocationEnded(
                allocation.path.remote,
                allocation.path.local,
                allocation.granted.username,
                allocation.relay,
                reason,
                allocation.counters,
            )
        )

    def release_account(self, account: str) -> None:
        """One allocation fewer counts against ``account``."""
        self.accounts[account] -= 1
        if self.accounts[account] <= 0:
            del self.accounts[account]

    def permit(self, allocation: Allocation, host: str, now: float) -> None:
        """Install or refresh the permission for ``host`` (RFC 8656 §9)."""
        expires = now + PERMISSION_LIFETIME
        allocation.permissions[host] = expires
        self._deadlines.set((_Expiry.PERMISSION, allocation, host), expires)
        for channel in allocation.channels.values():
            if channel.peer.host == host:
                self._start_flow(allocation, channel, now)

    def bind(self, allocation: Allocation, number: int, peer: Address, now: float) -> None:
        """Bind or refresh a channel, and the permission with it (RFC 8656 §12.2)."""
        channel = allocation.channels.get(number)
        if channel is None or channel.peer != peer:
            for stale in (channel, allocation.by_peer.get(peer)):
                if stale is not None:
                    self._forget_channel(allocation, stale)
            channel = Channel(number, peer, Path(allocation.relay, peer))
            allocation.channels[number] = channel
            allocation.by_peer[peer] = channel
        channel.expires = now + CHANNEL_LIFETIME
        self._deadlines.cancel((_Expiry.QUARANTINE, allocation, number))
        self._deadlines.set((_Expiry.CHANNEL, allocation, number), channel.expires)
        self.permit(allocation, peer.host, now)

    def withdraw(self, denied: Callable[[Address], bool]) -> None:
        """Unbind every channel whose peer is ``denied``."""
        for allocation in self.by_client.values():
            for channel in [ch for ch in allocation.channels.values() if denied(ch.peer)]:
                self._forget_channel(allocation, channel)

    def handle_timeout(self, now: float) -> None:
        """End what is due."""
        while due := self._deadlines.due(now):  # twice at most: an expired channel goes into quarantine
            for kind, allocation, key in due:
                self._expire(kind, allocation, key)

    def next_timeout(self) -> float | None:
        """When the next thing expires, or None."""
        return self._deadlines.next_timeout()

    def _expire(self, kind: _Expiry, allocation: Allocation, key: str | int) -> None:
        if kind is _Expiry.ALLOCATION:
            self.end(allocation, EndReason.EXPIRED)
        elif isinstance(key, str):
            self._permission_expired(allocation, key)
        elif (channel := allocation.channels.get(key)) is None:
            return  # its allocation ended in the same instant
        elif kind is _Expiry.CHANNEL:
            self._stop_flow(allocation, channel)
            self._deadlines.set((_Expiry.QUARANTINE, allocation, key), channel.quarantined_until)
        else:
            self._forget_channel(allocation, channel)

    def _permission_expired(self, allocation: Allocation, host: str) -> None:
        allocation.permissions.pop(host, None)
        for channel in allocation.channels.values():
            if channel.peer.host == host:
                self._stop_flow(allocation, channel)

    def _start_flow(self, allocation: Allocation, channel: Channel, now: float) -> None:
        until = min(channel.expires, allocation.permissions[channel.peer.host])
        if until <= now:
            return
        channel.until = until
        if not channel.flowing:
            channel.flowing = True
            self.flows += 1
            self._events.put(allocation.flow_added(channel))

    def _stop_flow(self, allocation: Allocation, channel: Channel) -> None:
        channel.until = 0.0
        if channel.flowing:
            channel.flowing = False
            self.flows -= 1
            self._events.put(allocation.flow_removed(channel))

    def _unbind_all(self, peer: Address) -> None:
        for other in self.by_client.values():
            channel = other.by_peer.get(peer)
            if channel is not None:
                self._forget_channel(other, channel)

    def _forget_channel(self, allocation: Allocation, channel: Channel) -> None:
        self._stop_flow(allocation, channel)
        self._deadlines.cancel((_Expiry.CHANNEL, allocation, channel.number))
        self._deadlines.cancel((_Expiry.QUARANTINE, allocation, channel.number))
        allocation.channels.pop(channel.number, None)
        allocation.by_peer.pop(channel.peer, None)
