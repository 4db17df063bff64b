"""Reads the files of a plan in order, hashing as it goes, and notices when they change underneath."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Generator, Iterator
from typing import Final

from natwalk.transfer.flow import FileBegun, FileData, FileDone, FileOmitted, FlowItem, Plan
from natwalk.transfer.offer import Entry
from natwalk.transfer.storage.scanning import Source

BLOCK: Final = 1 << 20
"""Bytes read at once; also the largest piece of data put into one frame."""
ITEM_COST: Final = 1024
"""What every other piece counts as, so that a batch of tiny files stays small in pieces too."""

_Items = Generator[FlowItem | int, None, None]
"""Pieces for the sender, and numbers of bytes that were only looked at."""


class SourceReader:
    """Yields what a :class:`Sender` is to be fed, in batches. Use from one thread at a time."""

    def __init__(self, source: Source, plan: Plan) -> None:
        self._source = source
        self._plan = plan
        self._items = self._read_all()
        self.finished = False
        """True once everything was read."""

    def next_batch(self, size: int = BLOCK) -> list[FlowItem]:
        """The next pieces, about ``size`` bytes of data in all; may be empty before ``finished``."""
        batch: list[FlowItem] = []
        while size > 0:
            item = next(self._items, None)
            if item is None:
                self.finished = True
                break
            if isinstance(item, int):
                size -= item
                continue
            batch.append(item)
            size -= len(item.data) if isinstance(item, FileData) else ITEM_COST
        return batch

    def close(self) -> None:
        """Close the file that is open, if any."""
        self._items.close()

    def _read_all(self) -> _Items:
        for index, entry in enumerate(self._source.offer.entries):
            if entry.is_file and index not in self._plan.skip:
                yield from self._read(index, entry)

    def _read(self, index: int, entry: Entry) -> _Items:
        try:
            fd = os.open(
                self._source.files[index], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            )
        except OSError as error:
            yield FileOmitted(index, f"cannot be opened: {error.strerror}")
            return
        try:
            if not _unchanged(fd, entry):
                yield FileOmitted(index, "changed since it was offered")
                return
            yield from self._read_open(fd, index, entry)
        except OSError as error:
            yield FileOmitted(index, f"cannot be read: {error.strerror}")
        finally:
            os.close(fd)

    def _read_open(self, fd: int, index: int, entry: Entry) -> _Items:
        have = self._plan.have.get(index)
        digest = hashlib.sha256()
        at = 0
        if have is not None:
            at = have.offset
            yield from _hash_prefix(fd, at, digest)
            if digest.hexdigest() != have.sha256:
                at, digest = 0, hashlib.sha256()
        yield FileBegun(index, at)
        while at < entry.size:
            block = os.pread(fd, min(BLOCK, entry.size - at), at)
            if not block:
                yield FileOmitted(index, "became shorter while it was read")
                return
            digest.update(block)
            at += len(block)
            yield FileData(block)
        if _unchanged(fd, entry):
            yield FileDone(digest.hexdigest())
        else:
            yield FileOmitted(index, "changed while it was read")


def _hash_prefix(fd: int, size: int, digest: hashlib._Hash) -> Iterator[int]:
    """Hash the first ``size`` bytes, yielding how many after each block so that a batch can end."""
    at = 0
    while at < size:
        block = os.pread(fd, min(BLOCK, size - at), at)
        if not block:
            return
        digest.update(block)
        at += len(block)
        yield len(block)


def _unchanged(fd: int, entry: Entry) -> bool:
    info = os.fstat(fd)
    same = info.st_size == entry.size and info.st_mtime_ns == entry.mtime_ns
    return same and stat.S_ISREG(info.st_mode)
