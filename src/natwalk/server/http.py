"""The HTTP listener: uvicorn with its bounds set tight and its signals left to us."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable, Generator
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import h11
import uvicorn
from litestar import Litestar
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from natwalk.relay import wants_relay
from natwalk.relay.upgrade import SWITCHING
from natwalk.rendezvous import MAX_FRAME
from natwalk.server.config import Tls

_BACKLOG: Final = 1024
_CONNECTIONS: Final = 16_384
_HEADER_BYTES: Final = 16 * 1024
_HEADER_SECONDS: Final = 15.0
_FRAGMENTS: Final = 256
_PING_SECONDS: Final = 20.0


TakeOver = Callable[[asyncio.Transport, bytes], None]
"""Gets a transport on which the relay was asked for, and what came on it after the request."""


class _Config(uvicorn.Config):
    """uvicorn's, and who takes the connections of the relay."""

    relay: TakeOver | None = None


def _relay_of(config: uvicorn.Config) -> TakeOver | None:
    return config.relay if isinstance(config, _Config) else None


class HttpServer(uvicorn.Server):
    """uvicorn without signal handlers; ``ready`` is set once it accepts connections.

    ``relay`` takes connections that ask to become the relay's; None for a server without one.
    """

    def __init__(self, app: Litestar, tls: Tls | None, *, relay: TakeOver | None = None) -> None:
        config = _Config(
            app,
            http=_HttpConnection,
            ws=_WebSocketConnection,
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            ws_max_size=MAX_FRAME,
            ws_per_message_deflate=False,
            ws_ping_interval=_PING_SECONDS,
            ws_ping_timeout=_PING_SECONDS,
            limit_concurrency=_CONNECTIONS,
            h11_max_incomplete_event_size=_HEADER_BYTES,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=2,
            backlog=_BACKLOG,
            ssl_certfile=None if tls is None else tls.cert,
            ssl_keyfile=None if tls is None else tls.key,
        )
        config.relay = relay
        super().__init__(config)
        self.ready = asyncio.Event()
        quieten_logs()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to whoever runs the event loop."""
        yield

    def protocol(self) -> asyncio.Protocol:
        """A fresh protocol of this server, for a connection that somebody else accepted."""
        return _HttpConnection(self.config, self.server_state, self.lifespan.state)

    def reload_certificate(self, tls: Tls) -> None:
        """Use the files of ``tls`` for connections from now on; those there are go on. Raises OSError."""
        if self.config.ssl is not None:
            self.config.ssl.load_cert_chain(tls.cert, tls.key)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections on ``sockets``."""
        await super().startup(sockets)
        self.ready.set()


def bind_unix(path: Path) -> socket.socket:
    """A listening socket at ``path`` that only this user may connect to, in place of a dead one. OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            _check_dead(path)
            path.unlink()
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        sock.bind(str(fresh))
        fresh.chmod(0o600)
        fresh.rename(path)  # nobody can connect before the permissions are right
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _check_dead(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(str(path)) == 0:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def bind(host: str, port: int) -> socket.socket:
    """A listening TCP socket; an IPv6 one takes IPv6 only. Raises OSError."""
    family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


def quieten_logs() -> None:
    """Keep what strangers send out of the logs: no line a malformed request or frame."""
    logger = logging.getLogger("uvicorn.error")
    logger.setLevel(logging.ERROR)
    if _not_about_garbage not in logger.filters:
        logger.addFilter(_not_about_garbage)
    logging.getLogger("websockets").setLevel(logging.CRITICAL)


def _not_about_garbage(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Invalid UTF-8")


class _HttpConnection(H11Protocol):
    """HTTP that gives a client 15 seconds to have asked for something."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(_HEADER_SECONDS, self._close_if_silent)

    def _should_upgrade(self) -> bool:
        return self._wants_relay() or super()._should_upgrade()

    def _wants_relay(self) -> bool:
        offered = _relay_of(self.config) is not None
        return offered and wants_relay(self.scope["method"].encode(), self.scope["path"], self.headers)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the transport to the relay, or to WebSocket."""
        relay = _relay_of(self.config)
        if relay is None or not self._wants_relay():
            super().handle_websocket_upgrade(event)
            return
        self.connections.discard(self)
        data, _ = self.conn.trailing_data
        self.transport.write(SWITCHING)
        relay(self.transport, bytes(data))

    def _close_if_silent(self) -> None:
        cycle: object | None = self.cycle  # None until the first request is complete
        asked = cycle is not None or self.transport.get_protocol() is not self
        if not asked and not self.transport.is_closing():
            self.transport.close()


class _WebSocketConnection(WebSocketsSansIOProtocol):
    """WebSocket that bounds fragments: the library bounds their sum, and empty ones add nothing to that."""

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= _FRAGMENTS:
            self.frames = []
            self.transport.abort()
            return
        super().handle_cont(event)
