"""One client's connection to a STUN or TURN server, over UDP, TCP, TLS or DTLS: messages in, messages out."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from natwalk.aio.client_tls import ClientTls
from natwalk.aio.udp import UdpSocket
from natwalk.core import Address, Drops, MalformedMessage, Path, Transport
from natwalk.stun import is_stun
from natwalk.stun.resolution import ServerEndpoint
from natwalk.turn.framing import StreamFramer

HANDSHAKE_TIMEOUT: Final = 15.0
SHUTDOWN_TIMEOUT: Final = 0.5
SEND_BUFFER_LIMIT: Final = 1 << 20
"""Bytes that wait for a slow stream before relayed datagrams are dropped; requests still go."""

OnMessages = Callable[[Path, list[bytes]], None]
"""Takes the messages of one wake-up, and the path they came on."""

OnClosed = Callable[[Path, str], None]
"""Takes why the other side, or the network, has ended the link; not called after ``close``."""


class ServerLink(Protocol):
    """What the four have in common."""

    drops: Drops

    @property
    def path(self) -> Path:
        """Our end, the server's, and what is in between."""

    @property
    def certificate(self) -> bytes | None:
        """The server's certificate, in DER; None when there is none below."""

    def send(self, messages: Sequence[bytes]) -> None:
        """Send whole messages, in order; what cannot be sent is dropped and counted."""

    def close(self) -> None:
        """Send what is queued and end; harmless when repeated."""

    async def wait_closed(self) -> None:
        """Return when nothing of the link is left in the loop, at most a second after ``close``."""


async def open_link(
    endpoint: ServerEndpoint,
    on_messages: OnMessages,
    on_closed: OnClosed,
    *,
    local: Address | None = None,
    tls: ClientTls | None = None,
) -> ServerLink:
    """A link to ``endpoint``, ready to send on; ``local`` is what to bind, anything by default.

    Raises OSError (with ssl.SSLError) when there is no connection, TimeoutError when the TLS or DTLS
    handshake takes more than ``HANDSHAKE_TIMEOUT`` seconds, and what :mod:`natwalk.aio.dtls_client` raises.
    """
    tls = tls or ClientTls()
    match endpoint.transport:
        case Transport.UDP:
            return UdpLink(endpoint.address, on_messages, local)
        case Transport.TCP:
            return await StreamLink.open(endpoint, on_messages, on_closed, local, None)
        case Transport.TLS:
            return await StreamLink.open(endpoint, on_messages, on_closed, local, tls.context())
        case Transport.DTLS:
            from natwalk.aio.dtls_client import DtlsLink  # pyOpenSSL is an extra, and slow to import

            return await DtlsLink.open(endpoint, on_messages, on_closed, local, tls)


def wildcard(server: Address) -> Address:
    """Any address and port of the server's IP version."""
    return Address("::" if server.version == 6 else "0.0.0.0", 0)  # noqa: S104


def server_name(endpoint: ServerEndpoint) -> str:
    """The name the server's certificate must have: the one the user gave, else its address."""
    return endpoint.name or endpoint.address.host


class UdpLink:
    """Datagrams of a socket of its own; those of others than the server are dropped."""

    certificate: bytes | None = None

    def __init__(self, server: Address, on_messages: OnMessages, local: Address | None) -> None:
        self._socket = UdpSocket.bind(local or wildcard(server), self._on_datagrams)
        self.path = Path(self._socket.local, server)
        self.drops = self._socket.drops
        self._on_messages = on_messages

    def send(self, messages: Sequence[bytes]) -> None:
        """Send datagrams, many in one system call."""
        if len(messages) == 1:
            self._socket.send(messages[0], self.path.remote)
        else:
            self._socket.send_many(messages, self.path.remote)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    async def wait_closed(self) -> None:
        """Nothing to wait for."""

    def _on_datagrams(self, batch: list[tuple[bytes, Address]]) -> None:
        server = self.path.remote
        messages = [data for data, remote in batch if remote == server]
        if len(messages) < len(batch):
            self.drops.add("not from the server")
        if messages:
            self._on_messages(self.path, messages)


