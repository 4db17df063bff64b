"""The asyncio shell of the relay client: a connection that comes back, over TLS and through proxies."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from types import TracebackType
from typing import Final

from natwalk.aio.channel import channel_binding
from natwalk.aio.client_tls import ClientTls
from natwalk.aio.flushing import armed
from natwalk.aio.relay_dial import RelayProxy, RelayUnreachable, RelayWire, dial
from natwalk.aio.server_url import ServerUrl
from natwalk.relay import (
    PACKET_LIMIT,
    ConnectWanted,
    DisconnectWanted,
    RelayClient,
    RelayClientConfig,
    RelayClientEvent,
    RelayIdentity,
    RelayReady,
)

__all__ = ["RelayConnection", "RelayProxy", "RelayUnreachable"]

_HTTP: Final = ClientTls(alpn=("http/1.1",))
_WRITE_BUFFER: Final = 64 << 10


class RelayConnection:
    """Holds a connection to the relay at ``server`` while the ``async with`` block runs.

    ``on_event`` gets the events of the core, from the loop: packets, peers that are gone, the relay lost and
    found. ``bind_channel`` ties the proofs to the TLS connection, so that nobody in the middle of it can pass
    them on; it has to be off for a server behind a proxy that ends TLS. It is a
    :class:`natwalk.relay.RelayLink`, with the loop's time.
    """

    packet_limit: Final = PACKET_LIMIT

    def __init__(
        self,
        server: ServerUrl | str,
        identity: RelayIdentity,
        *,
        on_event: Callable[[RelayClientEvent], None],
        config: RelayClientConfig | None = None,
        tls: ClientTls = _HTTP,
        proxy: RelayProxy | None = None,
        bind_channel: bool = True,
        connect_timeout: float = 10.0,
    ) -> None:
        self.server = server if isinstance(server, ServerUrl) else ServerUrl.parse(server)
        self.core = RelayClient(identity, config, random_bytes=secrets.token_bytes)
        self._on_event = on_event
        self._tls = tls
        self._proxy = proxy
        self._bind_channel = bind_channel
        self._connect_timeout = connect_timeout
        self._loop = asyncio.get_running_loop()
        self._wire: RelayWire | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ready = asyncio.Event()
        self._flushing = False

    @property
    def ready(self) -> bool:
        """Whether packets may be sent."""
        return self.core.ready

    async def wait_ready(self) -> None:
        """Return once the relay has been reached and has proved its key; without a deadline of its own."""
        while not self.core.ready:
            self._ready.clear()
            await self._ready.wait()

    def send(self, data: bytes, peer: bytes, now: float | None = None) -> bool:
        """Send a packet to the holder of the key ``peer``; False when there is no connection just now.

        Raises LocalProtocolError when it is longer than ``packet_limit``.
        """
        sent = self.core.send(data, peer, self._loop.time() if now is None else now)
        if not self._flushing:
            self._flush()
        return sent

    async def __aenter__(self) -> RelayConnection:
        self.core.start(self._loop.time())
        self._flush()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection and every attempt at one; harmless when repeated."""
        self.core.close(self._loop.time())
        self._flush()
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.wait([self._dialling])
            self._dialling = None

    def _flush(self) -> None:
        """Write, do and tell what the core wants."""
        self._flushing = True
        try:
            progress = True
            while progress:
                progress = self._write()
                while (event := self.core.poll_event()) is not None:
                    progress = True
                    self._obey(event)
        finally:
            self._flushing = False
        self._timer = armed(self._timer, self.core.next_timeout(), self._loop, self._on_timer)

    def _write(self) -> bool:
        wrote = False
        while (data := self.core.poll_transmit()) is not None:
            if self._wire is not None and self._wire.transport is not None:
                self._wire.transport.write(data)
            wrote = True
        return wrote

    def _obey(self, event: RelayClientEvent) -> None:
        match event:
            case ConnectWanted():
                self._dialling = self._loop.create_task(self._dial())
            case DisconnectWanted():
                self._hang_up()
            case RelayReady():
                self._ready.set()
        self._on_event(event)

    def _hang_up(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None and wire.transport is not None:
            wire.on_data = wire.on_lost = wire.on_paused = None
            wire.transport.close()
            self._loop.call_later(self._connect_timeout, wire.transport.abort)

    async def _dial(self) -> None:
        try:
            wire = await dial(self.server, self._tls, self._proxy, self._connect_timeout)
        except RelayUnreachable as error:
            self.core.connect_failed(self._loop.time(), str(error))
        else:
            transport = wire.transport
            assert transport is not None
            self._wire = wire
            transport.set_write_buffer_limits(high=_WRITE_BUFFER)
            wire.on_paused = self._paused
            wire.on_lost = self._lost
            binding = channel_binding(transport) if self._bind_channel else b""
            self.core.connection_made(self._loop.time(), binding=binding)
            wire.carry(self._arrived)
            if transport.is_closing():
                self._lost()
        self._flush()

    def _arrived(self, data: bytes) -> None:
        self.core.receive(data, self._loop.time())
        self._flush()

    def _paused(self, paused: bool) -> None:
        if paused:
            self.core.pause()
        else:
            self.core.resume()
            if not self._flushing:
                self._flush()

    def _lost(self) -> None:
        self._wire = None
        self.core.connection_lost(self._loop.time())
        self._flush()

    def _on_timer(self) -> None:
        due = self._timer.when() if self._timer is not None else 0.0
        self._timer = None
        self.core.handle_timeout(max(due, self._loop.time()))
        self._flush()
