"""Two byte streams made into one: what a client and a peer of a TCP allocation say to each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from natwalk.aio.byte_stream import ByteStream

HIGH_WATER: Final = 64 << 10
HALF_OPEN_TIMEOUT: Final = 60.0


class _Half:
    """One direction: the sink of ``source``, which writes to ``target``."""

    def __init__(self, splice: Splice, source: ByteStream, target: ByteStream) -> None:
        self.source = source
        self.moved = 0  # bytes not yet accounted for
        self.ended = False
        self.lost = False
        self.full = False
        self._splice = splice
        self._target = target

    def data_received(self, data: bytes) -> None:
        """Pass bytes on; read no more while the target does not take them (back-pressure)."""
        self._target.write(data)
        self.moved += len(data)
        if self._target.buffered > HIGH_WATER and not self.full:
            self.full = True
            self.source.pause_reading()
        self._splice.account()

    def eof_received(self) -> None:
        """Pass the end on; the other direction may go on."""
        self.ended = True
        self._target.write_eof()
        self._splice.half_ended()

    def drained(self) -> None:
        """What was written to ``source`` has left: the other direction may read again."""
        self._splice.drained(self)

    def connection_lost(self, error: Exception | None) -> None:
        """One side is over, so the other is when it has got everything."""
        self.lost = True
        self._target.close()
        self._splice.half_lost()


class Splice:
    """A client's connection and a peer's, joined until both are closed (RFC 6062 §5.4, §5.5).

    ``on_bytes(to_peer, from_peer)`` is told what was moved and returns for how many seconds nothing more is
    to be read. ``on_closed`` is called once, when both connections are over. When one direction has ended
    and the other carries nothing for ``HALF_OPEN_TIMEOUT`` seconds, both are closed.
    """

    def __init__(
        self,
        client: ByteStream,
        peer: ByteStream,
        *,
        on_bytes: Callable[[int, int], float],
        on_closed: Callable[[], None],
    ) -> None:
        self._on_bytes = on_bytes
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._to_peer = _Half(self, client, peer)
        self._from_peer = _Half(self, peer, client)
        self._pause: asyncio.TimerHandle | None = None
        self._half_open: asyncio.TimerHandle | None = None
        self._busy = False
        client.sink = self._to_peer
        peer.sink = self._from_peer

    def start(self, first: bytes) -> None:
        """Pass on ``first``, which the client sent already, and read from the peer from now on."""
        if first:
            self._to_peer.data_received(first)
        self._resume(self._from_peer)

    def close(self) -> None:
        """Close both connections when what is queued is sent; ``on_closed`` follows."""
        self._to_peer.source.close()
        self._from_peer.source.close()

    # What the halves say.

    def account(self) -> None:
        """Count what moved, and read nothing for as long as that asks for."""
        to_peer, self._to_peer.moved = self._to_peer.moved, 0
        from_peer, self._from_peer.moved = self._from_peer.moved, 0
        self._busy = True
        delay = self._on_bytes(to_peer, from_peer)
        if delay > 0 and self._pause is None:
            for half in self._halves:
                half.source.pause_reading()
            self._pause = self._loop.call_later(delay, self._unpause)

    def drained(self, half: _Half) -> None:
        """Everything written to the source of ``half`` has left."""
        other = self._from_peer if half is self._to_peer else self._to_peer
        if other.full:
            other.full = False
            self._resume(other)

    def half_ended(self) -> None:
        """One direction ended; when both have, so has everything."""
        if self._to_peer.ended and self._from_peer.ended:
            self.close()
        else:
            self._busy = False
            self._half_open = self._loop.call_later(HALF_OPEN_TIMEOUT, self._check_half_open)

    def half_lost(self) -> None:
        """One connection is over; when both are, tell."""
        if self._to_peer.lost and self._from_peer.lost:
            for timer in (self._pause, self._half_open):
                if timer is not None:
                    timer.cancel()
            self._on_closed()

    @property
    def _halves(self) -> tuple[_Half, _Half]:
        return self._to_peer, self._from_peer

    def _resume(self, half: _Half) -> None:
        if not half.full and self._pause is None:
            half.source.resume_reading()

    def _unpause(self) -> None:
        self._pause = None
        for half in self._halves:
            self._resume(half)

    def _check_half_open(self) -> None:
        if self._busy:
            self._busy = False
            self._half_open = self._loop.call_later(HALF_OPEN_TIMEOUT, self._check_half_open)
        else:
            self.close()
