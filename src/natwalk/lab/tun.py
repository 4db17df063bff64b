"""TUN and TAP devices (``/dev/net/tun``), in the network namespace of the process that opens them."""

from __future__ import annotations

import fcntl
import os
from struct import Struct
from typing import Final

DEVICE: Final = "/dev/net/tun"
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN: Final = 0x0001
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000  # packets as they are, without four bytes of their own before each
_IFREQ: Final = Struct("16sH22x")


def open_tun(name: str) -> int:
    """Make the TUN device ``name``, which carries IP packets; its non-blocking descriptor. Raises OSError."""
    return _open(name, _IFF_TUN)


def open_tap(name: str) -> int:
    """Make the TAP device ``name``, which carries Ethernet frames; its non-blocking descriptor.

    The device goes with the last descriptor. Raises OSError.
    """
    return _open(name, _IFF_TAP)


def _open(name: str, kind: int) -> int:
    descriptor = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, _IFREQ.pack(name.encode(), kind | _IFF_NO_PI))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
