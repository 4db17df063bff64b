"""Exit codes, and for every error a person can meet: its code, one sentence, and what to do about it."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

from natwalk.core import IntegrityError, NatError, TransactionTimeout
from natwalk.transfer.errors import FailureKind, TransferError, TransferInterrupted


class ExitCode(IntEnum):
    """What a natwalk command exits with."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NO_PATH = 3
    AUTHENTICATION_FAILED = 4
    NOT_FOUND = 5
    INTEGRITY = 6
    SERVER_UNAVAILABLE = 69
    BAD_CONFIGURATION = 78
    TIMEOUT = 124
    INTERRUPTED = 130


class Explanation(NamedTuple):
    """An error as a command reports it."""

    code: ExitCode
    message: str
    hint: str


_TRANSFER: Final[dict[FailureKind, tuple[ExitCode, str, str]]] = {
    FailureKind.REFUSED: (ExitCode.FAILED, "", "Ask the receiver's user to accept the files."),
    FailureKind.CANCELLED: (ExitCode.FAILED, "", ""),
    FailureKind.STORAGE: (
        ExitCode.FAILED,
        "Free space or choose another --output; the same command goes on where it stopped.",
        "The receiver's side could not write; free space there, then run the same two commands again.",
    ),
    FailureKind.SOURCE: (
        ExitCode.FAILED,
        "Check that the file exists and that you may read it.",
        "The sender's side could not read the files.",
    ),
    FailureKind.INTEGRITY: (
        ExitCode.INTEGRITY,
        "Nothing damaged was kept; run the same command again.",
        "Nothing damaged was kept; run the same command again.",
    ),
    FailureKind.VERSION: (ExitCode.FAILED, "Install the same natwalk version on both sides.", ""),
    FailureKind.PROTOCOL: (
        ExitCode.FAILED,
        "The other side broke the protocol; do not trust it, or report a bug if it is a natwalk.",
        "The other side says this side broke the protocol; please report a bug.",
    ),
}
"""Kind of failure: exit code, hint when this side found out, hint when the other side did."""


def explain(error: BaseException) -> Explanation | None:
    """The code, sentence and hint for ``error``; None when it is a bug, whose traceback should be seen."""
    match error:
        case TransferError():
            code, here, there = _TRANSFER[error.kind]
            return Explanation(code, error.message, (there or here) if error.by_peer else here)
        case TransferInterrupted():
            return Explanation(ExitCode.FAILED, str(error), "Run the same command again to go on.")
        case IntegrityError():
            return Explanation(ExitCode.INTEGRITY, str(error), "")
        case TransactionTimeout() | TimeoutError():
            return Explanation(ExitCode.TIMEOUT, str(error) or "timed out", "Raise --timeout to wait longer.")
        case NatError():
            return Explanation(ExitCode.FAILED, str(error), "")
        case OSError():
            return Explanation(ExitCode.FAILED, _os_message(error), "")
        case KeyboardInterrupt():
            return Explanation(ExitCode.INTERRUPTED, "interrupted", "")
        case _:
            return None


def _os_message(error: OSError) -> str:
    what = error.strerror or str(error)
    return f"{error.filename}: {what}" if error.filename else what
