"""The relay sockets a server asks its driver for: ports, tokens, and trying again (RFC 8656 §7.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from typing import Final, Generic, TypeVar

from natwalk.core import Address, LocalProtocolError, Outbox, RandomBytes, Transport
from natwalk.turn.ports import choose_port, uniform
from natwalk.turn.server_events import RelayReleased, RelayWanted, TurnServerEvent

T = TypeVar("T")

MAX_BIND_ATTEMPTS: Final = 8
"""How many ports, or pairs of ports, are tried for one allocation."""


class Ports(Enum):
    """Which ports will do."""

    ANY = "any"
    EVEN = "even"
    PAIR = "an even one and the next"


@dataclass(slots=True, eq=False)
class SocketGroup(Generic[T]):
    """Sockets that are of use only together: one, or two on neighbouring ports.

    ``addresses`` are those that are open, in order of their ports, once the group is settled; none when
    they could not be had. ``owner`` is whom they are for.
    """

    owner: T
    hosts: Sequence[str]
    transport: Transport
    ports: Ports
    addresses: tuple[Address, ...] = ()
    waiting: int = 0
    attempts: int = 0
    opened: set[Address] = field(default_factory=set)
    failed: set[Address] = field(default_factory=set)
    cancelled: bool = False


class RelaySockets(Generic[T]):
    """Chooses ports, has them opened and closed, and knows which are in use.

    A port is given to one relayed address of its host at a time, whatever the transport. It is free again
    when the driver has taken the RelayReleased and calls :meth:`released`.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        port_range: tuple[int, int],
        events: Outbox[TurnServerEvent],
        random_bytes: RandomBytes,
    ) -> None:
        self._events = events
        self._random_bytes = random_bytes
        self._used: dict[str, set[int]] = {}
        self._wanted: dict[int, tuple[SocketGroup[T], Address]] = {}
        self._tokens = count(1)
        self.configure(hosts, port_range)

    def configure(self, hosts: Sequence[str], port_range: tuple[int, int]) -> None:
        """Take ports of ``port_range`` on ``hosts`` from now on; sockets that are open stay so."""
        self._by_version = {
            version: [host for host in hosts if Address(host, 0).version == version] for version in (4, 6)
        }
        self._ports = range(port_range[0], port_range[1] + 1)
        for host in hosts:
            self._used.setdefault(host, set())

    def hosts(self, version: int) -> list[str]:
        """The relay addresses of IP ``version``."""
        return self._by_version[version]

    @property
    def in_use(self) -> int:
        """How many ports are open or asked for."""
        return sum(map(len, self._used.values()))

    def want(
        self, owner: T, hosts: Sequence[str], transport: Transport, ports: Ports
    ) -> SocketGroup[T] | None:
        """Ask for sockets on one of ``hosts``; None when no port is free."""
        group = SocketGroup(owner, hosts, transport, ports)
        return group if self._try(group) else None

    def opened(self, token: int) -> SocketGroup[T] | None:
        """The socket of ``token`` is there; its group when that settles it.

        Raises LocalProtocolError on an unknown token.
        """
        group, address = self._take(token)
        group.opened.add(address)
        return self._settle(group)

    def failed(self, token: int) -> SocketGroup[T] | None:
        """There is no socket for ``token``; its group when nothing more is tried.

        Raises LocalProtocolError on an unknown token.
        """
        group, address = self._take(token)
        group.failed.add(address)
        self.released(address)
        return self._settle(group)

    def release(self, address: Address, transport: Transport) -> None:
        """Have the socket at ``address`` closed."""
        self._events.put(RelayReleased(address, transport))

    def released(self, address: Address) -> None:
        """The port of ``address`` is free again."""
        self._used[address.host].discard(address.port)

    def abandon(self) -> list[T]:
        """Forget every socket asked for, tokens included; returns the owners of those groups, each once."""
        owners: dict[int, T] = {}
        for group, address in self._wanted.values():
            owners[id(group.owner)] = group.owner
            self.released(address)
            for other in group.opened:
                self.release(other, group.transport)
            group.opened.clear()
        self._wanted.clear()
        return list(owners.values())

    def _settle(self, group: SocketGroup[T]) -> SocketGroup[T] | None:
        group.waiting -= 1
        if group.waiting:
            return None
        bad = [address for address in group.addresses if address in group.failed]
        if not bad:
            return group
        for address in group.opened:
            self.release(address, group.transport)
        group.opened.clear()
        group.addresses = ()
        more = group.attempts < MAX_BIND_ATTEMPTS and not group.cancelled and self._try(group)
        return None if more else group

    def _try(self, group: SocketGroup[T]) -> bool:
        address = self._free(group)
        if address is None:
            return False
        group.attempts += 1
        pair = group.ports is Ports.PAIR
        group.addresses = (address, address.with_port(address.port + 1)) if pair else (address,)
        group.waiting = len(group.addresses)
        for wanted in group.addresses:
            token = next(self._tokens)
            self._wanted[token] = (group, wanted)
            self._used[wanted.host].add(wanted.port)
            self._events.put(RelayWanted(wanted, token, group.transport))
        return True

    def _free(self, group: SocketGroup[T]) -> Address | None:
        first = uniform(len(group.hosts), self._random_bytes)
        pair = group.ports is Ports.PAIR
        for host in (*group.hosts[first:], *group.hosts[:first]):
            used = self._used[host]
            if group.failed:
                used = used | {address.port for address in group.failed if address.host == host}
            port = choose_port(
                self._ports, used, self._random_bytes, even=group.ports is not Ports.ANY, pair=pair
            )
            if port is not None:
                return Address(host, port)
        return None

    def _take(self, token: int) -> tuple[SocketGroup[T], Address]:
        wanted = self._wanted.pop(token, None)
        if wanted is None:
            raise LocalProtocolError(f"no relay socket with token {token} is wanted")
        return wanted
