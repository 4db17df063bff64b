"""Exit codes, and for every error a person can meet: its code, one sentence, and what to do about it.

Imports nothing heavy before there is an error to explain: every command imports this.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from natwalk.transfer import TransferError


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


_CONNECTION: Final[dict[str, ExitCode]] = {
    "wrong-code": ExitCode.AUTHENTICATION_FAILED,
    "code-not-found": ExitCode.NOT_FOUND,
    "refused": ExitCode.SERVER_UNAVAILABLE,
    "no-path": ExitCode.NO_PATH,
    "authentication": ExitCode.AUTHENTICATION_FAILED,
    "peer-gone": ExitCode.NOT_FOUND,
    "peer-closed": ExitCode.FAILED,
    "protocol": ExitCode.FAILED,
    "timeout": ExitCode.TIMEOUT,
}
"""Value of :class:`natwalk.Failure`: exit code."""

_TRANSFER: Final[dict[str, tuple[ExitCode, str, str]]] = {
    "refused": (ExitCode.FAILED, "", "Ask the receiver's user to accept the files, then send again."),
    "cancelled": (ExitCode.FAILED, "", ""),
    "storage": (
        ExitCode.FAILED,
        "Free space or make the folder writable; the same command on each side then goes on.",
        "The other side must make room; the same command on each side then goes on.",
    ),
    "source": (ExitCode.FAILED, "Check that it exists and that you may read it.", ""),
    "integrity": (
        ExitCode.INTEGRITY,
        "Nothing damaged was kept; the same command on each side fetches it again.",
        "Nothing damaged was kept; the same command on each side fetches it again.",
    ),
    "version": (ExitCode.FAILED, "Install the same version of natwalk on both sides.", ""),
    "protocol": (
        ExitCode.FAILED,
        "Check that both sides run the same version of natwalk, and that you know who sends.",
        "Check that both sides run the same version of natwalk.",
    ),
}
"""Value of :class:`natwalk.transfer.FailureKind`: exit code, hint when found here, hint when found there."""


def explain(error: BaseException) -> Explanation | None:
    """The code, sentence and hint for ``error``; None when it is a bug, whose traceback should be seen."""
    from natwalk.core import IntegrityError, NatError
    from natwalk.transfer.errors import TransferError, TransferInterrupted

    match error:
        case KeyboardInterrupt():
            return Explanation(ExitCode.INTERRUPTED, "interrupted", "")
        case TransferError():
            return _of_transfer(error)
        case TransferInterrupted():
            return Explanation(ExitCode.FAILED, str(error), "The same command on each side goes on.")
        case TimeoutError():
            hint = "Raise --timeout to wait longer."
            return Explanation(ExitCode.TIMEOUT, str(error) or "nothing happened in time", hint)
        case IntegrityError():
            return Explanation(ExitCode.INTEGRITY, str(error), "")
        case NatError():
            return _of_connection(error)
        case OSError():
            what = error.strerror or str(error)
            return Explanation(ExitCode.FAILED, f"{error.filename}: {what}" if error.filename else what, "")
        case _:
            return None


def _of_transfer(error: TransferError) -> Explanation:
    code, here, there = _TRANSFER[error.kind]
    return Explanation(code, error.message, there if error.by_peer else here)


def _of_connection(error: Exception) -> Explanation:
    from natwalk.aio.errors import ConnectionEnded
    from natwalk.aio.server_url import InvalidServerUrl, ServerUnavailable
    from natwalk.rendezvous import InvalidCode

    match error:
        case ServerUnavailable():
            return Explanation(ExitCode.SERVER_UNAVAILABLE, str(error), error.hint)
        case ConnectionEnded(failure=failure) if failure is not None:
            return Explanation(_CONNECTION[failure.value], str(error), error.hint)
        case InvalidCode() | InvalidServerUrl():
            return Explanation(ExitCode.USAGE, str(error), "")
        case _:
            return Explanation(ExitCode.FAILED, str(error), "")
