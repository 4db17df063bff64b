"""What a program holds: a connection to one peer, with streams, datagrams and the path in use."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from natwalk.aio.errors import ConnectionEnded, StreamEnded
from natwalk.aio.peer import PeerDriver
from natwalk.core import LocalProtocolError
from natwalk.path import PathInfo, PathKind
from natwalk.peer import Ended, PeerEvent, ResumeToken
from natwalk.peer.credit import WINDOW
from natwalk.secure import DatagramReceived, StreamData, StreamReset, StreamStopped

WRITE_BACKLOG: Final = 2 << 20
"""Bytes a stream queues before ``write`` waits."""
READ_LIMIT: Final = 2 * WINDOW
"""Bytes a stream keeps for its reader; only a peer that minds no credit can send more."""
MAX_DATAGRAMS: Final = 1024
MAX_EVENTS: Final = 4096
CLOSE_GRACE: Final = 0.05
"""Seconds the last packets have to leave the machine."""
LONGEST_ROUND_TRIP: Final = 1.0
"""Seconds a relay's round trip counts for at most, when a connection over it is closed."""
UNREAD: Final = 1
"""Code of a stream that was stopped because nobody read it."""


class Stream:
    """One bidirectional stream: ordered, reliable, with back-pressure on both sides."""

    def __init__(self, connection: Connection, stream_id: int) -> None:
        self.stream_id = stream_id
        self._connection = connection
        self._chunks: deque[bytes] = deque()
        self._taken = 0
        """Bytes of the first chunk that were read already."""
        self._size = 0
        self._end = False
        self._reset: int | None = None
        self._stopped: int | None = None
        self._readable = asyncio.Event()
        self._finished = False

    async def read(self, n: int = 65536) -> bytes:
        """Up to ``n`` bytes as soon as there are some, ``b""`` at the end.

        Raises StreamEnded when the peer reset the stream, ConnectionEnded when the connection is over.
        """
        while not self._chunks:
            if self._end:
                return b""
            if self._reset is not None:
                raise StreamEnded(self._reset)
            self._connection.raise_if_ended()
            self._readable.clear()
            await self._readable.wait()
        data = self._take(n)
        if not self._end:
            self._connection.consumed(self.stream_id, len(data))
        return data

    async def write(self, data: bytes | memoryview) -> None:
        """Send ``data``; waits while too much is queued. Raises StreamEnded and ConnectionEnded."""
        view = memoryview(data)
        for start in range(0, len(view) or 1, WRITE_BACKLOG):
            await self._writable()
            self._connection.send_stream(self.stream_id, view[start : start + WRITE_BACKLOG])

    async def finish(self) -> None:
        """Send no more; the peer reads to the end. Harmless when repeated."""
        if not self._finished:
            self._connection.raise_if_ended()
            self._finished = True
            self._connection.send_stream(self.stream_id, b"", fin=True)
            self._connection.forget_if_over(self)

    def reset(self, code: int = 0) -> None:
        """Give the stream up, losing what was queued; the peer's ``read`` raises StreamEnded(code)."""
        self._connection.reset_stream(self.stream_id, code)

    def _take(self, n: int) -> bytes:
        """The next bytes, at most ``n``, without copying a chunk more than once."""
        first, start = self._chunks[0], self._taken
        if len(first) - start > n:
            self._taken += n
            self._size -= n
            return first[start : start + n]
        self._chunks.popleft()
        self._taken = 0
        self._size -= len(first) - start
        return first[start:]

    @property
    def over(self) -> bool:
        """True when nothing can come or go any more."""
        sending = not self._finished and self._stopped is None
        receiving = not self._end and self._reset is None
        return not (sending or receiving)

    async def _writable(self) -> None:
        while True:
            self._connection.raise_if_ended()
            if self._stopped is not None:
                raise StreamEnded(self._stopped)
            if self._connection.may_send(self.stream_id):
                return
            await self._connection.progress()

    def feed(self, event: StreamData | StreamReset | StreamStopped) -> bool:
        """Take an event of this stream; False when the reader left too much unread."""
        match event:
            case StreamData(data=data, fin=fin):
                if data:
                    self._chunks.append(data)
                    self._size += len(data)
                self._end = self._end or fin
            case StreamReset(code=code):
                self._reset = code
            case StreamStopped(code=code):
                self._stopped = code
        self._readable.set()
        return self._size <= READ_LIMIT

    def wake(self) -> None:
        """The connection ended: let the reader find out."""
        self._readable.set()


