"""Candidates: what they are, how they rank, how they are written (RFC 8445 §5.1, RFC 8839 §5.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv4Address
from typing import Final

from natwalk.core import Address, IPAddress, MalformedMessage, Reach, reach

MAX_SDP_LENGTH: Final = 512
"""Longest candidate line we read, in characters; real ones stay under 200."""

MAX_PRIORITY: Final = 2**31 - 1

ICE_CHAR: Final = r"[A-Za-z0-9+/]"
_FOUNDATION: Final = re.compile(ICE_CHAR + r"{1,32}", re.ASCII)
_LOCAL_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.local", re.ASCII)
_TOKEN: Final = re.compile(r"[\x21-\x7e]+", re.ASCII)


class CandidateType(Enum):
    """How a candidate was learned; the value is its name in SDP (RFC 8839 §5.1)."""

    HOST = "host"
    SERVER_REFLEXIVE = "srflx"
    PEER_REFLEXIVE = "prflx"
    RELAYED = "relay"


TYPE_PREFERENCES: Final = {  # RFC 8445 §5.1.2.2
    CandidateType.HOST: 126,
    CandidateType.PEER_REFLEXIVE: 110,
    CandidateType.SERVER_REFLEXIVE: 100,
    CandidateType.RELAYED: 0,
}

_ITSELF: Final = Address("::", 0)

_PRECEDENCE_V4: Final = 35  # RFC 6724 §2.1: the ::ffff:0:0/96 row
_PRECEDENCES_V6: Final = {  # RFC 6724 §2.1; whatever is not named ranks with ::/0
    Reach.LOOPBACK: 50,
    Reach.TUNNEL: 5,
    Reach.PRIVATE: 3,
    Reach.LINK_LOCAL: 1,
}
_PRECEDENCE_V6_DEFAULT: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A transport address at which a peer may be reached (RFC 8445 §5.1).

    ``address`` is where to send, ``related`` the address it was derived from (diagnostics only),
    ``base`` the local address it is sent from: ``address`` itself unless given, and always for remote ones.
    Raises :class:`ValueError` for a foundation, component, priority, transport or name that cannot be.
    """

    foundation: str
    component: int = 1
    transport: str = "udp"
    priority: int
    address: Address
    type: CandidateType
    related: Address | None = None
    base: Address = _ITSELF
    name: str | None = None
    """The ``.local`` name that stands for ``address`` wherever the candidate is written."""

    def __post_init__(self) -> None:
        if self.base is _ITSELF:
            object.__setattr__(self, "base", self.address)
        _require(self.foundation, self.component, self.priority, self.transport)
        if self.name is not None and not is_local_name(self.name):
            raise ValueError("a candidate's name is one label under .local")

    @staticmethod
    def from_sdp(line: str) -> Candidate:
        """Read ``candidate:…`` (RFC 8839 §5.1, without ``a=``); raise MalformedMessage on anything else.

        Unknown extension attributes are skipped, names instead of IP addresses are refused.
        """
        candidate = read_candidate(line)
        if isinstance(candidate, NamedCandidate):
            raise MalformedMessage("candidate line: a name instead of an address")
        return candidate

    def to_sdp(self) -> str:
        """The candidate as a candidate-attribute (RFC 8839 §5.1), without ``a=``."""
        line = (
            f"candidate:{self.foundation} {self.component} {self.transport} {self.priority}"
            f" {self.name or self.address.host} {self.address.port} typ {self.type.value}"
        )
        if self.type is CandidateType.HOST:
            return line
        related = self.related or hidden_address(self.address)
        return f"{line} raddr {related.host} rport {related.port}"

    def without_related(self) -> Candidate:
        """The same candidate with its related address hidden (RFC 8839 §5.1: ``0.0.0.0`` or ``::``, 9)."""
        return replace(self, related=hidden_address(self.address))


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedCandidate:
    """A host candidate of the peer's that hides its IP address behind a ``.local`` name.

    (draft-ietf-mmusic-mdns-ice-candidates, section 3.2.) Raises :class:`ValueError` for what no such
    candidate can be.
    """

    foundation: str
    component: int = 1
    transport: str = "udp"
    priority: int
    name: str
    port: int

    def __post_init__(self) -> None:
        _require(self.foundation, self.component, self.priority, self.transport)
        if not is_local_name(self.name):
            raise ValueError("a candidate's name is one label under .local")
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"port {self.port} is not between 0 and 65535")

    def resolved(self, ip: IPAddress) -> Candidate:
        """The candidate, once its name is known to stand for ``ip``."""
        return Candidate(
            foundation=self.foundation,
            component=self.component,
            transport=self.transport,
            priority=self.priority,
            address=Address(str(ip), self.port),
            type=CandidateType.HOST,
        )

    def to_sdp(self) -> str:
        """The candidate as a candidate-attribute (RFC 8839 §5.1), without ``a=``."""
        return (
            f"candidate:{self.foundation} {self.component} {self.transport} {self.priority}"
            f" {self.name} {self.port} typ host"
        )


