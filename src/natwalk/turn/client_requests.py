"""Requests of a TURN client, signed with long-term credentials (RFC 8489 §9.2).

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
    NONCE,
    REALM,
    USERNAME,
    Message,
    MessageClass,
    Method,
    PreparationError,
    Transactions,
    check_integrity,
    encode,
    long_term_key,
)
from natwalk.stun import request as build_request

MAX_AUTH_RETRIES: Final = 5
"""How many 401 and 438 answers in a row one request survives."""

MAX_REQUESTS: Final = 2048
"""Most requests in flight: more than permissions and channels together can want."""

_REASON_LIMIT: Final = 128
_UNSIGNED_ERRORS: Final = frozenset({400, 401, 438})  # sent without integrity, RFC 8489 §9.2.4


@dataclass(frozen=True, slots=True)
class Request:
    """One thing asked of the server; ``subject`` is the peer it is about."""

    method: Method
    attributes: tuple[tuple[Any, Any], ...]
    subject: Address | IPAddress | None = None
    rc: int = 7
    rm: int = 16
    retries: int = 0
    signed: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request ended: ``message`` is the success response, else ``code`` (None: no answer) and why."""

    request: Request
    message: Message | None = None
    code: int | None = None
    reason: str = ""
    timed_out: bool = False


class Requester:
    """Sends requests to one server, answers its challenges and believes only responses it can check.

    Raises :class:`natwalk.stun.PreparationError`, a ValueError, on a username or password that no
    OpaqueString is (RFC 8265 §4.2).
    """

    def __init__(
        self, path: Path, username: str, password: str, *, random_bytes: RandomBytes, drops: Drops
    ) -> None:
        long_term_key(username, "realm", password)  # what cannot become a key is refused here, not later
        self._path = path
        self._username = username
        self._password = password
        self._random_bytes = random_bytes
        self._drops = drops
        self._transactions: Transactions[Request] = Transactions(limit=MAX_REQUESTS)
        self._realm = ""
        self._nonce = b""
        self._key: bytes | None = None

    @property
    def authenticated(self) -> bool:
        """True once the server's realm is known and requests are signed."""
        return self._key is not None

    def send(self, request: Request, now: float) -> None:
        """Start a transaction for ``request``."""
        transaction_id = self._random_bytes(12)
        attributes = request.attributes
        key = self._key
        if key is not None:
            attributes += ((USERNAME, self._username), (REALM, self._realm), (NONCE, self._nonce))
        data = encode(build_request(request.method, transaction_id, *attributes), integrity_key=key)
        context = replace(request, signed=key is not None)
        self._transactions.start(transaction_id, data, self._path, now, context, rc=request.rc, rm=request.rm)

    def receive(self, message: Message, path: Path, now: float) -> Answer | None:
        """What ``message`` means for the request it answers; None when it is ignored or was a challenge."""
        pending = self._transactions.match(message, path)
        if pending is None:
            self._drops.add("a response to no request of ours")
            return None
        request = pending.context
        if message.method != request.method:
            self._drops.add("a response of another method")
            return None
        error = message.get(ERROR_CODE)
        failed = message.message_class is MessageClass.ERROR
        if failed and error is None:
            self._drops.add("an error response without ERROR-CODE")
            return None
        code = error.code if failed and error is not None else None
        if not self._credible(message, request, code):
            self._drops.add("a response without valid integrity")
            return None
        self._transactions.finish(message.transaction_id)
        if code is None or error is None:
            return Answer(request, message=message)
        if self._take_challenge(message, request, code):
            self.send(replace(request, retries=request.retries + 1), now)
            return None
        return Answer(request, code=code, reason=_printable(error.reason))

    def handle_timeout(self, now: float) -> list[Answer]:
        """Queue what must be sent again; return the requests nobody answered."""
        gone = self._transactions.handle_timeout(now)
        return [
            Answer(pending.context, reason="no answer from the server", timed_out=True) for pending in gone
        ]

    def poll_transmit(self) -> Transmit | None:
        """The next request to send, or None."""
        return self._transactions.poll_transmit()

    def next_timeout(self) -> float | None:
        """When a request is to be sent again or given up, or None."""
        return self._transactions.next_timeout()

    def forget(self) -> None:
        """Drop every request in flight."""
        self._transactions.clear()

    def _credible(self, message: Message, request: Request, code: int | None) -> bool:
        signed = MESSAGE_INTEGRITY in message or MESSAGE_INTEGRITY_SHA256 in message
        if not request.signed or self._key is None:
            # Before the challenge only errors are believed: a success must prove it knows the password.
            return code is not None
        if not signed:
            return code in _UNSIGNED_ERRORS
        try:
            check_integrity(message, self._key)
        except IntegrityError:
            return False
        return True

    def _take_challenge(self, message: Message, request: Request, code: int) -> bool:
        nonce = message.get(NONCE)
        if code not in {401, 438} or nonce is None or request.retries >= MAX_AUTH_RETRIES:
            return False
        if code == 401:
            realm = message.get(REALM)
            if request.signed or realm is None:
                return False
            if self._key is None and not self._make_key(realm):
                return False
        elif self._key is None:
            return False
        self._nonce = nonce
        return True

    def _make_key(self, realm: str) -> bool:
        try:
            self._key = long_term_key(self._username, realm, self._password)
        except PreparationError:
            return False
        self._realm = realm
        return True


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:_REASON_LIMIT])
