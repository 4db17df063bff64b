"""Turns the paths a user names into an offer, before any connection: what can be sent, what not and why."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from natwalk.core import MalformedMessage
from natwalk.transfer.errors import FailureKind, TransferError
from natwalk.transfer.names import check_path, clean_name, numbered, shown
from natwalk.transfer.offer import MAX_ENTRIES, Entry, EntryKind, Offer


@dataclass(frozen=True, slots=True)
class Source:
    """An offer and where its entries lie on this disk."""

    offer: Offer
    files: tuple[str, ...]
    """Absolute local path of each entry of the offer."""
    notices: tuple[str, ...]
    """What is not sent, or goes under another name, and why; ready to show."""


def scan(paths: Iterable[str | os.PathLike[str]], transfer_id: str) -> Source:
    """Look at ``paths`` and everything below them.

    Symbolic links named by the user are followed; those found inside folders are left out, as are special
    files, and both are told in the notices. Raises :class:`TransferError` (kind ``source``) when there is
    nothing to send, when something cannot be read, or when there is too much of it.
    """
    walk = _Walk()
    for path in paths:
        walk.add_top(os.fspath(path))
    walk.raise_unreadable()
    if not walk.entries:
        raise TransferError(FailureKind.SOURCE, "there is nothing to send")
    offer = Offer.checked(transfer_id, tuple(walk.entries))
    return Source(offer, tuple(walk.files), tuple(walk.notices))


class _Walk:
    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.files: list[str] = []
        self.notices: list[str] = []
        self.unreadable: list[str] = []
        self._tops: set[str] = set()

    def add_top(self, path: str) -> None:
        where = os.path.realpath(path)
        name = os.path.basename(os.path.abspath(path))
        try:
            info = os.stat(where)
        except OSError as error:
            raise TransferError(FailureKind.SOURCE, f"cannot send {shown(path)}: {error.strerror}") from error
        if not name:
            raise TransferError(FailureKind.SOURCE, f"cannot send {shown(path)}: it has no name of its own")
        if not (stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode)):
            raise TransferError(FailureKind.SOURCE, f"cannot send {shown(path)}: neither a file nor a folder")
        self._add(where, self._unique(self._clean(name, path), self._tops), info)

    def raise_unreadable(self) -> None:
        if not self.unreadable:
            return
        some = "; ".join(self.unreadable[:3])
        more = len(self.unreadable) - 3
        raise TransferError(
            FailureKind.SOURCE, f"cannot read {some}" + (f" and {more} more" if more > 0 else "")
        )

    def _add(self, where: str, path: str, info: os.stat_result) -> None:
        if len(self.entries) >= MAX_ENTRIES:
            limit = f"more than {MAX_ENTRIES} files and folders"
            raise TransferError(FailureKind.SOURCE, f"{limit}: pack them into an archive first")
        folder = stat.S_ISDIR(info.st_mode)
        if not os.access(where, os.R_OK | (os.X_OK if folder else 0)):
            self.unreadable.append(f"{shown(where)}: permission denied")
            return
        kind = EntryKind.FOLDER if folder else EntryKind.FILE
        size = 0 if folder else info.st_size
        entry = Entry(path, kind, size, stat.S_IMODE(info.st_mode) & 0o777, info.st_mtime_ns)
        self._check(entry.path, where)
        self.entries.append(entry)
        self.files.append(where)
        if folder:
            self._add_folder(where, path)

    def _add_folder(self, where: str, path: str) -> None:
        names: set[str] = set()
        for child, info in self._children(where):
            name = os.path.basename(child)
            self._add(child, f"{path}/{self._unique(self._clean(name, child), names)}", info)

    def _children(self, where: str) -> Iterator[tuple[str, os.stat_result]]:
        try:
            names = sorted(os.listdir(where))
        except OSError as error:
            self.unreadable.append(f"{shown(where)}: {error.strerror}")
            return
        for name in names:
            child = os.path.join(where, name)
            try:
                info = os.lstat(child)
            except OSError as error:
                self.unreadable.append(f"{shown(child)}: {error.strerror}")
                continue
            if stat.S_ISLNK(info.st_mode):
                self.notices.append(f"{shown(child)} is a symbolic link: not sent")
            elif not (stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode)):
                self.notices.append(f"{shown(child)} is neither a file nor a folder: not sent")
            else:
                yield child, info

    def _clean(self, name: str, path: str) -> str:
        clean = clean_name(name)
        if clean != name:
            self.notices.append(f"{shown(path)} is sent as {shown(clean)}: the name is unsafe elsewhere")
        return clean

    @staticmethod
    def _check(path: str, where: str) -> None:
        try:
            check_path(path)
        except MalformedMessage as error:
            raise TransferError(FailureKind.SOURCE, f"cannot send {shown(where)}: {error}") from error

    @staticmethod
    def _unique(name: str, taken: set[str]) -> str:
        candidate, number = name, 0
        while candidate in taken:
            number += 1
            candidate = numbered(name, number)
        taken.add(candidate)
        return candidate
