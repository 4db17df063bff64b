"""Who tells that a descriptor is readable: the event loop, or one epoll for a whole server's sockets.

The event loop keeps four objects a descriptor and makes two calls an event through its queue. For
thousands of relay sockets that is half of what an idle one costs, and a microsecond or two a wake-up.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Final, Protocol

EVENTS_PER_WAKE_UP: Final = 64


class Readers(Protocol):
    """The part of an event loop, or of :class:`EpollReaders`, that a socket is read by."""

    def add_reader(self, fd: int, callback: Callable[[], None], /) -> None:
        """Call ``callback`` whenever ``fd`` is readable, from now on."""

    def remove_reader(self, fd: int, /) -> bool:
        """Do so no more; False when there was nothing to remove."""


class EpollReaders:
    """Descriptors of one owner in an epoll of their own, which the running event loop watches.

    What is readable at once is called at once, up to ``EVENTS_PER_WAKE_UP``, then ``on_idle``, so that
    work common to all of them is done once. An exception of a callback ends that wake-up and goes to the
    loop's exception handler; the others are called in the next one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_idle: Callable[[], None]) -> None:
        self._loop = loop
        self._on_idle = on_idle
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._on_readable)

    def add_reader(self, fd: int, callback: Callable[[], None], /) -> None:
        """Call ``callback`` whenever ``fd`` is readable, from now on."""
        if fd in self._callbacks:
            self._callbacks[fd] = callback
            return
        self._epoll.register(fd, select.EPOLLIN)
        self._callbacks[fd] = callback

    def remove_reader(self, fd: int, /) -> bool:
        """Do so no more; False when there was nothing to remove. To be called before ``fd`` is closed."""
        if self._callbacks.pop(fd, None) is None:
            return False
        self._epoll.unregister(fd)
        return True

    def close(self) -> None:
        """Watch nothing any more; harmless when repeated."""
        if not self._epoll.closed:
            self._callbacks.clear()
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    def __len__(self) -> int:
        return len(self._callbacks)

    def _on_readable(self) -> None:
        callbacks = self._callbacks
        for fd, _ in self._epoll.poll(0, EVENTS_PER_WAKE_UP):
            callback = callbacks.get(fd)  # an earlier callback of this round may have removed it
            if callback is not None:
                callback()
        self._on_idle()
