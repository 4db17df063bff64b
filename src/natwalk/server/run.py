"""One process, one event loop: STUN, TURN, rendezvous and HTTP, from the first socket to the last byte."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address
from typing import Final

from natwalk.aio.relay_server import RelayServerDriver
from natwalk.aio.tls import ServerTls
from natwalk.aio.turn_server import TurnServerDriver
from natwalk.relay import RelayIdentity
from natwalk.relay.keys import SEED_LENGTH
from natwalk.rendezvous.limits import source_of
from natwalk.server.addresses import default_route_address
from natwalk.server.admin import Commands
from natwalk.server.app import create_admin_app, create_app, create_metrics_app
from natwalk.server.behaviour import behaviour
from natwalk.server.config import ServeConfig
from natwalk.server.errors import StartError
from natwalk.server.heartbeat import Heartbeat
from natwalk.server.http import HttpServer, TakeOver, bind, bind_unix
from natwalk.server.hub import RendezvousHub
from natwalk.server.listeners import Opener, check_own, client_limits, http_sockets, refused, sort_given
from natwalk.server.log import ServerLog
from natwalk.server.ports import Ports
from natwalk.server.records import UsageRecords
from natwalk.server.reload import FileWatch, Load, Reloader
from natwalk.server.state import Services
from natwalk.server.systemd import Notifier
from natwalk.server.uris import bracketed, stun_uris, stuns_uris, turn_uris
from natwalk.turn import AllocationEnded, TurnServerEvent

_FILES: Final = 1 << 20
_FLUSH_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Ready:
    """Where the server can be reached, as URIs."""

    http: str
    stun: tuple[str, ...]
    turn: tuple[str, ...]
    relays: tuple[str, ...]


class Order(Enum):
    """What a running server is told to do, by a signal or an operator."""

    RELOAD = "reload"
    DRAIN = "drain"
    """Grant nothing new, and end when the last allocation has (SIGUSR1)."""
    FINISH = "finish"
    """Grant nothing new, and end with the last allocation or after ``drain-seconds``; the second time
    at once (SIGTERM).
    """
    STOP = "stop"
    """End now (SIGINT)."""


async def serve(
    config: ServeConfig,
    stop: asyncio.Event,
    on_ready: Callable[[Ready], None],
    *,
    log: ServerLog,
    orders: asyncio.Queue[Order] | None = None,
    load: Load | None = None,
    notifier: Notifier | None = None,
    given: Sequence[tuple[str, socket.socket]] = (),
    lines_dropped: Callable[[], int] = lambda: 0,
) -> None:
    """Serve until ``stop`` is set or ``orders`` say so; ``on_ready`` is called when every port is open.

    ``load`` reads the configuration again, for reloads and the watch over its files; ``given`` are sockets
    from systemd; ``lines_dropped`` says how many log lines were. Raises StartError when a port is taken and
    ConfigError when an address is not this machine's.
    """
    _raise_file_limit()
    async with contextlib.AsyncExitStack() as stack:
        server = _Server(config, log, notifier or Notifier({}, 0), orders or asyncio.Queue(), lines_dropped)
        stack.push_async_callback(server.close)
        for _, sock in given:
            stack.callback(sock.close)  # those that were taken over are closed by then, which is harmless
        await server.open(given, load)
        on_ready(server.ready())
        await server.run(stop)


class _Server:
    """Everything that is open, and what it does when it is told something."""

    def __init__(
        self,
        config: ServeConfig,
        log: ServerLog,
        notifier: Notifier,
        orders: asyncio.Queue[Order],
        lines_dropped: Callable[[], int],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._notifier = notifier
        self._orders = orders
        self._log = log
        self._lines_dropped = lines_dropped
        self._finishing = False
        self._deadline: asyncio.TimerHandle | None = None
        self._https: list[HttpServer] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._sockets: list[socket.socket] = []
        self._heartbeat: Heartbeat | None = None
        self._http_port = 0
        self._reloader: Reloader | None = None
        for host in config.turn.relay_addresses:
            check_own(host)
        records = UsageRecords(log, self._loop.time)
        turn = TurnServerDriver(config.turn, on_event=self._hear, limits=client_limits(config))
        self.services = Services(
            config,
            turn,
            RendezvousHub(config.rendezvous),
            Ports(0),
            log,
            records,
            self._commands(),
            _relay(config),
        )

    async def open(self, given: Sequence[tuple[str, socket.socket]], load: Load | None) -> None:
        """Open every port and begin to serve on it. Raises StartError and ConfigError."""
        services, config = self.services, self.services.config
        sockets = sort_given(given, config)
        tls = None if config.tls is None else ServerTls(config.tls.cert, config.tls.key)
        main = HttpServer(create_app(services), config.tls, relay=_taker(services.relay))
        listening = http_sockets(config, sockets)
        self._sockets += listening
        self._http_port = listening[0].getsockname()[1]
        services.ports = Opener(config, services.turn, sockets, self._log, tls).open(main)
        services.turn.core.set_behaviour(behaviour(config, services.ports))
        services.turn.add_own_port(self._http_port)
        await self._serve_http(main, listening)
        await self._serve_more()
        self._reloader = None if load is None else Reloader(services, load, self._https, tls)
        watch = FileWatch(config.files if load is not None else ())
        self._heartbeat = Heartbeat(services, self._notifier, watch, self._changed, self._lines_dropped)
        self._notifier.ready(self._status())

    async def run(self, stop: asyncio.Event) -> None:
        """Obey orders until one ends the server, or ``stop`` is set, or HTTP ended by itself."""
        ports = {name: getattr(self.services.ports, name) for name in Ports.__slots__}
        there = {name: port for name, port in ports.items() if port}
        self._log.info("serving", **there, http=self._http_port)
        stopper = asyncio.create_task(stop.wait())
        try:
            while True:
                order = asyncio.create_task(self._orders.get())
                await asyncio.wait([order, stopper, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
                if not order.done():
                    order.cancel()
                    return
                if self._obey(order.result()):
                    return
        finally:
            stopper.cancel()

    def ready(self) -> Ready:
        """Where clients reach this server."""
        config, ports = self.services.config, self.services.ports
        hosts = [config.public_host] if config.public_host else _display_hosts(config)
        scheme = "https" if config.tls else "http"
        return Ready(
            http=f"{scheme}://{bracketed(hosts[0])}:{self._http_port}",
            stun=tuple(stun_uris(hosts, ports.stun) + stuns_uris(hosts, ports.tls)),
            turn=tuple(turn_uris(hosts, ports)) if config.turn.relay_addresses else (),
            relays=tuple(map(config.known_as, config.turn.relay_addresses)),
        )

    async def close(self) -> None:
        """End everything: allocations first, what is queued for clients last; harmless before ``open``."""
        services = self.services
        if self._heartbeat is not None:
            self._log.info(
                "stopping",
                allocations=services.turn.allocations,
                mailboxes=services.hub.core.mailboxes,
            )
            self._notifier.stopping("stopping")
            self._heartbeat.close()
        if self._deadline is not None:
            self._deadline.cancel()
        services.turn.close()
        services.hub.close()
        if services.relay is not None:
            services.relay.close()
        for server in self._https:
            server.should_exit = True
        await asyncio.gather(*self._tasks)
        for sock in self._sockets:
            sock.close()
        give_up = self._loop.time() + _FLUSH_SECONDS
        # the last bytes of clients over TCP: each connection ends by itself and tells nobody
        while services.turn.connections and self._loop.time() < give_up:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        self._notifier.close()

    # What it does when it is told something.

    def _obey(self, order: Order) -> bool:
        """Do as ``order`` says; True when that ends the server."""
        match order:
            case Order.STOP:
                return True
            case Order.RELOAD:
                self._reload()
                return False
            case Order.DRAIN:
                return self._drain(None)
            case Order.FINISH:
                if self._finishing:
                    return True
                self._finishing = True
                return self._drain(self.services.config.drain_seconds)

    def _drain(self, seconds: float | None) -> bool:
        """Grant no new allocations; True when there is nothing to wait for."""
        services = self.services
        services.health.draining = True
        services.turn.drain(services.config.alternate)
        if services.relay is not None:
            services.relay.drain()
        left = services.turn.allocations
        if not left or seconds == 0:
            return True
        self._log.info("draining", allocations=left, seconds=seconds)
        self._notifier.stopping(f"draining: {left} allocations left")
        if seconds is not None:
            self._notifier.more_time(seconds + 10)
            if self._deadline is not None:
                self._deadline.cancel()
            self._deadline = self._loop.call_later(seconds, self._orders.put_nowait, Order.STOP)
        return False

    def _hear(self, event: TurnServerEvent) -> None:
        self.services.records.hear(event)
        if self.services.health.draining and isinstance(event, AllocationEnded):
            self._loop.call_soon(self._end_when_empty)

    def _end_when_empty(self) -> None:
        if not self.services.turn.allocations:
            self._orders.put_nowait(Order.STOP)

    def _changed(self) -> None:
        self._orders.put_nowait(Order.RELOAD)

    def _reload(self) -> str | None:
        if self._reloader is None:
            return "this server cannot be reloaded"
        self._notifier.reloading()
        refusal = self._reloader.reload()
        if self._heartbeat is not None:
            self._heartbeat.watch.watch(self.services.config.files)
        self._notifier.ready(self._status() if refusal is None else f"reload refused: {refusal}")
        return refusal

    def _commands(self) -> Commands:
        def disconnect(username: str) -> int:
            ended: int = self.services.turn.disconnect(username)
            self._log.warning("disconnected by the operator", user=username, allocations=ended)
            return ended

        return Commands(disconnect, lambda: self._orders.put_nowait(Order.DRAIN), self._reload)

    def _status(self) -> str:
        return f"serving on port {self.services.ports.stun}"

    # HTTP.

    async def _serve_more(self) -> None:
        """The listener of metrics and the operator's socket, where they are wanted."""
        services, config = self.services, self.services.config
        if (where := config.metrics.listen) is not None:
            try:
                sock = bind(where.host, where.port)
            except OSError as error:
                raise refused(error, where.host, where.port, "TCP", "metrics.listen") from error
            services.turn.add_own_port(sock.getsockname()[1])
            self._sockets.append(sock)
            await self._serve_http(HttpServer(create_metrics_app(services), None), [sock])
        if (path := config.admin.socket) is not None:
            try:
                sock = bind_unix(path)
            except OSError as error:
                raise StartError(
                    f"admin.socket {path} cannot be opened: {error.strerror}",
                    "choose a place in a folder that this user may write to",
                ) from error
            self._sockets.append(sock)
            await self._serve_http(HttpServer(create_admin_app(services), None), [sock])

    async def _serve_http(self, server: HttpServer, sockets: list[socket.socket]) -> None:
        task = asyncio.create_task(server.serve(sockets))
        self._https.append(server)
        self._tasks.append(task)
        waiting = asyncio.create_task(server.ready.wait())
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()


