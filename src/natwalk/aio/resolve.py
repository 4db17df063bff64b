"""Asyncio shell of :mod:`natwalk.stun.resolution`: asks DNS where a STUN or TURN server is."""

from __future__ import annotations

import asyncio
import importlib
import secrets
import socket
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Final

from natwalk.core import Address, NatError, Transport
from natwalk.stun import ServerUri, parse_uri
from natwalk.stun.resolution import (
    ALL_TRANSPORTS,
    Naptr,
    Question,
    Record,
    RecordType,
    ServerEndpoint,
    Srv,
    resolution,
)

if TYPE_CHECKING:
    from dns.rdata import Rdata
    from dns.resolver import BaseResolver

_TIMEOUT: Final = 10.0
_PER_QUESTION: Final = 3.0


class ServerNotFound(NatError):
    """The server a URI names cannot be found, or over nothing that can be used here; why, in words."""


async def resolve(
    uri: ServerUri | str,
    *,
    transports: Sequence[Transport] = ALL_TRANSPORTS,
    families: Sequence[int] = (4, 6),
    nameservers: Sequence[Address] = (),
    within: float = _TIMEOUT,
) -> list[ServerEndpoint]:
    """Where to reach the server ``uri`` names, the best first (RFC 5928 §3, RFC 8489 §8).

    ``transports`` are those the caller can use and ``families`` the IP versions, the preferred first. Names
    are looked up as the system does, or with ``nameservers`` only; NAPTR and SRV need dnspython and count as
    absent without it. Raises ServerNotFound when nothing is found ``within`` seconds, InvalidServerUri when
    ``uri`` is none.
    """
    parsed = parse_uri(uri) if isinstance(uri, str) else uri
    steps = resolution(parsed, random_bytes=secrets.token_bytes, transports=transports, families=families)
    asker: _Asker | None = None
    try:
        async with asyncio.timeout(within):
            questions = next(steps)
            while True:
                asker = asker or await _Asker.make(nameservers)
                answers = await asyncio.gather(*(asker.ask(question) for question in questions))
                questions = steps.send(answers)
    except StopIteration as end:
        endpoints: list[ServerEndpoint] = end.value
    except TimeoutError:
        raise ServerNotFound(f"{parsed}: DNS did not answer within {within:g} s") from None
    if not endpoints:
        raise ServerNotFound(f"{parsed}: no address and transport that can be used here")
    return endpoints


class _Asker:
    """Asks one question at a time; a question without answer has no records."""

    def __init__(self, resolver: BaseResolver | None, own_servers: bool) -> None:
        self._resolver = resolver
        self._own_servers = own_servers

    @classmethod
    async def make(cls, nameservers: Sequence[Address]) -> _Asker:
        """One that asks ``nameservers``, or what the system is configured with."""
        module = await asyncio.to_thread(_dns)
        if module is None:
            if nameservers:
                raise ServerNotFound("asking given name servers needs dnspython (natwalk[dns])")
            return cls(None, own_servers=False)
        try:
            resolver = module.asyncresolver.Resolver(configure=not nameservers)
        except module.resolver.NoResolverConfiguration:
            return cls(None, own_servers=False)
        if nameservers:
            make = module.nameserver.Do53Nameserver
            resolver.nameservers = [make(server.host, server.port) for server in nameservers]
        resolver.lifetime = _PER_QUESTION
        return cls(resolver, own_servers=bool(nameservers))

    async def ask(self, question: Question) -> Sequence[Record]:
        """The records there are."""
        if question.type in {RecordType.A, RecordType.AAAA} and not self._own_servers:
            return await _system_lookup(question)  # knows the hosts file and local names too
        if self._resolver is None:
            return ()
        return await self._query(question)

    async def _query(self, question: Question) -> Sequence[Record]:
        from dns.exception import DNSException

        assert self._resolver is not None
        try:
            answer = await self._resolver.resolve(question.name, question.type.value, search=False)  # type: ignore[attr-defined]
        except (DNSException, OSError):
            return ()  # absent, refused or out of reach: RFC 5928 §3 goes on with the next kind
        return [record for rdata in answer if (record := _record(question.type, rdata)) is not None]


def _dns() -> ModuleType | None:
    """Dnspython with the parts used here, or None. Importing it takes a second, so it is done late."""
    try:
        for part in ("asyncresolver", "nameserver", "resolver"):
            importlib.import_module(f"dns.{part}")
        return importlib.import_module("dns")
    except ImportError:
        return None


def _record(kind: RecordType, rdata: Rdata) -> Record | None:
    from dns.rdtypes.IN.NAPTR import NAPTR
    from dns.rdtypes.IN.SRV import SRV

    match rdata:
        case SRV():
            return Srv(rdata.priority, rdata.weight, rdata.port, rdata.target.to_text())
        case NAPTR():
            flags, service, regexp = (
                part.decode("ascii", "replace") for part in (rdata.flags, rdata.service, rdata.regexp)
            )
            replacement = rdata.replacement.to_text()
            return Naptr(rdata.order, rdata.preference, flags, service, regexp, replacement)
        case _ if kind in {RecordType.A, RecordType.AAAA}:
            return Address(rdata.to_text(), 0)
    return None


async def _system_lookup(question: Question) -> Sequence[Record]:
    family = socket.AF_INET if question.type is RecordType.A else socket.AF_INET6
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(question.name, 0, family=family, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return ()
    return [Address(str(sockname[0]).partition("%")[0], 0) for *_, sockname in found]
