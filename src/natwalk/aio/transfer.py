"""Files over one stream: the cores of :mod:`natwalk.transfer` with disks and threads around them.

Reading, hashing and writing happen in worker threads, a block ahead of or behind the network, so that the
event loop only moves bytes. Any stream with the three methods of :class:`ByteStream` will do.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from typing import Final

from natwalk import __version__
from natwalk.aio.transfer_channel import ByteStream, Channel, Farewell, in_thread, unexpected
from natwalk.transfer import (
    AllSent,
    Completed,
    FailureKind,
    FileBegun,
    FileData,
    FileDone,
    FileOmitted,
    FlowItem,
    Offer,
    OfferReceived,
    Plan,
    PlanReceived,
    Progress,
    ProgressMeter,
    Receiver,
    Sender,
    TransferError,
    TransferInterrupted,
)
from natwalk.transfer.storage import (
    Destination,
    Placed,
    ReceiveState,
    ResumeRecord,
    Source,
    SourceReader,
    scan,
)

__all__ = [
    "ByteStream",
    "Question",
    "TransferResult",
    "accept_all",
    "new_transfer_id",
    "receive_files",
    "send_paths",
    "send_source",
]

MAX_BACKLOG: Final = 8 << 20
"""Bytes that may wait for the disk before the network has to."""
ANSWER_WAIT: Final = 5.0
"""Seconds a sender whose stream broke waits for the peer's last word, which may say why."""
SOFTWARE: Final = f"natwalk {__version__}"


@dataclass(frozen=True, slots=True)
class TransferResult:
    """A transfer that ended well, but for what is in ``omitted``."""

    size: int
    """Bytes of everything offered."""
    moved: int
    """Bytes that crossed this connection."""
    resumed: int
    """Bytes the receiver held from earlier connections."""
    files: int
    """Files now complete at the receiver."""
    sha256: str
    """Of the file; for several files see :class:`natwalk.transfer.OverallDigest`."""
    seconds: float
    omitted: tuple[tuple[str, str], ...] = ()
    """Path and reason of files that could not be sent."""
    placed: tuple[Placed, ...] = ()
    """At the receiver: what ended up where."""


@dataclass(frozen=True, slots=True)
class Question:
    """What the receiver's user is asked."""

    offer: Offer
    output: str
    conflicts: tuple[str, ...]
    """Top-level names that exist in ``output`` already."""


ProgressCallback = Callable[[Progress], None]
Consent = Callable[[Question], Awaitable[bool]]


async def accept_all(question: Question) -> bool:
    """A :data:`Consent` that agrees to everything."""
    return True


def new_transfer_id() -> str:
    """A fresh name for a transfer: 32 hexadecimal digits."""
    return secrets.token_hex(16)


async def send_paths(
    stream: ByteStream,
    paths: Iterable[str | PathLike[str]],
    *,
    transfer_id: str | None = None,
    on_progress: ProgressCallback | None = None,
) -> TransferResult:
    """Send files and folders; returns when the receiver has verified all of them.

    Raises what :func:`send_source` and :func:`natwalk.transfer.storage.scan` raise.
    """
    source = await asyncio.to_thread(scan, list(paths), transfer_id or new_transfer_id())
    return await send_source(stream, source, on_progress=on_progress)


async def send_source(
    stream: ByteStream, source: Source, *, on_progress: ProgressCallback | None = None
) -> TransferResult:
    """Send what was scanned; returns when the receiver has verified it.

    Raises :class:`TransferError` when either side gave up, :class:`TransferInterrupted` when the connection
    ended first: call again with the same source over the next one, and only what is missing is sent.
    """
    channel = Channel(stream, Sender(source.offer, software=SOFTWARE))
    tally = _Tally(source.offer, on_progress)
    async with Farewell(channel):
        await channel.flush()
        event = await channel.next_event()
        if not isinstance(event, PlanReceived):
            raise unexpected(event)
        digest = await _send_planned(channel, SourceReader(source, event.plan), tally)
    return tally.result(digest)


