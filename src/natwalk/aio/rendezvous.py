"""The asyncio shell of the rendezvous client: a WebSocket that comes back when it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, WebSocketException

from natwalk.aio.ice_servers import IceServers, TurnServer, fetch_ice_servers
from natwalk.aio.server_url import InvalidServerUrl, ServerUnavailable, ServerUrl
from natwalk.rendezvous import MAX_FRAME

__all__ = [
    "IceServers",
    "InvalidServerUrl",
    "RendezvousCore",
    "RendezvousDriver",
    "ServerUnavailable",
    "ServerUrl",
    "TurnServer",
    "fetch_ice_servers",
    "reconnect_delay",
]

_FIRST_DELAY: Final = 0.25
_LONGEST_DELAY: Final = 15.0
_CLOSE_TIMEOUT: Final = 2.0
_BAD_DATA: Final = 1003
_PUSHED_LIMIT: Final = 1024


class RendezvousCore(Protocol):
    """What the driver drives: a RendezvousClient, a SecureMailbox or what contains one."""

    @property
    def finished(self) -> bool:
        """Whether the server is needed no more."""

    def connection_made(self, now: float) -> None:
        """There is a connection."""

    def connection_lost(self, now: float) -> None:
        """There is none any more."""

    def receive_message(self, text: str, now: float) -> None:
        """A text frame arrived."""

    def poll_message(self) -> str | None:
        """The next text frame to send, or None."""

    def handle_timeout(self, now: float) -> None:
        """The time of ``next_timeout`` has come."""

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` wants to be called, in the event loop's clock."""


class RendezvousDriver:
    """Moves frames between a core and the server at ``server`` until the core is finished.

    ``on_progress`` is called after everything that may have made events: drain the core there. After
    commands of your own call :meth:`flush`, or push the frames yourself with :meth:`send`. The clock is
    the event loop's.
    """

    def __init__(
        self,
        server: ServerUrl | str,
        core: RendezvousCore,
        *,
        on_progress: Callable[[], None] | None = None,
        open_timeout: float = 10.0,
        give_up_after: float = 600.0,
        ping_interval: float = 20.0,
    ) -> None:
        """``give_up_after`` is how many seconds a lost connection is sought before run() raises."""
        self.server = server if isinstance(server, ServerUrl) else ServerUrl.parse(server)
        self.connected = False
        self._core = core
        self._on_progress = on_progress
        self._open_timeout = open_timeout
        self._give_up_after = give_up_after
        self._ping_interval = ping_interval
        self._pushed: deque[str] = deque()
        self._wake = asyncio.Event()
        self._finished = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def flush(self) -> None:
        """Send what a command to the core has queued, and heed its timers."""
        self._wake.set()
        if self._core.finished:
            self._finished.set()
        self._arm()

    def send(self, text: str) -> None:
        """Send one frame that was polled from the core elsewhere; dropped while there is no connection."""
        if self.connected and len(self._pushed) < _PUSHED_LIMIT:
            self._pushed.append(text)
            self._wake.set()

    async def run(self) -> None:
        """Connect, move frames and reconnect until the core is finished.

        Raises ServerUnavailable when the first connection fails, or when a lost one does not come back
        in ``give_up_after`` seconds. Cancelling it closes the connection.
        """
        loop = asyncio.get_running_loop()
        lost_at: float | None = None
        attempt = 0
        try:
            while not self._core.finished:
                try:
                    websocket = await self._open()
                except ServerUnavailable:
                    if lost_at is None or loop.time() - lost_at > self._give_up_after:
                        raise
                else:
                    started = loop.time()
                    await self._serve(websocket)
                    lost_at = loop.time()
                    attempt = 0 if lost_at - started > _LONGEST_DELAY else attempt
                await self._pause(reconnect_delay(attempt, secrets.SystemRandom().random()))
                attempt += 1
        finally:
            if self._timer is not None:
                self._timer.cancel()

    async def _pause(self, delay: float) -> None:
        """Wait ``delay`` seconds, less when the core needs the server no more."""
        if not self._core.finished:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._finished.wait(), delay)

    async def _open(self) -> ClientConnection:
        try:
            return await _Connect(
                self.server.rendezvous,
                compression=None,
                max_size=MAX_FRAME,
                max_queue=16,
                open_timeout=self._open_timeout,
                ping_interval=self._ping_interval,
                ping_timeout=self._ping_interval,
                close_timeout=_CLOSE_TIMEOUT,
                proxy=True,
                user_agent_header="natwalk",
            )
        except (OSError, WebSocketException, ValueError) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> ServerUnavailable:
        hint = "check the URL, and that natwalk serve runs there and its port is open"
        match error:
            case InvalidStatus():
                reason = f"it answered with HTTP status {error.response.status_code}"
                hint = "check that the URL is that of a natwalk server"
            case InvalidHandshake():
                reason = "it does not speak WebSocket"
                hint = "check that the URL is that of a natwalk server"
            case TimeoutError():
                reason = f"no answer within {self._open_timeout:g} s"
            case ssl.SSLError():
                reason = f"TLS failed ({error.reason or 'no certificate that can be trusted'})"
                hint = "check the server's certificate, or use http:// if the server has none"
            case OSError():
                reason = error.strerror or str(error) or type(error).__name__
            case _:
                reason = str(error)
        return ServerUnavailable(f"cannot reach the server {self.server}: {reason}", hint)

    async def _serve(self, websocket: ClientConnection) -> None:
        """Move frames over one connection until it or the core ends."""
        loop = asyncio.get_running_loop()
        self.connected = True
        self._core.connection_made(loop.time())
        self._progress()
        writer = asyncio.create_task(self._write(websocket))
        try:
            async for message in websocket:
                if not isinstance(message, str):
                    await websocket.close(_BAD_DATA)
                    break
                self._core.receive_message(message, loop.time())
                self._progress()
        except ConnectionClosed:
            pass  # the same as the end of the iteration: the core is told below
        finally:
            writer.cancel()
            await asyncio.wait([writer])
            await websocket.close()
            self.connected = False
            self._pushed.clear()
            self._core.connection_lost(loop.time())
            self._progress()
        if not writer.cancelled() and (error := writer.exception()) is not None:
            raise error

    async def _write(self, websocket: ClientConnection) -> None:
        try:
            while True:
                while self._pushed:
                    await websocket.send(self._pushed.popleft())
                while (text := self._core.poll_message()) is not None:
                    await websocket.send(text)
                if self._core.finished:
                    await websocket.close()
                    return
                if not self._pushed:
                    self._wake.clear()
                    await self._wake.wait()
        except ConnectionClosed:
            return

    def _progress(self) -> None:
        self.flush()
        if self._on_progress is not None:
            self._on_progress()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._core.next_timeout()
        if due is not None:
            self._timer = asyncio.get_running_loop().call_at(due, self._on_timer, due)

    def _on_timer(self, due: float) -> None:
        self._timer = None
        self._core.handle_timeout(max(due, asyncio.get_running_loop().time()))
        self._progress()


def reconnect_delay(attempt: int, jitter: float) -> float:
    """Seconds to wait before reconnection ``attempt`` (0, 1, ...): doubling, bounded, half of it jitter.

    ``jitter`` is a random number from 0 to 1.
    """
    bound: float = min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** min(attempt, 10))
    return bound * (0.5 + jitter / 2)


class _Connect(connect):
    """A connection that follows no redirect: the server that was named is the one that is used."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc
