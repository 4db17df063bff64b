"""How a server asks its partner at another address to answer a client (docs/adr/0012-behaviour-discovery.md).

An order is a Binding indication with MESSAGE-INTEGRITY-SHA256 over the partners' secret. It carries what the
answer says, never the answer's bytes: whoever learns the secret can have Binding responses sent, nothing
else. Each order is good once and for a short time.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from struct import Struct
from typing import Final

from natwalk.core import Address, IntegrityError, RandomBytes, RemoteProtocolError
from natwalk.stun.attributes import (
    DATA,
    OTHER_ADDRESS,
    RESPONSE_ORIGIN,
    XOR_MAPPED_ADDRESS,
    XOR_PEER_ADDRESS,
)
from natwalk.stun.codec import encode
from natwalk.stun.integrity import check_integrity
from natwalk.stun.message import TRANSACTION_ID_LENGTH, Message, Method, indication

WINDOW: Final = 30.0
"""Seconds by which the clocks of two partners may differ, and for how long an order is good."""
RATE: Final = 100.0
"""Orders a second, given and taken, whoever asks."""
BURST: Final = 100.0
REMEMBERED: Final = 8192
"""Orders remembered; more than can be taken in twice ``WINDOW``."""

_VERSION: Final = 1
_FIELDS: Final = Struct("!BBHd8s16s")
_CLASSIC: Final = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """A Binding response to be: to whom, from where, and what it says.

    ``transaction_id`` has 12 bytes, or 16 for a client of RFC 3489. ``origin`` and ``other`` are None when
    the client is not told of them. ``padding`` is the length of PADDING.
    """

    transaction_id: bytes
    mapped: Address
    destination: Address
    origin: Address | None = None
    other: Address | None = None
    padding: int = 0


class Refused(RemoteProtocolError):
    """An order that is not followed, and why in a fixed phrase."""


class TokenBucket:
    """``RATE`` tokens a second, at most ``BURST``."""

    def __init__(self) -> None:
        self._tokens = BURST
        self._stamp: float | None = None

    def take(self, now: float) -> bool:
        """Take one token; False when there is none."""
        since = 0.0 if self._stamp is None else max(0.0, now - self._stamp)
        self._tokens = min(BURST, self._tokens + since * RATE)
        self._stamp = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Partnership:
    """Gives orders to a partner and takes its orders; ``secret`` is the shared one.

    ``wall`` arguments are Unix time in seconds: the partners' clocks need to agree to ``WINDOW``.
    """

    def __init__(self, secret: bytes, random_bytes: RandomBytes) -> None:
        self._secret = secret
        self._random_bytes = random_bytes
        self._given = TokenBucket()
        self._taken = TokenBucket()
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def give(self, answer: Answer, wall: float, now: float) -> bytes | None:
        """The datagram that has the partner send ``answer``; None when too many were given."""
        if not self._given.take(now):
            return None
        tid, classic = answer.transaction_id, len(answer.transaction_id) != TRANSACTION_ID_LENGTH
        nonce = self._random_bytes(8)
        data = _FIELDS.pack(_VERSION, classic and _CLASSIC, answer.padding, wall, nonce, tid)
        assert answer.origin is not None
        assert answer.other is not None
        order = indication(
            Method.BINDING,
            self._random_bytes(TRANSACTION_ID_LENGTH),
            (XOR_MAPPED_ADDRESS, answer.mapped),
            (XOR_PEER_ADDRESS, answer.destination),
            (RESPONSE_ORIGIN, answer.origin),
            (OTHER_ADDRESS, answer.other),
            (DATA, data),
        )
        return encode(order, integrity_key=self._secret, sha256=True)

    def take(self, order: Message, wall: float, now: float) -> Answer:
        """The answer ``order`` asks for; raises Refused when it is forged, old, repeated or one too many."""
        try:
            check_integrity(order, self._secret, sha256=True)
        except IntegrityError:
            raise Refused("not a partner's order") from None
        mapped, destination = order.get(XOR_MAPPED_ADDRESS), order.get(XOR_PEER_ADDRESS)
        origin, other, data = order.get(RESPONSE_ORIGIN), order.get(OTHER_ADDRESS), order.get(DATA)
        if mapped is None or destination is None or origin is None or other is None:
            raise Refused("a partner's order that says too little")
        if data is None or len(data) != _FIELDS.size or data[0] != _VERSION:
            raise Refused("a partner's order of another version")
        _, flags, padding, given, nonce, tid = _FIELDS.unpack(data)
        if not abs(wall - given) <= WINDOW:  # NaN is no time either
            raise Refused("a partner's order is old, or the clocks differ")
        if nonce in self._seen:
            raise Refused("a partner's order came twice")
        if not self._taken.take(now):
            raise Refused("too many orders of the partner")
        self._seen[nonce] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        if destination.host != mapped.host or not destination.port:
            raise Refused("a partner's order to answer somebody else")
        size = len(tid) if flags & _CLASSIC else TRANSACTION_ID_LENGTH
        return Answer(tid[:size], mapped, destination, origin, other, padding)
