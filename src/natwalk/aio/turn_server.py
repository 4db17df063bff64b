"""Asyncio shell of the TURN server: listeners, relay sockets and a clock."""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import ip_address
from types import TracebackType
from typing import TYPE_CHECKING, Final

import ifaddr

from natwalk.aio.dtls_records import FIRST_BYTES as DTLS_FIRST_BYTES
from natwalk.aio.flushing import armed
from natwalk.aio.readers import EpollReaders
from natwalk.aio.server_socket import ServerSocket
from natwalk.aio.stream_limits import ClientLimits
from natwalk.aio.streams import StreamServer
from natwalk.aio.tcp_relay import TcpRelays
from natwalk.aio.tls import ServerTls
from natwalk.core import Address, Drops, Path, Transport
from natwalk.stun import IcmpError
from natwalk.turn import (
    ClientReleased,
    ConnectionJoined,
    ConnectionReleased,
    ConnectWanted,
    RelayReleased,
    RelayWanted,
    TurnConfig,
    TurnServer,
    TurnServerEvent,
    TurnStats,
)

if TYPE_CHECKING:
    from natwalk.aio.dtls import DtlsServer

_Batch = list[tuple[bytes, Address]]

_INTERFACES_EVERY: Final = 30.0
_NEED_TLS: Final = frozenset({Transport.TLS, Transport.DTLS})


