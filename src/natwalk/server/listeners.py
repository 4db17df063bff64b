"""Opening every port of a server: its own sockets, or those systemd handed over."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

from natwalk.aio.stream_limits import ClientLimits
from natwalk.aio.tls import ServerTls
from natwalk.aio.turn_server import TurnServerDriver
from natwalk.core import Address, Transport
from natwalk.server.addresses import interface_addresses
from natwalk.server.config import ServeConfig
from natwalk.server.errors import ConfigError, StartError
from natwalk.server.http import HttpServer, bind
from natwalk.server.log import ServerLog
from natwalk.server.ports import Ports
from natwalk.server.uris import bracketed

_HTTP: Final = "http"


@dataclass(slots=True)
class Given:
    """Sockets from systemd by what they are for; each is used once, and none may be left over."""

    sockets: dict[str, list[socket.socket]] = field(default_factory=dict)

    def take(self, what: str) -> list[socket.socket]:
        """The sockets for ``what``, a transport's name or ``http``."""
        return self.sockets.pop(what, [])


def sort_given(named: Sequence[tuple[str, socket.socket]], config: ServeConfig) -> Given:
    """Say of each socket what it is for: by its name (``udp``, ``tcp``, ``tls``…), else by its type and port.

    Raises StartError naming the one that fits nothing the configuration has.
    """
    given = Given()
    for name, sock in named:
        what = _purpose(name, sock, config)
        if sock.family == socket.AF_INET6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
            raise StartError(
                f"the socket {name or what!r} from systemd is for IPv4 and IPv6 at once",
                "add BindIPv6Only=ipv6-only to the .socket unit, and a line for each of the two",
            )
        given.sockets.setdefault(what, []).append(sock)
    return given


def _purpose(name: str, sock: socket.socket, config: ServeConfig) -> str:
    datagrams = sock.type == socket.SOCK_DGRAM
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        if name in _KINDS and _KINDS[name] is datagrams:
            return name
        port = sock.getsockname()[1]
        for what, number in _ports(config, datagrams=datagrams).items():
            if number == port:
                return what
    kind = "datagrams" if datagrams else "connections"
    raise StartError(
        f"the socket {name!r} from systemd takes {kind} at a place where the configuration has none",
        f"name it one of {', '.join(_KINDS)} (FileDescriptorName=), or give it a port of the configuration",
    )


_KINDS: Final = {"udp": True, "dtls": True, "tcp": False, "tls": False, "shared": False, _HTTP: False}
"""Names of sockets, and whether they take datagrams."""


def _ports(config: ServeConfig, *, datagrams: bool) -> dict[str, int | None]:
    if datagrams:
        return {"udp": config.stun_port, "dtls": config.tls_port}
    shared = None if config.tls is None else config.tls.port
    return {"tcp": config.stun_port, "tls": config.tls_port, "shared": shared, _HTTP: config.http_port}


def http_sockets(config: ServeConfig, given: Given) -> list[socket.socket]:
    """The sockets of HTTP, open and listening; one port on every address. The caller closes them."""
    sockets = given.take(_HTTP)
    if sockets:
        return sockets
    port = config.http_port
    for host in config.http_hosts:
        try:
            sockets.append(bind(host, port))
        except OSError as error:
            for sock in sockets:
                sock.close()
            raise refused(error, host, port, "TCP", "--http-port") from error
        port = sockets[-1].getsockname()[1]
    return sockets


def client_limits(config: ServeConfig) -> ClientLimits:
    """What the driver is told of connections."""
    streams = config.streams
    return ClientLimits(
        connections=streams.connections,
        connections_per_source=streams.connections_per_source,
        first_message_timeout=streams.handshake_timeout,
        idle_timeout=streams.idle_timeout,
    )


