"""Requests of a TURN client: signed, matched to their responses, answered when challenged.

The first request goes out bare; the server's 401 brings realm and nonce, and everything after is signed.
A 438 brings a new nonce. Both are retried a bounded number of times, then handed up as a failure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from natwalk.core import Address, Drops, IntegrityError, IPAddress, Path, RandomBytes, Transmit
from natwalk.stun import (
    ERROR_CODE,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    Message,
    MessageClass,
    Method,
    Transactions,
    check_integrity,
    encode,
)
from natwalk.stun import request as build_request
from natwalk.turn.client_auth import Authenticator, Signature

MAX_AUTH_RETRIES: Final = 5
"""How many 401 and 438 answers in a row one request survives."""

MAX_REQUESTS: Final = 2048
"""Most requests in flight: more than permissions and channels together can want."""

_REASON_LIMIT: Final = 128
_UNSIGNED_ERRORS: Final = frozenset({400, 401, 438})  # sent without integrity, RFC 8489 §9.2.4
_TRY_ALTERNATE: Final = 300
_UNAUTHENTICATED: Final = 401
_STALE_NONCE: Final = 438


@dataclass(frozen=True, slots=True)
class Request:
    """One thing asked of the server; ``subject`` is the peer it is about.

    ``rc`` and ``rm`` are those of RFC 8489 §6.2.1; over a stream it is sent once and waited for as long.
    """

    method: Method
    attributes: tuple[tuple[Any, Any], ...]
    subject: Address | IPAddress | None = None
    rc: int = 7
    rm: int = 16
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request ended: ``message`` is the success response, else ``code`` (None: no answer) and why.

    ``error`` is the whole error response when one was believed.
    """

    request: Request
    message: Message | None = None
    code: int | None = None
    reason: str = ""
    timed_out: bool = False
    error: Message | None = None


@dataclass(frozen=True, slots=True)
class _Flight:
    request: Request
    signature: Signature | None


class Requester:
    """Sends requests to one server, answers its challenges and believes only responses it can check."""

    def __init__(
        self, path: Path, authenticator: Authenticator, *, random_bytes: RandomBytes, drops: Drops
    ) -> None:
        self.path = path
        self.authenticator = authenticator
        self._random_bytes = random_bytes
        self._drops = drops
        self._transactions: Transactions[_Flight] = Transactions(limit=MAX_REQUESTS)
        self._silence = "no answer from the server"

    @property
    def authenticated(self) -> bool:
        """True once the server's realm is known and requests are signed."""
        return self.authenticator.authenticated

    @property
    def busy(self) -> bool:
        """True while a request waits for its answer."""
        return len(self._transactions) > 0

    def send(self, request: Request, now: float) -> None:
        """Start a transaction for ``request``."""
        transaction_id = self._random_bytes(12)
        signature = self.authenticator.signature()
        attributes, key, sha256 = request.attributes, None, False
        if signature is not None:
            attributes += signature.attributes
            key, sha256 = signature.key, signature.sha256
        message = build_request(request.method, transaction_id, *attributes)
        rc, rm = request.rc, request.rm
        if self.path.transport.is_stream:  # RFC 8489 §6.2.2: nothing is lost, nothing is sent again
            rc, rm = 1, 2**request.rc // 2 - 1 + request.rm
        self._transactions.start(
            transaction_id,
            encode(message, integrity_key=key, sha256=sha256),
            self.path,
            now,
            _Flight(request, signature),
            rc=rc,
            rm=rm,
        )

    def receive(self, message: Message, path: Path, now: float) -> Answer | None:
        """What ``message`` means for the request it answers; None when it is ignored or was a challenge."""
        pending = self._transactions.match(message, path)
        if pending is None:
            self._drops.add("a response to no request of ours")
            return None
        flight = pending.context
        if message.method != flight.request.method:
            self._drops.add("a response of another method")
            return None
        error = message.get(ERROR_CODE)
        failed = message.message_class is MessageClass.ERROR
        if failed and error is None:
            self._drops.add("an error response without ERROR-CODE")
            return None
        code = error.code if failed and error is not None else None
        if not _credible(message, flight.signature, code):
            self._drops.add("a response without valid integrity")
            if code == _TRY_ALTERNATE:
                self._silence = "the server only redirects, and does not prove that it knows the credentials"
            return None
        self._transactions.finish(message.transaction_id)
        if code is None or error is None:
            return Answer(flight.request, message=message)
        return self._refused(message, flight, code, _printable(error.reason), now)

    def handle_timeout(self, now: float) -> list[Answer]:
        """Queue what must be sent again; return the requests nobody answered."""
        gone = self._transactions.handle_timeout(now)
        return [Answer(pending.context.request, reason=self._silence, timed_out=True) for pending in gone]

    def poll_transmit(self) -> Transmit | None:
        """The next request to send, or None."""
        return self._transactions.poll_transmit()

    def next_timeout(self) -> float | None:
        """When a request is to be sent again or given up, or None."""
        return self._transactions.next_timeout()

    def forget(self) -> None:
        """Drop every request in flight."""
        self._transactions.clear()

    def hand_over(self, successor: Requester, now: float) -> None:
        """Let ``successor`` ask, on its own path, whatever is unanswered here."""
        for pending in self._transactions.clear():
            successor.send(replace(pending.context.request, retries=0), now)

    def _refused(
        self, message: Message, flight: _Flight, code: int, reason: str, now: float
    ) -> Answer | None:
        request = flight.request
        try:
            if self._take_challenge(message, flight, code):
                self.send(replace(request, retries=request.retries + 1), now)
                return None
        except IntegrityError as problem:
            reason = str(problem)
        return Answer(request, code=code, reason=reason, error=message)

    def _take_challenge(self, message: Message, flight: _Flight, code: int) -> bool:
        if flight.request.retries >= MAX_AUTH_RETRIES:
            return False
        signed = flight.signature is not None
        if signed and code == _UNAUTHENTICATED:
            return self.authenticator.take_refusal(message)
        # a 438 to what was not signed has no sense
        if code != (_STALE_NONCE if signed else _UNAUTHENTICATED):
            return False
        return self.authenticator.take_challenge(message)


def _credible(message: Message, signature: Signature | None, code: int | None) -> bool:
    """Whether to believe a response to a request that was signed so (RFC 8489 §9.2.5)."""
    if signature is None:
        # Before the challenge only errors are believed: a success must prove it knows the password, and
        # so must who sends us elsewhere (RFC 8489 §10).
        return code is not None and code != _TRY_ALTERNATE
    if MESSAGE_INTEGRITY not in message and MESSAGE_INTEGRITY_SHA256 not in message:
        return code in _UNSIGNED_ERRORS
    try:
        check_integrity(message, signature.key, sha256=signature.sha256 or None)
    except IntegrityError:
        return False
    return True


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:_REASON_LIMIT])
