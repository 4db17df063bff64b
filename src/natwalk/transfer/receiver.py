"""The receiving end: believes nothing it was not offered, and asks only for what it does not hold."""

from __future__ import annotations

from enum import Enum, auto
from itertools import islice
from typing import Final

from natwalk.core import LocalProtocolError, MalformedMessage
from natwalk.transfer import wire
from natwalk.transfer.endpoint import MAX_MESSAGE, MAX_QUEUED, Endpoint
from natwalk.transfer.errors import FailureKind
from natwalk.transfer.events import AllSent, Completed, OfferReceived, ReceiverEvent
from natwalk.transfer.flow import FileBegun, FileData, FileDone, FileOmitted, Plan
from natwalk.transfer.names import shown
from natwalk.transfer.offer import Entry, Offer, OverallDigest

_PLAN_ROWS: Final = 5000
"""Rows in one message of the plan; a row takes at most about 110 bytes."""


ACKNOWLEDGE: Final = 1 << 20
"""Bytes after which the sender is told how far the disk is."""


class _State(Enum):
    WAITING = auto()
    LISTING = auto()
    DECIDING = auto()
    RECEIVING = auto()
    SENT = auto()


class Receiver(Endpoint[ReceiverEvent]):
    """Reports the offer, then the pieces of every wanted file in order; ``complete`` ends it."""

    def __init__(self, *, software: str = "", windows: bool = False) -> None:
        super().__init__(software)
        self._windows = windows
        self._state = _State.WAITING
        self._transfer_id = ""
        self._count = 0
        self._entries: list[Entry] = []
        self._plan = Plan()
        self._next = 0
        self._current: int | None = None
        self._left = 0
        self._digest = OverallDigest()
        self._arrived = 0
        self._acknowledged = 0

    def accept(self, plan: Plan) -> None:
        """Ask for the offer, but for what ``plan`` holds or skips; after :class:`OfferReceived`."""
        if self._over:
            return
        if self._state is not _State.DECIDING:
            raise LocalProtocolError("there is no offer to accept")
        self._state = _State.RECEIVING
        self._plan = plan
        have = ((index, part.offset, part.sha256) for index, part in sorted(plan.have.items()))
        while rows := tuple(islice(have, _PLAN_ROWS)):
            self._send(wire.PlanPart(have=rows, last=False))
        skip = iter(sorted(plan.skip))
        while indexes := tuple(islice(skip, _PLAN_ROWS)):
            self._send(wire.PlanPart(skip=indexes, last=False))
        self._send(wire.PlanPart())

    def written(self, size: int) -> None:
        """Tell the sender that ``size`` bytes of data in all are on the disk; sent now and then only."""
        if not self._acknowledged <= size <= self._arrived:
            raise LocalProtocolError(f"{size} bytes cannot be on the disk: {self._arrived} have arrived")
        if size - self._acknowledged >= ACKNOWLEDGE and not self._over:
            self._acknowledged = size
            self._send(wire.Written(size))

    def complete(self) -> None:
        """Say that everything is verified and in place; after :class:`AllSent`."""
        if self._over:
            return
        if self._state is not _State.SENT:
            raise LocalProtocolError("not everything has arrived")
        digest = self._digest.hexdigest()
        self._send(wire.Stored(sha256=digest))
        self._end(Completed(digest))

    def _on_message(self, message: wire.Message) -> None:
        match (self._state, message):
            case (_State.WAITING, wire.OfferHead()):
                self._transfer_id, self._count = message.transfer_id, message.count
                self._state = _State.LISTING
            case (_State.LISTING, wire.OfferEntries()):
                self._on_entries(message.entries)
            case (_State.RECEIVING, wire.Begin()):
                self._on_begin(message)
            case (_State.RECEIVING, wire.End()):
                self._on_file_end(message)
            case (_State.RECEIVING, wire.Omit()):
                self._on_omit(message)
            case (_State.RECEIVING, wire.Sent()):
                self._on_sent(message)
            case _:
                raise MalformedMessage(f"{type(message).__name__} where it does not belong")

    def _on_entries(self, entries: tuple[Entry, ...]) -> None:
        if len(self._entries) + len(entries) > self._count or not entries:
            raise MalformedMessage("the offer does not have as many entries as it said")
        if self._frames.control_bytes > wire.MAX_MANIFEST:
            raise MalformedMessage(f"the offer is longer than {wire.MAX_MANIFEST} bytes")
        self._entries += entries
        if len(self._entries) == self._count:
            offer = Offer.checked(self._transfer_id, tuple(self._entries), windows=self._windows)
            self._state = _State.DECIDING
            self._emit(OfferReceived(offer))

    def _on_begin(self, begin: wire.Begin) -> None:
        if self._current is not None:
            raise MalformedMessage("a file begins inside another")
        self._skip_to(begin.index)
        have = self._plan.have.get(begin.index)
        if not self._wanted(begin.index) or begin.offset not in (0, have.offset if have else 0):
            raise MalformedMessage("a file that was not asked for")
        self._current = begin.index
        self._left = self._entries[begin.index].size - begin.offset
        self._room()
        self._emit(FileBegun(begin.index, begin.offset))

    def _on_data(self, data: memoryview) -> None:
        if self._current is None:
            raise MalformedMessage("file data outside a file")
        if len(data) > self._left:
            raise MalformedMessage("more data than the file was offered with")
        self._left -= len(data)
        self._arrived += len(data)
        self._room()
        self._emit(FileData(data))

    def _on_file_end(self, end: wire.End) -> None:
        if self._current is None or self._left:
            raise MalformedMessage("a file ends before it is complete")
        self._digest.add(self._entries[self._current].path, end.sha256)
        self._next, self._current = self._current + 1, None
        self._room()
        self._emit(FileDone(end.sha256))

    def _on_omit(self, omit: wire.Omit) -> None:
        if self._current is None:
            self._skip_to(omit.index)
        if self._current not in (None, omit.index) or not self._wanted(omit.index):
            raise MalformedMessage("the wrong file is omitted")
        self._next, self._current = omit.index + 1, None
        self._room()
        self._emit(FileOmitted(omit.index, shown(omit.reason, MAX_MESSAGE)))

    def _on_sent(self, sent: wire.Sent) -> None:
        if self._current is not None:
            raise MalformedMessage("the end comes inside a file")
        self._skip_to(len(self._entries))
        if sent.sha256 != self._digest.hexdigest():
            self.fail(FailureKind.INTEGRITY, "the hash over all files is not what the sender announced")
            return
        self._state = _State.SENT
        self._emit(AllSent(sent.sha256))

    def _skip_to(self, index: int) -> None:
        """Move on to ``index``; nothing wanted may lie in between."""
        if not self._next <= index <= len(self._entries):
            raise MalformedMessage("a file out of order")
        if any(self._wanted(i) for i in range(self._next, index)):
            raise MalformedMessage("a file is missing")
        self._next = index

    def _wanted(self, index: int) -> bool:
        return index < len(self._entries) and self._entries[index].is_file and index not in self._plan.skip

    def _room(self) -> None:
        """Stop feeding on a driver that does not drain: one input may hold very many small frames."""
        if len(self._events) >= MAX_QUEUED * 8:
            raise MalformedMessage("too many frames at once")
