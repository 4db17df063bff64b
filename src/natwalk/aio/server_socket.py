"""The UDP sockets of a TURN server: routers may fragment what they send, and ICMP errors are heard."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Final

from natwalk.aio import icmp
from natwalk.aio.readers import Readers
from natwalk.aio.udp import OnDatagrams, UdpSocket
from natwalk.core import Address
from natwalk.stun.values import IcmpError

LISTENER_BUFFER: Final = 16 << 20
RELAY_BUFFER: Final = 1 << 20

OnIcmp = Callable[[Address, IcmpError], None]
"""Takes for whom a datagram was and what ICMP said about it."""

# Numbers of the Linux ABI that Python's socket module does not name.
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_IPV6_DONTFRAG: Final = 62
_PMTUDISC_DONT: Final = 0
_PMTUDISC_DO: Final = 2


class ServerSocket(UdpSocket):
    """A :class:`UdpSocket` whose datagrams carry no DF bit but where :meth:`send_unfragmented` sends them.

    With ``on_icmp`` it hears of ICMP errors. An error about one datagram neither loses the next one nor
    counts as a failure of the socket (FAULTS 64).
    """

    on_icmp: OnIcmp | None = None

    @classmethod
    def listener(
        cls,
        address: Address,
        on_datagrams: OnDatagrams,
        readers: Readers,
        sock: socket.socket | None = None,
    ) -> ServerSocket:
        """A socket that clients send to, ``sock`` if there is one. OSError when it cannot be bound."""
        return cls.bind(address, on_datagrams, receive_buffer=LISTENER_BUFFER, readers=readers, sock=sock)

    @classmethod
    def relay(
        cls, address: Address, on_datagrams: OnDatagrams, on_icmp: OnIcmp, readers: Readers
    ) -> ServerSocket:
        """A socket that peers send to. Raises OSError when ``address`` cannot be bound."""
        self = cls.bind(address, on_datagrams, receive_buffer=RELAY_BUFFER, readers=readers)
        self.on_icmp = on_icmp
        icmp.enable(self._sock, self.local.version)
        return self

    def send_unfragmented(self, data: bytes, remote: Address) -> bool:
        """Send one datagram with the DF bit (RFC 8656 §14); False when it was dropped and counted.

        One that is longer than the path's MTU, as far as that is known, is not sent; ``on_icmp`` hears of
        it as if a router had said so. IPv6 has no such bit: there it is not fragmented here.
        """
        if self._queue:
            self.drops.add("send queue full")  # one that waits would be sent without the bit
            return False
        self._set_dont_fragment(True)
        try:
            return self.send(data, remote)
        finally:
            self._set_dont_fragment(False)

    def _set_dont_fragment(self, on: bool) -> None:
        if self.closed:
            return
        if self.local.version == 6:
            self._sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_DONTFRAG, on)
        else:
            discover = _PMTUDISC_DO if on else _PMTUDISC_DONT
            self._sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, discover)

    @staticmethod
    def _set_fragmentation(sock: socket.socket, family: int) -> None:
        """Let datagrams be fragmented where they must (RFC 8656 §14)."""
        with contextlib.suppress(OSError):
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DONT)
            else:
                sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DONT)

    def _received_nothing(self) -> None:
        self._read_errors()

    def _receive_failed(self, error: OSError) -> None:
        if not self._read_errors():
            super()._receive_failed(error)

    def _send_failed(self, error: OSError, data: bytes, remote: Address) -> bool:
        """Once more, when the error was about an earlier datagram: the kernel tells at the next chance."""
        if self._read_errors() and not self.closed:
            try:
                self._sock.sendto(data, remote)
            except OSError as second:
                error = second
            else:
                return True
        return super()._send_failed(error, data, remote)

    def _read_errors(self) -> int:
        """Hand on what the error queue holds; how many errors that were."""
        if self.on_icmp is None:
            return 0
        found = 0
        for remote, error in icmp.queued_errors(self._sock):
            found += 1
            if error is not None:
                self.on_icmp(remote, error)
            if self.closed:
                break
        return found
