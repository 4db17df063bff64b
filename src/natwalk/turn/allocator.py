"""Making allocations: what an Allocate may ask for, quotas, ports and relay sockets (RFC 8656 §7.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Final

from natwalk.core import Address, LocalProtocolError, Outbox, Path, RandomBytes
from natwalk.stun import (
    ADDITIONAL_ADDRESS_FAMILY,
    ADDRESS_ERROR_CODE,
    EVEN_PORT,
    LIFETIME,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    XOR_MAPPED_ADDRESS,
    XOR_RELAYED_ADDRESS,
    AddressErrorCode,
    Attribute,
    Message,
)
from natwalk.turn.admission import Granted
from natwalk.turn.allocation import Allocation, granted_lifetime
from natwalk.turn.config import TurnConfig
from natwalk.turn.ports import choose_port, uniform
from natwalk.turn.replies import Failure, Later, Raw, Reply, Success
from natwalk.turn.server_events import AllocationCreated, RelayReleased, RelayWanted, TurnServerEvent
from natwalk.turn.table import AllocationTable

UDP: Final = 17
IP_VERSIONS: Final = {1: 4, 2: 6}  # of the values of REQUESTED-ADDRESS-FAMILY, RFC 8656 §18.6
MAX_BIND_ATTEMPTS: Final = 8


@dataclass(slots=True, eq=False)
class PendingAllocation:
    """An Allocate that waits for the driver to open a relay socket."""

    request: Message
    path: Path
    granted: Granted
    address: Address
    lifetime: int
    even: bool
    extra: tuple[Attribute, ...]
    failed: set[int] = field(default_factory=set)
    cancelled: bool = False


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
        self._ports = range(config.port_range[0], config.port_range[1] + 1)
        self._used: dict[str, set[int]] = {host: set() for host in config.relay_addresses}
        self._pending: dict[int, PendingAllocation] = {}
        self._waiting: dict[Path, PendingAllocation] = {}
        self._tokens = count(1)

    def allocate(self, request: Message, path: Path, granted: Granted, now: float) -> Reply:
        """Take an authenticated Allocate; Later means that the answer comes with the relay socket."""
        known = self._known(request, path, granted)
        if known is not None:
            return known
        refused = _refusal(request)
        if refused is not None:
            return refused
        version = IP_VERSIONS.get(request.get(REQUESTED_ADDRESS_FAMILY) or 1)
        hosts = [host for host in self._used if Address(host, 0).version == version]
        if not hosts:
            return Failure(440)
        limits = self._config.limits
        if self._table.accounts[granted.account] >= limits.allocations_per_user:
            return Failure(486)
        if len(self._table.by_client) + len(self._pending) >= limits.allocations:
            return Failure(508)
        even = EVEN_PORT in request
        address = self._free_address(hosts, even)
        if address is None:
            return Failure(508, "no relay port is free")
        lifetime = granted_lifetime(request.get(LIFETIME))
        pending = PendingAllocation(request, path, granted, address, lifetime, even, _extra(request))
        self._waiting[path] = pending
        self._table.accounts[granted.account] += 1
        self._want(pending)
        return Later()

    def cancel(self, path: Path, granted: Granted) -> bool:
        """Give up the Allocate that waits for a socket on ``path``; False when that user has none there."""
        pending = self._waiting.get(path)
        if pending is None or pending.granted.username != granted.username:
            return False
        pending.cancelled = True
        return True

    def opened(self, token: int) -> tuple[PendingAllocation, Success] | None:
        """The socket of ``token`` is there: what to answer; None when the client gave up meanwhile.

        Raises LocalProtocolError on an unknown token.
        """
        pending = self._take(token)
        del self._waiting[pending.path]
        if pending.cancelled:
            self._table.release_account(pending.granted.account)
            self._events.put(RelayReleased(pending.address))
            return None
        lifetime = pending.lifetime
        attributes: tuple[Attribute, ...] = (
            (XOR_RELAYED_ADDRESS, pending.address),
            (LIFETIME, lifetime),
            (XOR_MAPPED_ADDRESS, pending.path.remote),
        )
        return pending, Success(attributes + pending.extra)

    def establish(self, pending: PendingAllocation, response: bytes, now: float) -> None:
        """Make the allocation whose Allocate was answered with ``response``."""
        path, granted = pending.path, pending.granted
        self._table.add(
            Allocation(
                path,
                granted,
                pending.address,
                pending.request.transaction_id,
                response,
                now + pending.lifetime,
            )
        )
        created = AllocationCreated(
            path.remote, path.local, granted.username, pending.address, pending.lifetime
        )
        self._events.put(created)

    def failed(self, token: int) -> tuple[PendingAllocation, Failure] | None:
        """No socket for ``token``: the answer is 508; None when another port is tried or nobody waits.

        Raises LocalProtocolError on an unknown token.
        """
        pending = self._take(token)
        host, port = pending.address
        pending.failed.add(port)
        self._used[host].discard(port)
        if len(pending.failed) < MAX_BIND_ATTEMPTS and not pending.cancelled:
            address = self._free_address([host], pending.even, pending.failed)
            if address is not None:
                pending.address = address
                self._want(pending)
                return None
        del self._waiting[pending.path]
        self._table.release_account(pending.granted.account)
        if pending.cancelled:
            return None
        return pending, Failure(508, "no relay port could be opened")

    def release(self, relay: Address) -> None:
        """The port of ``relay`` is free again."""
        self._used[relay.host].discard(relay.port)

    def abandon(self) -> None:
        """Forget every Allocate that waits for a socket; their tokens are unknown from now on."""
        for pending in self._pending.values():
            self._used[pending.address.host].discard(pending.address.port)
            self._table.release_account(pending.granted.account)
        self._pending.clear()
        self._waiting.clear()

    def _known(self, request: Message, path: Path, granted: Granted) -> Reply | None:
        existing = self._table.by_client.get(path)
        if existing is not None:
            if existing.granted.username != granted.username:
                return Failure(441)
            if existing.transaction_id == request.transaction_id:
                return Raw(existing.response)
            return Failure(437)
        waiting = self._waiting.get(path)
        if waiting is None:
            return None
        return Later() if waiting.request.transaction_id == request.transaction_id else Failure(437)

    def _want(self, pending: PendingAllocation) -> None:
        token = next(self._tokens)
        self._pending[token] = pending
        self._used[pending.address.host].add(pending.address.port)
        self._events.put(RelayWanted(pending.address, token))

    def _take(self, token: int) -> PendingAllocation:
        pending = self._pending.pop(token, None)
        if pending is None:
            raise LocalProtocolError(f"no relay socket with token {token} is wanted")
        return pending

    def _free_address(self, hosts: list[str], even: bool, failed: set[int] | None = None) -> Address | None:
        first = uniform(len(hosts), self._random_bytes)
        for host in hosts[first:] + hosts[:first]:
            used = self._used[host] | failed if failed else self._used[host]
            port = choose_port(self._ports, used, self._random_bytes, even=even)
            if port is not None:
                return Address(host, port)
        return None


def _refusal(request: Message) -> Failure | None:
    """Why the attributes of an Allocate cannot be granted, in the order of RFC 8656 §7.2."""
    transport = request.get(REQUESTED_TRANSPORT)
    if transport is None:
        return Failure(400, "REQUESTED-TRANSPORT is missing")
    if transport != UDP:
        return Failure(442)
    family, additional = request.get(REQUESTED_ADDRESS_FAMILY), request.get(ADDITIONAL_ADDRESS_FAMILY)
    reserve_next, token = request.get(EVEN_PORT), RESERVATION_TOKEN in request
    if token and (reserve_next is not None or family is not None or additional is not None):
        return Failure(400, "RESERVATION-TOKEN goes alone")
    if additional is not None and (family is not None or reserve_next or additional != 2):
        return Failure(400, "ADDITIONAL-ADDRESS-FAMILY is for IPv6 and goes alone")
    if token or reserve_next:
        return Failure(508, "ports are not reserved in pairs")
    if family is not None and family not in IP_VERSIONS:
        return Failure(440)
    return None


def _extra(request: Message) -> tuple[Attribute, ...]:
    """What a success response says about a second relayed address: there is none (RFC 8656 §7.2)."""
    if ADDITIONAL_ADDRESS_FAMILY not in request:
        return ()
    return ((ADDRESS_ERROR_CODE, AddressErrorCode(2, 440, "Address Family not Supported")),)
