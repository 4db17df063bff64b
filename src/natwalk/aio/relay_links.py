"""Connections to TURN servers over TCP, TLS and DTLS, for whoever drives ICE."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Sequence

from natwalk.aio.client_tls import ClientTls
from natwalk.aio.server_link import OnClosed, OnMessages, ServerLink, open_link
from natwalk.core import Address, NatError, Path
from natwalk.ice import TurnServerAddress
from natwalk.stun.resolution import ServerEndpoint

OnOpened = Callable[[Address], None]
"""Takes from where a connection that was wanted leaves."""

OnFailed = Callable[[str], None]
"""Takes why a connection that was wanted is not to be had, in a short phrase."""


class RelayLinks:
    """The connections of one ICE driver; ``tls`` says which certificates are trusted.

    ``on_messages`` gets what comes in and ``on_closed`` hears of connections that the other side ended. All
    methods are for the loop's thread only.
    """

    def __init__(self, on_messages: OnMessages, on_closed: OnClosed, tls: ClientTls | None = None) -> None:
        self._on_messages = on_messages
        self._on_closed = on_closed
        self._tls = tls
        self._links: dict[Path, ServerLink] = {}
        self._connecting: set[asyncio.Task[None]] = set()
        self._closed = False

    def __len__(self) -> int:
        """How many are open or being opened."""
        return len(self._links) + len(self._connecting)

    def open(self, server: TurnServerAddress, opened: OnOpened, failed: OnFailed) -> None:
        """Connect to ``server``; one of the two is called when that is decided, none after ``close``."""
        task = asyncio.get_running_loop().create_task(self._connect(server, opened, failed))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def send(self, path: Path, messages: Sequence[bytes]) -> None:
        """Send whole messages on ``path``; dropped when that is no more."""
        link = self._links.get(path)
        if link is not None:
            link.send(messages)

    def release(self, path: Path) -> None:
        """Send what is queued on ``path`` and end it; harmless when it is no more."""
        link = self._links.pop(path, None)
        if link is not None:
            link.close()

    def close(self) -> list[ServerLink]:
        """End all of them; returns what :meth:`wait_closed` waits for."""
        self._closed = True
        for task in self._connecting:
            task.cancel()
        links = list(self._links.values())
        self._links.clear()
        for link in links:
            link.close()
        return links

    async def wait_closed(self) -> None:
        """End all of them and return when nothing of them is left in the loop."""
        links = self.close()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for link in links:
            await link.wait_closed()

    async def _connect(self, server: TurnServerAddress, opened: OnOpened, failed: OnFailed) -> None:
        endpoint = ServerEndpoint(server.address, server.transport, server.name or server.address.host)
        try:
            link = await open_link(endpoint, self._on_messages, self._lost, tls=self._tls)
        except (OSError, NatError) as error:
            failed(_reason(error))
            return
        if self._closed:
            link.close()
            return
        self._links[link.path] = link
        opened(link.path.local)

    def _lost(self, path: Path, reason: str) -> None:
        self._links.pop(path, None)
        self._on_closed(path, reason)


def _reason(error: OSError | NatError) -> str:
    """Why there is no connection, for people."""
    if isinstance(error, OSError) and (error.errno or 0) > 0 and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno or 0)
    return str(error) or type(error).__name__
