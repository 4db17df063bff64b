"""For how long a NAT keeps a mapping that nobody uses, found out by letting one lie (RFC 5780 §4.6)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from natwalk.core import (
    Address,
    Drops,
    MalformedMessage,
    Outbox,
    Path,
    RandomBytes,
    Timers,
    Transmit,
    earliest,
)
from natwalk.stun.attributes import ERROR_CODE, MAPPED_ADDRESS, RESPONSE_PORT, XOR_MAPPED_ADDRESS, Attribute
from natwalk.stun.codec import decode, encode
from natwalk.stun.message import TRANSACTION_ID_LENGTH, Message, MessageClass, Method, request
from natwalk.stun.transactions import Pending, Transactions

LONGEST: Final = 300.0
"""Seconds up to which is tried: what a NAT should keep at least is 120 (RFC 4787 §4.3)."""
RESOLUTION: Final = 2.0
_RC: Final = 5
_RM: Final = 6


@dataclass(frozen=True, slots=True)
class LifetimeTried:
    """After ``seconds`` unused the mapping was there (``alive``) or gone."""

    seconds: float
    alive: bool


@dataclass(frozen=True, slots=True)
class MappingLifetime:
    """A mapping unused for ``at_least`` seconds is there, one for ``less_than`` is gone.

    ``less_than`` is None when it outlived all that was tried, ``at_least`` 0.0 when nothing is known below
    it. ``unknown`` says why nothing could be found out, when that is so.
    """

    at_least: float = 0.0
    less_than: float | None = None
    unknown: str | None = None


LifetimeEvent = LifetimeTried | MappingLifetime


class _Ask(Enum):
    MAP = "from the socket whose mapping is to lie"
    PROBE = "from the other socket, to have the answer sent to that mapping"


class LifetimeProbe:
    """Finds out the lifetime of idle mappings: a LifetimeTried for each wait, then a MappingLifetime.

    The socket ``local`` makes a mapping and is silent for a while; then ``second`` asks the server, which
    must know RESPONSE-PORT (RFC 5780 §7.5), to answer at the mapping of the first. By halves from
    ``longest`` seconds down to a difference of ``resolution``; it takes minutes, and what it finds may be
    different on another day (RFC 5780 §4.6). Nothing else may use ``local`` meanwhile.
    """

    def __init__(
        self,
        server: Address,
        local: Address,
        second: Address,
        *,
        random_bytes: RandomBytes,
        now: float,
        longest: float = LONGEST,
        resolution: float = RESOLUTION,
    ) -> None:
        if not 0 < resolution < longest:
            raise ValueError(f"a resolution of {resolution} s up to {longest} s")
        self.drops = Drops()
        self._server = server
        self._sockets = {_Ask.MAP: local, _Ask.PROBE: second}
        self._random_bytes = random_bytes
        self._resolution = resolution
        self._found = MappingLifetime()
        self._wait = longest
        self._mapped: Address | None = None
        self._transactions: Transactions[_Ask] = Transactions(limit=1)
        self._timers: Timers[_Ask] = Timers()
        self._events: Outbox[LifetimeEvent] = Outbox(64)
        self._ask(_Ask.MAP, now)

    def receive(self, datagram: bytes, path: Path, now: float) -> None:
        """Take a datagram on one of the two sockets; what answers nothing is dropped."""
        try:
            message = decode(datagram)
        except MalformedMessage:
            self.drops.add("malformed")
            return
        pending = self._transactions.get(message.transaction_id)
        ours = path.local in self._sockets.values() and path.remote == self._server
        if pending is None or not message.is_response or message.method != Method.BINDING or not ours:
            self.drops.add("not the awaited response")
        elif message.message_class is MessageClass.ERROR:
            code = message.get(ERROR_CODE)
            self._end(f"the server answers {code.code}" if code else "the server refuses")
        elif pending.context is _Ask.PROBE:
            # an answer at the second socket: the old mapping's port was given to it, so that is gone
            self._tried(path.local == self._sockets[_Ask.MAP], now)
        else:
            self._mapping_made(message, pending, now)

    def handle_timeout(self, now: float) -> None:
        """Ask when the wait is over, send again, and draw conclusions from silence."""
        for pending in self._transactions.handle_timeout(now):
            if pending.context is _Ask.MAP:
                self._end("the server does not answer")
            else:
                self._tried(False, now)
        if self._timers.due(now):
            self._ask(_Ask.PROBE, now)

    def poll_transmit(self) -> Transmit | None:
        """The next datagram to send, or None."""
        return self._transactions.poll_transmit()

    def poll_event(self) -> LifetimeEvent | None:
        """The next event, or None; MappingLifetime is the last."""
        return self._events.poll()

    def next_timeout(self) -> float | None:
        """When something is due; None when done."""
        return earliest(self._transactions.next_timeout(), self._timers.next_timeout())

    def _ask(self, what: _Ask, now: float) -> None:
        tid = self._random_bytes(TRANSACTION_ID_LENGTH)
        extra: tuple[Attribute, ...] = ()
        if what is _Ask.PROBE and self._mapped is not None:
            extra = ((RESPONSE_PORT, self._mapped.port),)
        path = Path(self._sockets[what], self._server)
        data = encode(request(Method.BINDING, tid, *extra))
        self._transactions.start(tid, data, path, now, what, rc=_RC, rm=_RM)

    def _mapping_made(self, message: Message, pending: Pending[_Ask], now: float) -> None:
        mapped = message.get(XOR_MAPPED_ADDRESS) or message.get(MAPPED_ADDRESS)
        if mapped is None or not mapped.port:
            self._end("the server's answer has no address")
            return
        self._mapped = mapped
        self._transactions.finish(pending.transaction_id)
        # unused since the request that made or refreshed it was last sent
        self._timers.set(_Ask.PROBE, max(now, pending.sent_at + self._wait))

    def _tried(self, alive: bool, now: float) -> None:
        self._transactions.clear()
        self._events.put(LifetimeTried(self._wait, alive))
        low, high = self._found.at_least, self._found.less_than
        low, high = (self._wait, high) if alive else (low, self._wait)
        self._found = MappingLifetime(low, high)
        if high is None or high - low <= self._resolution:
            self._end()
            return
        self._wait = (low + high) / 2
        self._ask(_Ask.MAP, now)

    def _end(self, unknown: str | None = None) -> None:
        self._transactions.clear()
        self._timers.clear()
        self._events.put(MappingLifetime(unknown=unknown) if unknown else self._found)
