"""The addresses of this machine that a peer could reach it at."""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, ip_address
from typing import Final

import ifaddr

from natwalk.core import IPAddress, Reach, reach

_SIOCGIFFLAGS: Final = 0x8913
_IFF_UP: Final = 0x1
_IFF_RUNNING: Final = 0x40
_IFREQ: Final = struct.Struct("16sH22x")
_UNUSABLE: Final = frozenset({Reach.LINK_LOCAL, Reach.UNSPECIFIED, Reach.MULTICAST})
_ELSEWHERE: Final = ("192.0.2.1", "2001:db8::1")  # RFC 5737 §3, RFC 3849 §2: nothing is ever sent there


def local_addresses(*, loopback: bool = False, interfaces: Collection[str] | None = None) -> list[IPAddress]:
    """The addresses of interfaces that are up, those a default route would use first.

    ``interfaces`` are the names of those to look at, all by default. Link-local addresses are left out, and
    so are loopback ones unless ``loopback`` asks for them or there are no others: a machine without a
    network can still talk to itself.
    """
    usable = [ip for ip in _interface_addresses(interfaces) if reach(ip) not in _UNUSABLE]
    inner = [ip for ip in usable if reach(ip) is Reach.LOOPBACK]
    outer = [ip for ip in usable if reach(ip) is not Reach.LOOPBACK]
    preferred = [ip for ip in _default_sources() if ip in outer]
    ordered = list(dict.fromkeys([*preferred, *outer]))
    return [*ordered, *dict.fromkeys(inner)] if loopback or not ordered else ordered


def _interface_addresses(interfaces: Collection[str] | None) -> Iterable[IPAddress]:
    for adapter in ifaddr.get_adapters():
        if (interfaces is None or adapter.name in interfaces) and _is_up(adapter.name):
            for ip in adapter.ips:
                yield ip_address(ip.ip if isinstance(ip.ip, str) else ip.ip[0])


def _is_up(name: str) -> bool:
    """Whether the interface is up and has a carrier; True where the system does not tell."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, _IFREQ.pack(name.encode()[:15], 0))
        except OSError:
            return True
    flags = int(_IFREQ.unpack(answer)[1])
    return flags & (_IFF_UP | _IFF_RUNNING) == _IFF_UP | _IFF_RUNNING


def _default_sources() -> list[IPAddress]:
    """The source addresses the kernel would choose towards the internet; connecting UDP sends nothing."""
    found: list[IPAddress] = []
    for text in _ELSEWHERE:
        family = socket.AF_INET if isinstance(ip_address(text), IPv4Address) else socket.AF_INET6
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.connect((text, 9))
                found.append(ip_address(sock.getsockname()[0]))
        except OSError:
            continue  # no route in this family, or no such family: then it has no preferred source
    return found
