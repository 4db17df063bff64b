"""Asyncio shell of the TURN server: listeners, relay sockets and a clock."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from types import TracebackType

import ifaddr

from natwalk.aio.flushing import armed, send_all
from natwalk.aio.readers import EpollReaders
from natwalk.aio.udp import UdpSocket
from natwalk.core import Address, Drops, Path
from natwalk.turn import (
    RelayReleased,
    RelayWanted,
    TurnConfig,
    TurnServer,
    TurnServerEvent,
    TurnStats,
)

_Batch = list[tuple[bytes, Address]]


class TurnServerDriver:
    """A :class:`~natwalk.turn.TurnServer` with its listeners, relay sockets and clock.

    ``core`` is the server; ``listeners`` are the addresses it serves, with real ports; ``drops`` counts
    what could not be sent. An async context manager that closes on exit.
    """

    def __init__(
        self, config: TurnConfig, *, on_event: Callable[[TurnServerEvent], None] | None = None
    ) -> None:
        self.core = TurnServer(config, random_bytes=secrets.token_bytes)
        self.drops = Drops()
        self._loop = asyncio.get_running_loop()
        self._on_event = on_event
        self._sockets: dict[Address, UdpSocket] = {}
        self._readers = EpollReaders(self._loop, self._flush)
        self._listeners: list[Address] = []
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._set_wall_clock()

    @classmethod
    async def start(
        cls,
        config: TurnConfig,
        listen: Iterable[Address],
        *,
        on_event: Callable[[TurnServerEvent], None] | None = None,
    ) -> TurnServerDriver:
        """Bind every address of ``listen`` (port 0: any free one) and serve.

        ``on_event`` hears of allocations and flows. Raises OSError when an address cannot be bound.
        """
        driver = cls(config, on_event=on_event)
        try:
            for address in listen:
                driver.add_listener(address)
        except BaseException:
            driver.close()
            raise
        return driver

    @property
    def listeners(self) -> tuple[Address, ...]:
        """Where clients are served, with real ports."""
        return tuple(self._listeners)

    @property
    def stats(self) -> TurnStats:
        """How many allocations, flows and permissions there are."""
        return self.core.stats

    def add_listener(self, address: Address) -> Address:
        """Serve on ``address`` too; returns it with the real port. Raises OSError when it cannot be bound."""
        local = self._open(address)
        self._listeners.append(local)
        self.core.add_listener(local)
        if ip_address(local.host).is_unspecified:
            for host in _interface_hosts(local.version):
                self.core.add_own_endpoint(Address(host, local.port))
        return local

    def close(self) -> None:
        """End every allocation and close every socket; harmless when repeated."""
        if self._closed:
            return
        self.core.close(self._loop.time())
        self._flush()
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()
        self._readers.close()

    async def __aenter__(self) -> TurnServerDriver:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self, address: Address) -> Address:
        # The path's local address is known only once the socket is bound.
        bound: list[Address] = []
        sock = UdpSocket.bind(
            address, lambda batch: self._on_datagrams(bound[0], batch), readers=self._readers
        )
        bound.append(sock.local)
        self._sockets[sock.local] = sock
        return sock.local

    def _on_datagrams(self, local: Address, batch: _Batch) -> None:
        now = self._loop.time()
        receive = self.core.receive
        for data, remote in batch:
            receive(data, Path(local, remote), now)

    def _on_timer(self) -> None:
        self._timer = None
        due = self.core.next_timeout()
        now = self._loop.time()
        self._set_wall_clock()
        self.core.handle_timeout(now if due is None else max(due, now))
        self._flush()

    def _flush(self) -> None:
        while True:
            send_all(self.core.poll_transmit, self._sockets, self.drops)
            event = self.core.poll_event()
            if event is None:
                break
            self._take(event)
        self._arm()

    def _take(self, event: TurnServerEvent) -> None:
        if isinstance(event, RelayWanted):
            now = self._loop.time()
            try:
                self._open(event.address)
            except OSError:
                self.core.relay_failed(event.token, now)
            else:
                self.core.relay_opened(event.token, now)
        elif isinstance(event, RelayReleased):
            self._sockets.pop(event.address).close()
        if self._on_event is not None:
            self._on_event(event)

    def _arm(self) -> None:
        self._timer = armed(self._timer, self.core.next_timeout(), self._loop, self._on_timer)

    def _set_wall_clock(self) -> None:
        self.core.set_wall_offset(time.time() - self._loop.time())


def _interface_hosts(version: int) -> list[str]:
    """The addresses of this machine's interfaces, without link-local ones."""
    hosts: list[str] = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            text = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            address = ip_address(text)
            if address.version == version and not address.is_link_local:
                hosts.append(str(address))
    return hosts
