"""Writes what arrives into a folder of its own beside the target, and moves it there once it is whole.

``NAME.natwalk-part/`` in the output folder, open to its owner alone, holds ``data/`` with the files so far
and ``state.json`` with what lets the same receiver go on later. Nothing appears under its own name before
its hash was verified.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from natwalk.transfer.errors import FailureKind, TransferError
from natwalk.transfer.flow import FileBegun, FileData, FileDone, FileOmitted, FlowItem, Have
from natwalk.transfer.names import MAX_COMPONENT_BYTES, PART_SUFFIX, shown
from natwalk.transfer.offer import Entry, Offer
from natwalk.transfer.storage.confined import Confined, lstat, remove_tree, storage_error
from natwalk.transfer.storage.placing import Placed, place
from natwalk.transfer.storage.state import STATE_FILE, ReceiveState, read_receive_state, write_private

BLOCK: Final = 1 << 20
MAX_PIECES: Final = 512
"""Buffers of one writev; the system takes 1024."""
_DATA: Final = "data"
_MAX_STAGES: Final = 100


class Destination:
    """The receiving disk of one transfer. Use from one thread at a time; close it at the end.

    Every method raises :class:`TransferError` (kind ``storage``, or ``integrity`` where hashes differ).
    """

    def __init__(self, root: Confined, name: str, stage: Confined, offer: Offer) -> None:
        self._root = root
        self._name = name
        self._stage = stage
        self._offer = offer
        self._data = stage.child(_DATA)
        self._fd: int | None = None
        self._current: Entry | None = None
        self._digest = hashlib.sha256()
        self._prefixes: dict[int, hashlib._Hash] = {}
        self._check = self._check_held()
        self._hashes: dict[str, str] = {}
        self.have: dict[int, Have] = {}
        """What ``check_held`` found here from an earlier connection."""
        self.agreed = ""
        """Fingerprint of the offer that was agreed to earlier; ``""`` for none."""

    @staticmethod
    def open(output: str, offer: Offer) -> Destination:
        """Open the folder for partial files of ``offer`` in ``output``, or make one."""
        try:
            root = Confined.root(output)
        except OSError as error:
            raise storage_error(output, error) from error
        try:
            name, fd, state = _open_stage(root.fd, offer)
        except OSError as error:
            root.close()
            raise storage_error(output, error) from error
        destination = Destination(root, name, Confined(fd), offer)
        destination.agreed = state.offer if state else ""
        return destination

    def save_state(self, state: ReceiveState) -> None:
        """Keep ``state`` beside the partial files."""
        try:
            write_private(STATE_FILE, msgspec.json.encode(state), self._stage.fd)
        except OSError as error:
            raise storage_error(self._name, error) from error

    def conflicts(self) -> tuple[str, ...]:
        """Top-level names of the offer that exist in the output folder already."""
        return tuple(name for name in self._offer.top_names if lstat(name, self._root.fd) is not None)

    def check_held(self, size: int = 64 * BLOCK) -> bool:
        """Hash up to ``size`` bytes of what is here already; True when all of it is in ``have``."""
        try:
            for looked_at in self._check:
                size -= looked_at
                if size <= 0:
                    return False
        except OSError as error:
            raise storage_error(self._name, error) from error
        return True

    def prepare(self) -> None:
        """Check that the rest fits on the disk, and make all folders."""
        try:
            info = os.fstatvfs(self._stage.fd)
            block = max(info.f_frsize, 1)
            needed = sum(
                -(-(entry.size - self._held(i)) // block) for i, entry in enumerate(self._offer.entries)
            )
            if needed > info.f_bavail:
                free, needed = info.f_bavail * block, needed * block
                message = f"the receiver's disk is full: {needed} bytes are needed, {free} are free"
                raise TransferError(FailureKind.STORAGE, message)
            for entry in self._offer.entries:
                if not entry.is_file:
                    self._data.folder(entry.path, make=True, mode=entry.mode | 0o700)
        except OSError as error:
            raise storage_error(self._name, error) from error

    def apply(self, items: Iterable[FlowItem]) -> None:
        """Write the pieces in ``items``, in order."""
        try:
            for item in gathered(items):
                if isinstance(item, list):
                    self._write(item)
                else:
                    self._apply(item)
        except OSError as error:
            what = self._current.path if self._current else self._name
            raise storage_error(what, error) from error

    def place(self, overwrite: bool = False) -> list[Placed]:
        """Move everything to its name in the output folder, and remove the folder for partial files."""
        try:
            self._finish_folders()
            self._data.forget()
            present = [name for name in self._offer.top_names if lstat(name, self._data.fd) is not None]
            placed = [
                place(name, self._data.fd, self._root.fd, overwrite=overwrite, sha256=self._hashes.get(name))
                for name in present
            ]
            self.discard()
        except OSError as error:
            raise storage_error(error.filename or self._name, error) from error
        return placed

    def discard(self) -> None:
        """Remove everything received so far, and the state."""
        self._close_file()
        self._data.forget()
        try:
            remove_tree(self._name, self._root.fd)
        except OSError as error:
            raise storage_error(self._name, error) from error

    def close(self) -> None:
        """Close all descriptors; partial files stay for the next connection."""
        self._close_file()
        self._data.close()
        self._stage.close()
        self._root.close()

    def _held(self, index: int) -> int:
        have = self.have.get(index)
        return have.offset if have else 0

    def _check_held(self) -> Iterator[int]:
        for index, entry in enumerate(self._offer.entries):
            if not entry.is_file:
                continue
            try:
                fd = self._data.open_file(entry.path, os.O_RDONLY)
            except FileNotFoundError:
                yield 1
                continue
            with open(fd, "rb", buffering=0) as file:
                held = os.fstat(fd).st_size
                if not 0 < held <= entry.size:
                    continue
                digest = hashlib.sha256()
                while block := file.read(BLOCK):
                    digest.update(block)
                    yield len(block)
            self._prefixes[index] = digest
            self.have[index] = Have(held, digest.hexdigest())

    def _apply(self, item: FlowItem) -> None:
        match item:
            case FileBegun():
                self._begin(item)
            case FileDone():
                self._finish(item.sha256)
            case FileOmitted():
                self._close_file()
                self._remove(self._offer.entries[item.index].path)

    def _begin(self, item: FileBegun) -> None:
        self._close_file()
        entry = self._offer.entries[item.index]
        self._current = entry
        flags = os.O_RDWR | os.O_CREAT
        self._fd = self._data.open_file(entry.path, flags, entry.mode | 0o600, make_parents=True)
        prefix = self._prefixes.pop(item.index, None)
        self._digest = prefix if prefix is not None and item.offset else hashlib.sha256()
        if os.fstat(self._fd).st_size != item.offset:
            # Not otherwise: ext4 writes a file that was truncated to nothing to the disk when it is closed.
            os.ftruncate(self._fd, item.offset)
        os.lseek(self._fd, item.offset, os.SEEK_SET)

    def _write(self, pieces: list[bytes | memoryview]) -> None:
        assert self._fd is not None
        for piece in pieces:
            self._digest.update(piece)
        views = deque(memoryview(piece) for piece in pieces)
        while views:
            written = os.writev(self._fd, views)
            if not written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            while views and written >= len(views[0]):
                written -= len(views.popleft())
            if written:
                views[0] = views[0][written:]

    def _finish(self, sha256: str) -> None:
        assert self._fd is not None
        assert self._current is not None
        entry = self._current
        if self._digest.hexdigest() != sha256:
            self._close_file()
            self._remove(entry.path)
            message = f"{shown(entry.path)} arrived damaged: its SHA-256 is not what the sender announced"
            raise TransferError(FailureKind.INTEGRITY, message)
        if entry.mode & 0o600 != 0o600:
            os.fchmod(self._fd, stat.S_IMODE(os.fstat(self._fd).st_mode) & (entry.mode | 0o400))
        os.utime(self._fd, ns=(entry.mtime_ns, entry.mtime_ns))
        if "/" not in entry.path:
            self._hashes[entry.path] = sha256
        self._close_file()

    def _finish_folders(self) -> None:
        for entry in reversed(self._offer.entries):
            if not entry.is_file:
                os.utime(self._data.folder(entry.path, make=True), ns=(entry.mtime_ns, entry.mtime_ns))

    def _remove(self, path: str) -> None:
        parent, _, name = path.rpartition("/")
        try:
            os.unlink(name, dir_fd=self._data.folder(parent))
        except FileNotFoundError:
            return  # nothing of it had arrived

    def _close_file(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def gathered(items: Iterable[FlowItem]) -> Iterator[FlowItem | list[bytes | memoryview]]:
    """``items`` with neighbouring pieces of data in one list of about BLOCK bytes, for one system call."""
    pieces: list[bytes | memoryview] = []
    size = 0
    for item in items:
        if isinstance(item, FileData):
            pieces.append(item.data)
            size += len(item.data)
            if size < BLOCK and len(pieces) < MAX_PIECES:
                continue
        if pieces:
            yield pieces
            pieces, size = [], 0
        if not isinstance(item, FileData):
            yield item
    if pieces:
        yield pieces


def _open_stage(root: int, offer: Offer) -> tuple[str, int, ReceiveState | None]:
    """Name, descriptor (locked) and state of the folder for ``offer``: an earlier one of it, or a new one."""
    for number in range(_MAX_STAGES):
        name = _stage_name(offer.top_names[0], number)
        try:
            os.mkdir(name, 0o700, dir_fd=root)
            made = True
        except FileExistsError:
            made = False
        stage = _try_stage(root, name, None if made else offer.transfer_id)
        if stage is not None:
            return name, *stage
    raise OSError(errno.EEXIST, f"{_MAX_STAGES} unfinished transfers of this name are in the way")


def _try_stage(root: int, name: str, transfer_id: str | None) -> tuple[int, ReceiveState | None] | None:
    """Open and lock a folder for partial files; None when it is not a folder of ``transfer_id``."""
    info = lstat(name, root)
    if info is None or not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid():
        return None
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    try:
        state = read_receive_state(fd)
        if transfer_id is None or (state is not None and state.transfer_id == transfer_id):
            _lock(fd, name)
            _make_data(fd)
            return fd, state
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _make_data(stage: int) -> None:
    try:
        os.mkdir(_DATA, 0o700, dir_fd=stage)
    except FileExistsError:
        return


def _lock(fd: int, name: str) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        message = f"another natwalk is receiving into {shown(name)} right now"
        raise TransferError(FailureKind.STORAGE, message) from error


def _stage_name(top: str, number: int) -> str:
    tail = (f" ({number})" if number else "") + PART_SUFFIX
    return top.encode()[: MAX_COMPONENT_BYTES - len(tail)].decode(errors="ignore") + tail
