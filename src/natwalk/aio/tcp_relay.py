"""The sockets of TCP allocations: listening relays, connections to and from peers (RFC 6062 §5)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Protocol

from natwalk.aio.accepting import Acceptor, tcp_socket
from natwalk.aio.splice import Splice
from natwalk.aio.stream_client import StreamClient
from natwalk.aio.tcp import TcpStream
from natwalk.core import Address, Drops


class RelayHooks(Protocol):
    """What TCP relays tell the TURN server they belong to, which may answer from within."""

    def peer_accepted(self, relay: Address, peer: Address) -> int | None:
        """``peer`` connected to ``relay``: the id of the connection, or None to close it."""

    def peer_connected(self, connection_id: int) -> None:
        """A connection that was wanted is open."""

    def peer_connect_failed(self, connection_id: int) -> None:
        """A connection that was wanted cannot be had."""

    def connection_closed(self, connection_id: int) -> None:
        """A joined connection has ended, at both sides."""

    def transferred(self, connection_id: int, to_peer: int, from_peer: int) -> float:
        """That many bytes were moved; returns for how many seconds nothing more is to be read."""


class TcpRelays:
    """Every listening relay socket and peer connection of a TURN server.

    A peer connection is not read from until it is joined with a client's: until then the kernel holds, and
    bounds, what the peer sends. How many there are and how long each may take is for the core to limit. All
    methods are for the loop's thread only.
    """

    def __init__(self, hooks: RelayHooks, drops: Drops, *, write_timeout: float) -> None:
        self._hooks = hooks
        self._drops = drops
        self._write_timeout = write_timeout
        self._loop = asyncio.get_running_loop()
        self._relays: dict[Address, Acceptor] = {}
        self._connecting: dict[int, socket.socket] = {}
        self._unbound: dict[int, socket.socket] = {}
        self._joined: dict[int, Splice] = {}

    def __len__(self) -> int:
        return len(self._connecting) + len(self._unbound) + len(self._joined)

    def listen(self, relay: Address) -> None:
        """Accept peers' connections to ``relay``. Raises OSError when it cannot be bound."""
        self._relays[relay] = Acceptor(relay, partial(self._accepted, relay), self._drops, shared=True)

    def release_relay(self, relay: Address) -> None:
        """Stop listening on ``relay``; its connections are released one by one."""
        self._relays.pop(relay).close()

    def connect(self, connection_id: int, relay: Address, peer: Address) -> None:
        """Open a connection from ``relay`` to ``peer``; the hooks hear how it went, perhaps at once."""
        try:
            sock = tcp_socket(relay, shared=True)
        except OSError:
            self._hooks.peer_connect_failed(connection_id)
            return
        try:
            sock.connect(peer.sockname)
        except BlockingIOError:
            self._connecting[connection_id] = sock
            self._loop.add_writer(sock.fileno(), self._connect_ended, connection_id)
        except OSError:
            sock.close()
            self._hooks.peer_connect_failed(connection_id)
        else:
            self._unbound[connection_id] = sock
            self._hooks.peer_connected(connection_id)

    def join(self, connection_id: int, client: StreamClient | None) -> None:
        """Splice the peer connection with the connection of ``client``, which is None when that is gone."""
        sock = self._unbound.pop(connection_id)
        try:
            peer = None if client is None else self._stream(sock, client)
        except OSError:  # reset meanwhile
            peer = None
        if client is None or peer is None:
            sock.close()
            if client is not None:
                client.close()
            self._hooks.connection_closed(connection_id)
            return
        stream, first = client.detach()
        splice = Splice(
            stream,
            peer,
            on_bytes=partial(self._hooks.transferred, connection_id),
            on_closed=partial(self._closed, connection_id, client.finish),
        )
        self._joined[connection_id] = splice
        splice.start(first)

    def release(self, connection_id: int) -> None:
        """Close a peer connection, whatever its state, and the client's joined with it."""
        if (sock := self._connecting.pop(connection_id, None)) is not None:
            self._loop.remove_writer(sock.fileno())
            sock.close()
        elif (sock := self._unbound.pop(connection_id, None)) is not None:
            sock.close()
        elif (splice := self._joined.get(connection_id)) is not None:
            splice.close()

    def close(self) -> None:
        """Close everything."""
        for acceptor in self._relays.values():
            acceptor.close()
        self._relays.clear()
        for connection_id in [*self._connecting, *self._unbound, *self._joined]:
            self.release(connection_id)

    def _accepted(self, relay: Address, sock: socket.socket) -> None:
        try:
            peer = Address.from_sockname(sock.getpeername())
        except OSError:  # reset already
            sock.close()
            return
        connection_id = self._hooks.peer_accepted(relay, peer)
        if connection_id is None:
            sock.close()
        else:
            self._unbound[connection_id] = sock

    def _connect_ended(self, connection_id: int) -> None:
        sock = self._connecting.pop(connection_id)
        self._loop.remove_writer(sock.fileno())
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            sock.close()
            self._hooks.peer_connect_failed(connection_id)
        else:
            self._unbound[connection_id] = sock
            self._hooks.peer_connected(connection_id)

    def _stream(self, sock: socket.socket, client: StreamClient) -> TcpStream:
        """The peer's connection as a stream; ``client`` is its sink until the splice is."""
        return TcpStream(sock, client, write_timeout=self._write_timeout, reading=False)

    def _closed(self, connection_id: int, finish: Callable[[], None]) -> None:
        finish()
        self._joined.pop(connection_id, None)
        self._hooks.connection_closed(connection_id)
