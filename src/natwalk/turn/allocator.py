"""Making allocations: quotas, relay sockets and what the client is told (RFC 8656 §7.2)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from natwalk.core import Address, Outbox, Path, RandomBytes, Transport
from natwalk.stun import (
    ADDRESS_ERROR_CODE,
    LIFETIME,
    MOBILITY_TICKET,
    RESERVATION_TOKEN,
    XOR_MAPPED_ADDRESS,
    XOR_RELAYED_ADDRESS,
    AddressErrorCode,
    Attribute,
    Message,
)
from natwalk.turn.admission import Granted
from natwalk.turn.allocation import Allocation
from natwalk.turn.config import TurnConfig
from natwalk.turn.mobility import new_ticket
from natwalk.turn.replies import REASONS, Deferred, Failure, Later, Raw, Reply, Success
from natwalk.turn.reservations import Reservation, Reservations
from natwalk.turn.server_events import AllocationCreated, TurnServerEvent
from natwalk.turn.sockets import Ports, RelaySockets, SocketGroup
from natwalk.turn.table import AllocationTable
from natwalk.turn.wishes import FAMILIES, Wish, read_wish


@dataclass(slots=True, eq=False)
class PendingAllocation:
    """An Allocate that waits for the driver to open its sockets.

    ``groups`` has one an address family that may be had; ``declined`` says why one may not.
    """

    request: Message
    path: Path
    granted: Granted
    wish: Wish
    declined: dict[int, int] = field(default_factory=dict)
    groups: list[SocketGroup[PendingAllocation]] = field(default_factory=list)
    open_groups: int = 0
    cancelled: bool = False

    @property
    def quota(self) -> int:
        """How much it counts against its account: a reserved socket counts as an allocation to come."""
        return 2 if self.wish.ports is Ports.PAIR else 1


class Allocator:
    """Turns Allocate requests into relay sockets wanted, and opened ones into allocations."""

    def __init__(
        self,
        config: TurnConfig,
        table: AllocationTable,
        events: Outbox[TurnServerEvent],
        random_bytes: RandomBytes,
    ) -> None:
        self._config = config
        self._table = table
        self._events = events
        self._random_bytes = random_bytes
        self._sockets: RelaySockets[PendingAllocation] = RelaySockets(
            config.relay_addresses, config.port_range, events, random_bytes
        )
        self._reservations = Reservations(random_bytes)
        self._waiting: dict[Path, PendingAllocation] = {}

    def configure(self, config: TurnConfig) -> None:
        """Go by ``config`` from now on; allocations that exist keep what they have."""
        self._config = config
        self._sockets.configure(config.relay_addresses, config.port_range)

    @property
    def ports_in_use(self) -> int:
        """How many relay ports are open or asked for, reserved ones included."""
        return self._sockets.in_use

    def allocate(self, request: Message, path: Path, granted: Granted, now: float) -> Reply:
        """Take an authenticated Allocate; Later means that the answer comes with the relay socket."""
        known = self._known(request, path, granted)
        if known is not None:
            return known
        wish = read_wish(request, path, self._config)
        if isinstance(wish, Failure):
            return wish
        if granted.expires is not None:
            wish = replace(wish, lifetime=granted.cap(wish.lifetime, now))
        pending = PendingAllocation(request, path, granted, wish)
        if wish.token is not None:
            return self._from_reservation(pending, wish.token, now)
        hosts = {version: self._sockets.hosts(version) for version in wish.versions}
        if not any(hosts.values()):
            return Failure(440)
        if (refused := self._over_quota(granted.account, pending.quota)) is not None:
            return refused
        for version, candidates in hosts.items():
            self._want(pending, version, candidates)
        if not pending.groups:
            return Failure(508, "no relay port is free")
        self._waiting[path] = pending
        self._table.accounts.add(granted.account, pending.quota)
        return Later()

    def waits(self, path: Path) -> bool:
        """Whether an Allocate of the client on ``path`` waits for its sockets."""
        return path in self._waiting

    def waiting(self) -> list[tuple[Path, Granted]]:
        """The clients whose Allocate waits for its sockets."""
        return [(path, pending.granted) for path, pending in self._waiting.items()]

    def cancel(self, path: Path, granted: Granted | None = None) -> bool:
        """Give up the Allocate that waits for a socket on ``path``; False when there is none.

        With ``granted`` it is given up only when it is of that user.
        """
        pending = self._waiting.get(path)
        if pending is None or (granted is not None and not granted.owns(pending.granted)):
            return False
        self._give_up(pending)
        return True

    def opened(self, token: int, now: float) -> Deferred | None:
        """The socket of ``token`` is there: what to answer, or None when nobody is to be told (yet).

        Raises LocalProtocolError on an unknown token.
        """
        return self._settled(self._sockets.opened(token), now)

    def failed(self, token: int, now: float) -> Deferred | None:
        """No socket for ``token``: what to answer, or None when another is tried or nobody waits.

        Raises LocalProtocolError on an unknown token.
        """
        return self._settled(self._sockets.failed(token), now)

    def released(self, address: Address) -> None:
        """The port of ``address`` is free again."""
        self._sockets.released(address)

    def abandon(self) -> None:
        """Forget every Allocate that waits, whose tokens are unknown from now on, and every reservation."""
        for pending in self._sockets.abandon():
            for group in pending.groups:
                self._close(group)
            self._release(pending)
        self._waiting.clear()
        for reservation in self._reservations.abandon():
            self._end_reservation(reservation)

    def handle_timeout(self, now: float) -> None:
        """Close the reserved sockets nobody asked for in time."""
        for reservation in self._reservations.handle_timeout(now):
            self._end_reservation(reservation)

    def next_timeout(self) -> float | None:
        """When the next reservation ends, or None."""
        return self._reservations.next_timeout()

    def _known(self, request: Message, path: Path, granted: Granted) -> Reply | None:
        existing = self._table.by_client.get(path)
        if existing is not None:
            if not granted.owns(existing.granted):
                return Failure(441)
            if existing.transaction_id == request.transaction_id:
                return Raw(existing.response)
            return Failure(437)
        waiting = self._waiting.get(path)
        if waiting is None:
            return None
        return Later() if waiting.request.transaction_id == request.transaction_id else Failure(437)

    def _over_quota(self, account: str, more: int, freed: str | None = None) -> Failure | None:
        """Why ``account`` cannot have ``more`` allocations; that of account ``freed`` would make room."""
        limits, accounts = self._config.limits, self._table.accounts
        if accounts[account] - (account == freed) + more > limits.allocations_per_user:
            return Failure(486)
        if accounts.total - (freed is not None) + more > limits.allocations:
            return Failure(508)
        return None

    def _want(self, pending: PendingAllocation, version: int, hosts: list[str]) -> None:
        if not hosts:
            pending.declined[version] = 440
            return
        group = self._sockets.want(pending, hosts, pending.wish.transport, pending.wish.ports)
        if group is None:
            pending.declined[version] = 508
        else:
            pending.groups.append(group)
            pending.open_groups += 1

    def _from_reservation(self, pending: PendingAllocation, token: bytes, now: float) -> Reply:
        reservation = self._reservations.get(token, now)
        if reservation is None:
            return Failure(508, "nothing is reserved under this token")
        account = pending.granted.account
        if (refused := self._over_quota(account, 1, freed=reservation.account)) is not None:
            return refused
        self._reservations.redeem(token)
        self._table.accounts.release(reservation.account)
        self._table.accounts.add(account)
        return self._establish(pending, (reservation.address,), now)

    def _settled(self, group: SocketGroup[PendingAllocation] | None, now: float) -> Deferred | None:
        if group is None:
            return None
        pending = group.owner
        pending.open_groups -= 1
        if pending.cancelled:
            self._close(group)
        if pending.open_groups:
            return None
        if pending.cancelled:
            self._release(pending)
            return None
        del self._waiting[pending.path]
        relayed = tuple(group.addresses[0] for group in pending.groups if group.addresses)
        reply: Reply
        if relayed:
            reply = self._establish(pending, relayed, now)
        else:
            self._release(pending)
            reply = Failure(508, "no relay port could be opened")
        return Deferred(pending.request, pending.path, pending.granted, reply)

    def _establish(self, pending: PendingAllocation, relayed: tuple[Address, ...], now: float) -> Success:
        """Make the allocation; returns what its client is told."""
        path, granted, wish = pending.path, pending.granted, pending.wish
        request = pending.request
        allocation = Allocation(path, granted, relayed[0], request.transaction_id, wish.transport)
        self._table.add(allocation, relayed, now + wish.lifetime)
        advertised = tuple(relay.advertised for relay in allocation.relays)
        created = AllocationCreated(
            path.remote,
            path.local,
            granted.username,
            relayed[0],
            wish.lifetime,
            path.transport,
            relayed,
            wish.transport,
            advertised,
        )
        self._events.put(created)
        attributes: list[Attribute] = [(XOR_RELAYED_ADDRESS, address) for address in advertised]
        attributes += [(LIFETIME, wish.lifetime), (XOR_MAPPED_ADDRESS, path.remote)]
        attributes += [(RESERVATION_TOKEN, token) for token in self._reserve(pending, now)]
        attributes += self._declined(pending)
        if wish.mobile:
            self._table.set_ticket(allocation, new_ticket(self._random_bytes))
            attributes.append((MOBILITY_TICKET, allocation.ticket))
        return Success(tuple(attributes))

    def _reserve(self, pending: PendingAllocation, now: float) -> list[bytes]:
        return [
            self._reservations.hold(group.addresses[1], pending.granted.account, now)
            for group in pending.groups
            if pending.wish.ports is Ports.PAIR
        ]

    def _declined(self, pending: PendingAllocation) -> list[Attribute]:
        """Which address family of a dual allocation could not be had, and why (RFC 8656 §7.2)."""
        for group in pending.groups:
            if not group.addresses:
                pending.declined[Address(group.hosts[0], 0).version] = 508
        return [
            (ADDRESS_ERROR_CODE, AddressErrorCode(FAMILIES[version], code, REASONS[code]))
            for version, code in pending.declined.items()
        ]

    def _give_up(self, pending: PendingAllocation) -> None:
        pending.cancelled = True
        del self._waiting[pending.path]
        for group in pending.groups:
            group.cancelled = True
            if not group.waiting:
                self._close(group)

    def _close(self, group: SocketGroup[PendingAllocation]) -> None:
        for address in group.opened:
            self._sockets.release(address, group.transport)
        group.opened.clear()

    def _release(self, pending: PendingAllocation) -> None:
        self._table.accounts.release(pending.granted.account, pending.quota)

    def _end_reservation(self, reservation: Reservation) -> None:
        self._table.accounts.release(reservation.account)
        self._sockets.release(reservation.address, Transport.UDP)
