"""From the URI of a STUN or TURN server to the addresses to try, in order (RFC 5928 §3, RFC 8489 §8).

:func:`resolution` decides what to ask DNS and what the answers mean; whoever drives it asks.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from natwalk.core import Address, RandomBytes, Transport
from natwalk.stun.uri import ServerUri

MAX_ENDPOINTS: Final = 16
"""Most endpoints one URI gives."""
MAX_RECORDS: Final = 16
"""Most records of one answer that are looked at; the rest is left out."""
MAX_ROUNDS: Final = 16
"""Most rounds of questions for one URI, whatever the answers refer to."""

ALL_TRANSPORTS: Final = (Transport.UDP, Transport.TCP, Transport.TLS, Transport.DTLS)


class RecordType(StrEnum):
    """The DNS records a resolution asks for."""

    A = "A"
    AAAA = "AAAA"
    SRV = "SRV"
    NAPTR = "NAPTR"


class Question(NamedTuple):
    """What to ask DNS for: all records of one type at one name."""

    name: str
    type: RecordType


@dataclass(frozen=True, slots=True)
class Srv:
    """A server of a service (RFC 2782); ``target`` is a name, ``.`` for "there is none"."""

    priority: int
    weight: int
    port: int
    target: str


@dataclass(frozen=True, slots=True)
class Naptr:
    """Where a service of a domain is looked up further (RFC 3958); one with a ``regexp`` is none of these."""

    order: int
    preference: int
    flags: str
    service: str
    regexp: str
    replacement: str


Record = Address | Srv | Naptr
"""One record of an answer: A and AAAA as an Address with port 0."""


@dataclass(frozen=True, slots=True)
class ServerEndpoint:
    """Where and over what to try a server; ``name`` is what its certificate must be valid for."""

    address: Address
    transport: Transport
    name: str


Steps = Generator[tuple[Question, ...], Sequence[Sequence[Record]], list[ServerEndpoint]]

SERVICES: Final = {
    Transport.UDP: ("_{}._udp", "turn.udp"),
    Transport.TCP: ("_{}._tcp", "turn.tcp"),
    Transport.TLS: ("_{}s._tcp", "turn.tls"),
    Transport.DTLS: ("_{}s._udp", "turn.dtls"),
}
"""By transport: the owner name of its SRV records and its protocol in a NAPTR service (RFC 5928)."""


def resolution(
    uri: ServerUri,
    *,
    random_bytes: RandomBytes,
    transports: Sequence[Transport] = ALL_TRANSPORTS,
    families: Sequence[int] = (4, 6),
) -> Steps:
    """What to ask DNS about ``uri``, as a generator: it yields rounds of questions and returns endpoints.

    Send it, for each round, the records of each question, none where there are none or the question
    failed. ``transports`` are those the caller can use; ``families`` the IP versions it wants, the preferred
    first. At most ``MAX_ROUNDS`` rounds are asked and ``MAX_ENDPOINTS`` endpoints returned, best first; none
    means that the server cannot be found or used. An IP address needs no questions.
    """
    usable = [transport for transport in uri.transports if transport in transports]
    search = _Search(uri, usable, tuple(families), random_bytes)
    return (yield from search.run())


class _Search:
    """One resolution: its parameters and how many rounds it has asked."""

    def __init__(
        self,
        uri: ServerUri,
        transports: list[Transport],
        families: tuple[int, ...],
        random_bytes: RandomBytes,
    ) -> None:
        self.uri = uri
        self.transports = transports
        self.families = families
        self.random_bytes = random_bytes
        self.rounds = 0

    def run(self) -> Steps:
        """The decisions of RFC 5928 §3: address, explicit port, NAPTR, SRV, plain addresses."""
        uri, port = self.uri, self.uri.port or self.uri.scheme.default_port
        if (ip := uri.ip) is not None:
            return self._endpoints([Address(str(ip), port)], self.transports)
        if uri.port is None:
            found: list[ServerEndpoint] = []
            if uri.scheme.is_turn and uri.transport is None:
                found = yield from self._by_naptr(uri.host)
            for transport in self.transports if not found else ():
                found += yield from self._by_srv(_owner(uri, transport), transport)
            if found:
                return _bounded(found)
        addresses = yield from self._addresses(uri.host, port)
        return self._endpoints(addresses, self.transports)

    def _by_naptr(self, domain: str) -> Steps:
        """Endpoints that NAPTR records of the application RELAY lead to, in their order."""
        (records,) = yield from self._ask(Question(domain, RecordType.NAPTR))
        rules = [record for record in records if isinstance(record, Naptr) and not record.regexp]
        found: list[ServerEndpoint] = []
        for rule in sorted(rules, key=lambda rule: (rule.order, rule.preference)):
            for transport in self._offered(rule.service):
                match rule.flags.lower():
                    case "s":
                        found += yield from self._by_srv(rule.replacement, transport)
                    case "a":
                        port = self.uri.scheme.default_port
                        addresses = yield from self._addresses(rule.replacement, port)
                        found += self._endpoints(addresses, [transport])
                    case "" if rule.replacement.rstrip(".") != domain.rstrip("."):
                        found += yield from self._by_naptr(rule.replacement)
        return found

    def _offered(self, service: str) -> list[Transport]:
        """The usable transports that a NAPTR service field such as ``RELAY:turn.udp:turn.tcp`` names."""
        application, *protocols = service.lower().split(":")
        if application != "relay":
            return []
        return [t for t in self.transports if SERVICES[t][1] in protocols]

    def _by_srv(self, owner: str, transport: Transport) -> Steps:
        """Endpoints of a service, servers in the order of their priorities and weights (RFC 2782)."""
        (records,) = yield from self._ask(Question(owner, RecordType.SRV))
        servers = [record for record in records if isinstance(record, Srv) and record.target != "."]
        found: list[ServerEndpoint] = []
        for server in self._drawn(server for server in servers if server.port):
            addresses = yield from self._addresses(server.target, server.port)
            found += self._endpoints(addresses, [transport])
            if len(found) >= MAX_ENDPOINTS:
                break
        return found

    def _drawn(self, servers: Iterable[Srv]) -> list[Srv]:
        """``servers`` by priority; among equals each comes first as often as its weight says."""
        left = sorted(servers, key=lambda server: (server.priority, server.weight))
        drawn: list[Srv] = []
        while left:
            equals = [server for server in left if server.priority == left[0].priority]
            mark = int.from_bytes(self.random_bytes(4)) % (sum(s.weight for s in equals) + 1)
            for server in equals:
                mark -= server.weight
                if mark <= 0:
                    break
            left.remove(server)
            drawn.append(server)
        return drawn

    def _addresses(self, name: str, port: int) -> Generator[tuple[Question, ...], _Answers, list[Address]]:
        kinds = {4: RecordType.A, 6: RecordType.AAAA}
        answers = yield from self._ask(*(Question(name, kinds[family]) for family in self.families))
        found = (record for records in answers for record in records if isinstance(record, Address))
        return [address.with_port(port) for address in dict.fromkeys(found)]

    def _ask(self, *questions: Question) -> Generator[tuple[Question, ...], _Answers, _Answers]:
        """One round; no records once the bound is reached."""
        self.rounds += 1
        if self.rounds > MAX_ROUNDS:
            return [()] * len(questions)
        answers = yield questions
        return [records[:MAX_RECORDS] for records in answers]

    def _endpoints(
        self, addresses: Sequence[Address], transports: Sequence[Transport]
    ) -> list[ServerEndpoint]:
        """Each transport with each address: a transport that works is worth more than another address."""
        return _bounded(
            ServerEndpoint(address, transport, self.uri.host.rstrip("."))
            for transport in transports
            for address in addresses
        )


_Answers = Sequence[Sequence[Record]]


def _owner(uri: ServerUri, transport: Transport) -> str:
    kind = "turn" if uri.scheme.is_turn else "stun"
    return f"{SERVICES[transport][0].format(kind)}.{uri.host}"


def _bounded(endpoints: Iterable[ServerEndpoint]) -> list[ServerEndpoint]:
    return list(dict.fromkeys(endpoints))[:MAX_ENDPOINTS]
