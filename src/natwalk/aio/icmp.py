"""ICMP errors about what an unconnected UDP socket sent, out of Linux's error queue (ip(7), ipv6(7))."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from struct import Struct
from typing import Final

from natwalk.core import Address
from natwalk.stun.values import IcmpError

ERRORS_PER_WAKE_UP: Final = 64

# Numbers of the Linux ABI that Python's socket module does not name.
_IP_RECVERR: Final = 11
_IPV6_RECVERR: Final = 25
_LEVELS: Final = frozenset({(socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)})
_EXTENDED_ERROR: Final = Struct("=IBBBxII")  # struct sock_extended_err
_ORIGIN_LOCAL: Final = 1
_ORIGIN_ICMP: Final = 2
_ORIGIN_ICMP6: Final = 3
_ANCILLARY_SPACE: Final = socket.CMSG_SPACE(_EXTENDED_ERROR.size + 28)  # and the sockaddr of who said it

_FRAGMENTATION_NEEDED: Final = (3, 4)  # ICMP: destination unreachable, fragmentation needed and DF set
_PACKET_TOO_BIG: Final = (2, 0)  # ICMPv6


def enable(sock: socket.socket, version: int) -> None:
    """Have the kernel queue ICMP errors of ``sock``, of IP ``version``; a system that cannot does without."""
    with contextlib.suppress(OSError):
        if version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)


def queued_errors(sock: socket.socket) -> Iterator[tuple[Address, IcmpError | None]]:
    """What the error queue holds, oldest first, at most ``ERRORS_PER_WAKE_UP``: whom the datagram was for.

    The error is None when it is neither of ICMP nor a datagram longer than the path's MTU, which the kernel
    knew before any router said it.
    """
    for _ in range(ERRORS_PER_WAKE_UP):
        try:
            _, ancillary, _, sockname = sock.recvmsg(0, _ANCILLARY_SPACE, socket.MSG_ERRQUEUE)
        except OSError:  # empty
            return
        for level, kind, value in ancillary:
            if (level, kind) in _LEVELS and sockname:
                yield Address.from_sockname(sockname), _parse(level, value)


def _parse(level: int, value: bytes) -> IcmpError | None:
    number, origin, kind, code, info, _ = _EXTENDED_ERROR.unpack_from(value)
    if origin == _ORIGIN_LOCAL and number == errno.EMSGSIZE:
        kind, code = _PACKET_TOO_BIG if level == socket.IPPROTO_IPV6 else _FRAGMENTATION_NEEDED
    elif origin not in {_ORIGIN_ICMP, _ORIGIN_ICMP6}:
        return None
    if kind > 0x7F:  # not an error, and more than the attribute has room for (RFC 8656 §18.13)
        return None
    return IcmpError(kind, code, info.to_bytes(4, "big"))
