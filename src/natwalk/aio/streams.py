"""TCP and TLS listeners of the TURN server and the connections they accept."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from natwalk.aio.accepting import Acceptor
from natwalk.aio.stream_client import ClientHooks, StreamClient
from natwalk.aio.stream_limits import ClientLimits, Sources
from natwalk.aio.tls import ServerTls
from natwalk.core import Address, Drops, Path, Transport, canonical

IPNetwork = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class StreamListener:
    """What the connections of one listening socket are."""

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

    ``hooks`` is the TURN server's side. Connections beyond the limits are closed at once. All methods are for
    the loop's thread only.
    """

    def __init__(self, hooks: ClientHooks, limits: ClientLimits, drops: Drops) -> None:
        self.limits = limits
        self.drops = drops
        self._hooks = hooks
        self._acceptors: list[Acceptor] = []
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
        sock: socket.socket | None = None,
    ) -> Address:
        """Accept connections on ``address``, or on ``sock``, which listens there; returns the real address.

        Raises OSError when it cannot be bound and ValueError on a network in ``proxy_from`` that is none.
        """
        proxies = tuple(ip_network(text) for text in proxy_from)
        # The listener's address is known only once it is bound.
        listeners: list[StreamListener] = []
        acceptor = Acceptor(
            address, lambda accepted: self._accepted(listeners[0], accepted), self.drops, sock=sock
        )
        listeners.append(StreamListener(acceptor.local, transport, tls, proxies, on_other))
        self._acceptors.append(acceptor)
        return acceptor.local

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
        for acceptor in self._acceptors:
            acceptor.close()
        self._acceptors.clear()
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
