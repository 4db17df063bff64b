"""Asyncio shells of TURN: a server on real sockets, and an allocation to send and receive through."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address
from types import TracebackType
from typing import Final

import ifaddr

from natwalk.aio.udp import UdpSocket
from natwalk.core import (
    Address,
    Drops,
    ErrorResponse,
    IPAddress,
    NatError,
    Path,
    RemoteProtocolError,
    TransactionTimeout,
    Transmit,
)
from natwalk.turn import (
    Allocated,
    AllocationFailed,
    AllocationLost,
    Closed,
    PeerData,
    PermissionDenied,
    RelayReleased,
    RelayWanted,
    TurnClient,
    TurnClientEvent,
    TurnConfig,
    TurnServer,
    TurnServerEvent,
    TurnStats,
)

RECEIVE_QUEUE_LIMIT: Final = 1024

_Batch = list[tuple[bytes, Address]]


class RelayLost(NatError):
    """The allocation is gone: it expired, the server forgot it, or it was closed."""


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
        sock = UdpSocket.bind(address, lambda batch: self._on_datagrams(bound[0], batch))
        bound.append(sock.local)
        self._sockets[sock.local] = sock
        return sock.local

    def _on_datagrams(self, local: Address, batch: _Batch) -> None:
        now = self._loop.time()
        receive = self.core.receive
        for data, remote in batch:
            receive(data, Path(local, remote), now)
        self._flush()

    def _on_timer(self) -> None:
        self._timer = None
        due = self.core.next_timeout()
        now = self._loop.time()
        self._set_wall_clock()
        self.core.handle_timeout(now if due is None else max(due, now))
        self._flush()

    def _flush(self) -> None:
        while True:
            _send_all(self.core.poll_transmit, self._sockets, self.drops)
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
        self._timer = _armed(self._timer, self.core.next_timeout(), self._loop, self._on_timer)

    def _set_wall_clock(self) -> None:
        self.core.set_wall_offset(time.time() - self._loop.time())


class TurnAllocation:
    """A relayed address on a TURN server, with a socket and a clock of its own.

    Get one with :meth:`allocate`; use it as an async context manager or close it.
    """

    def __init__(self, sock_address: Address) -> None:
        self.denials: dict[IPAddress, PermissionDenied] = {}
        self.drops = Drops()
        self._loop = asyncio.get_running_loop()
        self._core: TurnClient | None = None
        self._socket = UdpSocket.bind(sock_address, self._on_datagrams)
        self._timer: asyncio.TimerHandle | None = None
        self._ready: asyncio.Future[Allocated] = self._loop.create_future()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._received: asyncio.Queue[tuple[bytes, Address] | None] = asyncio.Queue()

    @classmethod
    async def allocate(
        cls,
        server: Address,
        username: str,
        password: str,
        *,
        local: Address | None = None,
        lifetime: int = 600,
        family: int | None = None,
    ) -> TurnAllocation:
        """A relayed address from ``server``, of IP version ``family`` (None: the server's default).

        ``local`` is what to bind, any address and port by default; ``lifetime`` in seconds is asked for
        and kept up. Raises :class:`ErrorResponse` when the server refuses,
        :class:`TransactionTimeout` when it does not answer within 40 seconds,
        :class:`RemoteProtocolError` when its answer makes no sense, OSError when ``local`` cannot be
        bound, ValueError on credentials that cannot be prepared.
        """
        self = cls(local or Address("::" if server.version == 6 else "0.0.0.0", 0))  # noqa: S104
        try:
            self._core = TurnClient(
                server,
                self._socket.local,
                username,
                password,
                random_bytes=secrets.token_bytes,
                lifetime=lifetime,
                family=family,
            )
            self._core.allocate(self._loop.time())
            self._flush()
            await self._ready
        except BaseException:
            self._abort()
            raise
        return self

    @property
    def core(self) -> TurnClient:
        """The TURN client inside."""
        if self._core is None:
            raise RelayLost("nothing is allocated yet")
        return self._core

    @property
    def relayed(self) -> Address:
        """Where peers reach us; raises :class:`RelayLost` once it is gone."""
        relayed = self.core.relayed
        if relayed is None:
            raise RelayLost("the relayed address is gone")
        return relayed

    @property
    def mapped(self) -> Address | None:
        """How the server sees this socket."""
        return self.core.mapped

    def create_permission(self, peers: Iterable[IPAddress]) -> None:
        """Let ``peers`` send to the relayed address; a refusal shows up in ``denials``."""
        self.core.create_permission(peers, self._loop.time())
        self._flush()

    def bind_channel(self, peer: Address) -> None:
        """Save 35 bytes a datagram to and from ``peer``."""
        self.core.bind_channel(peer, self._loop.time())
        self._flush()

    def send(self, data: bytes, peer: Address) -> None:
        """Relay ``data`` to ``peer``; raises LocalProtocolError when there is no allocation (any more)."""
        self.core.send(data, peer, self._loop.time())
        self._flush()

    async def receive(self) -> tuple[bytes, Address]:
        """The next datagram from a peer, and the peer; raises :class:`RelayLost` after the end."""
        if self._ended.done() and self._received.empty():
            raise RelayLost(self._ended.result())
        item = await self._received.get()
        if item is None:
            self._received.put_nowait(None)  # for whoever else is waiting
            raise RelayLost(self._ended.result())
        return item

    async def close(self) -> None:
        """Give the allocation back, waiting at most 3.5 seconds for the server; harmless when repeated."""
        try:
            self.core.close(self._loop.time())
            self._flush()
            await asyncio.shield(self._ended)
        finally:
            self._abort()

    async def __aenter__(self) -> TurnAllocation:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _abort(self) -> None:
        if self._core is not None and not self._socket.closed:
            self._core.close(self._loop.time())
            _send_all(self._core.poll_transmit, {self._socket.local: self._socket}, self.drops)
        if self._timer is not None:
            self._timer.cancel()
        self._socket.close()
        self._end("closed")

    def _on_datagrams(self, batch: _Batch) -> None:
        core, local, now = self.core, self._socket.local, self._loop.time()
        for data, remote in batch:
            core.receive(data, Path(local, remote), now)
        self._flush()

    def _on_timer(self) -> None:
        self._timer = None
        due, now = self.core.next_timeout(), self._loop.time()
        self.core.handle_timeout(now if due is None else max(due, now))
        self._flush()

    def _flush(self) -> None:
        core = self.core
        _send_all(core.poll_transmit, {self._socket.local: self._socket}, self.drops)
        while (event := core.poll_event()) is not None:
            self._take(event)
        self._timer = _armed(self._timer, core.next_timeout(), self._loop, self._on_timer)

    def _take(self, event: TurnClientEvent) -> None:
        match event:
            case Allocated():
                self._resolve(event)
            case AllocationFailed(_, reason, timed_out=True):
                self._fail(TransactionTimeout(reason))
            case AllocationFailed(None, reason):
                self._fail(RemoteProtocolError(reason))
            case AllocationFailed(int(code), reason):
                self._fail(ErrorResponse(code, reason))
            case AllocationLost(reason):
                self._end(reason)
            case Closed():
                self._end("closed")
            case PermissionDenied(peer):
                self.denials[peer] = event
            case PeerData(data, peer_address):
                if self._received.qsize() >= RECEIVE_QUEUE_LIMIT:
                    self.drops.add("the application does not receive")
                else:
                    self._received.put_nowait((data, peer_address))

    def _resolve(self, event: Allocated) -> None:
        if not self._ready.done():
            self._ready.set_result(event)

    def _fail(self, error: NatError) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)

    def _end(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)
            self._received.put_nowait(None)


def _send_all(poll: Callable[[], Transmit | None], sockets: dict[Address, UdpSocket], drops: Drops) -> None:
    """Send everything there is to send, runs on one path together."""
    run: list[bytes] = []
    path: Path | None = None
    while (out := poll()) is not None:
        if out.path != path:
            _send_run(run, path, sockets, drops)
            run, path = [], out.path
        run.append(out.data)
    _send_run(run, path, sockets, drops)


def _send_run(
    run: Sequence[bytes], path: Path | None, sockets: dict[Address, UdpSocket], drops: Drops
) -> None:
    if path is None:
        return
    sock = sockets.get(path.local)
    if sock is None:
        drops.add("the socket is closed")
    elif len(run) == 1:
        sock.send(run[0], path.remote)
    else:
        sock.send_many(run, path.remote)


def _armed(
    timer: asyncio.TimerHandle | None,
    due: float | None,
    loop: asyncio.AbstractEventLoop,
    callback: Callable[[], None],
) -> asyncio.TimerHandle | None:
    """A timer for ``due``, the one there is when it already fits."""
    if timer is not None:
        if timer.when() == due:
            return timer
        timer.cancel()
    return None if due is None else loop.call_at(due, callback)


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
