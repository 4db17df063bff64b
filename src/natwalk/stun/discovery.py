"""What the NATs in front of a socket do, found out by asking a server with two addresses (RFC 5780 §4)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from typing import Final

from natwalk.core import (
    Address,
    Drops,
    MalformedMessage,
    Outbox,
    Path,
    RandomBytes,
    Transmit,
)
from natwalk.stun.attributes import (
    CHANGE_REQUEST,
    ERROR_CODE,
    MAPPED_ADDRESS,
    OTHER_ADDRESS,
    XOR_MAPPED_ADDRESS,
    Attribute,
)
from natwalk.stun.codec import decode, encode
from natwalk.stun.message import TRANSACTION_ID_LENGTH, Message, MessageClass, Method, request
from natwalk.stun.redirects import refuse_redirect
from natwalk.stun.transactions import RC, RM, RTO, Pending, Transactions
from natwalk.stun.values import ChangeRequest

SILENT_RC: Final = 6
"""How often a request is sent whose answer may be filtered: with a fifth of all packets lost, all six and
their answers are lost once in 450 times."""
SILENT_RM: Final = 8
SHORTEST_RTO: Final = 0.1
_RTO_MARGIN: Final = 0.05


class Dependence(StrEnum):
    """What a NAT's mapping or filtering depends on, in the words of RFC 4787 §4.1 and §5."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"


@dataclass(frozen=True, slots=True)
class NatBehaviour:
    """What was found out; None is what could not be, with the reason in ``unknown``.

    ``mapped`` is how ``server`` sees the socket at ``local``, None when no UDP came back at all. Where
    nothing translates, ``mapping`` is endpoint-independent and ``filtering`` that of a firewall.
    ``hairpinning`` says whether the socket can be reached at its mapped address from behind the same NAT.
    ``rewrites`` says that something on the way changes addresses inside of messages.
    """

    server: Address
    local: Address
    mapped: Address | None = None
    mapping: Dependence | None = None
    filtering: Dependence | None = None
    hairpinning: bool | None = None
    rewrites: bool = False
    rtt: float | None = None
    unknown: tuple[str, ...] = ()

    @property
    def translated(self) -> bool:
        """Whether there is a NAT."""
        return self.mapped is not None and self.mapped != self.local

    @property
    def preserves_port(self) -> bool:
        """Whether the NAT gave the socket its own port (RFC 4787 §4.2.1)."""
        return self.mapped is not None and self.mapped.port == self.local.port

    @property
    def classic(self) -> str | None:
        """The name RFC 3489 §5 gave it, or common speech; None when not enough is known."""
        if self.mapped is None:
            return "UDP blocked"
        filtering = self.filtering
        if not self.translated:
            open_internet = filtering is Dependence.ENDPOINT_INDEPENDENT
            return None if filtering is None else "open internet" if open_internet else "symmetric firewall"
        if self.mapping is None:
            return None
        if self.mapping is not Dependence.ENDPOINT_INDEPENDENT:
            return "symmetric"
        return None if filtering is None else _CONES[filtering]


_CONES: Final = {
    Dependence.ENDPOINT_INDEPENDENT: "full cone",
    Dependence.ADDRESS_DEPENDENT: "restricted cone",
    Dependence.ADDRESS_AND_PORT_DEPENDENT: "port restricted cone",
}


class Test(Enum):
    """The tests, in the order they are made (RFC 5780 §4.2 to §4.5)."""

    PRIMARY = "ask the server"
    FILTER_BOTH = "have it answer from its other address and port"
    FILTER_PORT = "have it answer from its other port"
    MAPPING_HOST = "ask at its other address"
    MAPPING_BOTH = "ask at its other address and port"
    SECOND = "ask from a second socket"
    HAIRPIN = "reach the one socket from the other"

    __test__ = False  # pytest: none of yours


@dataclass(frozen=True, slots=True)
class Step:
    """One test ended: what came of it, in words for a person."""

    test: Test
    outcome: str


DiscoveryEvent = Step | NatBehaviour


