"""The operator's commands over HTTP: list and end allocations, drain, reload.

They are on a socket of this machine, where its permissions say who may use them, or on the HTTP port for
requests from loopback that carry the token. Everybody else hears that there is nothing here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from litestar import Request, Response, get, post
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from litestar.handlers import BaseRouteHandler
from litestar.types import ControllerRouterHandler

from natwalk.server.access import LOOPBACK, has_token, is_near
from natwalk.turn import AllocationSummary

_NO_STORE: Final = {"Cache-Control": "no-store"}
_MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class Commands:
    """What the operator can have done. ``reload`` returns why it was refused, or None when it is done."""

    disconnect: Callable[[str], int]
    drain: Callable[[], None]
    reload: Callable[[], str | None]


class Disconnect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/admin/disconnect``."""

    user: Annotated[str, msgspec.Meta(min_length=1, max_length=763)]


def _operator_only(connection: ASGIConnection[object, object, object, State], _: BaseRouteHandler) -> None:
    if connection.app.state.trusted:
        return
    token = connection.app.state.services.config.admin.token
    near = is_near(connection.scope, connection.headers, LOOPBACK)
    if not near or not has_token(connection.headers, token):
        raise NotFoundException


@get("/v1/admin/allocations", guards=[_operator_only])
async def allocations(request: Request[None, None, State]) -> Response[dict[str, object]]:
    """Every allocation there is, ten thousand at most."""
    turn = request.app.state.services.turn
    now = asyncio.get_running_loop().time()
    summaries = turn.core.summaries(now)
    listed = [_shown(summary) for summary in summaries[:_MOST]]
    return Response({"allocations": listed, "total": len(summaries)}, headers=_NO_STORE)


@post("/v1/admin/disconnect", guards=[_operator_only], status_code=200)
async def disconnect(request: Request[None, None, State]) -> Response[dict[str, object]]:
    """End every allocation of a user."""
    try:
        wanted = msgspec.json.decode(await request.body(), type=Disconnect)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return Response({"error": 'the body is not {"user": "NAME"}'}, status_code=400)
    commands: Commands = request.app.state.services.commands
    return Response({"ended": commands.disconnect(wanted.user)}, headers=_NO_STORE)


@post("/v1/admin/drain", guards=[_operator_only], status_code=200)
async def drain(request: Request[None, None, State]) -> Response[dict[str, object]]:
    """Grant no new allocations; the server ends when the last one has."""
    services = request.app.state.services
    services.commands.drain()
    return Response({"draining": True, "allocations": services.turn.stats.allocations}, headers=_NO_STORE)


@post("/v1/admin/reload", guards=[_operator_only], status_code=200)
async def reload(request: Request[None, None, State]) -> Response[dict[str, object]]:
    """Read the configuration again; 409 and the reason when it is refused and the old one stays."""
    commands: Commands = request.app.state.services.commands
    reason = commands.reload()
    if reason is not None:
        return Response({"reloaded": False, "error": reason}, status_code=409, headers=_NO_STORE)
    return Response({"reloaded": True}, headers=_NO_STORE)


ADMIN_HANDLERS: Final[list[ControllerRouterHandler]] = [allocations, disconnect, drain, reload]


def _shown(summary: AllocationSummary) -> dict[str, object]:
    counters = summary.counters
    return {
        "user": summary.username,
        "client": str(summary.client),
        "transport": summary.transport.value,
        "relays": [str(address) for address in summary.relays],
        "advertised": [str(address) for address in summary.advertised],
        "relay_transport": summary.relay_transport.value,
        "expires_in": round(summary.expires_in, 1),
        "permissions": summary.permissions,
        "channels": summary.channels,
        "bytes_to_peers": counters.bytes_to_peers,
        "bytes_from_peers": counters.bytes_from_peers,
        "peers": counters.peers,
    }
