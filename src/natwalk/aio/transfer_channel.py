"""One core of a transfer on one stream: bytes across, events out, and a proper goodbye."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Final, Generic, Protocol, TypeVar

from natwalk.aio.errors import ConnectionEnded, StreamEnded
from natwalk.transfer import Failed, Receiver, Sender, TransferError, TransferInterrupted
from natwalk.transfer.events import ReceiverEvent, SenderEvent

READ_SIZE: Final = 256 * 1024
JOIN_SIZE: Final = 64 * 1024
"""Pieces are joined into one write up to this many bytes; larger ones are written as they are."""
FAREWELL: Final = 5.0
"""Seconds the end of a stream is waited for, so that the last message arrives."""

_LOST: Final = (OSError, EOFError, ConnectionEnded, StreamEnded)
"""What a stream raises when the connection under it is gone."""

C = TypeVar("C", Sender, Receiver)
Event = SenderEvent | ReceiverEvent


class ByteStream(Protocol):
    """One bidirectional, ordered, reliable stream of bytes to the peer."""

    async def read(self, n: int = ..., /) -> bytes:
        """Some bytes, at most ``n``; ``b""`` at the end."""

    async def write(self, data: bytes | memoryview, /) -> None:
        """Send ``data``, waiting while the peer is slower."""

    async def finish(self) -> None:
        """Send no more."""


class Channel(Generic[C]):
    """A core and its stream. One task reads at a time; any may flush."""

    def __init__(self, stream: ByteStream, core: C) -> None:
        self.core: C = core
        self._stream = stream
        self._writing = asyncio.Lock()
        self._pending: asyncio.Task[Event] | None = None

    async def flush(self) -> None:
        """Write what the core has to send. Raises :class:`TransferInterrupted`."""
        async with self._writing:
            joined = bytearray()
            while (piece := self.core.poll_data()) is not None:
                if len(joined) + len(piece) <= JOIN_SIZE:
                    joined += piece
                    continue
                if joined:
                    await self._write(bytes(joined))
                    joined.clear()
                if len(piece) <= JOIN_SIZE:
                    joined += piece
                else:
                    await self._write(piece)
            if joined:
                await self._write(bytes(joined))

    def event_task(self) -> asyncio.Task[Event]:
        """A task that waits for the next event; it stays the next one until ``next_event`` returns it."""
        if self._pending is None:
            self._pending = asyncio.ensure_future(self._wait_for_event())
        return self._pending

    async def next_event(self) -> Event:
        """The core's next event. Raises :class:`TransferInterrupted` when the stream ends before it."""
        task = self.event_task()
        event = await asyncio.shield(task)
        self._pending = None
        return event

    async def next_events(self) -> list[Event]:
        """All events the core has, at least one. Raises like ``next_event``."""
        found = [await (self.next_event() if self._pending else self._wait_for_event())]
        while (event := self.core.poll_event()) is not None:
            found.append(event)
        return found

    def check(self) -> None:
        """Raise what the event task met, if it has ended by an error; for use between long steps."""
        if self._pending is not None and self._pending.done():
            event = self._pending.result()
            if isinstance(event, Failed):
                raise event.error()

    async def say_goodbye(self) -> None:
        """Flush, finish and read to the end of the stream, so that the peer hears the last message."""
        with suppress(TransferInterrupted, TimeoutError):
            async with asyncio.timeout(FAREWELL):
                await self.flush()
                await self._finish()
                await self.drop_reader()
                while await self._read():
                    pass

    async def drop_reader(self) -> None:
        """Stop waiting for events."""
        task, self._pending = self._pending, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # seen, so that asyncio does not report it as lost

    async def _wait_for_event(self) -> Event:
        while (event := self.core.poll_event()) is None:
            data = await self._read()
            if not data:
                raise TransferInterrupted("the other side went away in the middle of the transfer")
            self.core.receive_data(data)
        return event

    async def _read(self) -> bytes:
        try:
            return await self._stream.read(READ_SIZE)
        except _LOST as error:
            raise _interrupted(error) from error

    async def _write(self, data: bytes | memoryview) -> None:
        try:
            await self._stream.write(data)
        except _LOST as error:
            raise _interrupted(error) from error

    async def _finish(self) -> None:
        try:
            await self._stream.finish()
        except _LOST as error:
            raise _interrupted(error) from error


class Farewell(Generic[C]):
    """Around a transfer: tells the peer of an error found here, and ends the stream properly."""

    def __init__(self, channel: Channel[C]) -> None:
        self._channel: Channel[C] = channel

    async def __aenter__(self) -> None:
        """Nothing happens before the end."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say goodbye unless the stream is broken or the task is being cancelled."""
        if isinstance(error, TransferError) and not error.by_peer:
            self._channel.core.fail(error.kind, error.message)
        if error is None or isinstance(error, TransferError):
            await self._channel.say_goodbye()
        await self._channel.drop_reader()


def unexpected(event: Event) -> Exception:
    """What to raise when ``event`` ends a transfer."""
    if isinstance(event, Failed):
        return event.error()
    return AssertionError(f"the core of a transfer reported {type(event).__name__} out of order")


def _interrupted(error: Exception) -> TransferInterrupted:
    return TransferInterrupted(f"the connection was lost: {error or type(error).__name__}")
