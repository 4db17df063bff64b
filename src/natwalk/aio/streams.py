"""TCP and TLS listeners of the TURN server and the connections they accept."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from natwalk.aio.stream_client import ClientHooks, StreamClient
from natwalk.aio.stream_limits import ClientLimits, Sources
from natwalk.aio.tls import ServerTls
from natwalk.core import Address, Drops, Path, Transport, canonical

IPNetwork = IPv4Network | IPv6Network

ACCEPTS_PER_WAKE_UP: Final = 64
ACCEPT_PAUSE: Final = 0.5
BACKLOG: Final = 1024

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@dataclass(frozen=True, slots=True)
class StreamListener:
    """One listening socket and what its connections are."""

    sock: socket.socket
    local: Address
    transport: Transport
    tls: ServerTls | None
    proxies: tuple[IPNetwork, ...]
    on_other: Callable[[], asyncio.Protocol] | None

    def expects_header(self, remote: Address) -> bool:
        """Whether a connection from ``remote`` must begin with a PROXY protocol header."""
        return any(canonical(remote.ip) in network for network in self.proxies)


class StreamServer:
    """Every client of a TURN server that came over TCP or TLS.

    ``hooks`` is the TURN server's side. Connections beyond the limits are closed at once; while the process
    has no file descriptor left, accepting pauses (FAULTS 65). All methods are for the loop's thread only.
    """

    def __init__(self, hooks: ClientHooks, limits: ClientLimits, drops: Drops) -> None:
        self.limits = limits
        self.drops = drops
        self._hooks = hooks
        self._loop = asyncio.get_running_loop()
        self._listeners: dict[int, StreamListener] = {}
        self._pauses: dict[int, asyncio.TimerHandle] = {}
        self._sources = Sources(limits.connections_per_source)
        self._connections: set[StreamClient] = set()
        self._by_path: dict[Path, StreamClient] = {}

    @property
    def connections(self) -> int:
        """How many connections there are, those without a message yet included."""
        return len(self._connections)

    def listen(
        self,
        address: Address,
        transport: Transport,
        *,
        tls: ServerTls | None = None,
        proxy_from: Iterable[str] = (),
        on_other: Callable[[], asyncio.Protocol] | None = None,
    ) -> Address:
        """Accept connections on ``address``; returns it with the real port.

        Raises OSError when it cannot be bound and ValueError on a network in ``proxy_from`` that is none.
        """
        proxies = tuple(ip_network(text) for text in proxy_from)
        sock = listening_socket(address)
        local = Address.from_sockname(sock.getsockname())
        self._listeners[sock.fileno()] = StreamListener(sock, local, transport, tls, proxies, on_other)
        self._loop.add_reader(sock.fileno(), self._on_acceptable, sock.fileno())
        return local

    def send(self, messages: Sequence[bytes], path: Path) -> None:
        """Send framed messages to the client on ``path``, as far as its limits allow."""
        client = self._by_path.get(path)
        if client is None:
            self.drops.add("the client's connection is closed")
        else:
            client.send(messages)

    def client(self, path: Path) -> StreamClient | None:
        """The connection of the client on ``path``."""
        return self._by_path.get(path)

    def close(self) -> None:
        """Stop listening and close every connection when what is queued for it is sent."""
        for timer in self._pauses.values():
            timer.cancel()
        for fd, listener in self._listeners.items():
            self._loop.remove_reader(fd)
            listener.sock.close()
        self._listeners.clear()
        for client in list(self._connections):
            client.close()

    # What connections ask for.

    def admit(self, client: StreamClient, path: Path) -> bool:
        """Whether ``client`` may be the one on ``path``; False, counted, when its source has enough."""
        if path in self._by_path:
            self.drops.add("a second connection on one 5-tuple")
        elif not self._sources.add(path.remote):
            self.drops.add("too many connections from one source")
        else:
            self._by_path[path] = client
            return True
        return False

    def forget(self, client: StreamClient, path: Path | None) -> None:
        """``client`` is over or handed on to somebody else; ``path`` is what it was admitted on."""
        self._connections.discard(client)
        if path is not None:
            del self._by_path[path]
            self._sources.remove(path.remote)

    # Accepting.

    def _on_acceptable(self, fd: int) -> None:
        listener = self._listeners[fd]
        for _ in range(ACCEPTS_PER_WAKE_UP):
            try:
                sock, _remote = listener.sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(fd)
                    return
                self.drops.add(errno.errorcode.get(error.errno or 0, "OSError"))
                continue  # that connection was gone before it was accepted
            self._accepted(listener, sock)

    def _accepted(self, listener: StreamListener, sock: socket.socket) -> None:
        if len(self._connections) >= self.limits.connections:
            self.drops.add("too many connections")
            sock.close()
            return
        try:
            client = StreamClient(sock, listener, self, self._hooks)
        except OSError as error:  # reset already: it has no remote address any more
            self.drops.add(errno.errorcode.get(error.errno or 0, "OSError"))
            sock.close()
            return
        self._connections.add(client)
        client.start()

    def _pause(self, fd: int) -> None:
        """The kernel would report the waiting connection again and again: look away for a moment."""
        self.drops.add("no file descriptor for a connection")
        self._loop.remove_reader(fd)
        self._pauses[fd] = self._loop.call_later(ACCEPT_PAUSE, self._resume, fd)

    def _resume(self, fd: int) -> None:
        del self._pauses[fd]
        self._loop.add_reader(fd, self._on_acceptable, fd)


def listening_socket(address: Address, *, shared: bool = False) -> socket.socket:
    """A non-blocking TCP socket listening on ``address``.

    ``shared`` lets other sockets of this user bind the same address, to connect from it (RFC 6062 §5.2).
    Raises OSError when it cannot be bound.
    """
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address.sockname)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