class Connection:
    """An authenticated, encrypted connection to one peer over the best path there is."""

    def __init__(self, driver: PeerDriver) -> None:
        self._driver = driver
        self._core = driver.core
        self._streams: dict[int, Stream] = {}
        self._accepted: asyncio.Queue[Stream | None] = asyncio.Queue()
        self._datagrams: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_DATAGRAMS)
        self._events: asyncio.Queue[PeerEvent | None] = asyncio.Queue(MAX_EVENTS)
        self._progress = asyncio.Event()
        self._ended: Ended | None = None

    @property
    def path(self) -> PathInfo | None:
        """The path in use: direct or relay, addresses, round trip, and why; None during a repair."""
        return self._core.info

    @property
    def resume(self) -> ResumeToken | None:
        """Lets the two sides meet again after either was killed: give it to ``connect``."""
        return self._core.resume

    @property
    def ended(self) -> bool:
        """True when the connection is over."""
        return self._ended is not None

    async def open_stream(self) -> Stream:
        """A new stream; the peer's ``accept_stream`` returns it once something was written."""
        self.raise_if_ended()
        while not self._core.streams_available:
            await self.progress()
            self.raise_if_ended()
        stream = Stream(self, self._core.open_stream())
        self._streams[stream.stream_id] = stream
        return stream

    async def accept_stream(self) -> Stream:
        """The next stream the peer opened. Raises ConnectionEnded when there will be none."""
        stream = await self._accepted.get()
        if stream is None:
            self._accepted.put_nowait(None)
            self.raise_if_ended()
            raise LocalProtocolError("the connection is closed")
        return stream

    async def send_datagram(self, data: bytes) -> bool:
        """Send an unreliable datagram; False when too many wait and it was dropped."""
        self.raise_if_ended()
        sent = self._core.send_datagram(data, self._driver.now)
        self._driver.flush()
        return sent

    async def receive_datagram(self) -> bytes:
        """The next datagram of the peer. Raises ConnectionEnded when there will be none."""
        data = await self._datagrams.get()
        if data is None:
            self._put_last(self._datagrams)
            self.raise_if_ended()
            raise LocalProtocolError("the connection is closed")
        return data

    async def events(self) -> AsyncIterator[PeerEvent]:
        """What happens to the connection, until its end; the newest are lost when nobody listens."""
        while (event := await self._events.get()) is not None:
            yield event
        self._put_last(self._events)

    async def close(self, reason: str = "") -> None:
        """End in order. What was written and not yet read by the peer may be lost: finish streams first."""
        if self._ended is None:
            await self._last_words()
        if self._ended is None:
            self._core.close(reason, self._driver.now)
            self._driver.flush()
            await asyncio.sleep(CLOSE_GRACE)

    async def _last_words(self) -> None:
        """Give what was sent last the time to pass the relays, which are given back with the connection.

        A peer that ends it meanwhile has heard enough.
        """
        path = self.path
        if path is None or path.kind is not PathKind.RELAY:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_GRACE + 2 * min(path.rtt or 0.0, LONGEST_ROUND_TRIP)):
                while self._ended is None:
                    await self.progress()

    # --- for streams and the driver ----------------------------------------------------------------------

    def raise_if_ended(self) -> None:
        """Raise ConnectionEnded when the connection is over."""
        if self._ended is not None:
            raise ConnectionEnded(self._ended.failure, self._ended.reason)

    def send_stream(self, stream_id: int, data: bytes | memoryview, *, fin: bool = False) -> None:
        """Queue bytes on a stream."""
        self._core.send_stream(stream_id, data, self._driver.now, fin=fin)
        self._driver.flush()

    def reset_stream(self, stream_id: int, code: int) -> None:
        """Reset a stream, unless it is over already."""
        with suppress(LocalProtocolError):
            self._core.reset_stream(stream_id, code, self._driver.now)
            self._driver.flush()

    def may_send(self, stream_id: int) -> bool:
        """Whether little enough waits to be sent, and the peer's application keeps up."""
        return self._core.send_backlog(stream_id) < WRITE_BACKLOG and self._core.send_room(stream_id) > 0

    def consumed(self, stream_id: int, size: int) -> None:
        """The application has read ``size`` bytes of a stream."""
        if self._core.consumed(stream_id, size, self._driver.now):
            self._driver.flush()

    def forget_if_over(self, stream: Stream) -> None:
        """Drop a stream that has ended both ways; its reader keeps what it holds."""
        if stream.over:
            self._streams.pop(stream.stream_id, None)

    async def progress(self) -> None:
        """Wait until something arrived: only then can what waits have become less."""
        self._progress.clear()
        await self._progress.wait()

    def handle(self, event: PeerEvent) -> None:
        """Take an event of the core."""
        match event:
            case StreamData() | StreamReset() | StreamStopped():
                self._on_stream(event)
            case DatagramReceived(data=data):
                with suppress(asyncio.QueueFull):
                    self._datagrams.put_nowait(data)
            case Ended():
                self._end(event)
            case _:
                with suppress(asyncio.QueueFull):
                    self._events.put_nowait(event)

    def advanced(self) -> None:
        """Something arrived from the peer: writers look again."""
        self._progress.set()

    def _on_stream(self, event: StreamData | StreamReset | StreamStopped) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            if not isinstance(event, StreamData):
                return  # of a stream that is over
            stream = Stream(self, event.stream_id)
            self._streams[event.stream_id] = stream
            self._accepted.put_nowait(stream)
        if not stream.feed(event):
            with suppress(LocalProtocolError):
                self._core.stop_stream(event.stream_id, UNREAD, self._driver.now)
        self.forget_if_over(stream)

    def _end(self, event: Ended) -> None:
        self._ended = event
        self._progress.set()
        for stream in self._streams.values():
            stream.wake()
        self._accepted.put_nowait(None)
        self._put_last(self._datagrams)
        if self._events.full():
            self._events.get_nowait()
        self._events.put_nowait(event)
        self._put_last(self._events)

    @staticmethod
    def _put_last(queue: asyncio.Queue[bytes | None] | asyncio.Queue[PeerEvent | None]) -> None:
        if queue.full():
            queue.get_nowait()
        queue.put_nowait(None)
