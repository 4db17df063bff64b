"""Who asks: the address a request came from, and whether it may ask for what is not for everyone."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final

from litestar.datastructures import Headers

from natwalk.core import IPAddress, canonical

LOOPBACK: Final = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


def client_of(scope: Any) -> IPAddress:
    """Whom a connection counts as; all that the kernel does not name count as one."""
    client = scope.get("client")
    return IPv4Address(0) if client is None else ip_address(client[0].partition("%")[0])


def is_near(scope: Any, headers: Headers, allowed: Iterable[IPv4Network | IPv6Network]) -> bool:
    """True when the request comes from one of the networks ``allowed``, and by no proxy.

    A reverse proxy on this machine speaks from loopback for the whole internet: what it forwards is refused.
    """
    if any(name in headers for name in _FORWARDED):
        return False
    ip = canonical(client_of(scope))
    return any(ip.version == network.version and ip in network for network in allowed)


def has_token(headers: Headers, token: str | None) -> bool:
    """True when the request carries ``token`` as its bearer token; compared in constant time."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if token is None or scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(given.strip().encode(), token.encode())
