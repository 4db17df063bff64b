"""URIs of STUN and TURN servers: ``stun:``, ``stuns:``, ``turn:`` and ``turns:`` (RFC 7064, RFC 7065)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv6Address, ip_address
from typing import Final
from urllib.parse import unquote_to_bytes

from natwalk.core import IPAddress, NatError, Transport

MAX_URI: Final = 1024
"""Longest text that is read; a DNS name of 253 characters, each percent-encoded, fits."""

_URI: Final = re.compile(
    r"""(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):
        (?P<host>\[[^\[\]]*\]|[^\[\]:/?\#@]*)
        (?::(?P<port>[^?\#/@]*))?
        (?:\?(?P<query>[^\#]*))?""",
    re.VERBOSE | re.ASCII,
)
_REG_NAME: Final = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
_LABEL: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


class InvalidServerUri(NatError, ValueError):
    """What was given is no URI of a STUN or TURN server; the message says what is wrong with it."""


class Scheme(StrEnum):
    """What a server does and whether TLS or DTLS protects it (RFC 7064 §3.1, RFC 7065 §3.1)."""

    STUN = "stun"
    STUNS = "stuns"
    TURN = "turn"
    TURNS = "turns"

    @property
    def is_turn(self) -> bool:
        """Whether the server relays."""
        return self in {Scheme.TURN, Scheme.TURNS}

    @property
    def secure(self) -> bool:
        """Whether only TLS or DTLS will do."""
        return self in {Scheme.STUNS, Scheme.TURNS}

    @property
    def default_port(self) -> int:
        """The port when neither the URI nor DNS says one (RFC 8489 §18.6)."""
        return 5349 if self.secure else 3478


@dataclass(frozen=True, slots=True)
class ServerUri:
    """A server as its URI names it; ``str()`` gives the URI back.

    ``host`` is a DNS name in lower case and ASCII, or an IP address without brackets, both canonical.
    ``port`` and ``transport`` (UDP or TCP, of ``turn`` and ``turns`` only) are None when the URI does not
    say them, which leaves them to DNS (RFC 5928 §3). Raises InvalidServerUri on anything else.
    """

    scheme: Scheme
    host: str
    port: int | None = None
    transport: Transport | None = None

    def __post_init__(self) -> None:
        if self.host != _checked_host(self.host):
            raise InvalidServerUri(f"host {self.host!r} is not in canonical form")
        if self.port is not None and not 0 < self.port <= 65535:
            raise InvalidServerUri(f"port {self.port} is not between 1 and 65535")
        if self.transport is not None and not self.scheme.is_turn:
            raise InvalidServerUri(f"a {self.scheme} URI names no transport (RFC 7064)")
        if self.transport not in {None, Transport.UDP, Transport.TCP}:
            raise InvalidServerUri(f"transport {self.transport} is neither udp nor tcp: TLS is in the scheme")

    @property
    def ip(self) -> IPAddress | None:
        """The IP address that ``host`` is, or None when it is a name."""
        return _literal(self.host)

    @property
    def transports(self) -> tuple[Transport, ...]:
        """Over what the server may be asked, the best first, when DNS says nothing else.

        Over ``turns`` and ``stuns`` TCP means TLS and UDP means DTLS (RFC 7350 §3).
        """
        udp, tcp = (Transport.DTLS, Transport.TLS) if self.scheme.secure else (Transport.UDP, Transport.TCP)
        match self.transport:
            case Transport.UDP:
                return (udp,)
            case Transport.TCP:
                return (tcp,)
            case _:
                return (tcp, udp) if self.scheme.secure else (udp, tcp)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}:{host}{port}" + (f"?transport={self.transport}" if self.transport else "")


def parse_uri(text: str) -> ServerUri:
    """The server that the URI ``text`` names (RFC 7064 §3.1, RFC 7065 §3.1).

    Scheme, host and transport are read whatever their case; percent-encoded host names are decoded as
    UTF-8 and written in ASCII (IDNA). Deviates from RFC 3986 §3.2.3: an empty port (``stun:host:``) is
    refused, being a mistake more often than a default. Raises InvalidServerUri saying what is wrong.
    """
    if len(text) > MAX_URI:
        raise InvalidServerUri(f"a server URI of {len(text)} characters")
    scheme, colon, rest = text.partition(":")
    if not colon or scheme.lower() not in set(Scheme):
        raise InvalidServerUri(f"{text!r} does not begin with stun:, stuns:, turn: or turns:")
    if rest.startswith("//"):
        hint = f"{scheme.lower()}:{rest.lstrip('/')}"
        raise InvalidServerUri(f"{text!r} has // after the scheme; it is written {hint!r}")
    if "@" in rest:
        raise InvalidServerUri(f"a {scheme.lower()} URI has no user name: credentials are given apart")
    match = _URI.fullmatch(text)
    if match is None:
        raise InvalidServerUri(f"{text!r} is not like turn:example.net:3478?transport=udp")
    kind = Scheme(scheme.lower())
    return ServerUri(kind, _host(match["host"]), _port(match["port"]), _transport(kind, match["query"]))


def _host(text: str) -> str:
    """The host in canonical form."""
    if text.startswith("["):
        try:
            ip = ip_address(text[1:-1])
        except ValueError:
            raise InvalidServerUri(f"{text} is not an IPv6 address in brackets") from None
        if not isinstance(ip, IPv6Address) or ip.scope_id is not None:
            raise InvalidServerUri(f"{text} is not an IPv6 address without a zone")
        return _text(ip)
    if not _REG_NAME.fullmatch(text):
        raise InvalidServerUri(f"host {text!r} is empty or has characters no host name has")
    try:
        name = unquote_to_bytes(text).decode()
        # the codec knows IDNA 2003 only: names that need its successor are given in ASCII
        ascii_name = name.encode("idna").decode() if not name.isascii() else name
    except UnicodeError:
        raise InvalidServerUri(f"host {text!r} is not a name that DNS can have") from None
    return _checked_host(ascii_name.lower())


def _checked_host(host: str) -> str:
    """``host`` in canonical form if it is an IP address or a DNS name; raises InvalidServerUri."""
    if (ip := _literal(host)) is not None:
        return _text(ip)
    labels = host.removesuffix(".").split(".")
    if len(host) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise InvalidServerUri(f"host {host[:100]!r} is not a DNS name")
    if re.fullmatch(r"[0-9]+|0[xX][0-9A-Fa-f]*", labels[-1]):
        # system resolvers read 127.1 and 0x7f.1 as addresses; nobody means them
        raise InvalidServerUri(f"host {host!r} is neither an IPv4 address nor a name")
    return host.lower()


def _literal(host: str) -> IPAddress | None:
    if "%" in host:
        return None
    try:
        return ip_address(host)
    except ValueError:
        return None


def _text(ip: IPAddress) -> str:
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return str(ip) if mapped is None else f"::ffff:{mapped}"


def _port(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) <= 65535:
        raise InvalidServerUri(f"port {text[:100]!r} is not a number between 1 and 65535")
    return int(text)


def _transport(scheme: Scheme, query: str | None) -> Transport | None:
    if query is None:
        return None
    if not scheme.is_turn:
        raise InvalidServerUri(f"a {scheme} URI has no ?{query[:100]}: it names no transport (RFC 7064)")
    key, _, value = query.partition("=")
    if key.lower() != "transport" or value.lower() not in {"udp", "tcp"}:
        raise InvalidServerUri(f"?{query[:100]} is neither ?transport=udp nor ?transport=tcp")
    return Transport(value.lower())
