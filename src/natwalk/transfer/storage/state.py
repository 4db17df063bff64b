"""What survives a killed process: how to find the way back to the same peer and the same transfer.

Both kinds of state hold a secret that lets only its holder come back, so the files are readable by their
owner alone and are replaced in one step. Damaged or outdated ones count as absent.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Final, TypeVar

import msgspec

from natwalk.transfer.names import PART_SUFFIX

FORMAT: Final = 1
LIFETIME: Final = 24 * 3600.0
"""Seconds after which nobody goes on with a transfer."""
STATE_FILE: Final = "state.json"
MAX_STATE_BYTES: Final = 64 * 1024
_MAX_FOLDERS: Final = 1000

Small = Annotated[str, msgspec.Meta(max_length=512)]
Secret = Annotated[bytes, msgspec.Meta(max_length=256)]


@dataclass(frozen=True, slots=True)
class ResumeRecord:
    """The way back to one peer: a mailbox at ``server`` and the secret both sides share."""

    mailbox: str
    secret: bytes = field(repr=False)
    server: str = ""
    code: str = field(default="", repr=False)
    """The one-time code the user typed, by which the same command finds this record again."""
    created: float = 0.0
    """Wall clock, seconds since the epoch."""


class ReceiveState(msgspec.Struct, frozen=True):
    """What the receiver keeps beside the partial files."""

    transfer_id: Small
    offer: Small
    """Fingerprint of the offer the user agreed to; ``""`` before that."""
    mailbox: Small = ""
    secret: Secret = b""
    server: Small = ""
    salt: Secret = b""
    code_hash: Small = ""
    created: float = 0.0
    format: int = FORMAT

    @staticmethod
    def new(transfer_id: str, offer: str, record: ResumeRecord | None, salt: bytes) -> ReceiveState:
        """State for a transfer over the connection that ``record`` leads back to."""
        if record is None:
            return ReceiveState(transfer_id, offer)
        hashed = _code_hash(record.code, salt) if record.code else ""
        return ReceiveState(
            transfer_id, offer, record.mailbox, record.secret, record.server, salt, hashed, record.created
        )

    def record(self, code: str) -> ResumeRecord:
        """The way back that this state holds."""
        return ResumeRecord(self.mailbox, self.secret, self.server, code, self.created)


class SendState(msgspec.Struct, frozen=True):
    """What the sender keeps in its state folder."""

    transfer_id: Small
    mailbox: Small
    secret: Secret
    server: Small
    code: Small
    """Shown again so that the user can tell which receiver is meant; it opens nothing any more."""
    created: float
    format: int = FORMAT


S = TypeVar("S", ReceiveState, SendState)


class SendStateFile:
    """The state of one ``send`` command, by its paths and server; locked while the command runs."""

    def __init__(self, paths: Iterable[str], server: str, folder: str | None = None) -> None:
        key = "\n".join([server.rstrip("/"), *(os.path.realpath(path) for path in paths)])
        name = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:32]
        self._folder = folder or default_state_folder()
        self._path = os.path.join(self._folder, f"{name}.json")
        self._lock: int | None = None

    def acquire(self) -> bool:
        """Lock; False when the same command runs already. Raises OSError when the folder cannot be made."""
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._lock = lock
        return True

    def load(self, wall_now: float) -> SendState | None:
        """The state an earlier run left, unless it is damaged or older than :data:`LIFETIME`."""
        state = _load(self._path, SendState)
        return state if state and _is_fresh(state.created, state.format, wall_now) else None

    def save(self, state: SendState) -> None:
        """Replace the state in one step. Raises OSError."""
        write_private(self._path, msgspec.json.encode(state))

    def delete(self) -> None:
        """Forget the transfer; harmless when there is none."""
        with suppress(FileNotFoundError):
            os.unlink(self._path)

    def release(self) -> None:
        """Unlock. The lock file goes too when no state is left; harmless when not locked."""
        if self._lock is None:
            return
        if not os.path.exists(self._path):
            with suppress(FileNotFoundError):
                os.unlink(f"{self._path}.lock")
        os.close(self._lock)
        self._lock = None


def find_receive_state(output: str, code: str, server: str, wall_now: float) -> ReceiveState | None:
    """State beside partial files in ``output`` that was made with ``code`` at ``server``, or None."""
    with suppress(OSError), os.scandir(output) as entries:
        folders = [
            e.path for e in entries if e.name.endswith(PART_SUFFIX) and e.is_dir(follow_symlinks=False)
        ]
        for folder in sorted(folders)[:_MAX_FOLDERS]:
            state = _load(os.path.join(folder, STATE_FILE), ReceiveState)
            if state is None or not _is_fresh(state.created, state.format, wall_now):
                continue
            matches = hmac.compare_digest(state.code_hash, _code_hash(code, state.salt))
            if matches and state.secret and state.server.rstrip("/") == server.rstrip("/"):
                return state
    return None


def read_receive_state(folder: int) -> ReceiveState | None:
    """The state in the folder with this descriptor, or None when it is missing or damaged."""
    return _load(STATE_FILE, ReceiveState, folder)


def write_private(path: str, data: bytes, folder: int | None = None) -> None:
    """Replace the file at ``path`` in one step, readable by its owner alone. Raises OSError."""
    temporary = f"{path}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o600, dir_fd=folder)
    with open(fd, "wb") as file:
        os.fchmod(fd, 0o600)
        # Not synced: that would push the partial files beside it to the disk first. What is lost with the
        # power is the resumption, and a damaged state is no state.
        file.write(data)
    os.replace(temporary, path, src_dir_fd=folder, dst_dir_fd=folder)


def default_state_folder() -> str:
    """``$XDG_STATE_HOME/natwalk/send``, by default below ``~/.local/state``."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "natwalk", "send")


def _load(path: str, kind: type[S], folder: int | None = None) -> S | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        with open(fd, "rb") as file:
            if os.fstat(fd).st_uid != os.geteuid():
                return None
            return msgspec.json.decode(file.read(MAX_STATE_BYTES), type=kind)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _is_fresh(created: float, version: int, wall_now: float) -> bool:
    return version == FORMAT and 0 <= wall_now - created <= LIFETIME


def _code_hash(code: str, salt: bytes) -> str:
    return hashlib.sha256(salt + code.strip().lower().encode()).hexdigest()
