"""Moves what was received to its name in the output folder, replacing nothing without consent."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import Final

from natwalk.transfer.names import numbered
from natwalk.transfer.storage.confined import lstat

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})


class Outcome(Enum):
    """What became of one top-level name."""

    NEW = "new"
    RENAMED = "renamed"
    """Something else stood there, so it got another name."""
    REPLACED = "replaced"
    """It took the place of what stood there, or was merged into that folder, by consent."""
    UNCHANGED = "unchanged"
    """The same file stood there already."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a top-level name of the offer ended up in the output folder."""

    name: str
    saved_as: str
    outcome: Outcome


def place(name: str, source: int, target: int, *, overwrite: bool, sha256: str | None = None) -> Placed:
    """Move ``name`` from folder ``source`` to folder ``target`` (descriptors on one file system).

    ``sha256`` is the hash of ``name`` when it is a file: an equal one that stands there already stays.
    Without ``overwrite`` nothing that stands there is touched. Raises OSError.
    """
    there = lstat(name, target)
    here = os.stat(name, dir_fd=source, follow_symlinks=False)
    if there is None:
        return Placed(name, *_move_beside(name, source, target))
    alike = sha256 is not None and stat.S_ISREG(there.st_mode) and there.st_size == here.st_size
    if alike and _hash(name, target) == sha256:
        os.unlink(name, dir_fd=source)
        return Placed(name, name, Outcome.UNCHANGED)
    if overwrite and stat.S_ISDIR(here.st_mode) == stat.S_ISDIR(there.st_mode):
        _replace(name, source, target)
        return Placed(name, name, Outcome.REPLACED)
    return Placed(name, *_move_beside(name, source, target))


def _move_beside(name: str, source: int, target: int) -> tuple[str, Outcome]:
    """Move under the first free name; return that and what it means."""
    for candidate in _candidates(name):
        try:
            _move_new(name, source, candidate, target)
        except FileExistsError:
            continue
        return candidate, Outcome.NEW if candidate == name else Outcome.RENAMED
    raise FileExistsError(errno.EEXIST, "every free name is taken", name)


def _candidates(name: str) -> Iterator[str]:
    yield name
    for number in count(1):
        if number > 9999:
            return
        yield numbered(name, number)


def _move_new(name: str, source: int, new_name: str, target: int) -> None:
    """Rename without replacing: FileExistsError when something stands there."""
    if lstat(new_name, target) is not None:
        raise FileExistsError(errno.EEXIST, "exists", new_name)
    if not stat.S_ISREG(os.stat(name, dir_fd=source, follow_symlinks=False).st_mode):
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)
        return
    try:
        # A hard link never replaces, where rename would; the check above is only for the message.
        os.link(name, new_name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)
    else:
        os.unlink(name, dir_fd=source)


def _replace(name: str, source: int, target: int) -> None:
    """Put ``name`` in the place of what stands there: files replace, folders merge."""
    if not stat.S_ISDIR(os.stat(name, dir_fd=source, follow_symlinks=False).st_mode):
        os.replace(name, name, src_dir_fd=source, dst_dir_fd=target)
        return
    from_folder = os.open(name, _FOLDER, dir_fd=source)
    try:
        into_folder = os.open(name, _FOLDER, dir_fd=target)
        try:
            for child in os.listdir(from_folder):
                place(child, from_folder, into_folder, overwrite=True)
        finally:
            os.close(into_folder)
    finally:
        os.close(from_folder)
    os.rmdir(name, dir_fd=source)


def _hash(name: str, folder: int) -> str:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with open(fd, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
