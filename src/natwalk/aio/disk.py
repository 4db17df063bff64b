"""Runs short work on files: on the event loop while it is short, in a thread once it was long.

A page cache answers in about a millisecond a megabyte, and handing that to a thread costs more than it
saves: with one thread a process moves a third more on two cores. A slow disk must not stop the loop that
keeps the path alive, so one long call sends the next ones to a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

LONG: Final = 0.025
"""Seconds of a call after which the disk counts as slow."""
THREADED_CALLS: Final = 64
"""Calls that go to a thread after a long one, before the disk is tried on the loop again."""

_LARGE: Final = 24 << 20

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run in a worker thread. When cancelled, wait for the thread first: what it uses is closed next."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    finally:
        await asyncio.wait({work})


def keep_freed_memory() -> None:
    """Let the C library keep some megabytes that are freed, instead of returning and refetching them.

    Datagrams come and go in bursts of megabytes. glibc gives memory at the top of the heap back when twice
    the largest block it ever had to map is free there (mallopt(3), M_MMAP_THRESHOLD): by default 128 KiB,
    which costs a receiver half its time in page faults when the heap happens to lie so. Mapping one large
    block and freeing it raises that for the process; other C libraries do not mind.
    """
    del bytearray(_LARGE)[:]


class Disk:
    """One side's file work; ``clock`` is the event loop's unless given, in seconds."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or asyncio.get_running_loop().time
        self.threaded = 0
        """How many of the next calls go to a thread."""

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``function`` returns; it raises what that raises. Other tasks get a turn in between."""
        if self.threaded:
            self.threaded -= 1
            return await in_thread(function, *args, **kwargs)
        started = self._clock()
        try:
            result = function(*args, **kwargs)
        finally:
            if self._clock() - started > LONG:
                self.threaded = THREADED_CALLS
        await asyncio.sleep(0)
        return result