async def receive_files(
    stream: ByteStream,
    output: str | PathLike[str],
    *,
    consent: Consent,
    overwrite: bool = False,
    resume: ResumeRecord | None = None,
    on_progress: ProgressCallback | None = None,
) -> TransferResult:
    """Receive into the folder ``output``; returns when everything is verified and in its place.

    ``consent`` is asked once for an offer; not again when the same offer comes back after an interruption.
    ``resume`` is kept beside the partial files, for :func:`natwalk.transfer.storage.find_receive_state`.
    What exists is never touched without ``overwrite``: new files get another name. Raises
    :class:`TransferError` when either side gave up, :class:`TransferInterrupted` when the connection ended
    first: call again over the next one.
    """
    channel = Channel(stream, Receiver(software=SOFTWARE))
    async with Farewell(channel):
        await channel.flush()
        event = await channel.next_event()
        if not isinstance(event, OfferReceived):
            raise unexpected(event)
        tally = _Tally(event.offer, on_progress)
        destination = await in_thread(Destination.open, str(output), event.offer)
        try:
            incoming = _Incoming(channel, destination, event.offer, tally)
            await incoming.agree(consent, str(output), resume)
            digest = await incoming.receive()
            placed = await in_thread(destination.place, overwrite)
        finally:
            destination.close()
        channel.core.complete()
        # Everything is in place: a connection that breaks now leaves only the sender in doubt.
        with suppress(TransferInterrupted):
            await channel.flush()
    return tally.result(digest, tuple(placed))


