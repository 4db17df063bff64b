"""Names of candidates on the local network: one-shot questions and their answers (RFC 6762).

One core does both sides of what ICE needs and nothing else of multicast DNS: it answers for the names of
our own candidates, and asks for those of a peer's. It keeps no cache, announces nothing, and never asks or
answers for anything but one label under ``.local``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from natwalk.core import (
    Address,
    Drops,
    IPAddress,
    LocalProtocolError,
    MalformedMessage,
    Outbox,
    Path,
    Transmit,
)
from natwalk.ice.address_filter import is_public
from natwalk.ice.candidate import is_local_name
from natwalk.ice.dns import TYPE_A, TYPE_AAAA, TYPE_ANY, AddressRecord, DnsMessage, Question, decode, encode

PORT: Final = 5353
GROUP: Final = Address("224.0.0.251", PORT)
"""Where questions go, and answers to all (RFC 6762 §3)."""

LOOKUP_OFFSETS: Final = (0.0, 0.25, 1.0)
"""Seconds after its start at which a look-up sends its question: three, further and further apart."""
LOOKUP_TIME: Final = 3.0
"""Seconds after which a look-up has failed."""
MAX_LOOKUPS: Final = 64
MAX_NAMES: Final = 256
_TTL: Final = 120  # seconds; the value for host names (RFC 6762 §10)
_LEGACY_TTL: Final = 10  # seconds (RFC 6762 §6.7)
_QUIET: Final = 1.0  # seconds between two multicasts of one record (RFC 6762 §6)
_MAX_ASKERS: Final = 64


@dataclass(frozen=True, slots=True)
class NameResolved:
    """``name`` stands for ``ip``, the first address that came, or for nothing when None."""

    name: str
    ip: IPAddress | None


@dataclass(slots=True)
class _Lookup:
    started: float
    sent: int = 0


class Mdns:
    """Answers for our names and looks up others, over sockets at port 5353 that have joined :data:`GROUP`.

    ``local`` is the socket questions leave from. Its driver delivers a datagram to the group that comes
    from our own socket too, or does not: that changes nothing.
    """

    def __init__(self, local: Address) -> None:
        self.drops = Drops()
        self._local = local
        self._own: dict[str, IPAddress] = {}
        self._lookups: dict[str, _Lookup] = {}
        self._answered: dict[tuple[str, Address], float] = {}
        self._transmits: Outbox[Transmit] = Outbox(256)
        self._events: Outbox[NameResolved] = Outbox(256)

    def publish(self, name: str, ip: IPAddress) -> None:
        """Answer for ``name`` from now on; LocalProtocolError for what is no such name, or one too many."""
        if not is_local_name(name) or len(self._own) >= MAX_NAMES:
            raise LocalProtocolError(f"cannot publish {name!r}: not under .local, or too many")
        self._own[name.lower()] = ip

    def withdraw(self, name: str) -> None:
        """Answer for ``name`` no more; nothing happens when nobody did."""
        self._own.pop(name.lower(), None)

    def look_up(self, name: str, now: float) -> None:
        """Ask for ``name``; an event says what it stands for, after three seconds at the latest.

        Raises LocalProtocolError for anything but one label under ``.local``. When too many are being
        looked up already the event comes at once, without an address.
        """
        if not is_local_name(name):
            raise LocalProtocolError(f"{name!r} is not one label under .local")
        name = name.lower()
        if name in self._lookups:
            return
        if len(self._lookups) >= MAX_LOOKUPS:
            self.drops.add("too many look-ups")
            self._events.put(NameResolved(name, None))
            return
        self._lookups[name] = _Lookup(now)
        self.handle_timeout(now)

    def receive(self, datagram: bytes, path: Path, now: float) -> None:
        """Take a datagram that came to the group or to our socket."""
        try:
            message = decode(datagram)
        except MalformedMessage:
            self.drops.add("a malformed DNS message")
            return
        if not message.response and is_public(path.remote):  # RFC 6762 §5.5
            self.drops.add("a question from outside the local network")
        elif not message.response:
            self._asked(message, path, now)
        elif path.remote.port != PORT:  # RFC 6762 §11
            self.drops.add("an answer from another port than 5353")
        else:
            self._told(message)

    def handle_timeout(self, now: float) -> None:
        """Ask again what was not answered, give up what was asked long enough."""
        for name, lookup in list(self._lookups.items()):
            if lookup.started + LOOKUP_TIME <= now:
                self._end(name, None)
                continue
            due = lookup.sent
            while due < len(LOOKUP_OFFSETS) and lookup.started + LOOKUP_OFFSETS[due] <= now:
                due += 1
            if due > lookup.sent:
                lookup.sent = due
                questions = (Question(name, TYPE_A), Question(name, TYPE_AAAA))
                self._send(encode(DnsMessage(questions=questions)), GROUP)

    def poll_transmit(self) -> Transmit | None:
        """The next datagram to send, or None."""
        return self._transmits.poll()

    def poll_event(self) -> NameResolved | None:
        """The next name that resolved or did not, or None."""
        return self._events.poll()

    def next_timeout(self) -> float | None:
        """When a question is due again, or a look-up over."""
        return min((_due(lookup) for lookup in self._lookups.values()), default=None)

    def _asked(self, query: DnsMessage, path: Path, now: float) -> None:
        """Answer by multicast, or straight to who asked from a port of its own (RFC 6762 §6.7)."""
        wanted = dict.fromkeys(question for question in query.questions if self._answers(question))
        if not wanted:
            return
        legacy = path.remote.port != PORT
        to = path.remote if legacy or all(question.unicast for question in wanted) else GROUP
        fresh = [question for question in wanted if self._may_answer(question.name, to, now)]
        if not fresh:
            self.drops.add("a question answered just now")
            return
        ttl = _LEGACY_TTL if legacy else _TTL
        names = dict.fromkeys(question.name for question in fresh)
        answers = tuple(AddressRecord(name, self._own[name], ttl) for name in names)
        reply = DnsMessage(
            id=query.id if legacy else 0,
            response=True,
            questions=tuple(Question(question.name, question.type) for question in fresh) if legacy else (),
            answers=answers,
        )
        self._send(encode(reply, legacy=legacy), to)

    def _answers(self, question: Question) -> bool:
        ip = self._own.get(question.name)
        if ip is None:
            return False
        return question.type in (TYPE_ANY, TYPE_A if ip.version == 4 else TYPE_AAAA)

    def _may_answer(self, name: str, to: Address, now: float) -> bool:
        """Once a second for each name and asker; a bounded number of askers is remembered, the last ones."""
        before = self._answered.pop((name, to), None)
        again = before is not None and now < before + _QUIET
        self._answered[name, to] = before if again and before is not None else now
        while len(self._answered) > _MAX_ASKERS:
            del self._answered[next(iter(self._answered))]
        return not again

    def _told(self, response: DnsMessage) -> None:
        for answer in response.answers:
            if answer.name in self._lookups and answer.ttl:
                self._end(answer.name, answer.ip)

    def _end(self, name: str, ip: IPAddress | None) -> None:
        del self._lookups[name]
        self._events.put(NameResolved(name, ip))

    def _send(self, data: bytes, to: Address) -> None:
        self._transmits.put(Transmit(data, Path(self._local, to)))


def _due(lookup: _Lookup) -> float:
    offset = LOOKUP_OFFSETS[lookup.sent] if lookup.sent < len(LOOKUP_OFFSETS) else LOOKUP_TIME
    return lookup.started + offset
