"""Asks a natwalk server for its STUN and TURN servers: ``GET /v1/ice-servers`` in the W3C shape."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import ssl
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec

from natwalk.aio.resolve import ServerNotFound, resolve
from natwalk.aio.server_url import ServerUnavailable, ServerUrl
from natwalk.core import Address, Transport
from natwalk.stun import InvalidServerUri, parse_uri

_TIMEOUT: Final = 10.0
_MAX_BODY: Final = 64 * 1024
_MAX_ADDRESSES: Final = 16
_STUN_OVER: Final = (Transport.UDP,)
_TURN_OVER: Final = (Transport.UDP, Transport.TCP, Transport.TLS)


@dataclass(frozen=True, slots=True)
class TurnServer:
    """A TURN server, the credentials to use there and how it is reached.

    ``name`` is what its certificate is for, when it has one.
    """

    address: Address
    username: str
    password: str = field(repr=False)
    transport: Transport = Transport.UDP
    name: str | None = None


@dataclass(frozen=True, slots=True)
class IceServers:
    """Resolved servers: STUN over UDP, TURN over UDP, TCP and TLS.

    ``ttl`` is for how many seconds the credentials are good, ``skipped`` what was not understood or not
    found, in words.
    """

    stun: tuple[Address, ...] = ()
    turn: tuple[TurnServer, ...] = ()
    ttl: float = 3600.0
    skipped: tuple[str, ...] = ()


_Text = Annotated[str, msgspec.Meta(max_length=512)]


class _Server(msgspec.Struct, frozen=True):
    urls: Annotated[list[_Text], msgspec.Meta(max_length=16)] | _Text
    username: _Text = ""
    credential: _Text = ""


class _Document(msgspec.Struct, frozen=True, rename="camel"):
    ice_servers: Annotated[list[_Server], msgspec.Meta(max_length=16)]
    ttl: Annotated[float, msgspec.Meta(ge=1, le=604_800)] = 3600.0


async def fetch_ice_servers(server: ServerUrl | str, *, within: float = _TIMEOUT) -> IceServers:
    """The STUN and TURN servers that ``server`` offers, host names resolved to addresses.

    Raises ServerUnavailable when it cannot be reached in ``within`` seconds or answers something else.
    No redirect is followed and at most 64 KiB are read.
    """
    url = server if isinstance(server, ServerUrl) else ServerUrl.parse(server)
    body = await _get(url, within)
    try:
        document = msgspec.json.decode(body, type=_Document)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise _unusable(url, "its list of STUN and TURN servers cannot be read") from error
    return await _resolve(document)


async def _get(url: ServerUrl, within: float) -> bytes:
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.host, url.port, timeout=within)
    try:
        async with asyncio.timeout(within):
            return await asyncio.to_thread(_request, connection, url)
    except TimeoutError as error:
        raise _unreachable(url, f"no answer within {within:g} s") from error
    except ssl.SSLError as error:
        reason = f"TLS failed ({error.reason or 'no certificate that can be trusted'})"
        raise _unreachable(url, reason) from error
    except OSError as error:
        raise _unreachable(url, error.strerror or str(error)) from error
    except http.client.HTTPException as error:
        raise _unusable(url, "it does not speak HTTP") from error
    finally:
        _abort(connection)


def _abort(connection: http.client.HTTPConnection) -> None:
    """Close the connection; a thread that still reads from it stops at once."""
    sock = connection.sock
    if sock is not None:
        with contextlib.suppress(OSError):  # already closed by the other side
            sock.shutdown(socket.SHUT_RDWR)
    connection.close()


def _request(connection: http.client.HTTPConnection, url: ServerUrl) -> bytes:
    """Runs in a thread: one GET, its body. Closes the connection itself: nobody may be waiting any more."""
    with contextlib.closing(connection):
        return _exchange(connection, url)


def _exchange(connection: http.client.HTTPConnection, url: ServerUrl) -> bytes:
    connection.request(
        "GET", f"{url.path}/v1/ice-servers", headers={"Accept": "application/json", "User-Agent": "natwalk"}
    )
    response = connection.getresponse()
    if response.status == 429:
        raise ServerUnavailable(
            f"the server {url} is asked too often from this address", "wait a minute and try again"
        )
    if response.status != 200:
        raise _unusable(url, f"it answered with HTTP status {response.status}")
    body = response.read(_MAX_BODY + 1)
    if len(body) > _MAX_BODY:
        raise _unusable(url, "its answer is too long")
    return body


async def _resolve(document: _Document) -> IceServers:
    stun: dict[Address, None] = {}
    turn: dict[tuple[Address, Transport], TurnServer] = {}
    skipped: list[str] = []
    for server in document.ice_servers:
        for uri in [server.urls] if isinstance(server.urls, str) else server.urls:
            try:
                parsed = parse_uri(uri)
                usable = _TURN_OVER if parsed.scheme.is_turn else _STUN_OVER
                transports = [each for each in usable if each in parsed.transports]
                if not transports:
                    continue  # another way to the same servers
                endpoints = await resolve(parsed, transports=transports)
            except (InvalidServerUri, ServerNotFound) as error:
                skipped.append(str(error))
                continue
            for endpoint in endpoints:
                address = endpoint.address
                if not parsed.scheme.is_turn:
                    stun[address] = None
                elif server.username and server.credential:
                    over = endpoint.transport
                    turn[address, over] = TurnServer(
                        address, server.username, server.credential, over, endpoint.name
                    )
    return IceServers(
        tuple(stun)[:_MAX_ADDRESSES],
        tuple(turn.values())[:_MAX_ADDRESSES],
        document.ttl,
        tuple(skipped),
    )


def _unreachable(url: ServerUrl, reason: str) -> ServerUnavailable:
    return ServerUnavailable(
        f"cannot reach the server {url}: {reason}",
        "check the URL, and that natwalk serve runs there and its port is open",
    )


def _unusable(url: ServerUrl, reason: str) -> ServerUnavailable:
    return ServerUnavailable(
        f"cannot use the server {url}: {reason}", "check that the URL is that of a natwalk server"
    )
