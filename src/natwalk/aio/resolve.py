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
    asker = _Asker(nameservers)
    try:
        async with asyncio.timeout(within):
            questions = next(steps)
            while True:
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
    """Asks one question at a time; a question without answer has no records.

    dnspython takes a second to import, so it is not touched before a question needs it.
    """

    def __init__(self, nameservers: Sequence[Address]) -> None:
        self._nameservers = nameservers
        self._resolver: BaseResolver | None = None
        self._made = False
        self._making = asyncio.Lock()

    async def ask(self, question: Question) -> Sequence[Record]:
        """The records there are."""
        if question.type in {RecordType.A, RecordType.AAAA} and not self._nameservers:
            return await _system_lookup(question)  # knows the hosts file and local names too
        async with self._making:
            if not self._made:
                self._resolver = await self._make()
                self._made = True
        return () if self._resolver is None else await _query(self._resolver, question)

    async def _make(self) -> BaseResolver | None:
        """What asks the name servers; None when there is nothing to ask them with, or none to ask."""
        module = await asyncio.to_thread(_dns)
        if module is None:
            if self._nameservers:
                raise ServerNotFound("asking given name servers needs dnspython (natwalk[dns])")
            return None
        try:
            resolver: BaseResolver = module.asyncresolver.Resolver(configure=not self._nameservers)
        except module.resolver.NoResolverConfiguration:
            return None
        if self._nameservers:
            make = module.nameserver.Do53Nameserver
            resolver.nameservers = [make(server.host, server.port) for server in self._nameservers]
        resolver.lifetime = _PER_QUESTION
        return resolver


async def _query(resolver: BaseResolver, question: Question) -> Sequence[Record]:
    from dns.exception import DNSException

    try:
        answer = await resolver.resolve(question.name, question.type.value, search=False)  # type: ignore[attr-defined]
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