def _relay(config: ServeConfig) -> RelayServerDriver | None:
    settings = config.relay
    if not settings.enabled:
        return None
    seed = settings.seed or secrets.token_bytes(SEED_LENGTH)
    return RelayServerDriver(RelayIdentity(seed), settings.config)


def _taker(relay: RelayServerDriver | None) -> TakeOver | None:
    """Who takes connections for the relay; a source is an IPv4 address or an IPv6 /64."""
    if relay is None:
        return None

    def take(transport: asyncio.Transport, data: bytes) -> None:
        peer = transport.get_extra_info("peername")
        ip = ip_address(peer[0].partition("%")[0]) if peer else ip_address(0)
        relay.take_over(transport, data, source_of(ip))

    return take


def _display_hosts(config: ServeConfig) -> list[str]:
    """One address of each IP version by which clients most likely reach this server."""
    hosts = []
    for version in (4, 6):
        mine = [host for host in config.listen if ip_address(host).version == version]
        routed = default_route_address(version)
        if public := [config.known_as(host) for host in mine if config.known_as(host) != host]:
            hosts.append(public[0])
        elif routed in mine:
            hosts.append(routed)
        elif mine:
            hosts.append(next((h for h in mine if not ip_address(h).is_loopback), mine[0]))
    far = [host for host in hosts if not ip_address(host).is_loopback]
    return [host for host in (far or hosts) if host is not None]


def _raise_file_limit() -> None:
    """Use the file descriptors this process may have, up to a million: each relay is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # a container may forbid it; the old limit stays
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
