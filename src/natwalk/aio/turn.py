"""Asyncio shell of the TURN client: an allocation to send and receive through."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from types import TracebackType
from typing import Final

from natwalk.aio.flushing import armed, send_all
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
)
from natwalk.turn import (
    Allocated,
    AllocationFailed,
    AllocationLost,
    AllocationOptions,
    Closed,
    PasswordCredentials,
    PeerData,
    PermissionDenied,
    TurnClient,
    TurnClientEvent,
)

RECEIVE_QUEUE_LIMIT: Final = 1024

_Batch = list[tuple[bytes, Address]]


class RelayLost(NatError):
    """The allocation is gone: it expired, the server forgot it, or it was closed."""


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
                PasswordCredentials(username, password),
                random_bytes=secrets.token_bytes,
                options=AllocationOptions(lifetime=lifetime, family=family),
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
            send_all(self._core.poll_transmit, {self._socket.local: self._socket}, self.drops)
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
        send_all(core.poll_transmit, {self._socket.local: self._socket}, self.drops)
        while (event := core.poll_event()) is not None:
            self._take(event)
        self._timer = armed(self._timer, core.next_timeout(), self._loop, self._on_timer)

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
