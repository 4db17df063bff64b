"""The asyncio shell of the relay server: transports that were handed over, one core, one timer."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Hashable

from natwalk.aio.channel import channel_binding
from natwalk.aio.flushing import armed
from natwalk.relay import RelayIdentity, RelayServer, RelayServerConfig

WRITE_BUFFER = 64 << 10
"""Bytes that may wait in a transport before packets wait in the core, where the oldest are dropped."""


class RelayServerDriver:
    """A :class:`RelayServer` with its clock and connections; for the loop's thread only."""

    def __init__(self, identity: RelayIdentity, config: RelayServerConfig) -> None:
        self.core = RelayServer(identity, config, random_bytes=secrets.token_bytes)
        self._loop = asyncio.get_running_loop()
        self._connections: dict[int, _Connection] = {}
        self._last = 0
        self._timer: asyncio.TimerHandle | None = None

    def take_over(self, transport: asyncio.Transport, data: bytes, source: Hashable) -> None:
        """Serve the relay on ``transport`` from now on; ``data`` came on it already, from ``source``."""
        self._last += 1
        connection = self._connections[self._last] = _Connection(self, self._last, transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        transport.set_protocol(connection)
        binding = channel_binding(transport)
        self.core.connection_made(connection.number, source, self._loop.time(), binding=binding)
        self.flush()
        if data:
            connection.data_received(data)

    def reconfigure(self, config: RelayServerConfig) -> None:
        """Use ``config`` from now on."""
        self.core.reconfigure(config, self._loop.time())
        self.flush()

    def drain(self) -> None:
        """Take no new clients."""
        self.core.drain()

    def close(self) -> None:
        """Tell each client when to come back, and close everything once that is sent."""
        self.core.restart(self._loop.time())
        self.flush()
        for connection in list(self._connections.values()):
            self._close(connection)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def flush(self) -> None:
        """Write what the core has to say, close what it wants closed, heed its timers."""
        core, connections = self.core, self._connections
        while (out := core.poll_transmit()) is not None:
            number, data = out
            if (connection := connections.get(number)) is not None:
                connection.transport.write(data)
        while (event := core.poll_event()) is not None:
            if (connection := connections.get(event.number)) is not None:
                self._close(connection)
        self._timer = armed(self._timer, core.next_timeout(), self._loop, self._on_timer)

    def lost(self, number: int) -> None:
        """A transport is gone."""
        if self._connections.pop(number, None) is not None:
            self.core.connection_lost(number, self._loop.time())
            self.flush()

    def _close(self, connection: _Connection) -> None:
        """Send what is queued, then close; at once when the client does not take it in time."""
        if not connection.transport.is_closing():
            connection.transport.close()
            self._loop.call_later(self.core.config.write_timeout, connection.transport.abort)

    def _on_timer(self) -> None:
        due = self._timer.when() if self._timer is not None else 0.0
        self._timer = None
        self.core.handle_timeout(max(due, self._loop.time()))
        self.flush()


class _Connection(asyncio.Protocol):
    """One client's transport."""

    __slots__ = ("_driver", "number", "transport")

    def __init__(self, driver: RelayServerDriver, number: int, transport: asyncio.Transport) -> None:
        self._driver = driver
        self.number = number
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Give it to the core, and read on when the core says so."""
        driver = self._driver
        loop = driver._loop
        pause = driver.core.receive(self.number, data, loop.time())
        if pause and not self.transport.is_closing():
            self.transport.pause_reading()
            loop.call_later(pause, self._read_on)
        driver.flush()

    def eof_received(self) -> None:
        """Nobody sends anything more: close."""

    def pause_writing(self) -> None:
        """The client reads too slowly: packets wait in the core."""
        self._driver.core.pause(self.number, self._driver._loop.time())

    def resume_writing(self) -> None:
        """It reads again."""
        self._driver.core.resume(self.number)
        self._driver.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over, for whatever reason."""
        self._driver.lost(self.number)

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()