class StreamLink(asyncio.Protocol):
    """Framed messages of a TCP or TLS connection."""

    def __init__(self, endpoint: ServerEndpoint, on_messages: OnMessages, on_closed: OnClosed) -> None:
        self.path = Path(wildcard(endpoint.address), endpoint.address, endpoint.transport)
        self.drops = Drops()
        self._on_messages = on_messages
        self._on_closed: OnClosed | None = on_closed
        self._framer = StreamFramer()
        self._transport: asyncio.Transport | None = None
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(
        cls,
        endpoint: ServerEndpoint,
        on_messages: OnMessages,
        on_closed: OnClosed,
        local: Address | None,
        context: ssl.SSLContext | None,
    ) -> StreamLink:
        """Connect, with TLS when there is a ``context``; raises OSError and TimeoutError."""
        self = cls(endpoint, on_messages, on_closed)
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: self,
                *endpoint.address.sockname,
                local_addr=local.sockname if local is not None else None,
                **tls_arguments(endpoint, context),
            )
        except BaseException:
            self.close()
            raise
        return self

    @property
    def certificate(self) -> bytes | None:
        """The server's certificate, in DER, when this is TLS."""
        tls = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        return None if tls is None else tls.getpeercert(binary_form=True)

    def send(self, messages: Sequence[bytes]) -> None:
        """Write messages; while a megabyte waits, relayed datagrams are dropped like on any full link."""
        transport = self._transport
        if transport is None or transport.is_closing():
            self.drops.add("closed")
            return
        if transport.get_write_buffer_size() > SEND_BUFFER_LIMIT:
            requests = [each for each in messages if _is_request(each)]
            if len(requests) < len(messages):
                self.drops.add("the stream is full")
            messages = requests
        transport.write(b"".join(messages))

    def close(self) -> None:
        """Close once everything is written."""
        self._on_closed = None
        if self._transport is not None:
            self._transport.close()

    async def wait_closed(self) -> None:
        """Return when the connection is gone; what does not go by itself is torn down after a second."""
        if self._transport is None:
            return
        await asyncio.wait([self._gone], timeout=2 * SHUTDOWN_TIMEOUT)
        if not self._gone.done():
            self._transport.abort()
            await asyncio.wait([self._gone], timeout=SHUTDOWN_TIMEOUT)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio tells that the connection, and its TLS, are there."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        local = Address.from_sockname(transport.get_extra_info("sockname"))
        self.path = self.path._replace(local=local)

    def data_received(self, data: bytes) -> None:
        """Asyncio gives bytes."""
        if self._on_closed is None:
            return
        messages: list[bytes] = []
        broken: str | None = None
        try:
            messages.extend(self._framer.feed(data))
        except MalformedMessage as problem:
            broken = str(problem)
        if messages:
            self._on_messages(self.path, messages)
        if broken is not None:
            self._end(broken)

    def connection_lost(self, error: Exception | None) -> None:
        """Asyncio tells that the connection is over."""
        if not self._gone.done():
            self._gone.set_result(None)
        self._end(str(error) if error is not None else "the server closed the connection")

    def _end(self, reason: str) -> None:
        on_closed, self._on_closed = self._on_closed, None
        if self._transport is not None:
            self._transport.close()
        if on_closed is not None:
            on_closed(self.path, reason)


def tls_arguments(endpoint: ServerEndpoint, context: ssl.SSLContext | None) -> dict[str, Any]:
    """What asyncio's ``create_connection`` is told about TLS."""
    if context is None:
        return {}
    return {
        "ssl": context,
        "server_hostname": server_name(endpoint),
        "ssl_handshake_timeout": HANDSHAKE_TIMEOUT,
        "ssl_shutdown_timeout": SHUTDOWN_TIMEOUT,
    }


def _is_request(message: bytes) -> bool:
    return is_stun(message) and not (message[0] & 0x01 or message[1] & 0x10)