class Opener:
    """Opens the listeners of a TURN server, transport by transport, and finds out their ports."""

    def __init__(
        self, config: ServeConfig, turn: TurnServerDriver, given: Given, log: ServerLog, tls: ServerTls | None
    ) -> None:
        self._config = config
        self._turn = turn
        self._given = given
        self._log = log
        self._tls = tls

    def open(self, http: HttpServer) -> Ports:
        """Open all; raises StartError or ConfigError. ``http`` answers what is not TURN on a shared port."""
        config = self._config
        stun = self._required(Transport.UDP, config.stun_port, "--stun-port")
        alternate = self._alternate()
        tcp = tls = dtls = shared = None
        if config.stun_tcp:
            tcp = self._beside(Transport.TCP, config.stun_port, stun)
        if config.turn_tls and config.tls_port is not None:
            tls = self._required(Transport.TLS, config.tls_port, "stun.tls-port")
        if config.turn_dtls and config.tls_port is not None:
            dtls = self._beside(Transport.DTLS, config.tls_port, tls)
        if config.tls is not None and config.tls.port is not None:
            shared = self._required(Transport.TLS, config.tls.port, "tls.port", http=http)
        if self._given.sockets:
            left = ", ".join(self._given.sockets)
            raise StartError(
                f"sockets from systemd are for what is off: {left}", "correct the .socket unit or the file"
            )
        return Ports(stun, alternate, tcp, tls, dtls, shared)

    def _beside(self, transport: Transport, port: int, other: int | None) -> int:
        """Open ``port``, or, when any will do, the number that the other transport of the pair got."""
        flag = "--stun-port" if transport is Transport.TCP else "stun.tls-port"
        if port or not other:
            return self._required(transport, port, flag)
        try:
            return self._required(transport, other, flag)
        except StartError:
            return self._required(transport, 0, flag)  # taken: any other then, as was asked for

    def _required(self, transport: Transport, port: int, flag: str, *, http: HttpServer | None = None) -> int:
        what = transport.value if http is None else "shared"
        add = self._adder(transport, http)
        sockets = self._given.take(what)
        for sock in sockets:
            port = add(Address.from_sockname(sock.getsockname()), sock).port
        for host in self._hosts(transport) if not sockets else ():
            try:
                port = add(Address(host, port), None).port
            except OSError as error:
                protocol = "UDP" if transport in (Transport.UDP, Transport.DTLS) else "TCP"
                raise refused(error, host, port, protocol, flag) from error
        return port

    def _hosts(self, transport: Transport) -> tuple[str, ...]:
        """Where to listen: behaviour discovery needs its second address over UDP, listed or not."""
        listen, second = self._config.listen, self._config.stun_alternate_address
        if second is None or second in listen or transport is not Transport.UDP:
            return listen
        return (*listen, second)

    def _adder(
        self, transport: Transport, http: HttpServer | None
    ) -> Callable[[Address, socket.socket | None], Address]:
        config = self._config
        secure = transport in (Transport.TLS, Transport.DTLS)
        proxies = [str(network) for network in config.proxy_from] if transport.is_stream else []
        on_other = None if http is None else http.protocol
        tls = self._tls if secure else None

        def add(address: Address, sock: socket.socket | None) -> Address:
            return self._turn.add_listener(
                address, transport, tls=tls, proxy_from=proxies, on_other=on_other, sock=sock
            )

        return add

    def _alternate(self) -> int | None:
        """Open the second STUN port on every address, as far as it is free; the port, or None without one.

        It only helps clients to understand their NAT, so the server does without when it is taken.
        """
        port = self._config.stun_alternate_port
        for host in self._hosts(Transport.UDP) if port is not None else ():
            try:
                port = self._turn.add_listener(Address(host, port or 0)).port
            except OSError as error:
                self._log.warning("no alternate STUN port", port=port, reason=error.strerror)
                return None
        return port


def check_own(host: str) -> None:
    """Raise ConfigError when ``host`` is no address of this machine: relays could not be bound to it."""
    family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError as error:
        raise refused(error, host, 0, "UDP", "--relay-address") from error


def refused(error: OSError, host: str, port: int, protocol: str, flag: str) -> StartError | ConfigError:
    """Why a port cannot be opened, and what to do; ``flag`` is the option that names another."""
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
                f"{place} may not be opened by this user",
                f"choose a port from 1024 up with {flag}, or start it with CAP_NET_BIND_SERVICE",
            )
        case _:
            return StartError(
                f"{place} cannot be opened: {error.strerror}",
                f"check the address, or choose others with {flag}",
            )
