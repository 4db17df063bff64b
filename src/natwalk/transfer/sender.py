"""The sending end: offers, waits for the plan, then streams every wanted file without further round trips."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import Final, assert_never

from natwalk.core import LocalProtocolError, MalformedMessage
from natwalk.transfer import wire
from natwalk.transfer.endpoint import MAX_MESSAGE, MAX_QUEUED, Endpoint
from natwalk.transfer.events import Acknowledged, Completed, PlanReceived, SenderEvent
from natwalk.transfer.flow import FileBegun, FileData, FileDone, FileOmitted, FlowItem, Have, Plan
from natwalk.transfer.offer import Entry, Offer, OverallDigest

_ENTRIES_BYTES: Final = 512 * 1024
"""How large a message of offered entries grows; names may double in it by JSON's escapes."""


WINDOW: Final = 32 << 20
"""Bytes of data that may be under way before the receiver's disk has taken them. More than any fast, long
path holds, and little enough for a receiver to keep in memory while its disk is slow."""


class _State(Enum):
    OFFERED = auto()
    SENDING = auto()
    SENT = auto()


class Sender(Endpoint[SenderEvent]):
    """Offers ``offer`` at once; commands ``put`` and ``finish`` are for after :class:`PlanReceived`."""

    def __init__(self, offer: Offer, *, software: str = "") -> None:
        super().__init__(software)
        self._offer = offer
        self._state = _State.OFFERED
        self._have: dict[int, Have] = {}
        self._skip: set[int] = set()
        self._next = 0
        self._current: int | None = None
        self._left = 0
        self._acknowledged = 0
        self._digest = OverallDigest()
        self.sent = 0
        """Bytes of data put so far."""
        self._send(wire.OfferHead(transfer_id=offer.transfer_id, count=len(offer.entries)))
        for entries in _batches(offer.entries):
            self._send(wire.OfferEntries(entries=entries))

    @property
    def room(self) -> int:
        """Bytes of data that may be put now; when not positive, wait for :class:`Acknowledged`."""
        return WINDOW - (self.sent - self._acknowledged)

    def put(self, item: FlowItem) -> None:
        """Send the next piece. Raises :class:`LocalProtocolError` when it does not follow the last one."""
        if self._over:
            return
        if self._state is not _State.SENDING:
            raise LocalProtocolError("no file may be sent now")
        if len(self._out) >= MAX_QUEUED:
            raise LocalProtocolError("bytes to send are not drained")
        match item:
            case FileBegun():
                self._begin(item)
            case FileData():
                self._data(item.data)
            case FileDone():
                self._done(item)
            case FileOmitted():
                self._omit(item)
            case _:
                assert_never(item)

    def finish(self) -> str:
        """Say that everything was put; returns the hash over all of it."""
        if self._state is not _State.SENDING or self._current is not None:
            raise LocalProtocolError("a file is under way or none could be sent yet")
        self._skip_to(len(self._offer.entries))
        self._state = _State.SENT
        digest = self._digest.hexdigest()
        self._send(wire.Sent(sha256=digest))
        return digest

    def _begin(self, item: FileBegun) -> None:
        if self._current is not None:
            raise LocalProtocolError("the file before is not done")
        self._skip_to(item.index)
        have = self._have.get(item.index)
        if not self._wanted(item.index) or item.offset not in (0, have.offset if have else 0):
            raise LocalProtocolError(f"entry {item.index} from {item.offset} is not in the plan")
        self._current = item.index
        self._left = self._offer.entries[item.index].size - item.offset
        self._send(wire.Begin(index=item.index, offset=item.offset))

    def _data(self, data: bytes | memoryview) -> None:
        if self._current is None or len(data) > self._left:
            raise LocalProtocolError("more bytes than the entry was offered with")
        self._left -= len(data)
        self.sent += len(data)
        self._out.append(wire.data_header(len(data)))
        self._out.append(data)

    def _done(self, item: FileDone) -> None:
        if self._current is None or self._left:
            raise LocalProtocolError(f"{self._left} bytes of the file are missing")
        self._digest.add(self._offer.entries[self._current].path, item.sha256)
        self._send(wire.End(sha256=item.sha256))
        self._next, self._current = self._current + 1, None

    def _omit(self, item: FileOmitted) -> None:
        if self._current not in (None, item.index):
            raise LocalProtocolError("another file is under way")
        if self._current is None:
            self._skip_to(item.index)
        self._send(wire.Omit(index=item.index, reason=item.reason[:MAX_MESSAGE]))
        self._next, self._current = item.index + 1, None

    def _skip_to(self, index: int) -> None:
        if not self._next <= index <= len(self._offer.entries):
            raise LocalProtocolError(f"entry {index} is not next")
        if any(self._wanted(i) for i in range(self._next, index)):
            raise LocalProtocolError("a wanted file was left out")
        self._next = index

    def _wanted(self, index: int) -> bool:
        return (
            index < len(self._offer.entries)
            and self._offer.entries[index].is_file
            and index not in self._skip
        )

    def _on_message(self, message: wire.Message) -> None:
        match message:
            case wire.PlanPart() if self._state is _State.OFFERED:
                self._on_plan(message)
            case wire.Written() if self._acknowledged < message.size <= self.sent:
                self._acknowledged = message.size
                self._emit(Acknowledged(message.size))
            case wire.Stored() if self._state is _State.SENT:
                if message.sha256 != self._digest.hexdigest():
                    raise MalformedMessage("the peer stored something else")
                self._end(Completed(message.sha256))
            case _:
                raise MalformedMessage(f"{type(message).__name__} where it does not belong")

    def _on_plan(self, part: wire.PlanPart) -> None:
        for index, offset, sha256 in part.have:
            entry = self._file(index)
            if offset > entry.size or index in self._have:
                raise MalformedMessage("a plan that does not fit the offer")
            self._have[index] = Have(offset, sha256)
        for index in part.skip:
            self._file(index)
            self._skip.add(index)
        if part.last:
            self._state = _State.SENDING
            self._emit(PlanReceived(Plan(frozenset(self._skip), dict(self._have))))

    def _file(self, index: int) -> Entry:
        if index >= len(self._offer.entries) or not self._offer.entries[index].is_file:
            raise MalformedMessage("a plan for what was not offered")
        return self._offer.entries[index]


def _batches(entries: tuple[Entry, ...]) -> Iterator[tuple[Entry, ...]]:
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        batch.append(entry)
        size += 2 * len(entry.path.encode()) + 80
        if size >= _ENTRIES_BYTES:
            yield tuple(batch)
            batch, size = [], 0
    if batch:
        yield tuple(batch)
