"""What happens on a stream once a transfer is agreed: out of the disk, into the disk, and the count of it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from natwalk.aio.disk import Disk, in_thread, keep_freed_memory
from natwalk.aio.transfer_channel import Channel, unexpected
from natwalk.transfer import (
    Acknowledged,
    AllSent,
    Completed,
    FailureKind,
    FileBegun,
    FileData,
    FileDone,
    FileOmitted,
    FlowItem,
    Offer,
    Plan,
    Progress,
    ProgressMeter,
    Receiver,
    Sender,
    TransferError,
    TransferInterrupted,
)
from natwalk.transfer.storage import Destination, Placed, ReceiveState, ResumeRecord, SourceReader

MAX_BACKLOG: Final = 4 << 20
"""Bytes that may wait for the disk before the network has to."""
ANSWER_WAIT: Final = 5.0
"""Seconds a sender whose stream broke waits for the peer's last word, which may say why."""


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


class Outgoing:
    """The sender's side of one connection, after the plan."""

    def __init__(self, channel: Channel[Sender], reader: SourceReader, tally: Tally) -> None:
        self._channel = channel
        self._reader = reader
        self._tally = tally
        self._room = asyncio.Event()
        self._disk = Disk()

    async def send(self) -> str:
        """Send everything and wait until the receiver has it; returns the hash over all."""
        keep_freed_memory()
        pump = asyncio.ensure_future(self._pump())
        listener = asyncio.ensure_future(self._listen())
        try:
            await asyncio.wait({pump, listener}, return_when=asyncio.FIRST_COMPLETED)
            broken = pump.exception() if pump.done() else None
            if broken is not None and not isinstance(broken, TransferInterrupted):
                raise broken
            await asyncio.wait({listener}, timeout=ANSWER_WAIT if broken else None)
            if broken is not None and not listener.done():
                raise broken
            return listener.result()
        finally:
            pump.cancel()
            listener.cancel()
            await asyncio.wait({pump, listener})
            self._reader.close()

    async def _listen(self) -> str:
        """Note how far the receiver's disk is; returns the hash when all is stored."""
        while True:
            match await self._channel.next_event():
                case Acknowledged(size=size):
                    self._tally.acknowledge(size)
                    self._room.set()
                case Completed(sha256=sha256):
                    self._tally.acknowledge(self._channel.core.sent)
                    return sha256
                case event:
                    raise unexpected(event)

    async def _pump(self) -> None:
        """Feed the core from disk, reading one batch ahead of what is being sent."""
        core = self._channel.core
        ahead = asyncio.ensure_future(self._disk.run(self._reader.next_batch))
        try:
            while True:
                batch = await asyncio.shield(ahead)
                finished = self._reader.finished
                if not finished:
                    ahead = asyncio.ensure_future(self._disk.run(self._reader.next_batch))
                for item in batch:
                    core.put(item)
                await self._channel.flush()
                self._tally.count(batch, data=False)
                if finished:
                    core.finish()
                    await self._channel.flush()
                    return
                while core.room <= 0:
                    self._room.clear()
                    await self._room.wait()
        finally:
            await asyncio.wait({ahead})


class Incoming:
    """The receiver's side of one connection, after the offer."""

    def __init__(
        self, channel: Channel[Receiver], destination: Destination, offer: Offer, tally: Tally
    ) -> None:
        self._channel = channel
        self._destination = destination
        self._offer = offer
        self._tally = tally
        self._disk = Disk()
        self._backlog = Backlog()

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
        keep_freed_memory()
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
            await self._disk.run(self._destination.apply, items)
            self._tally.count(items)
            self._channel.core.written(self._tally.moved)
            # When the stream is broken the reader finds out; what has come is still written.
            with suppress(TransferInterrupted):
                await self._channel.flush()


class Backlog:
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


class Tally:
    """Counts the pieces of a transfer, on either side, and reports progress."""

    def __init__(self, offer: Offer, on_progress: ProgressCallback | None) -> None:
        self._clock = asyncio.get_running_loop().time
        self._offer = offer
        self._on_progress = on_progress
        self._started = self._clock()
        self._meter = ProgressMeter(offer.size, offer.file_count, self._started)
        self._omitted: list[tuple[str, str]] = []

    @property
    def moved(self) -> int:
        """Bytes of data counted, over this connection."""
        return self._meter.moved

    def acknowledge(self, size: int) -> None:
        """At the sender: the receiver's disk has taken ``size`` bytes."""
        self._meter.done = self._meter.resumed + size
        self._report()

    def count(self, items: Iterable[FlowItem], *, data: bool = True) -> None:
        """Add ``items``, their bytes only with ``data``, and report when it is time to."""
        meter = self._meter
        for item in items:
            match item:
                case FileData():
                    meter.done += len(item.data) if data else 0
                case FileBegun():
                    meter.current = self._offer.entries[item.index].path
                    meter.done += item.offset
                    meter.resumed += item.offset
                case FileDone():
                    meter.files_done += 1
                case FileOmitted():
                    self._omitted.append((self._offer.entries[item.index].path, item.reason))
        self._report()

    def _report(self) -> None:
        now = self._clock()
        meter = self._meter
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
