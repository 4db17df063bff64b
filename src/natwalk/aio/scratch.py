"""What all sockets of a thread receive into, to copy from at once."""

from __future__ import annotations

import threading

SIZE = 65536
"""No datagram is longer; a stream's chunk is at most this long."""


class _Scratch(threading.local):
    def __init__(self) -> None:
        self.view = memoryview(bytearray(SIZE))


_SCRATCH = _Scratch()


def scratch() -> memoryview:
    """The buffer of this thread, ``SIZE`` bytes; what is in it lasts until the next receive.

    A buffer each would be fifteen times everything else that an idle socket costs.
    """
    return _SCRATCH.view
