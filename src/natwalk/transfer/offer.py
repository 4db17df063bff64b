"""What a sender offers: a list of files and folders with their sizes, checked before anyone believes it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from natwalk.core import MalformedMessage
from natwalk.transfer.names import MAX_PATH_BYTES, check_path

MAX_ENTRIES: Final = 100_000
MAX_SIZE: Final = 2**62
"""Bytes in one transfer; far above every disk, far below where offsets overflow."""


class EntryKind(StrEnum):
    """What an entry is. Symbolic links and special files are never offered."""

    FILE = "f"
    FOLDER = "d"


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One file or folder of an offer."""

    path: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_PATH_BYTES)]
    """Relative, with ``/`` between its parts."""
    kind: EntryKind = EntryKind.FILE
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_SIZE)] = 0
    """Bytes; 0 for folders."""
    mode: Annotated[int, msgspec.Meta(ge=0, le=0o777)] = 0o644
    """Permission bits, without setuid, setgid and sticky."""
    mtime_ns: Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)] = 0
    """Last modification, nanoseconds since the epoch."""

    @property
    def is_file(self) -> bool:
        """True for a file, False for a folder."""
        return self.kind is EntryKind.FILE


@dataclass(frozen=True, slots=True)
class Offer:
    """Everything one transfer would move. Build one from outside data with :meth:`checked`."""

    transfer_id: str
    """Random, the same each time the same sender comes back to go on."""
    entries: tuple[Entry, ...]

    @staticmethod
    def checked(transfer_id: str, entries: tuple[Entry, ...], *, windows: bool = False) -> Offer:
        """An offer whose names are safe and unique and whose folders are folders.

        Raises :class:`MalformedMessage` naming the first thing that is wrong.
        """
        if not entries:
            raise MalformedMessage("the offer is empty")
        if len(entries) > MAX_ENTRIES:
            raise MalformedMessage(f"{len(entries)} files and folders; {MAX_ENTRIES} is the most")
        files: set[str] = set()
        folders: set[str] = set()
        for entry in entries:
            check_path(entry.path, windows=windows)
            _place(entry, files, folders)
        offer = Offer(transfer_id, entries)
        if offer.size > MAX_SIZE:
            raise MalformedMessage(f"{offer.size} bytes in all; {MAX_SIZE} is the most")
        return offer

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.entries)

    @property
    def file_count(self) -> int:
        """How many of the entries are files."""
        return sum(entry.is_file for entry in self.entries)

    @property
    def top_names(self) -> tuple[str, ...]:
        """First components of all paths, in order, each once: what appears in the output folder."""
        return tuple(dict.fromkeys(entry.path.partition("/")[0] for entry in self.entries))

    def fingerprint(self) -> str:
        """SHA-256, hexadecimal, of everything in the offer: equal only for the same offer."""
        digest = hashlib.sha256(self.transfer_id.encode())
        for entry in self.entries:
            digest.update(msgspec.json.encode(entry) + b"\n")
        return digest.hexdigest()


class OverallDigest:
    """One hash for a whole transfer, equal on both sides.

    For a single file it is the file's own SHA-256. For more it is the SHA-256 of what ``sha256sum`` would
    print for them in the offer's order: hash, two spaces, path, newline.
    """

    __slots__ = ("_lines", "_single", "count")

    def __init__(self) -> None:
        self._lines = hashlib.sha256()
        self._single = hashlib.sha256().hexdigest()
        self.count = 0

    def add(self, path: str, sha256: str) -> None:
        """Count the next file in the offer's order; ``sha256`` is hexadecimal."""
        self._lines.update(f"{sha256}  {path}\n".encode())
        self._single = sha256
        self.count += 1

    def hexdigest(self) -> str:
        """The hash of all files added so far."""
        return self._single if self.count <= 1 else self._lines.hexdigest()


def _place(entry: Entry, files: set[str], folders: set[str]) -> None:
    """Enter ``entry`` into the tree seen so far; raise MalformedMessage when it does not fit."""
    known = files if entry.is_file else folders
    parents = _parents(entry.path)
    if entry.path in files or (entry.is_file and entry.path in folders):
        raise MalformedMessage("two entries of the offer have the same name")
    if any(parent in files for parent in parents):
        raise MalformedMessage("an entry of the offer lies inside a file")
    if not entry.is_file and entry.size:
        raise MalformedMessage("a folder of the offer has a size")
    known.add(entry.path)
    folders.update(parents)


def _parents(path: str) -> list[str]:
    ends = [index for index, character in enumerate(path) if character == "/"]
    return [path[:end] for end in ends]
