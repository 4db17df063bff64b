"""Listening TCP sockets that keep calm when there are too many connections or too few descriptors."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Final

from natwalk.core import Address, Drops

ACCEPTS_PER_WAKE_UP: Final = 64
ACCEPT_PAUSE: Final = 0.5
BACKLOG: Final = 1024

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """A socket listening on ``address`` whose connections are given to ``on_accepted``, which owns them.

    ``shared`` lets other sockets of this user bind the same address, to connect from it (RFC 6062 §5.2).
    A ``sock`` that listens there already is taken over. While the process has no file descriptor left,
    accepting pauses (FAULTS 65). Raises OSError when the address cannot be bound.
    """

    def __init__(
        self,
        address: Address,
        on_accepted: Callable[[socket.socket], None],
        drops: Drops,
        *,
        shared: bool = False,
        sock: socket.socket | None = None,
    ) -> None:
        self._on_accepted = on_accepted
        self._drops = drops
        self._loop = asyncio.get_running_loop()
        self._sock = sock or _listening_socket(address, shared=shared)
        self._pause: asyncio.TimerHandle | None = None
        self.local = Address.from_sockname(self._sock.getsockname())
        self._resume()

    def close(self) -> None:
        """Stop listening; harmless when repeated."""
        if self._pause is not None:
            self._pause.cancel()
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

    def _on_acceptable(self) -> None:
        for _ in range(ACCEPTS_PER_WAKE_UP):
            try:
                sock, _remote = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._look_away()
                    return
                self._drops.add(errno.errorcode.get(error.errno or 0, "OSError"))
                continue  # that connection was gone before it was accepted
            self._on_accepted(sock)
            if self._sock.fileno() < 0:
                return  # closed by what came of the connection

    def _look_away(self) -> None:
        """Pause: the kernel would report the waiting connection again and again."""
        self._drops.add("no file descriptor for a connection")
        self._loop.remove_reader(self._sock.fileno())
        self._pause = self._loop.call_later(ACCEPT_PAUSE, self._resume)

    def _resume(self) -> None:
        self._loop.add_reader(self._sock.fileno(), self._on_acceptable)


def tcp_socket(address: Address, *, shared: bool = False) -> socket.socket:
    """A non-blocking TCP socket bound to ``address``. Raises OSError when it cannot be bound."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address.sockname)
    except BaseException:
        sock.close()
        raise
    return sock


def _listening_socket(address: Address, *, shared: bool) -> socket.socket:
    sock = tcp_socket(address, shared=shared)
    try:
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