async def _send_planned(channel: Channel[Sender], reader: SourceReader, tally: _Tally) -> str:
    """Send everything and wait until the receiver has it; returns the hash over all."""
    pump = asyncio.ensure_future(_pump(channel, reader, tally))
    answer = channel.event_task()
    try:
        await asyncio.wait({pump, answer}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            broken = pump.exception()
            if broken is not None and not isinstance(broken, TransferInterrupted):
                raise broken
            await asyncio.wait({answer}, timeout=ANSWER_WAIT if broken else None)
            if not answer.done() and broken is not None:
                raise broken
        event = await channel.next_event()
        if not isinstance(event, Completed):
            raise unexpected(event)
        return event.sha256
    finally:
        pump.cancel()
        await asyncio.wait({pump})
        reader.close()


async def _pump(channel: Channel[Sender], reader: SourceReader, tally: _Tally) -> None:
    """Feed the core from disk, reading one batch ahead of what is being sent."""
    ahead = asyncio.ensure_future(asyncio.to_thread(reader.next_batch))
    try:
        while True:
            batch = await asyncio.shield(ahead)
            finished = reader.finished
            if not finished:
                ahead = asyncio.ensure_future(asyncio.to_thread(reader.next_batch))
            for item in batch:
                channel.core.put(item)
            await channel.flush()
            tally.count(batch)
            if finished:
                channel.core.finish()
                await channel.flush()
                return
    finally:
        await asyncio.wait({ahead})


class _Incoming:
    """The receiver's side of one connection, after the offer."""

    def __init__(
        self, channel: Channel[Receiver], destination: Destination, offer: Offer, tally: _Tally
    ) -> None:
        self._channel = channel
        self._destination = destination
        self._offer = offer
        self._tally = tally
        self._backlog = _Backlog()

    async def agree(self, consent: Consent, output: str, resume: ResumeRecord | None) -> None:
        """Ask the user unless that was done before, then the sender for what is missing."""
        fingerprint = self._offer.fingerprint()
        if self._destination.agreed != fingerprint:
            await self._save("", resume)
            question = Question(self._offer, output, self._destination.conflicts())
            if not await self._ask(consent, question):
                await in_thread(self._destination.discard)
                raise TransferError(FailureKind.REFUSED, "the receiver declined the files")
        await self._save(fingerprint, resume)
        while not await in_thread(self._destination.check_held):
            self._channel.check()
        await in_thread(self._destination.prepare)
        self._channel.core.accept(Plan(have=self._destination.have))
        await self._channel.flush()

    async def receive(self) -> str:
        """Write everything that comes, also what came before an error; returns the hash over all."""
        reader = asyncio.ensure_future(self._read())
        writer = asyncio.ensure_future(self._write())
        try:
            await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
            if reader.done():
                self._backlog.close()
                await writer
                return reader.result()
            writer.result()
            return await reader
        finally:
            reader.cancel()
            writer.cancel()
            await asyncio.wait({reader, writer})

    async def _ask(self, consent: Consent, question: Question) -> bool:
        """The user's answer; raises when the sender goes away meanwhile."""
        asked = asyncio.ensure_future(consent(question))
        news = self._channel.event_task()
        try:
            await asyncio.wait({asked, news}, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise unexpected(await self._channel.next_event())
            return asked.result()
        finally:
            asked.cancel()

    async def _save(self, agreed: str, resume: ResumeRecord | None) -> None:
        state = ReceiveState.new(self._offer.transfer_id, agreed, resume, secrets.token_bytes(16))
        await in_thread(self._destination.save_state, state)

    async def _read(self) -> str:
        while True:
            items: list[FlowItem] = []
            for event in await self._channel.next_events():
                match event:
                    case FileBegun() | FileData() | FileDone() | FileOmitted():
                        items.append(event)
                    case AllSent():
                        await self._backlog.put(items)
                        return event.sha256
                    case _:
                        await self._backlog.put(items)
                        raise unexpected(event)
            await self._backlog.put(items)

    async def _write(self) -> None:
        while items := await self._backlog.take():
            await in_thread(self._destination.apply, items)
            self._tally.count(items)


class _Backlog:
    """Pieces between the network and the disk, bounded by their bytes."""

    def __init__(self) -> None:
        self._items: list[FlowItem] = []
        self._size = 0
        self._closed = False
        self._changed = asyncio.Event()

    async def put(self, items: list[FlowItem]) -> None:
        """Add ``items``, waiting while the disk is behind."""
        while self._size > MAX_BACKLOG:
            self._changed.clear()
            await self._changed.wait()
        self._items += items
        self._size += sum(len(item.data) for item in items if isinstance(item, FileData))
        self._changed.set()

    async def take(self) -> list[FlowItem]:
        """Everything that waits, at least one piece; [] when closed and empty."""
        while not self._items and not self._closed:
            self._changed.clear()
            await self._changed.wait()
        items, self._items, self._size = self._items, [], 0
        self._changed.set()
        return items

    def close(self) -> None:
        """Nothing will be added any more."""
        self._closed = True
        self._changed.set()


class _Tally:
    """Counts the pieces of a transfer, on either side, and reports progress."""

    def __init__(self, offer: Offer, on_progress: ProgressCallback | None) -> None:
        self._clock = asyncio.get_running_loop().time
        self._offer = offer
        self._on_progress = on_progress
        self._started = self._clock()
        self._meter = ProgressMeter(offer.size, offer.file_count, self._started)
        self._omitted: list[tuple[str, str]] = []

    def count(self, items: Iterable[FlowItem]) -> None:
        """Add ``items``, and report when it is time to."""
        meter = self._meter
        for item in items:
            match item:
                case FileData():
                    meter.done += len(item.data)
                case FileBegun():
                    meter.current = self._offer.entries[item.index].path
                    meter.done += item.offset
                    meter.resumed += item.offset
                case FileDone():
                    meter.files_done += 1
                case FileOmitted():
                    self._omitted.append((self._offer.entries[item.index].path, item.reason))
        now = self._clock()
        if self._on_progress and meter.due(now):
            self._on_progress(meter.reading(now))

    def result(self, sha256: str, placed: tuple[Placed, ...] = ()) -> TransferResult:
        """Report a last time and sum up."""
        now = self._clock()
        meter = self._meter
        if self._on_progress:
            self._on_progress(meter.reading(now))
        return TransferResult(
            size=meter.total,
            moved=meter.moved,
            resumed=meter.resumed,
            files=meter.files_done,
            sha256=sha256,
            seconds=now - self._started,
            omitted=tuple(self._omitted),
            placed=placed,
        )
