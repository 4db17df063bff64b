"""The HTTP API: ICE servers, rendezvous (WebSocket) and health; metrics and admin for the operator."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from typing import Final
from urllib.parse import urlsplit

from litestar import Litestar, Request, Response, WebSocket, get, websocket
from litestar.datastructures import State
from litestar.exceptions import NotFoundException, WebSocketDisconnect
from litestar.types import ControllerRouterHandler

from natwalk import __version__
from natwalk.relay.upgrade import PROTOCOL
from natwalk.rendezvous.limits import source_of
from natwalk.server.access import client_of, is_near
from natwalk.server.admin import ADMIN_HANDLERS
from natwalk.server.hub import HubConnection
from natwalk.server.metrics import CONTENT_TYPE, Metrics
from natwalk.server.state import Services
from natwalk.server.uris import host_of, hosts_for, stun_uris, stuns_uris, turn_uris
from natwalk.turn import rest_credentials

CREDENTIAL_TTL: Final = 3600
"""Seconds for which TURN credentials are given out."""
_USERS_PER_SOURCE: Final = 4
_NORMAL, _POLICY, _UNSUPPORTED = 1000, 1008, 1003
_NO_STORE: Final = {"Cache-Control": "no-store"}


def create_app(services: Services) -> Litestar:
    """The ASGI application over ``services`` that everyone can reach."""
    handlers: list[ControllerRouterHandler] = [ice_servers, healthz, readyz, rendezvous, relay]
    if services.config.metrics.listen is None:
        handlers.append(metrics)
    if services.config.admin.token is not None:
        handlers += ADMIN_HANDLERS
    return _app(services, handlers)


def create_metrics_app(services: Services) -> Litestar:
    """The application of a listener for metrics alone; health is there, too."""
    return _app(services, [metrics, healthz, readyz])


def create_admin_app(services: Services) -> Litestar:
    """The application of the operator's socket, whose permissions say who may use it."""
    return _app(services, [*ADMIN_HANDLERS, metrics, healthz, readyz], trusted=True)


def _app(services: Services, handlers: list[ControllerRouterHandler], *, trusted: bool = False) -> Litestar:
    return Litestar(
        handlers,
        state=State({"services": services, "metrics": Metrics(services), "trusted": trusted}),
        openapi_config=None,
        logging_config=None,
        request_max_body_size=4096,
    )


@get("/v1/ice-servers")
async def ice_servers(request: Request[None, None, State]) -> Response[dict[str, object]]:
    """STUN and TURN servers in the W3C shape, with credentials good for an hour."""
    services: Services = request.app.state.services
    source = source_of(client_of(request.scope))
    wait = services.rates.take(source, "ice-servers", asyncio.get_running_loop().time())
    if wait:
        return Response(
            {"error": "too many requests"}, status_code=429, headers={"Retry-After": str(int(wait) + 1)}
        )
    config, ports = services.config, services.ports
    server = request.scope.get("server")
    local = config.known_as(server[0]) if server else None
    listen = [config.known_as(host) for host in config.listen]
    hosts = hosts_for(request.headers.get("host"), local, config.public_host, listen)
    username, password = rest_credentials(
        config.auth_secret, time.time(), CREDENTIAL_TTL, _user(services, source)
    )
    stun = stun_uris(hosts, ports.stun, ports.alternate) + stuns_uris(hosts, ports.tls)
    servers: list[dict[str, object]] = [{"urls": stun}]
    if config.turn.relay_addresses and not services.health.draining:
        servers.append(
            {
                "urls": turn_uris(hosts, ports),
                "username": username,
                "credential": password,
                "credentialType": "password",
            }
        )
    return Response({"iceServers": servers, "ttl": CREDENTIAL_TTL}, headers=_NO_STORE)


@get("/healthz")
async def healthz(request: Request[None, None, State]) -> Response[dict[str, object]]:
    """Whether the server serves, since when, and how busy it is; 200 while it drains, too."""
    services: Services = request.app.state.services
    return Response(
        {
            "status": "draining" if services.health.draining else "ok",
            "version": __version__,
            "uptime_seconds": round(time.monotonic() - services.health.started, 1),
            "turn_allocations": services.turn.stats.allocations,
            "rendezvous_connections": services.hub.core.connections,
            "rendezvous_mailboxes": services.hub.core.mailboxes,
            "relay_clients": 0 if services.relay is None else services.relay.core.clients,
        },
        headers=_NO_STORE,
    )


@get("/readyz")
async def readyz(request: Request[None, None, State]) -> Response[dict[str, object]]:
    """Whether new clients should be sent here: 200, or 503 while the server drains."""
    draining = request.app.state.services.health.draining
    status = {"status": "draining" if draining else "ready"}
    return Response(dict(status), status_code=503 if draining else 200, headers=_NO_STORE)


@get("/v1/relay", status_code=426)
async def relay(request: Request[None, None, State]) -> Response[dict[str, object]]:
    """What the relay is, for requests that do not ask to become its connection: its key, and how to ask."""
    driver = request.app.state.services.relay
    if driver is None:
        raise NotFoundException
    return Response(
        {"key": driver.core.identity.public.hex(), "protocol": PROTOCOL},
        status_code=426,
        headers={**_NO_STORE, "Upgrade": PROTOCOL, "Connection": "Upgrade"},
    )


@get("/metrics")
async def metrics(request: Request[None, None, State]) -> Response[bytes]:
    """The metrics for Prometheus; 404 for whoever is not allowed, as if there were none."""
    services: Services = request.app.state.services
    allowed = services.config.metrics.allow
    if not request.app.state.trusted and not is_near(request.scope, request.headers, allowed):
        return Response(b"", status_code=404)
    return Response(request.app.state.metrics.render(), media_type=CONTENT_TYPE, headers=_NO_STORE)


@websocket("/v1/rendezvous")
async def rendezvous(socket: WebSocket[None, None, State]) -> None:
    """The rendezvous service: JSON text frames, see :mod:`natwalk.rendezvous.messages`."""
    services: Services = socket.app.state.services
    origin = socket.headers.get("origin")
    if origin is not None and not _is_own_page(origin, socket.headers.get("host")):
        await socket.close(_POLICY, "no pages of other sites")
        return
    await socket.accept()
    connection = services.hub.attach(client_of(socket.scope))
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


def _is_own_page(origin: str, authority: str | None) -> bool:
    """Whether the page that opens a WebSocket is of this server: the Origin header names the host asked."""
    try:
        host = urlsplit(origin).hostname
    except ValueError:
        return False
    return host is not None and host == host_of(authority)


async def _write(socket: WebSocket[None, None, State], connection: HubConnection) -> None:
    while (frame := await connection.next_frame()) is not None:
        await socket.send_text(frame)
    code = _UNSUPPORTED if connection.closed == "binary frame" else _NORMAL
    await socket.close(code, (connection.closed or "")[:100])


def _user(services: Services, source: str) -> str:
    """A name for TURN's limit per user: one of four a source, so that a source has four users' share."""
    tag = hmac.digest(services.user_key, source.encode(), "sha256").hex()[:12]
    return f"{tag}{secrets.randbelow(_USERS_PER_SOURCE)}"
