"""The sockets of a router in user space for its mapping services: NAT-PMP, PCP, and SSDP and HTTP of UPnP."""

from __future__ import annotations

import select
import socket
import time
from typing import Final

from natwalk.core import Address
from natwalk.nat import Packet
from natwalk.nat.services import Gateway

_PORTS: Final = (5351, 1900)
_GROUP: Final = "239.255.255.250"
_BATCH: Final = 64
_LARGEST: Final = 65535
_CONNECTIONS: Final = 64
"""HTTP connections at a time; the oldest gives way."""
_TTL: Final = 2


class ServiceSockets:
    """Carries requests to a gateway and answers back. Raises OSError when its address cannot be had."""

    def __init__(self, address: str, http_port: int, poll: select.epoll) -> None:
        self._address = address
        self._poll = poll
        self._udp: dict[int, socket.socket] = {}
        self._http: dict[int, tuple[socket.socket, bytes]] = {}
        self._listener = socket.create_server((address, http_port))
        self._listener.setblocking(False)
        poll.register(self._listener, select.EPOLLIN)
        for port in _PORTS:
            sock = self._bound("" if port == 1900 else address, port)
            poll.register(sock, select.EPOLLIN)
        membership = socket.inet_aton(_GROUP) + socket.inet_aton(address)
        self._udp[1900].setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)

    def ready(self, descriptor: int, gateway: Gateway) -> None:
        """Serve what waits at ``descriptor``, if that is ours."""
        if descriptor == self._listener.fileno():
            self._accept()
        elif descriptor in self._http:
            self._request(descriptor, gateway)
        else:
            for port in _PORTS:
                if self._udp[port].fileno() == descriptor:
                    self._datagrams(port, gateway)

    def announce(self, gateway: Gateway) -> float | None:
        """Send the news that are due; seconds until there are more, or None."""
        now = time.monotonic()
        self._send(gateway.announcements(now))
        at = gateway.next_timeout()
        return None if at is None else max(at - now, 0.001)

    def close(self) -> None:
        """Close them all."""
        for sock in (self._listener, *self._udp.values(), *(sock for sock, _ in self._http.values())):
            sock.close()

    def _bound(self, host: str, port: int) -> socket.socket:
        sock = self._udp[port] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(self._address))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, _TTL)
        sock.bind((host, port))
        return sock

    def _datagrams(self, port: int, gateway: Gateway) -> None:
        for _ in range(_BATCH):
            try:
                data, source = self._udp[port].recvfrom(_LARGEST)
            except BlockingIOError:
                return
            asked = Packet(Address(*source), Address(self._address, port), data)
            self._send(gateway.receive(asked, time.monotonic()))

    def _send(self, packets: list[Packet]) -> None:
        for packet in packets:
            port = packet.source.port
            sock = self._udp.get(port) or self._bound(self._address, port)  # one quirk answers from another
            try:
                sock.sendto(packet.payload, packet.destination.sockname)
            except OSError:
                continue  # nobody hears it: as on any LAN

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        connection.setblocking(False)
        if len(self._http) >= _CONNECTIONS:
            self._hang_up(next(iter(self._http)))
        self._http[connection.fileno()] = (connection, b"")
        self._poll.register(connection, select.EPOLLIN)

    def _request(self, descriptor: int, gateway: Gateway) -> None:
        connection, so_far = self._http[descriptor]
        try:
            part = connection.recv(_LARGEST)
            source = Address(*connection.getpeername())
            response = gateway.http(so_far + part, source, time.monotonic()) if part else b""
            if response is None:
                self._http[descriptor] = (connection, so_far + part)
                return
            connection.sendall(response)
        except OSError:
            pass  # the client went away
        self._hang_up(descriptor)

    def _hang_up(self, descriptor: int) -> None:
        connection, _ = self._http.pop(descriptor)
        self._poll.unregister(connection)
        connection.close()
