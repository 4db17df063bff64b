"""The URIs a server tells its clients: for the host they reached it by, and never for another's."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from natwalk.core import reach
from natwalk.server.ports import Ports

_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253})(?::[0-9]{1,5})?")


def bracketed(host: str) -> str:
    """``host`` as it stands in a URI: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def host_of(authority: str | None) -> str | None:
    """The host in a Host header, without port and brackets; None when it is none that can be repeated.

    Only letters, digits, dots and hyphens, or an IP address, come back: what is sent on cannot carry
    anything else. A dotted number that is no address is refused.
    """
    match = _AUTHORITY.fullmatch(authority or "")
    if match is None:
        return None
    host = match[1].strip("[]").rstrip(".")
    if ":" in host or re.fullmatch(r"[0-9.]+", host):
        try:
            ip = ip_address(host)
        except ValueError:
            return None
        return None if ip.is_unspecified or ip.is_multicast else str(ip)
    return host or None


def hosts_for(
    authority: str | None, local: str | None, public: str | None, listen: Iterable[str]
) -> list[str]:
    """The hosts to name to a client: the configured one, else the one it used, else the one it reached.

    For an address, this server's first address of the other IP version joins it when it reaches as far.
    """
    host = public or host_of(authority) or local
    if host is None:
        return []
    try:
        used = ip_address(host.partition("%")[0])
    except ValueError:
        return [host]
    others = (ip_address(a) for a in listen if a not in ("0.0.0.0", "::"))  # noqa: S104
    other = next((ip for ip in others if ip.version != used.version and reach(ip) is reach(used)), None)
    return [str(used)] if public or other is None else [str(used), str(other)]


def stun_uris(hosts: Iterable[str], *ports: int | None) -> list[str]:
    """``stun:`` URIs (RFC 7064 §3.1) of the ports that are not None."""
    names = list(hosts)
    return [f"stun:{bracketed(host)}:{port}" for port in ports if port for host in names]


def stuns_uris(hosts: Iterable[str], port: int | None) -> list[str]:
    """``stuns:`` URIs (RFC 7064 §3.1) of the TLS port, if there is one."""
    return [f"stuns:{bracketed(host)}:{port}" for host in hosts if port]


def turn_uris(hosts: Iterable[str], ports: Ports) -> list[str]:
    """``turn:`` and ``turns:`` URIs (RFC 7065 §3.1), the cheapest for both sides first."""
    names = list(hosts)
    served = (
        ("turn", ports.stun, "udp"),
        ("turn", ports.tcp, "tcp"),
        ("turns", ports.tls, "tcp"),
        ("turns", ports.shared, "tcp"),
        ("turns", ports.dtls, "udp"),
    )
    return [
        f"{scheme}:{bracketed(host)}:{port}?transport={transport}"
        for scheme, port, transport in served
        if port
        for host in names
    ]