class TurnServerDriver:
    """A :class:`~natwalk.turn.TurnServer` with its listeners, relay sockets and clock.

    ``core`` is the server; ``listeners`` are the UDP addresses it serves, with real ports; ``drops`` counts
    what was not sent and which connections were refused. ``interface_hosts`` says which addresses of IP
    version 4 or 6 this machine has now. An async context manager that closes on exit.
    """

    def __init__(
        self,
        config: TurnConfig,
        *,
        on_event: Callable[[TurnServerEvent], None] | None = None,
        limits: ClientLimits | None = None,
        interface_hosts: Callable[[int], list[str]] | None = None,
    ) -> None:
        self.core = TurnServer(config, random_bytes=secrets.token_bytes)
        self.drops = Drops()
        self._loop = asyncio.get_running_loop()
        self._on_event = on_event
        self._sockets: dict[Address, ServerSocket] = {}
        self._readers = EpollReaders(self._loop, self._flush)
        self._listeners: list[Address] = []
        self._wildcards: list[Address] = []
        self._own_ports: list[int] = []
        self._interface_hosts = interface_hosts or _interface_hosts
        self._limits = limits = limits or ClientLimits()
        self._dtls: DtlsServer | None = None
        self._streams = StreamServer(self, limits, self.drops)
        self._tcp = TcpRelays(self, self.drops, write_timeout=limits.write_timeout)
        self._flushing = False
        self._timer: asyncio.TimerHandle | None = None
        self._interfaces_timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._set_wall_clock()

    @classmethod
    async def start(
        cls,
        config: TurnConfig,
        listen: Iterable[Address],
        *,
        on_event: Callable[[TurnServerEvent], None] | None = None,
        limits: ClientLimits | None = None,
    ) -> TurnServerDriver:
        """Bind every address of ``listen`` for UDP (port 0: any free one) and serve.

        ``on_event`` hears of allocations and flows. Raises OSError when an address cannot be bound.
        """
        driver = cls(config, on_event=on_event, limits=limits)
        try:
            for address in listen:
                driver.add_listener(address)
        except BaseException:
            driver.close()
            raise
        return driver

    @property
    def listeners(self) -> tuple[Address, ...]:
        """Where clients are served over UDP, with real ports."""
        return tuple(self._listeners)

    @property
    def allocations(self) -> int:
        """How many allocations there are."""
        return self.core.allocations

    @property
    def stats(self) -> TurnStats:
        """How many allocations, flows and permissions there are."""
        return self.core.stats

    @property
    def connections(self) -> int:
        """How many TCP and TLS connections and DTLS associations there are."""
        return self._streams.connections + (0 if self._dtls is None else len(self._dtls))

    def add_listener(
        self,
        address: Address,
        transport: Transport = Transport.UDP,
        *,
        tls: ServerTls | None = None,
        proxy_from: Iterable[str] = (),
        on_other: Callable[[], asyncio.Protocol] | None = None,
        sock: socket.socket | None = None,
    ) -> Address:
        """Serve on ``address`` over ``transport`` too; returns it with the real port.

        ``tls`` is needed for TLS and DTLS; a UDP listener with it takes both plain datagrams and DTLS, told
        apart by the first byte (RFC 7983). Connections from the networks ``proxy_from`` must begin with a
        PROXY protocol header, which says who the client is. ``on_other`` makes the protocol for connections
        of a shared port that carry something else than STUN and TURN. ``sock`` is bound to ``address``
        already (and listens, for streams) and is taken over. Raises OSError when the address cannot be
        bound and ValueError when the arguments do not fit together.
        """
        if (transport is Transport.TCP and tls) or (transport in _NEED_TLS and not tls):
            raise ValueError(f"a listener for {transport} with{'' if tls else 'out'} a certificate")
        if transport.is_stream:
            local = self._streams.listen(
                address, transport, tls=tls, proxy_from=proxy_from, on_other=on_other, sock=sock
            )
        else:
            local = self._open_listener(address, tls, sock)
            if transport is Transport.UDP:
                self._listeners.append(local)
            if tls is not None:
                self.core.add_listener(local, Transport.DTLS)
        self.core.add_listener(local, transport)
        if ip_address(local.host).is_unspecified:
            self._wildcards.append(local)
            self.refresh_interfaces()
        return local

    def add_own_port(self, port: int) -> None:
        """Refuse ``port`` at every address this machine has, now and later: a service that is not TURN."""
        self._own_ports.append(port)
        self.refresh_interfaces()

    def refresh_interfaces(self) -> None:
        """Read the addresses of the interfaces again, so that those there are now are refused as peers.

        Done by itself every half minute while there is a listener on a wildcard address, or a port of ours.
        """
        if self._interfaces_timer is not None:
            self._interfaces_timer.cancel()
        self._interfaces_timer = self._loop.call_later(_INTERFACES_EVERY, self.refresh_interfaces)
        own: list[Address] = []
        for version in (4, 6) if self._own_ports or self._wildcards else ():
            ports = [local.port for local in self._wildcards if local.version == version]
            hosts = self._interface_hosts(version)
            own += [Address(host, port) for host in hosts for port in (*ports, *self._own_ports)]
        try:
            self.core.set_own_endpoints(own)
        except ValueError:
            self.drops.add("too many interface addresses to refuse them as peers")
        self._flush()

    def reconfigure(self, config: TurnConfig) -> None:
        """Go by ``config`` from now on (:meth:`~natwalk.turn.TurnServer.reconfigure`); raises ValueError."""
        self.core.reconfigure(config, self._loop.time())
        self._flush()

    def disconnect(self, username: str) -> int:
        """End every allocation of ``username``; how many those were."""
        ended = self.core.disconnect(username, self._loop.time())
        self._flush()
        return ended

    def drain(self, alternate: Address | None = None) -> None:
        """Grant no new allocations; clients that ask are sent to ``alternate``, if there is one."""
        self.core.drain(self._loop.time(), alternate)
        self._flush()

    def close(self) -> None:
        """End every allocation and close every socket; harmless when repeated."""
        if self._closed:
            return
        self.core.close(self._loop.time())
        self._flush()
        self._closed = True
        for timer in (self._timer, self._interfaces_timer):
            if timer is not None:
                timer.cancel()
        if self._dtls is not None:
            self._dtls.close()
        self._tcp.close()
        self._streams.close()
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()
        self._readers.close()

    async def __aenter__(self) -> TurnServerDriver:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # What connections need of us (aio.stream_client.ClientHooks).

    @property
    def channel_max(self) -> int:
        """The highest channel number that is taken."""
        return self.core.config.channel_max

    def message_received(self, message: bytes, path: Path) -> None:
        """One message of a connected client."""
        self.core.receive(message, path, self._loop.time())
        self._flush()

    def client_closed(self, path: Path) -> None:
        """A client's connection is over."""
        if not self._closed:
            self.core.client_closed(path, self._loop.time())
            self._flush()

    def has_allocation(self, path: Path) -> bool:
        """Whether the client on ``path`` has an allocation."""
        return self.core.has_allocation(path)

    # What TCP relays tell us (aio.tcp_relay.RelayHooks).

    def peer_accepted(self, relay: Address, peer: Address) -> int | None:
        """A peer connected to a TCP relay."""
        connection_id = self.core.peer_accepted(relay, peer, self._loop.time())
        self._loop.call_soon(self._flush)  # the connection is to be known before it can be released
        return connection_id

    def peer_connected(self, connection_id: int) -> None:
        """A connection to a peer is open."""
        self.core.peer_connected(connection_id, self._loop.time())
        self._flush()

    def peer_connect_failed(self, connection_id: int) -> None:
        """A connection to a peer cannot be had."""
        self.core.peer_connect_failed(connection_id, self._loop.time())
        self._flush()

    def connection_closed(self, connection_id: int) -> None:
        """A joined connection is over."""
        self.core.connection_closed(connection_id, self._loop.time())
        self._flush()

    def transferred(self, connection_id: int, to_peer: int, from_peer: int) -> float:
        """Bytes were moved between a client and a peer."""
        return self.core.transferred(connection_id, to_peer, from_peer, self._loop.time())

    # Datagrams and time.

    def _open_listener(self, address: Address, tls: ServerTls | None, given: socket.socket | None) -> Address:
        # The path's local address is known only once the socket is bound.
        bound: list[Address] = []
        take = self._on_datagrams if tls is None else self._on_mixed_datagrams
        sock = ServerSocket.listener(address, lambda batch: take(bound[0], batch), self._readers, given)
        bound.append(sock.local)
        self._sockets[sock.local] = sock
        if tls is not None:
            self._dtls_server().listen(sock.local, tls, sock.send_many)
        return sock.local

    def _dtls_server(self) -> DtlsServer:
        """The DTLS part, made when the first listener needs it: it costs an import of pyOpenSSL."""
        if self._dtls is None:
            from natwalk.aio.dtls import DtlsServer

            self._dtls = DtlsServer(self, self._limits, self.drops)
        return self._dtls

    def _on_icmp(self, relay: Address, peer: Address, error: IcmpError) -> None:
        self.core.icmp_received(relay, peer, error, self._loop.time())
        self._flush()

    def _on_datagrams(self, local: Address, batch: _Batch) -> None:
        now = self._loop.time()
        receive = self.core.receive
        for data, remote in batch:
            receive(data, Path(local, remote), now)

    def _on_mixed_datagrams(self, local: Address, batch: _Batch) -> None:
        assert self._dtls is not None
        plain: _Batch = []
        for data, remote in batch:
            if data and data[0] in DTLS_FIRST_BYTES:
                self._dtls.receive(data, Path(local, remote, Transport.DTLS))
            else:
                plain.append((data, remote))
        self._on_datagrams(local, plain)

    def _on_timer(self) -> None:
        self._timer = None
        due = self.core.next_timeout()
        now = self._loop.time()
        self._set_wall_clock()
        self.core.handle_timeout(now if due is None else max(due, now))
        self._flush()

    def _flush(self) -> None:
        """Do everything the core wants; what comes of that meanwhile is done by the same loop."""
        if self._flushing or self._closed:
            return
        self._flushing = True
        try:
            while True:
                self._send_all()
                event = self.core.poll_event()
                if event is None:
                    break
                self._take(event)
        finally:
            self._flushing = False
        self._arm()

    def _send_all(self) -> None:
        """Send everything there is to send, runs on one path together."""
        poll = self.core.poll_transmit
        out = poll()
        while out is not None:
            path, run, dont_fragment = out.path, [out.data], out.dont_fragment
            while (out := poll()) is not None and out.path == path and not out.dont_fragment:
                run.append(out.data)
            if path.transport is not Transport.UDP:
                self._send_to_client(run, path)
                continue
            sock = self._sockets.get(path.local)
            if sock is None:
                self.drops.add("the socket is closed")
                continue
            if dont_fragment:
                sock.send_unfragmented(run.pop(0), path.remote)
            if len(run) == 1:
                sock.send(run[0], path.remote)
            elif run:
                sock.send_many(run, path.remote)

    def _send_to_client(self, run: list[bytes], path: Path) -> None:
        if path.transport.is_stream:
            self._streams.send(run, path)
        elif self._dtls is not None:
            self._dtls.send(run, path)

    def _close_client(self, path: Path) -> None:
        if not path.transport.is_stream:
            if self._dtls is not None:
                self._dtls.close_client(path)
        elif (client := self._streams.client(path)) is not None:
            client.close()

    def _take(self, event: TurnServerEvent) -> None:
        match event:
            case RelayWanted():
                self._open_relay(event)
            case RelayReleased(address, Transport.TCP):
                self._tcp.release_relay(address)
            case RelayReleased(address):
                self._sockets.pop(address).close()
            case ConnectWanted(connection_id, relay, peer):
                self._tcp.connect(connection_id, relay, peer)
            case ConnectionJoined(connection_id, path):
                self._tcp.join(connection_id, self._streams.client(path))
            case ConnectionReleased(connection_id):
                self._tcp.release(connection_id)
            case ClientReleased(path):
                self._close_client(path)
        if self._on_event is not None:
            self._on_event(event)

    def _open_relay(self, wanted: RelayWanted) -> None:
        try:
            if wanted.transport is Transport.TCP:
                self._tcp.listen(wanted.address)
            else:
                self._sockets[wanted.address] = ServerSocket.relay(
                    wanted.address,
                    partial(self._on_datagrams, wanted.address),
                    partial(self._on_icmp, wanted.address),
                    self._readers,
                )
        except OSError:
            self.core.relay_failed(wanted.token, self._loop.time())
        else:
            self.core.relay_opened(wanted.token, self._loop.time())

    def _arm(self) -> None:
        self._timer = armed(self._timer, self.core.next_timeout(), self._loop, self._on_timer)

    def _set_wall_clock(self) -> None:
        self.core.set_wall_offset(time.time() - self._loop.time())


def _interface_hosts(version: int) -> list[str]:
    """The addresses of this machine's interfaces, without link-local ones."""
    hosts: list[str] = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            text = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            address = ip_address(text)
            if address.version == version and not address.is_link_local:
                hosts.append(str(address))
    return hosts
