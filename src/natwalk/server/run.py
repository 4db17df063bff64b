"""One process, one event loop: UDP for STUN and TURN, TCP for HTTP and WebSocket, until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

import structlog

from natwalk.aio.turn_server import TurnServerDriver
from natwalk.core import Address
from natwalk.server.addresses import default_route_address, interface_addresses
from natwalk.server.app import Services, create_app
from natwalk.server.config import ServeConfig
from natwalk.server.errors import ConfigError, StartError
from natwalk.server.http import HttpServer, bind
from natwalk.server.hub import RendezvousHub
from natwalk.server.uris import bracketed, stun_uris, turn_uris

_FILES = 1 << 20

_log = structlog.get_logger("natwalk.server")


@dataclass(frozen=True, slots=True)
class Ready:
    """Where the server can be reached, as URIs."""

    http: str
    stun: tuple[str, ...]
    turn: tuple[str, ...]
    relays: tuple[str, ...]


async def serve(config: ServeConfig, stop: asyncio.Event, on_ready: Callable[[Ready], None]) -> None:
    """Serve until ``stop`` is set; ``on_ready`` is called when every port is open.

    Raises StartError when a port is taken and ConfigError when an address is not this machine's.
    """
    _raise_file_limit()
    with contextlib.ExitStack() as stack:
        sockets = _http_sockets(config, stack)
        http_port: int = sockets[0].getsockname()[1]
        turn = await _turn(config)
        stack.callback(turn.close)
        stun_port = turn.listeners[0].port
        hub = RendezvousHub(config.rendezvous)
        stack.callback(hub.close)
        alternate = _alternate(config, turn)
        http = HttpServer(create_app(Services(config, turn, hub, stun_port, alternate)), config.tls)
        server = asyncio.create_task(http.serve(sockets))
        await _first(server, http.ready.wait())
        if not server.done():
            on_ready(_ready(config, http_port, stun_port))
            _log.info("serving", udp=[str(a) for a in turn.listeners], http=list(config.http_hosts))
            await _first(server, stop.wait())
        _log.info("stopping", allocations=turn.stats.allocations, mailboxes=hub.core.mailboxes)
        hub.close()
        http.should_exit = True
        await server


def _http_sockets(config: ServeConfig, stack: contextlib.ExitStack) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    port = config.http_port
    for host in config.http_hosts:
        try:
            sock = bind(host, port)
        except OSError as error:
            raise _refused(error, host, port, "TCP", "--http-port") from error
        stack.callback(sock.close)
        sockets.append(sock)
        port = sock.getsockname()[1]
    return sockets


async def _turn(config: ServeConfig) -> TurnServerDriver:
    for host in config.turn.relay_addresses:
        _check_own(host)
    turn = await TurnServerDriver.start(config.turn, [])
    port = config.stun_port
    for host in config.listen:
        try:
            port = turn.add_listener(Address(host, port)).port
        except OSError as error:
            turn.close()
            raise _refused(error, host, port, "UDP", "--stun-port") from error
    return turn


def _alternate(config: ServeConfig, turn: TurnServerDriver) -> int | None:
    """Open the second STUN port on every address, as far as it is free; the port, or None without one.

    It only helps clients to understand their NAT, so the server does without when it is taken.
    """
    port = config.stun_alternate_port
    for host in config.listen if port is not None else ():
        try:
            port = turn.add_listener(Address(host, port or 0)).port
        except OSError as error:
            _log.warning("no alternate STUN port", address=host, port=port, reason=error.strerror)
            return None
    return port


def _check_own(host: str) -> None:
    """Raise ConfigError when ``host`` is no address of this machine: relays could not be bound to it."""
    family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError as error:
        raise _refused(error, host, 0, "UDP", "--relay-address") from error


def _refused(error: OSError, host: str, port: int, protocol: str, flag: str) -> StartError | ConfigError:
    place = f"{protocol} {bracketed(host)}:{port}"
    match error.errno:
        case errno.EADDRINUSE:
            return StartError(
                f"{place} is taken by another program", f"stop that one, or choose another port with {flag}"
            )
        case errno.EADDRNOTAVAIL:
            mine = ", ".join(interface_addresses()[:8])
            return ConfigError(
                f"{host} is not an address of this machine", f"use one that is ({mine}), or leave it out"
            )
        case errno.EACCES | errno.EPERM:
            return StartError(
                f"{place} may not be opened by this user", f"choose a port from 1024 up with {flag}"
            )
        case _:
            return StartError(
                f"{place} cannot be opened: {error.strerror}",
                f"check the address, or choose others with {flag}",
            )


def _ready(config: ServeConfig, http_port: int, stun_port: int) -> Ready:
    hosts = [config.public_host] if config.public_host else _display_hosts(config)
    scheme = "https" if config.tls else "http"
    return Ready(
        http=f"{scheme}://{bracketed(hosts[0])}:{http_port}",
        stun=tuple(stun_uris(hosts, stun_port)),
        turn=tuple(turn_uris(hosts, stun_port)) if config.turn.relay_addresses else (),
        relays=config.turn.relay_addresses,
    )


def _display_hosts(config: ServeConfig) -> list[str]:
    """One address of each IP version by which clients most likely reach this server."""
    hosts = []
    for version in (4, 6):
        mine = [host for host in config.listen if ip_address(host).version == version]
        routed = default_route_address(version)
        if routed in mine:
            hosts.append(routed)
        elif mine:
            hosts.append(next((h for h in mine if not ip_address(h).is_loopback), mine[0]))
    far = [host for host in hosts if not ip_address(host).is_loopback]
    return [host for host in (far or hosts) if host is not None]


async def _first(task: asyncio.Task[None], waiting: object) -> None:
    """Wait until ``task`` has ended or ``waiting`` (a coroutine) has."""
    other = asyncio.ensure_future(waiting)  # type: ignore[call-overload]
    await asyncio.wait([task, other], return_when=asyncio.FIRST_COMPLETED)
    other.cancel()


def _raise_file_limit() -> None:
    """Use the file descriptors this process may have, up to a million: each relay is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # a container may forbid it; the old limit stays
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
