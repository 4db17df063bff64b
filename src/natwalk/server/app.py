"""The HTTP API: ``/v1/ice-servers``, ``/v1/rendezvous`` (WebSocket) and ``/healthz``; nothing else."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from typing import Final
from urllib.parse import urlsplit

from litestar import Litestar, Request, Response, WebSocket, get, websocket
from litestar.datastructures import State
from litestar.exceptions import WebSocketDisconnect

from natwalk import __version__
from natwalk.aio.turn_server import TurnServerDriver
from natwalk.core import IPAddress
from natwalk.rendezvous.limits import SourceRates, source_of
from natwalk.server.config import ServeConfig
from natwalk.server.hub import HubConnection, RendezvousHub
from natwalk.server.uris import host_of, hosts_for, stun_uris, turn_uris
from natwalk.turn import rest_credentials

CREDENTIAL_TTL: Final = 3600
"""Seconds for which TURN credentials are given out."""
_REQUESTS_PER_MINUTE: Final = 60
_USERS_PER_SOURCE: Final = 4
_SOURCES: Final = 16_384
_NORMAL, _POLICY, _UNSUPPORTED = 1000, 1008, 1003


@dataclass(slots=True)
class Services:
    """What the handlers work with."""

    config: ServeConfig
    turn: TurnServerDriver
    hub: RendezvousHub
    stun_port: int
    stun_alternate_port: int | None = None
    rates: SourceRates[str] = field(
        default_factory=lambda: SourceRates({"ice-servers": _REQUESTS_PER_MINUTE}, _SOURCES)
    )
    user_key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    started: float = field(default_factory=time.monotonic)


def create_app(services: Services) -> Litestar:
    """The ASGI application over ``services``."""
    return Litestar(
        [ice_servers, healthz, rendezvous],
        state=State({"services": services}),
        openapi_config=None,
        logging_config=None,
        request_max_body_size=1024,
    )


@get("/v1/ice-servers")
async def ice_servers(request: Request[None, None, State]) -> Response[dict[str, object]]:
    """STUN and TURN servers in the W3C shape, with credentials good for an hour."""
    services: Services = request.app.state.services
    source = source_of(_client(request.scope.get("client")))
    wait = services.rates.take(source, "ice-servers", asyncio.get_running_loop().time())
    if wait:
        return Response(
            {"error": "too many requests"}, status_code=429, headers={"Retry-After": str(int(wait) + 1)}
        )
    config = services.config
    server = request.scope.get("server")
    hosts = hosts_for(
        request.headers.get("host"), server[0] if server else None, config.public_host, config.listen
    )
    username, password = rest_credentials(
        config.auth_secret, time.time(), CREDENTIAL_TTL, _user(services, source)
    )
    alternate = services.stun_alternate_port
    stun = stun_uris(hosts, services.stun_port) + (stun_uris(hosts, alternate) if alternate else [])
    servers: list[dict[str, object]] = [{"urls": stun}]
    if config.turn.relay_addresses:
        servers.append(
            {
                "urls": turn_uris(hosts, services.stun_port),
                "username": username,
                "credential": password,
                "credentialType": "password",
            }
        )
    return Response({"iceServers": servers, "ttl": CREDENTIAL_TTL}, headers={"Cache-Control": "no-store"})


@get("/healthz")
async def healthz(request: Request[None, None, State]) -> Response[dict[str, object]]:
    """Whether the server serves, since when, and how busy it is."""
    services: Services = request.app.state.services
    stats = services.turn.stats
    return Response(
        {
            "status": "ok",
            "version": __version__,
            "uptime_seconds": round(time.monotonic() - services.started, 1),
            "turn_allocations": stats.allocations,
            "rendezvous_connections": services.hub.core.connections,
            "rendezvous_mailboxes": services.hub.core.mailboxes,
        },
        headers={"Cache-Control": "no-store"},
    )


@websocket("/v1/rendezvous")
async def rendezvous(socket: WebSocket[None, None, State]) -> None:
    """The rendezvous service: JSON text frames, see :mod:`natwalk.rendezvous.messages`."""
    services: Services = socket.app.state.services
    origin = socket.headers.get("origin")
    if origin is not None and urlsplit(origin).hostname != host_of(socket.headers.get("host")):
        await socket.close(_POLICY, "no pages of other sites")
        return
    await socket.accept()
    connection = services.hub.attach(_client(socket.scope.get("client")))
    writer = asyncio.create_task(_write(socket, connection))
    try:
        while True:
            await_message = await socket.receive()
            if await_message["type"] == "websocket.disconnect":
                break
            text = await_message.get("text")
            if not isinstance(text, str):
                connection.close("binary frame")
                continue
            services.hub.receive(connection, text)
    except WebSocketDisconnect:
        pass  # the ordinary end
    finally:
        services.hub.detach(connection)
        writer.cancel()
        await asyncio.wait([writer])


async def _write(socket: WebSocket[None, None, State], connection: HubConnection) -> None:
    while (frame := await connection.next_frame()) is not None:
        await socket.send_text(frame)
    code = _UNSUPPORTED if connection.closed == "binary frame" else _NORMAL
    await socket.close(code, (connection.closed or "")[:100])


def _client(client: tuple[str, int] | None) -> IPAddress:
    """Whom a connection counts as; all that the kernel does not name count as one."""
    return IPv4Address(0) if client is None else ip_address(client[0].partition("%")[0])


def _user(services: Services, source: str) -> str:
    """A name for TURN's limit per user: one of four a source, so that a source has four users' share."""
    tag = hmac.digest(services.user_key, source.encode(), "sha256").hex()[:12]
    return f"{tag}{secrets.randbelow(_USERS_PER_SOURCE)}"