class BehaviourDiscovery:
    """Finds out what is in front of the socket ``local``: a :class:`Step` per test, then a NatBehaviour.

    Filtering is tested before mapping, so that the socket has sent nothing to the server's other address
    when it matters. ``second`` is another socket of the same host, for the hairpin test; without it that
    is not made. ``local`` must be one address, not a wildcard, or a NAT could not be told from none. Takes
    ten seconds or less when the server answers, most of it waiting for what a NAT may have filtered.
    """

    def __init__(
        self,
        server: Address,
        local: Address,
        *,
        random_bytes: RandomBytes,
        now: float,
        second: Address | None = None,
    ) -> None:
        self.drops = Drops()
        self._random_bytes = random_bytes
        self._second = second
        self._found = NatBehaviour(server, local)
        self._other: Address | None = None
        self._second_mapped: Address | None = None
        self._filters: dict[Test, bool | None] = {}
        self._mapping_begun = False
        self._finished = False
        self._rto = RTO
        self._transactions: Transactions[Test] = Transactions(limit=4)
        self._events: Outbox[DiscoveryEvent] = Outbox(32)
        self._ask(Test.PRIMARY, Path(local, server), now)

    def receive(self, datagram: bytes, path: Path, now: float) -> None:
        """Take a datagram on one of the two sockets; what answers no test is dropped."""
        try:
            message = decode(datagram)
        except MalformedMessage:
            self.drops.add("malformed")
            return
        pending = self._transactions.get(message.transaction_id)
        if pending is None or message.method != Method.BINDING:
            self.drops.add("not the awaited response")
        elif pending.context is Test.HAIRPIN:
            self._receive_own(message, pending, path, now)
        elif not message.is_response or path != self._expected(pending):
            if message.is_response and path == pending.path and pending.context in _CHANGES:
                self._filter_tested(pending, None, "the server answers from where it was asked", now)
            else:
                self.drops.add("not the awaited response")
        else:
            self._receive_response(message, pending, now)

    def handle_timeout(self, now: float) -> None:
        """Send again, and draw conclusions from silence."""
        for pending in self._transactions.handle_timeout(now):
            if not self._finished:
                self._silent(pending, now)

    def poll_transmit(self) -> Transmit | None:
        """The next datagram to send, or None."""
        return self._transactions.poll_transmit()

    def poll_event(self) -> DiscoveryEvent | None:
        """The next event, or None; NatBehaviour is the last."""
        return self._events.poll()

    def next_timeout(self) -> float | None:
        """When to send again or stop waiting; None when done."""
        return self._transactions.next_timeout()

    def _ask(
        self, test: Test, path: Path, now: float, *attributes: Attribute, rc: int = RC, rm: int = RM
    ) -> None:
        tid = self._random_bytes(TRANSACTION_ID_LENGTH)
        data = encode(request(Method.BINDING, tid, *attributes))
        self._transactions.start(tid, data, path, now, test, rto=self._rto, rc=rc, rm=rm)

    def _expected(self, pending: Pending[Test]) -> Path:
        """The path on which the answer to a test comes."""
        change = _CHANGES.get(pending.context)
        if change is None or self._other is None:
            return pending.path
        host = self._other.host if change.change_ip else self._found.server.host
        return pending.path._replace(remote=Address(host, self._other.port))

    def _receive_response(self, message: Message, pending: Pending[Test], now: float) -> None:
        test = pending.context
        mapped = message.get(XOR_MAPPED_ADDRESS) or message.get(MAPPED_ADDRESS)
        refused = message.message_class is MessageClass.ERROR or bool(message.unknown_required)
        if refused or mapped is None:
            code = message.get(ERROR_CODE)
            why = f"the server refuses with {code.code}" if code else "the server's answer cannot be used"
            self._transactions.finish(pending.transaction_id)
            if test in _CHANGES:
                self._filter_tested(pending, None, why, now)
            else:
                self._failed(test, why, now)
        elif test in _CHANGES:
            self._filter_tested(pending, True, "answered", now)
        else:
            self._transactions.finish(pending.transaction_id)
            if pending.attempts == 1 and test is Test.PRIMARY:
                self._rto = min(RTO, max(SHORTEST_RTO, 2 * pending.rtt(now) + _RTO_MARGIN))
            self._mapped(test, mapped, message, pending, now)

    def _mapped(
        self, test: Test, mapped: Address, message: Message, pending: Pending[Test], now: float
    ) -> None:
        """Go on after a test that says how we are seen."""
        self._tell(test, f"seen as {mapped}")
        match test:
            case Test.PRIMARY:
                plain = message.get(MAPPED_ADDRESS)
                rewrites = plain is not None and plain != mapped
                rtt = pending.rtt(now)
                self._found = replace(self._found, mapped=mapped, rewrites=rewrites, rtt=rtt)
                self._start_filtering(message.get(OTHER_ADDRESS), now)
            case Test.MAPPING_HOST:
                if mapped == self._found.mapped:
                    self._mapping_is(Dependence.ENDPOINT_INDEPENDENT, now)
                else:
                    self._second_mapped = mapped  # as the other address sees us, at the same port
                    self._ask(Test.MAPPING_BOTH, Path(self._found.local, self._other_address), now)
            case Test.MAPPING_BOTH:
                same = mapped == self._second_mapped
                self._mapping_is(
                    Dependence.ADDRESS_DEPENDENT if same else Dependence.ADDRESS_AND_PORT_DEPENDENT, now
                )
            case _:
                self._start_hairpin(mapped, now)

    @property
    def _other_address(self) -> Address:
        assert self._other is not None
        return self._other

    def _start_filtering(self, other: Address | None, now: float) -> None:
        server, local = self._found.server, self._found.local
        problem = _unusable(other, server)
        if problem is not None:
            self._unknown(problem)
            self._finish()
            return
        self._other = other
        for test, change in _CHANGES.items():
            attribute = (CHANGE_REQUEST, change)
            self._ask(test, Path(local, server), now, attribute, rc=SILENT_RC, rm=SILENT_RM)

    def _filter_tested(self, pending: Pending[Test], passed: bool | None, outcome: str, now: float) -> None:
        """One of the two filtering tests ended: its answer passed, did not, or (None) it says nothing."""
        self._transactions.finish(pending.transaction_id)
        test = pending.context
        self._filters[test] = passed
        self._tell(test, outcome)
        if passed is None:
            self._unknown(f"filtering: {outcome}")
        if passed and test is Test.FILTER_BOTH:
            filtering: Dependence | None = Dependence.ENDPOINT_INDEPENDENT
        elif len(self._filters) < len(_CHANGES):
            return
        elif None in self._filters.values():
            filtering = None
        elif self._filters[Test.FILTER_PORT]:
            filtering = Dependence.ADDRESS_DEPENDENT
        else:
            filtering = Dependence.ADDRESS_AND_PORT_DEPENDENT
        if self._found.filtering is None and not self._mapping_begun:
            self._found = replace(self._found, filtering=filtering)
            self._start_mapping(now)

    def _start_mapping(self, now: float) -> None:
        self._mapping_begun = True
        if not self._found.translated:
            self._found = replace(self._found, mapping=Dependence.ENDPOINT_INDEPENDENT)
            self._finish()
            return
        host = self._other_address.with_port(self._found.server.port)
        self._ask(Test.MAPPING_HOST, Path(self._found.local, host), now)

    def _mapping_is(self, mapping: Dependence, now: float) -> None:
        self._found = replace(self._found, mapping=mapping)
        if self._second is None:
            self._finish()
        elif mapping is not Dependence.ENDPOINT_INDEPENDENT:
            # the mapped address is one for the server alone, so nothing is to be expected at it
            self._unknown("hairpinning: only the server knows the mapped address")
            self._finish()
        else:
            self._ask(Test.SECOND, Path(self._second, self._found.server), now)

    def _start_hairpin(self, second_mapped: Address, now: float) -> None:
        """Each socket sends to the other's mapped address, so that no filter is in the way for long."""
        assert self._second is not None
        assert self._found.mapped is not None
        for local, remote in ((self._found.local, second_mapped), (self._second, self._found.mapped)):
            self._ask(Test.HAIRPIN, Path(local, remote), now, rc=SILENT_RC, rm=SILENT_RM)

    def _receive_own(self, message: Message, pending: Pending[Test], path: Path, now: float) -> None:
        """Our own question came back to the other socket."""
        if message.message_class is not MessageClass.REQUEST or path.local == pending.path.local:
            self.drops.add("not the awaited response")
            return
        self._found = replace(self._found, hairpinning=True)
        self._tell(Test.HAIRPIN, "arrived")
        self._finish()

    def _silent(self, pending: Pending[Test], now: float) -> None:
        test = pending.context
        if test in _CHANGES:
            self._filter_tested(pending, False, "no answer", now)
        elif test is Test.HAIRPIN:
            if not len(self._transactions):
                self._found = replace(self._found, hairpinning=False)
                self._tell(test, "did not arrive")
                self._finish()
        else:
            self._failed(test, "no answer", now)

    def _failed(self, test: Test, why: str, now: float) -> None:
        """A test that needs an answer got none of use."""
        self._tell(test, why)
        self._unknown(f"{test.value}: {why}")
        self._finish()

    def _tell(self, test: Test, outcome: str) -> None:
        self._events.put(Step(test, outcome))

    def _unknown(self, why: str) -> None:
        if why not in self._found.unknown:
            self._found = replace(self._found, unknown=(*self._found.unknown, why))

    def _finish(self) -> None:
        self._finished = True
        self._transactions.clear()
        self._events.put(self._found)


_CHANGES: Final = {
    Test.FILTER_BOTH: ChangeRequest(change_ip=True, change_port=True),
    Test.FILTER_PORT: ChangeRequest(change_port=True),
}


def _unusable(other: Address | None, server: Address) -> str | None:
    """Why OTHER-ADDRESS is of no use, or None: it must not send us to where the server does not reach."""
    if other is None:
        return "the server does not take part in behaviour discovery"
    same = other.host == server.host or other.port == server.port or not other.port
    if same or other.version != server.version:
        return f"the server's other address {other} is not another address and port"
    if refuse_redirect(other, server) is not None:
        return f"the server's other address {other} does not reach as far as its first"
    return None
