"""The asyncio shell of multicast DNS: one socket at port 5353 on the networks of some local addresses."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from typing import Final

from natwalk.aio.udp import UdpSocket
from natwalk.core import Address, IPAddress, Path
from natwalk.ice.mdns import GROUP, PORT, Mdns

_EVERYWHERE: Final = Address("0.0.0.0", PORT)  # noqa: S104 - port 5353 is shared, by multicast
_TTL: Final = 255  # RFC 6762 §11


class MdnsSocket:
    """Answers for names and looks them up on the networks of ``addresses`` (IPv4 only; others are skipped).

    ``on_resolved`` gets each name that was looked up and what it stands for, or None. Raises OSError when
    port 5353 cannot be shared or none of the addresses has a network with multicast.
    """

    def __init__(
        self, addresses: Iterable[IPAddress], on_resolved: Callable[[str, IPAddress | None], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_resolved = on_resolved
        self._timer: asyncio.TimerHandle | None = None
        self._sock = _bound()
        try:
            self._interfaces = _join(self._sock, addresses)
        except BaseException:
            self._sock.close()
            raise
        self._udp = UdpSocket.bind(_EVERYWHERE, self._on_datagrams, receive_buffer=1 << 18, sock=self._sock)
        self._core = Mdns(self._udp.local)

    def publish(self, name: str, ip: IPAddress) -> None:
        """Answer for ``name`` from now on; raises LocalProtocolError for what is no such name."""
        self._core.publish(name, ip)

    def look_up(self, name: str) -> None:
        """Look ``name`` up: ``on_resolved`` is called within three seconds."""
        self._core.look_up(name, self._loop.time())
        self._flush()

    def close(self) -> None:
        """Answer and ask no more; harmless when repeated."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._udp.close()

    def _on_datagrams(self, batch: list[tuple[bytes, Address]]) -> None:
        now = self._loop.time()
        for data, remote in batch:
            self._core.receive(data, Path(self._udp.local, remote), now)
        self._flush()

    def _on_timer(self) -> None:
        due, now = self._core.next_timeout(), self._loop.time()
        self._core.handle_timeout(now if due is None else max(due, now))
        self._flush()

    def _flush(self) -> None:
        while (out := self._core.poll_transmit()) is not None:
            self._send(out.data, out.path.remote)
        while (event := self._core.poll_event()) is not None:
            self._on_resolved(event.name, event.ip)
        if self._timer is not None:
            self._timer.cancel()
        due = self._core.next_timeout()
        self._timer = None if due is None or self._udp.closed else self._loop.call_at(due, self._on_timer)

    def _send(self, data: bytes, remote: Address) -> None:
        if remote != GROUP:
            self._udp.send(data, remote)
            return
        for interface in self._interfaces if not self._udp.closed else ():
            self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
            self._udp.send(data, remote)


def _bound() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # with whoever else is on this machine
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, _TTL)
        sock.bind(_EVERYWHERE.sockname)
    except BaseException:
        sock.close()
        raise
    return sock


def _join(sock: socket.socket, addresses: Iterable[IPAddress]) -> list[bytes]:
    """Join the group on the interfaces of ``addresses``; the packed addresses where that worked."""
    joined: list[bytes] = []
    failure: OSError | None = None
    for ip in addresses:
        if ip.version != 4:
            continue
        try:
            sock.setsockopt(
                socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP.host) + ip.packed
            )
        except OSError as error:  # no multicast there, or two addresses of one interface
            failure = error
            continue
        joined.append(ip.packed)
    if not joined:
        raise failure or OSError("none of the addresses has a network that multicast DNS works on")
    return joined
