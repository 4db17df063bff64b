"""Opening things below a folder so that nothing planted there leads out of it.

Every component is opened relative to the one before, and no symbolic link is followed: a link in the way is
an error, not a road.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from contextlib import suppress
from typing import Final

from natwalk.transfer.errors import FailureKind, TransferError
from natwalk.transfer.names import check_path, shown

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PARENT_MODE: Final = 0o777
"""For folders made on the way; the process's umask takes its share."""
_KEPT: Final = 32
"""Folders kept open, so that the files of one folder do not walk its path again each."""


def storage_error(what: str, error: OSError) -> TransferError:
    """``error`` as the end of a transfer, in words for both sides."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TransferError(FailureKind.STORAGE, f"the receiver's disk is full ({shown(what)})")
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        reason = "a symbolic link or file stands where a folder belongs"
        return TransferError(FailureKind.STORAGE, f"cannot write {shown(what)}: {reason}")
    return TransferError(FailureKind.STORAGE, f"cannot write {shown(what)}: {error.strerror}")


class Confined:
    """A folder, by descriptor, and what lies below it by checked relative paths."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._open: OrderedDict[str, int] = OrderedDict()

    @staticmethod
    def root(path: str) -> Confined:
        """The output folder a user names, made when missing; links in its own path are the user's."""
        os.makedirs(path, exist_ok=True)
        return Confined(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def folder(self, path: str, *, make: bool = False, mode: int = _PARENT_MODE) -> int:
        """Descriptor of the folder at ``path`` (``""`` for this one); it stays owned by this object.

        Raises OSError: ELOOP or ENOTDIR where a link or file stands in the way.
        """
        if not path:
            return self.fd
        known = self._open.get(path)
        if known is not None:
            self._open.move_to_end(path)
            return known
        check_path(path)
        parent, _, name = path.rpartition("/")
        fd = _open_folder(name, self.folder(parent, make=make, mode=_PARENT_MODE), make, mode)
        self._open[path] = fd
        if len(self._open) > _KEPT:
            os.close(self._open.popitem(last=False)[1])
        return fd

    def open_file(self, path: str, flags: int, mode: int = 0o600, *, make_parents: bool = False) -> int:
        """Open the regular file at ``path``; the caller closes it. Raises OSError."""
        check_path(path)
        parent, _, name = path.rpartition("/")
        folder = self.folder(parent, make=make_parents)
        fd = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, mode, dir_fd=folder)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.ENOTDIR, "not a regular file", path)
        return fd

    def child(self, path: str) -> Confined:
        """The folder at ``path`` as an object of its own. Raises OSError."""
        return Confined(os.dup(self.folder(path)))

    def forget(self) -> None:
        """Close the folders kept open, before they are renamed or removed."""
        while self._open:
            os.close(self._open.popitem()[1])

    def close(self) -> None:
        """Close everything; the object is of no use afterwards."""
        self.forget()
        os.close(self.fd)


def lstat(name: str, folder: int) -> os.stat_result | None:
    """What stands at ``name`` in ``folder``, links not followed; None when nothing does."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def remove_tree(name: str, folder: int) -> None:
    """Remove ``name`` in ``folder`` with everything below, following no link; harmless when missing."""
    info = lstat(name, folder)
    if info is None:
        return
    if not stat.S_ISDIR(info.st_mode):
        os.unlink(name, dir_fd=folder)
        return
    fd = os.open(name, _FOLDER, dir_fd=folder)
    try:
        for child in os.listdir(fd):
            remove_tree(child, fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=folder)


def _open_folder(name: str, parent: int, make: bool, mode: int) -> int:
    if make:
        with suppress(FileExistsError):
            os.mkdir(name, mode, dir_fd=parent)
    return os.open(name, _FOLDER, dir_fd=parent)
