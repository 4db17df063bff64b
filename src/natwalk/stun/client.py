"""A Binding client: asks one server how it sees one socket (RFC 8489 §6, §13)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from natwalk.core import (
    Address,
    Drops,
    IntegrityError,
    MalformedMessage,
    Outbox,
    Path,
    RandomBytes,
    Transmit,
    Transport,
)
from natwalk.stun.attributes import (
    ALTERNATE_SERVER,
    ERROR_CODE,
    MAPPED_ADDRESS,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    Attribute,
)
from natwalk.stun.codec import decode, encode
from natwalk.stun.credentials import short_term_key
from natwalk.stun.integrity import check_integrity
from natwalk.stun.message import TRANSACTION_ID_LENGTH, Message, MessageClass, Method, request
from natwalk.stun.redirects import refuse_redirect
from natwalk.stun.transactions import RC, RM, RTO, Transactions, timeout_offset

MAX_CHALLENGES: Final = 3
"""How many 401 and 438 answers one server may give."""

_TRY_ALTERNATE: Final = 300
_UNAUTHENTICATED: Final = 401
_STALE_NONCE: Final = 438


class Signed(Protocol):
    """How one request is signed."""

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """What it says of the client."""

    @property
    def key(self) -> bytes:
        """The key of its integrity attribute."""

    @property
    def sha256(self) -> bool:
        """Whether that is MESSAGE-INTEGRITY-SHA256."""


class Signer(Protocol):
    """Credentials, and what was learned from one server's challenges.

    :class:`ShortTerm` is one; :class:`natwalk.turn.client_auth.Authenticator` is that of long-term ones.
    """

    def signature(self) -> Signed | None:
        """How to sign the next request; None while that has to be learned."""

    def take_challenge(self, challenge: Message) -> bool:
        """Learn from a 401 or 438; False when it is no help. Raises IntegrityError on a weakened one."""


@dataclass(frozen=True, slots=True)
class ShortTermSignature:
    """The one signature of a short-term credential."""

    attributes: tuple[Attribute, ...]
    key: bytes = field(repr=False)
    sha256: bool


class ShortTerm:
    """A short-term credential (RFC 8489 §9.1): nothing is learned, every request is signed.

    ``sha256`` chooses MESSAGE-INTEGRITY-SHA256. Raises PreparationError, a ValueError, on what no
    OpaqueString is.
    """

    def __init__(self, username: str, password: str, *, sha256: bool = False) -> None:
        self._signature = ShortTermSignature(((USERNAME, username),), short_term_key(password), sha256)

    def signature(self) -> ShortTermSignature:
        """Always the same."""
        return self._signature

    def take_challenge(self, challenge: Message) -> bool:
        """False: there are no challenges (RFC 8489 §9.1.4)."""
        return False


@dataclass(frozen=True, slots=True)
class MappedAddress:
    """``server`` saw our socket as ``address``; the answer took ``rtt`` seconds."""

    address: Address
    server: Address
    rtt: float


@dataclass(frozen=True, slots=True)
class BindingFailed:
    """No address was learned, and why in one phrase.

    ``alternate`` is the server to ask instead when that needs another connection (over a stream).
    """

    reason: str
    alternate: Address | None = None


BindingEvent = MappedAddress | BindingFailed


class BindingClient:
    """Learns one reflexive address from one server (RFC 8489 §6): a question, one event, then silence.

    Without ``credentials`` an answer is as trustworthy as the path: 96 random bits and the server's address
    are what tells it from a forgery. With them (a function that makes a :class:`Signer`, called anew for
    each server) only answers whose integrity verifies count, and a server may send the client on, three
    times at most, to where :func:`~natwalk.stun.redirects.refuse_redirect` allows (RFC 8489 §10).

    Over a stream the question is sent once and waited for as long as all of UDP's (RFC 8489 §6.2.2).
    """

    def __init__(
        self,
        server: Address,
        local: Address,
        *,
        random_bytes: RandomBytes,
        now: float,
        rto: float = RTO,
        rc: int = RC,
        rm: int = RM,
        transport: Transport = Transport.UDP,
        credentials: Callable[[], Signer] | None = None,
    ) -> None:
        self.drops = Drops()
        self.server = server
        self._local = local
        self._transport = transport
        self._random_bytes = random_bytes
        self._credentials = credentials
        self._signer = None if credentials is None else credentials()
        self._visited = [server]
        self._challenges = 0
        self._doubtful: int | None = None
        self._schedule = (rto, rc, rm)
        if transport.is_stream:
            self._schedule = (timeout_offset(rto, rc, rm), 1, 1)
        self._events: Outbox[BindingEvent] = Outbox(1)
        self._transactions: Transactions[Signed | None] = Transactions(limit=1)
        self._ask(now)

    def receive(self, datagram: bytes, path: Path, now: float) -> None:
        """Take a datagram: the awaited response ends the client, anything else is dropped."""
        try:
            message = decode(datagram)
        except MalformedMessage:
            self.drops.add("malformed")
            return
        pending = self._transactions.match(message, path)
        if pending is None or message.method != Method.BINDING:
            self.drops.add("not the awaited response")
            return
        code = message.get(ERROR_CODE) if message.message_class is MessageClass.ERROR else None
        number = None if code is None else code.code
        verified = self._verified(message, pending.context)
        if not verified and not self._is_challenge(number, pending.context):
            self._doubtful = number
            self.drops.add("a response without valid integrity")
            return
        self._transactions.finish(pending.transaction_id)
        if not verified:
            self._answer_challenge(message, now)
        elif number == _TRY_ALTERNATE:
            self._redirected(message, now)
        else:
            self._events.put(self._outcome(message, pending.rtt(now)))

    def handle_timeout(self, now: float) -> None:
        """Send again, or give up."""
        if self._transactions.handle_timeout(now):
            doubt = self._doubtful
            known = "the server did not answer"
            refused = f"the server answered {doubt}, without proof that it is the server"
            self._events.put(BindingFailed(known if doubt is None else refused))

    def poll_transmit(self) -> Transmit | None:
        """The next datagram to send, or None."""
        return self._transactions.poll_transmit()

    def poll_event(self) -> BindingEvent | None:
        """The outcome, once."""
        return self._events.poll()

    def next_timeout(self) -> float | None:
        """When to send again or give up; None when done."""
        return self._transactions.next_timeout()

    def _ask(self, now: float) -> None:
        signed = None if self._signer is None else self._signer.signature()
        transaction_id = self._random_bytes(TRANSACTION_ID_LENGTH)
        message = request(Method.BINDING, transaction_id, *(() if signed is None else signed.attributes))
        data = encode(
            message,
            integrity_key=None if signed is None else signed.key,
            sha256=signed is not None and signed.sha256,
        )
        path = Path(self._local, self.server, self._transport)
        rto, rc, rm = self._schedule
        self._transactions.start(transaction_id, data, path, now, signed, rto=rto, rc=rc, rm=rm)

    def _verified(self, message: Message, signed: Signed | None) -> bool:
        """Whether the response is as good as can be asked: signed like its request, or to an unsigned one."""
        if self._signer is None:
            return not _is_redirect(message)  # anybody could have written it (RFC 8489 §10)
        if signed is None:
            # before the challenge nothing can be checked; a server that wants no credentials is believed
            return message.message_class is MessageClass.SUCCESS
        if MESSAGE_INTEGRITY not in message and MESSAGE_INTEGRITY_SHA256 not in message:
            return False
        try:
            check_integrity(message, signed.key, sha256=signed.sha256)
        except IntegrityError:
            return False
        return True

    def _is_challenge(self, code: int | None, signed: Signed | None) -> bool:
        if self._signer is None or self._challenges >= MAX_CHALLENGES:
            return False
        return code == (_UNAUTHENTICATED if signed is None else _STALE_NONCE)

    def _answer_challenge(self, challenge: Message, now: float) -> None:
        assert self._signer is not None
        self._challenges += 1
        try:
            learned = self._signer.take_challenge(challenge)
        except IntegrityError as problem:
            self._events.put(BindingFailed(str(problem)))
            return
        if learned:
            self._ask(now)
        else:
            self._events.put(BindingFailed("the server's challenge cannot be answered"))

    def _redirected(self, message: Message, now: float) -> None:
        """Ask the server that this one, which has proved itself, names."""
        target = message.get(ALTERNATE_SERVER)
        if target is None:
            self._events.put(BindingFailed("the server sends elsewhere and does not say where"))
            return
        if (why := refuse_redirect(target, self.server, self._visited)) is not None:
            self._events.put(BindingFailed(f"the server sends on to {target}, {why}"))
            return
        if self._transport is not Transport.UDP:
            self._events.put(BindingFailed(f"the server sends on to {target}", target))
            return
        self._visited.append(target)
        self.server = target
        self._challenges = 0
        assert self._credentials is not None
        self._signer = self._credentials()
        self._ask(now)

    def _outcome(self, message: Message, rtt: float) -> BindingEvent:
        if message.message_class is MessageClass.ERROR:
            code = message.get(ERROR_CODE)
            return BindingFailed(f"the server answered {code.code}" if code else "the server refused")
        if message.unknown_required:
            # RFC 8489 §6.3.3: a response that cannot be understood fails the transaction
            return BindingFailed("the server's answer needs an extension unknown here")
        address = message.get(XOR_MAPPED_ADDRESS) or message.get(MAPPED_ADDRESS)
        if address is None:
            return BindingFailed("the server's answer has no address")
        return MappedAddress(address, self.server, rtt)


def _is_redirect(message: Message) -> bool:
    code = message.get(ERROR_CODE)
    return code is not None and code.code == _TRY_ALTERNATE