def read_candidate(line: str) -> Candidate | NamedCandidate:
    """Read ``candidate:…`` (RFC 8839 §5.1, without ``a=``); raise MalformedMessage on anything else.

    A name is read for host candidates under ``.local`` only: no other name is ever looked up.
    """
    try:
        return _parse(line)
    except ValueError as error:
        raise MalformedMessage(f"candidate line: {error}") from None


def is_local_name(name: str) -> bool:
    """Whether ``name`` is one label under ``.local``, the only names a candidate may have."""
    return _LOCAL_NAME.fullmatch(name) is not None


def hidden_address(like: Address) -> Address:
    """What stands for a related address that is kept private, in the family of ``like``."""
    return Address("0.0.0.0" if like.version == 4 else "::", 9)  # noqa: S104 - written, never bound


def candidate_priority(kind: CandidateType, local_preference: int, component: int = 1) -> int:
    """Priority of a candidate (RFC 8445 §5.1.2.1); ``local_preference`` is 0..65535."""
    return (TYPE_PREFERENCES[kind] << 24) + (local_preference << 8) + (256 - component)


def local_preference(ip: IPAddress, order: int) -> int:
    """Local preference of an address by RFC 6724's precedence, then by the order it was added in.

    IPv6 that reaches the internet comes before IPv4, as RFC 8421 §4 asks; ``order`` is 0..999 and
    keeps the preferences of one agent distinct (RFC 8445 §5.1.2.1).
    """
    if isinstance(ip, IPv4Address):
        precedence = _PRECEDENCE_V4
    else:
        precedence = _PRECEDENCES_V6.get(reach(ip), _PRECEDENCE_V6_DEFAULT)
    return precedence * 1000 + 999 - min(order, 999)


class Foundations:
    """Names foundations: equal for candidates of one type, base address and server (RFC 8445 §5.1.1.3).

    The names are small numbers in order of appearance, so they tell a peer nothing about addresses.
    """

    __slots__ = ("_names",)

    def __init__(self) -> None:
        self._names: dict[tuple[CandidateType, str, str], str] = {}

    def name(self, kind: CandidateType, base: Address, server: Address | None = None) -> str:
        """The foundation for a candidate of ``kind`` with ``base``, learned from ``server`` if any."""
        key = (kind, base.host, server.host if server is not None else "")
        return self._names.setdefault(key, str(len(self._names) + 1))


def _require(foundation: str, component: int, priority: int, transport: str) -> None:
    if not _FOUNDATION.fullmatch(foundation):
        raise ValueError("a foundation is 1 to 32 letters, digits, + or /")
    if not 1 <= component <= 256:
        raise ValueError(f"component {component} is not between 1 and 256")
    if not 1 <= priority <= MAX_PRIORITY:
        raise ValueError(f"priority {priority} is not between 1 and 2**31 - 1")
    if transport != "udp":
        raise ValueError("only udp candidates are supported")


def _parse(line: str) -> Candidate | NamedCandidate:
    if len(line) > MAX_SDP_LENGTH:
        raise ValueError(f"longer than {MAX_SDP_LENGTH} characters")
    if not line.startswith("candidate:"):
        raise ValueError("does not start with 'candidate:'")
    tokens = line[len("candidate:") :].split(" ")
    if len(tokens) < 8 or tokens[6] != "typ" or not all(_TOKEN.fullmatch(token) for token in tokens):
        raise ValueError("expected: foundation component transport priority address port 'typ' type")
    if len(tokens) % 2:
        raise ValueError("an extension attribute has no value")
    extensions: dict[str, str] = {}
    for name, value in zip(tokens[8::2], tokens[9::2], strict=True):
        extensions.setdefault(name, value)
    kind = CandidateType(tokens[7])
    if kind is CandidateType.HOST and tokens[4].lower().endswith(".local"):
        return NamedCandidate(
            foundation=tokens[0],
            component=_number(tokens[1], 3),
            transport=tokens[2].lower(),
            priority=_number(tokens[3], 10),
            name=tokens[4].lower(),
            port=_number(tokens[5], 5),
        )
    return Candidate(
        foundation=tokens[0],
        component=_number(tokens[1], 3),
        transport=tokens[2].lower(),
        priority=_number(tokens[3], 10),
        address=Address(tokens[4], _number(tokens[5], 5)),
        type=kind,
        related=_related(extensions),
    )


def _related(extensions: dict[str, str]) -> Address | None:
    host, port = extensions.get("raddr"), extensions.get("rport")
    if (host is None) != (port is None):
        raise ValueError("raddr and rport come together or not at all")
    return Address(host, _number(port, 5)) if host is not None and port is not None else None


def _number(text: str, digits: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= digits):
        raise ValueError(f"expected a number of at most {digits} digits")
    return int(text)
