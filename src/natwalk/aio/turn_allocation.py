"""Asyncio shell of the TURN client: an allocation to send and receive through."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final

from natwalk.aio.client_tls import ClientTls
from natwalk.aio.flushing import armed
from natwalk.aio.links import Links
from natwalk.aio.server_link import ServerLink, open_link
from natwalk.aio.turn_streams import PeerStream, open_peer_stream
from natwalk.core import (
    Address,
    Drops,
    ErrorResponse,
    IPAddress,
    NatError,
    Path,
    RemoteProtocolError,
    TransactionTimeout,
    Transport,
)
from natwalk.stun.resolution import ServerEndpoint
from natwalk.turn import (
    Allocated,
    AllocationFailed,
    AllocationLost,
    AllocationOptions,
    Closed,
    ConnectFailed,
    Credentials,
    Migrated,
    MigrationFailed,
    PasswordCredentials,
    PeerConnected,
    PeerData,
    PermissionDenied,
    Redirects,
    Stranded,
    TurnClient,
    TurnClientEvent,
)

RECEIVE_QUEUE_LIMIT: Final = 1024
ACCEPT_QUEUE_LIMIT: Final = 64
RECONNECT_DELAYS: Final = (0.0, 1.0, 2.0, 4.0, 8.0)
"""Seconds before each attempt to reach the server again, when the connection of a mobile allocation broke."""

OnEvent = Callable[[TurnClientEvent], None]


class RelayLost(NatError):
    """The allocation is gone: it expired, the server forgot it, or it was closed."""


class _Redirected(NatError):
    """The server sends us to another one."""

    def __init__(self, event: AllocationFailed) -> None:
        super().__init__(event.reason)
        self.event = event


class TurnAllocation:
    """A relayed address on a TURN server, with a connection to it and a clock of its own.

    Get one with :func:`natwalk.aio.turn.open_allocation`, or from one server with :meth:`open`; use it as
    an async context manager or close it.
    """

    def __init__(
        self, endpoint: ServerEndpoint, tls: ClientTls | None, local: Address | None, on_event: OnEvent | None
    ) -> None:
        self.endpoint = endpoint
        self.denials: dict[IPAddress, PermissionDenied] = {}
        self.drops = Drops()
        self._tls = tls or ClientTls()
        self._local = local
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._core: TurnClient | None = None
        self._links = Links()
        self._timer: asyncio.TimerHandle | None = None
        self._ready: asyncio.Future[Allocated] = self._loop.create_future()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._received: asyncio.Queue[tuple[bytes, Address] | None] = asyncio.Queue()
        self._attempts: asyncio.Queue[PeerConnected | None] = asyncio.Queue()
        self._connecting: dict[Address, asyncio.Future[int]] = {}
        self._moving: asyncio.Future[Path] | None = None
        self._rescue: asyncio.Task[None] | None = None
        self._settling: set[asyncio.Future[None]] = set()
        self._losers: list[asyncio.Task[TurnAllocation]] = []

    @classmethod
    async def allocate(
        cls,
        server: Address,
        username: str,
        password: str,
        *,
        transport: Transport = Transport.UDP,
        local: Address | None = None,
        lifetime: int = 600,
        family: int | None = None,
    ) -> TurnAllocation:
        """A relayed address from the ``server`` at an address; otherwise as :meth:`open`."""
        return await cls.open(
            ServerEndpoint(server, transport, server.host),
            PasswordCredentials(username, password),
            local=local,
            options=AllocationOptions(lifetime=lifetime, family=family),
        )

    @classmethod
    async def open(
        cls,
        endpoint: ServerEndpoint,
        credentials: Credentials,
        *,
        local: Address | None = None,
        options: AllocationOptions | None = None,
        tls: ClientTls | None = None,
        on_event: OnEvent | None = None,
    ) -> TurnAllocation:
        """A relayed address from one server, or from where it sends us (at most three times).

        ``local`` is what to bind, any address and port by default. ``on_event`` hears everything but
        data: refreshes that fail, refused peers, ICMP, the end. Raises :class:`ErrorResponse` when the
        server refuses, :class:`TransactionTimeout` when it does not answer within 40 seconds,
        :class:`RemoteProtocolError` when its answer makes no sense, OSError (with TLS errors) when there is
        no connection, ValueError on options that ``endpoint`` cannot fulfil.
        """
        trail = Redirects((endpoint.address,))
        while True:
            self = cls(endpoint, tls, local, on_event)
            try:
                await self._start(credentials, options)
            except _Redirected as redirected:
                event = redirected.event
                trail = trail.follow(event.alternate)
                name = event.alternate_domain or endpoint.name
                endpoint = ServerEndpoint(trail.servers[-1], endpoint.transport, name)
            else:
                return self

    @property
    def core(self) -> TurnClient:
        """The TURN client inside."""
        if self._core is None:
            raise RelayLost("nothing is allocated yet")
        return self._core

    @property
    def granted(self) -> Allocated:
        """What the server granted when the allocation was made."""
        if not self._ready.done():
            raise RelayLost("nothing is allocated yet")
        return self._ready.result()

    @property
    def relayed(self) -> Address:
        """Where peers reach us; raises :class:`RelayLost` once it is gone."""
        relayed = self.core.relayed
        if relayed is None:
            raise RelayLost("the relayed address is gone")
        return relayed

    @property
    def relayed_addresses(self) -> tuple[Address, ...]:
        """The same, one of each IP version when both were granted; empty once they are gone."""
        return self.core.relayed_addresses

    @property
    def mapped(self) -> Address | None:
        """How the server sees this socket."""
        return self.core.mapped

    @property
    def certificate(self) -> bytes | None:
        """The certificate of the server, in DER, over TLS and DTLS."""
        link = self._links.get(self.core.path)
        return None if link is None else link.certificate

    def create_permission(self, peers: Iterable[IPAddress]) -> None:
        """Let ``peers`` send to the relayed address; a refusal shows up in ``denials``."""
        self.core.create_permission(peers, self._loop.time())
        self._flush()

    def bind_channel(self, peer: Address) -> None:
        """Save 35 bytes a datagram to and from ``peer``."""
        self.core.bind_channel(peer, self._loop.time())
        self._flush()

    def send(self, data: bytes, peer: Address, *, dont_fragment: bool = False) -> None:
        """Relay ``data`` to ``peer``; raises LocalProtocolError when there is no allocation (any more)."""
        self.core.send(data, peer, self._loop.time(), dont_fragment=dont_fragment)
        self._flush()

    async def settle(self) -> None:
        """Return when the server has answered all that was asked of it, permissions above all.

        Then ``denials`` is complete, and peers with permission get through. At most 40 seconds.
        """
        if not self.core.busy:
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._settling.add(waiter)
        try:
            await waiter
        finally:
            self._settling.discard(waiter)

    async def receive(self) -> tuple[bytes, Address]:
        """The next datagram from a peer, and the peer; raises :class:`RelayLost` after the end."""
        if self._ended.done() and self._received.empty():
            raise RelayLost(self._ended.result())
        item = await self._received.get()
        if item is None:
            self._received.put_nowait(None)  # for whoever else is waiting
            raise RelayLost(self._ended.result())
        return item

    async def connect(self, peer: Address) -> PeerStream:
        """A TCP connection from the relayed address to ``peer`` (RFC 6062 §4.3), on a TCP allocation.

        Raises :class:`ErrorResponse` (403 denied, 446 there is one already, 447 the peer cannot be
        reached), :class:`TransactionTimeout`, :class:`RelayLost`, OSError.
        """
        waiter: asyncio.Future[int] = self._loop.create_future()
        self.core.connect(peer, self._loop.time())
        self._connecting[peer] = waiter
        try:
            self._flush()
            connection_id = await waiter
        finally:
            self._connecting.pop(peer, None)
        return await self._peer_stream(peer, connection_id)

    async def accept(self) -> PeerStream:
        """The next TCP connection that a peer with permission opens to the relayed address (RFC 6062 §4.4).

        Raises as :meth:`connect` does.
        """
        if self._ended.done() and self._attempts.empty():
            raise RelayLost(self._ended.result())
        attempt = await self._attempts.get()
        if attempt is None:
            self._attempts.put_nowait(None)
            raise RelayLost(self._ended.result())
        return await self._peer_stream(attempt.peer, attempt.connection_id)

    async def migrate(self, local: Address | None = None) -> None:
        """Move the allocation to a new connection to the server, from ``local`` (RFC 8016 §3.2).

        This happens by itself when a TCP, TLS or DTLS connection under a mobile allocation breaks. The
        relayed address, permissions and channels stay. Raises LocalProtocolError without a ticket,
        :class:`ErrorResponse` or :class:`TransactionTimeout` when it stays where it was, OSError.
        """
        core = self.core
        link = await self._open_link(local)
        try:
            core.migrate(link.path.local, self._loop.time())
            self._moving = self._loop.create_future()
            self._flush()
            await self._moving
        except BaseException:
            if core.path != link.path:
                self._links.drop(link.path)
            raise
        finally:
            self._moving = None
        for path in [path for path in self._links if path != core.path]:
            self._links.drop(path)

    async def close(self) -> None:
        """Give the allocation back, waiting at most 4.5 seconds for the server; harmless when repeated."""
        links = list(self._links.values())
        try:
            self.core.close(self._loop.time())
            self._flush()
            await asyncio.shield(self._ended)
        finally:
            self.abort()
        for link in links:
            await link.wait_closed()
        if self._losers:
            await asyncio.wait(self._losers)

    def abort(self) -> None:
        """Give the allocation back and do not wait for an answer; harmless when repeated."""
        if self._core is not None and self._links:
            self._core.close(self._loop.time())
            self._links.send(self.core.poll_transmit, self.drops)
        if self._timer is not None:
            self._timer.cancel()
        if self._rescue is not None:
            self._rescue.cancel()
        for path in list(self._links):
            self._links.drop(path)
        self._end("closed")

    def wait_for(self, losers: list[asyncio.Task[TurnAllocation]]) -> None:
        """Have ``close`` wait for ``losers``, attempts that are giving back what they got."""
        self._losers = losers

    async def __aenter__(self) -> TurnAllocation:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _start(self, credentials: Credentials, options: AllocationOptions | None) -> None:
        link: ServerLink | None = None
        try:
            link = await self._open_link(self._local)
            self._core = TurnClient(
                self.endpoint.address,
                link.path.local,
                credentials,
                random_bytes=secrets.token_bytes,
                transport=self.endpoint.transport,
                options=options,
            )
            self._core.allocate(self._loop.time())
            self._flush()
            await self._ready
        except BaseException:
            self.abort()
            if link is not None:
                await link.wait_closed()
            raise

    async def _open_link(self, local: Address | None) -> ServerLink:
        link = await open_link(
            self.endpoint, self._on_messages, self._on_link_closed, local=local, tls=self._tls
        )
        self._links[link.path] = link
        return link

    async def _peer_stream(self, peer: Address, connection_id: int) -> PeerStream:
        context = self._tls.context() if self.endpoint.transport is Transport.TLS else None
        local = self._local.with_port(0) if self._local is not None else None
        return await open_peer_stream(self.endpoint, context, self.core, peer, connection_id, local)

    async def _reconnect(self, reason: str) -> None:
        """Move the allocation to a new connection, or give it up for ``reason``."""
        local = self._local.with_port(0) if self._local is not None else None
        for delay in RECONNECT_DELAYS:
            await asyncio.sleep(delay)
            try:
                await self.migrate(local)
            except (NatError, OSError):
                self.drops.add("no new connection to the server")
            else:
                return
        self.core.disconnected(self.core.path, reason, self._loop.time())
        self._flush()

    def _on_messages(self, path: Path, messages: list[bytes]) -> None:
        core, now = self._core, self._loop.time()
        if core is None:
            self.drops.add("before anything was asked")
            return
        for message in messages:
            core.receive(message, path, now)
        self._flush()

    def _on_link_closed(self, path: Path, reason: str) -> None:
        self._links.pop(path, None)
        if self._core is not None:
            self._core.disconnected(path, reason, self._loop.time())
            self._flush()

    def _on_timer(self) -> None:
        self._timer = None
        due, now = self.core.next_timeout(), self._loop.time()
        self.core.handle_timeout(now if due is None else max(due, now))
        self._flush()

    def _flush(self) -> None:
        core = self.core
        self._links.send(self.core.poll_transmit, self.drops)
        while (event := core.poll_event()) is not None:
            self._take(event)
        self._timer = armed(self._timer, core.next_timeout(), self._loop, self._on_timer)
        if not core.busy:
            for waiter in self._settling:
                if not waiter.done():
                    waiter.set_result(None)

    def _take(self, event: TurnClientEvent) -> None:
        match event:
            case PeerData(data, peer_address):
                if self._received.qsize() >= RECEIVE_QUEUE_LIMIT:
                    self.drops.add("the application does not receive")
                else:
                    self._received.put_nowait((data, peer_address))
                return
            case Allocated():
                if not self._ready.done():
                    self._ready.set_result(event)
            case AllocationFailed():
                self._fail(event)
            case AllocationLost(reason):
                self._end(reason)
            case Closed():
                self._end("closed")
            case PermissionDenied(peer):
                self.denials[peer] = event
            case PeerConnected() | ConnectFailed():
                self._take_connection(event)
            case Stranded(_, reason):
                if self._rescue is None or self._rescue.done():
                    self._rescue = self._loop.create_task(self._reconnect(reason))
            case Migrated(path):
                if self._moving is not None and not self._moving.done():
                    self._moving.set_result(path)
            case MigrationFailed(_, code, reason):
                if self._moving is not None and not self._moving.done():
                    self._moving.set_exception(_error(code, reason))
            case _:
                pass  # for on_event only
        if self._on_event is not None:
            self._on_event(event)

    def _take_connection(self, event: PeerConnected | ConnectFailed) -> None:
        if isinstance(event, PeerConnected) and event.incoming:
            if self._attempts.qsize() >= ACCEPT_QUEUE_LIMIT:
                self.drops.add("the application does not accept")
            else:
                self._attempts.put_nowait(event)
            return
        waiter = self._connecting.get(event.peer)
        if waiter is None or waiter.done():
            self.drops.add("nobody waits for this connection")
        elif isinstance(event, PeerConnected):
            waiter.set_result(event.connection_id)
        else:
            waiter.set_exception(_error(event.code, event.reason))

    def _fail(self, event: AllocationFailed) -> None:
        if self._ready.done():
            return
        if event.code == _TRY_ALTERNATE:
            self._ready.set_exception(_Redirected(event))
        elif event.code is None and not event.timed_out:
            self._ready.set_exception(RemoteProtocolError(event.reason))
        else:
            self._ready.set_exception(_error(event.code, event.reason))

    def _end(self, reason: str) -> None:
        if self._ended.done():
            return
        self._ended.set_result(reason)
        self._received.put_nowait(None)
        self._attempts.put_nowait(None)
        waiters: list[asyncio.Future[int] | asyncio.Future[Path] | asyncio.Future[None] | None] = [
            *self._connecting.values(),
            *self._settling,
            self._moving,
        ]
        for waiter in waiters:
            if waiter is not None and not waiter.done():
                waiter.set_exception(RelayLost(reason))


_TRY_ALTERNATE: Final = 300


def _error(code: int | None, reason: str) -> NatError:
    return TransactionTimeout(reason) if code is None else ErrorResponse(code, reason)
