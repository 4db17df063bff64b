"""A transport address: an IP address in canonical text and a port.

An :class:`Address` is a tuple, so it costs nothing to hash and an IPv4 one equals what the socket
module hands out. Build it from outside data with :meth:`Address.parse` or by calling the class: both
check. :meth:`Address.from_sockname` is the cached fast path for what the kernel reports.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, NamedTuple

IPAddress = IPv4Address | IPv6Address


class _AddressFields(NamedTuple):
    host: str
    port: int


class Address(_AddressFields):
    """Where a datagram goes to or comes from (the transport address of RFC 8489 §4).

    ``host`` is the canonical text of the IP address, with a zone (``%eth0``) only on scoped IPv6
    addresses; ``port`` is 0..65535. Raises :class:`ValueError` on anything else: names are not addresses.
    """

    __slots__ = ()

    def __new__(cls, host: str, port: int) -> Address:
        """Check and canonicalise ``host`` and ``port``."""
        if not 0 <= port <= 65535:
            raise ValueError(f"port {port} is not between 0 and 65535")
        return tuple.__new__(cls, (_canonical_text(host), port))

    @staticmethod
    def parse(text: str) -> Address:
        """Read ``192.0.2.1:3478`` or ``[2001:db8::1]:3478``; raise ValueError on anything else."""
        host, separator, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not separator or bracketed != (":" in host) or not (port.isascii() and port.isdigit()):
            raise ValueError(f"{text!r} is not an address like 192.0.2.1:3478 or [2001:db8::1]:3478")
        return Address(host[1:-1] if bracketed else host, int(port))

    @staticmethod
    def from_sockname(sockname: tuple[Any, ...]) -> Address:
        """The address in a socket's ``(host, port[, flowinfo, scope_id])``, v4-mapped ones unwrapped."""
        return _from_sockname(sockname[0], sockname[1])

    @property
    def ip(self) -> IPAddress:
        """The IP address as an object of :mod:`ipaddress`."""
        return _ip(self.host)

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.host else 4

    @property
    def sockname(self) -> tuple[str, int]:
        """What ``socket.sendto`` and ``bind`` take."""
        return (self.host, self.port)

    def with_port(self, port: int) -> Address:
        """The same host at another port."""
        return Address(self.host, port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"


@lru_cache(maxsize=4096)
def _ip(host: str) -> IPAddress:
    return ip_address(host)


@lru_cache(maxsize=4096)
def _canonical_text(host: str) -> str:
    try:
        ip = ip_address(host)
    except ValueError:
        raise ValueError(f"{host!r} is not an IP address") from None
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return f"::ffff:{ip.ipv4_mapped}"  # str() spells it in two ways, by Python version
    return str(ip)


@lru_cache(maxsize=1024)  # a flood from everywhere fills it, and a miss costs little
def _from_sockname(host: str, port: int) -> Address:
    if host.startswith("::ffff:") and "." in host:
        host = host[7:]
    if ":" not in host:  # the kernel has one way to write an IPv4 address, the canonical one
        return tuple.__new__(Address, (host, port))
    return Address(host, port)
