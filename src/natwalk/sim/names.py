"""DNS on the simulated internet: a name server with a zone, and lookups that ask it over the network.

Messages are those of real DNS, through every NAT on the way. Needs dnspython (``natwalk[dns]``), which takes
a while to import; nothing else in the simulator does.
"""

from __future__ import annotations

from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.zone
from dns.rdtypes.IN.NAPTR import NAPTR
from dns.rdtypes.IN.SRV import SRV

from natwalk.core import Address
from natwalk.sim.host import Host, SimSocket
from natwalk.sim.network import Network
from natwalk.stun import ServerUri
from natwalk.stun.resolution import Naptr, Question, Record, ServerEndpoint, Srv, resolution

PORT: Final = 53
TRIES: Final = 3
WAIT: Final = 1.0
"""Seconds before a question is asked again."""
_ALIASES: Final = 8


class NameServer:
    """Answers from one zone, given as the text of a master file, on UDP port 53 of a host.

    Raises what dnspython does for a zone that is none.
    """

    def __init__(self, host: Host, zone: str, *, origin: str = ".", address: str | None = None) -> None:
        self.questions = 0
        self._zone = dns.zone.from_text(zone, origin=origin, relativize=False, check_origin=False)
        self.socket: SimSocket = host.bind(self._receive, PORT, address)

    def _receive(self, data: bytes, source: Address) -> None:
        try:
            query = dns.message.from_wire(data)
        except dns.exception.DNSException:
            return  # no DNS: a server says nothing to that
        if query.flags & dns.flags.QR or len(query.question) != 1:
            return
        self.questions += 1
        self.socket.send(self._answer(query).to_wire(max_size=65_535), source)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.AA
        (question,) = query.question
        name = question.name
        for _ in range(_ALIASES):
            if self._zone.get_node(name) is None:
                answer.set_rcode(dns.rcode.NXDOMAIN)
                return answer
            if (found := self._zone.get_rrset(name, question.rdtype)) is not None:
                answer.answer.append(found)
                return answer
            alias = self._zone.get_rrset(name, dns.rdatatype.CNAME)
            if alias is None:
                return answer
            answer.answer.append(alias)
            name = alias[0].target
        answer.set_rcode(dns.rcode.SERVFAIL)
        return answer


class Lookup:
    """One URI being resolved by a host: the generator of :mod:`natwalk.stun.resolution`, on virtual time.

    A question without an answer after three tries, a second apart, has no records.
    """

    def __init__(self, network: Network, host: Host, nameserver: Address, uri: ServerUri) -> None:
        self.endpoints: list[ServerEndpoint] | None = None
        """None while it lasts; empty when there is no server to be found."""
        self._network = network
        self._host = host
        self._nameserver = nameserver
        self._steps = resolution(uri, random_bytes=host.random_bytes)
        self._socket = host.bind(self._receive)
        self._alarm = network.alarm(self._again)
        self._asked: dict[int, tuple[int, bytes]] = {}
        """By message id: which question of the round, and the message."""
        self._records: list[list[Record]] = []
        self._tries = 0
        self._next(None)

    def _next(self, answers: list[list[Record]] | None) -> None:
        try:
            questions = next(self._steps) if answers is None else self._steps.send(answers)
        except StopIteration as end:
            self.endpoints = end.value
            self._alarm.set(None)
            self._socket.close()
            return
        self._records = [[] for _ in questions]
        self._asked = dict(self._message(number, question) for number, question in enumerate(questions))
        self._tries = 0
        self._again()

    def _message(self, number: int, question: Question) -> tuple[int, tuple[int, bytes]]:
        identity = int.from_bytes(self._host.random_bytes(2), "big")
        query = dns.message.make_query(question.name, question.type.value, id=identity)
        return identity, (number, query.to_wire())

    def _again(self) -> None:
        if self._tries == TRIES:
            self._next(self._records)
            return
        self._tries += 1
        self._alarm.set(self._network.now + WAIT)
        for _, data in self._asked.values():
            self._socket.send(data, self._nameserver)

    def _receive(self, data: bytes, source: Address) -> None:
        try:
            answer = dns.message.from_wire(data)
        except dns.exception.DNSException:
            return
        if source != self._nameserver or (asked := self._asked.pop(answer.id, None)) is None:
            return
        self._records[asked[0]] = [
            record for rrset in answer.answer for rdata in rrset if (record := _record(rdata)) is not None
        ]
        if not self._asked:
            self._next(self._records)


def _record(rdata: dns.rdata.Rdata) -> Record | None:
    match rdata:
        case SRV():
            return Srv(rdata.priority, rdata.weight, rdata.port, rdata.target.to_text())
        case NAPTR():
            flags, service, regexp = (
                part.decode("ascii") for part in (rdata.flags, rdata.service, rdata.regexp)
            )
            return Naptr(rdata.order, rdata.preference, flags, service, regexp, rdata.replacement.to_text())
        case _ if rdata.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
            return Address(rdata.to_text(), 0)
    return None
