"""TCP connections with peers through a TURN server (RFC 6062), each over a connection of its own to it."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import Final

from natwalk.aio.server_link import tls_arguments
from natwalk.core import Address, ErrorResponse, Path, RemoteProtocolError, TransactionTimeout
from natwalk.stun.resolution import ServerEndpoint
from natwalk.turn import ConnectionBind, ConnectionBindFailed, ConnectionBound, TurnClient

_HEADER_LENGTH: Final = 20
_LENGTH_AT: Final = 2


@dataclass(frozen=True, slots=True)
class PeerStream:
    """A byte stream with ``peer``: what is written to ``writer`` the peer reads, and so back."""

    peer: Address
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def close(self) -> None:
        """Close it; what was written still goes out. A connection that broke is closed, too."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:  # reset meanwhile, or TLS that did not say goodbye in time: closed all the same
            return


async def open_peer_stream(
    endpoint: ServerEndpoint,
    context: ssl.SSLContext | None,
    client: TurnClient,
    peer: Address,
    connection_id: int,
    local: Address | None,
) -> PeerStream:
    """The stream that the server names ``connection_id`` (ConnectionBind, RFC 6062 §4.3).

    Raises :class:`ErrorResponse` when the server refuses, :class:`TransactionTimeout` when it does not
    answer, OSError when it cannot be connected to.
    """
    reader, writer = await asyncio.open_connection(
        *endpoint.address.sockname,
        local_addr=local.sockname if local is not None else None,
        **tls_arguments(endpoint, context),
    )
    try:
        own = Address.from_sockname(writer.get_extra_info("sockname"))
        path = Path(own, endpoint.address, endpoint.transport)
        loop = asyncio.get_running_loop()
        core = client.bind_connection(connection_id, path, loop.time())
        await _bind(core, path, reader, writer)
    except BaseException:
        writer.transport.abort()
        raise
    return PeerStream(peer, reader, writer)


async def _bind(
    core: ConnectionBind, path: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    loop = asyncio.get_running_loop()
    while True:
        while (out := core.poll_transmit()) is not None:
            writer.write(out.data)
        match core.poll_event():
            case ConnectionBound():
                return
            case ConnectionBindFailed(int(code), reason):
                raise ErrorResponse(code, reason)
            case ConnectionBindFailed(None, reason):
                raise TransactionTimeout(reason)
        try:
            async with asyncio.timeout_at(core.next_timeout()):
                message = await _message(reader)
        except TimeoutError:
            core.handle_timeout(max(loop.time(), core.next_timeout() or 0.0))
        except asyncio.IncompleteReadError:
            raise RemoteProtocolError("the server closed the connection instead of binding it") from None
        else:
            core.receive(message, path, loop.time())


async def _message(reader: asyncio.StreamReader) -> bytes:
    """One STUN message and not a byte more: what follows may be the peer's."""
    header = await reader.readexactly(_HEADER_LENGTH)
    length = int.from_bytes(header[_LENGTH_AT : _LENGTH_AT + 2])
    return header + await reader.readexactly(length)
