"""The asyncio shell of the rendezvous server: connections in, frames out, one timer."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from typing import Final

from natwalk.core import IPAddress
from natwalk.rendezvous import RendezvousLimits, RendezvousServer

_QUEUED_FRAMES: Final = 1024
_QUEUED_BYTES: Final = 2 << 20


class HubConnection:
    """What one client is to be sent; bounded, because a client may not read."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.closed: str | None = None
        self._frames: deque[str] = deque()
        self._size = 0
        self._wake = asyncio.Event()

    async def next_frame(self) -> str | None:
        """The next frame to send; None when the connection is to be closed, for the reason in ``closed``."""
        while not self._frames:
            if self.closed is not None:
                return None
            self._wake.clear()
            await self._wake.wait()
        frame = self._frames.popleft()
        self._size -= len(frame)
        return frame

    def put(self, frame: str) -> None:
        """Queue ``frame``; a client that lets too much pile up is closed."""
        if self.closed is not None:
            return
        if len(self._frames) >= _QUEUED_FRAMES or self._size + len(frame) > _QUEUED_BYTES:
            self._frames.clear()
            self.close("the client does not read")
            return
        self._frames.append(frame)
        self._size += len(frame)
        self._wake.set()

    def close(self, reason: str) -> None:
        """Have the connection closed once what is queued was sent."""
        self.closed = self.closed or reason
        self._wake.set()


class RendezvousHub:
    """A :class:`RendezvousServer` with its connections and clock."""

    def __init__(self, limits: RendezvousLimits) -> None:
        self.core = RendezvousServer(limits, random_bytes=secrets.token_bytes)
        self._loop = asyncio.get_running_loop()
        self._connections: dict[int, HubConnection] = {}
        self._last = 0
        self._timer: asyncio.TimerHandle | None = None

    def attach(self, address: IPAddress) -> HubConnection:
        """A client at ``address`` connected."""
        self._last += 1
        connection = self._connections[self._last] = HubConnection(self._last)
        self.core.connection_made(connection.number, address, self._loop.time())
        self._flush()
        return connection

    def receive(self, connection: HubConnection, text: str) -> None:
        """A text frame of ``connection``."""
        self.core.receive_message(connection.number, text, self._loop.time())
        self._flush()

    def detach(self, connection: HubConnection) -> None:
        """``connection`` is gone."""
        self._connections.pop(connection.number, None)
        self.core.connection_lost(connection.number, self._loop.time())
        self._flush()

    def close(self) -> None:
        """Close every connection and stop the clock."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connection in self._connections.values():
            connection.close("the server stops")

    def _flush(self) -> None:
        while (out := self.core.poll_message()) is not None:
            if (connection := self._connections.get(out[0])) is not None:
                connection.put(out[1])
        while (close := self.core.poll_close()) is not None:
            if (connection := self._connections.get(close[0])) is not None:
                connection.close(close[1])
        self._arm()

    def _arm(self) -> None:
        due = self.core.next_timeout()
        if self._timer is not None:
            if self._timer.when() == due:
                return
            self._timer.cancel()
        self._timer = None if due is None else self._loop.call_at(due, self._on_timer, due)

    def _on_timer(self, due: float) -> None:
        self._timer = None
        self.core.handle_timeout(max(due, self._loop.time()))
        self._flush()
