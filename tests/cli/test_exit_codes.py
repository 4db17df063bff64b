"""Every error a person can meet has its code and one sentence; a bug has neither."""

import pytest

from natwalk import ConnectionEnded, Failure, InvalidCode, InvalidServerUrl, ServerUnavailable
from natwalk.cli.exit_codes import ExitCode, explain
from natwalk.core import IntegrityError, LocalProtocolError
from natwalk.transfer import FailureKind, TransferError, TransferInterrupted

CASES: list[tuple[BaseException, ExitCode]] = [
    (ConnectionEnded(Failure.WRONG_CODE, "x"), ExitCode.AUTHENTICATION_FAILED),
    (ConnectionEnded(Failure.CODE_NOT_FOUND, "x"), ExitCode.NOT_FOUND),
    (ConnectionEnded(Failure.NO_PATH, "x"), ExitCode.NO_PATH),
    (ConnectionEnded(Failure.REFUSED, "x"), ExitCode.SERVER_UNAVAILABLE),
    (ConnectionEnded(Failure.TIMEOUT, "x"), ExitCode.TIMEOUT),
    (ConnectionEnded(Failure.PEER_GONE, "x"), ExitCode.NOT_FOUND),
    (ConnectionEnded(None, "x"), ExitCode.FAILED),
    (ServerUnavailable("dead", "start it"), ExitCode.SERVER_UNAVAILABLE),
    (InvalidServerUrl("x"), ExitCode.USAGE),
    (InvalidCode("x"), ExitCode.USAGE),
    (TransferError(FailureKind.INTEGRITY, "x"), ExitCode.INTEGRITY),
    (TransferError(FailureKind.STORAGE, "x"), ExitCode.FAILED),
    (TransferInterrupted("x"), ExitCode.FAILED),
    (IntegrityError("x"), ExitCode.INTEGRITY),
    (LocalProtocolError("x"), ExitCode.FAILED),
    (TimeoutError(), ExitCode.TIMEOUT),
    (KeyboardInterrupt(), ExitCode.INTERRUPTED),
    (PermissionError(13, "Permission denied", "f"), ExitCode.FAILED),
    (OSError("odd"), ExitCode.FAILED),
]


@pytest.mark.parametrize(("error", "code"), CASES, ids=lambda value: repr(value)[:60])
def test_the_code_of(error: BaseException, code: ExitCode) -> None:
    explanation = explain(error)
    assert explanation is not None
    assert explanation.code is code
    assert explanation.message


@pytest.mark.parametrize("failure", Failure)
def test_every_failure_of_a_connection_says_what_to_do(failure: Failure) -> None:
    explanation = explain(ConnectionEnded(failure, "it ended"))
    assert explanation is not None
    assert explanation.code is not ExitCode.OK
    assert explanation.hint


@pytest.mark.parametrize("kind", FailureKind)
def test_every_failure_of_a_transfer_is_known(kind: FailureKind) -> None:
    for by_peer in (False, True):
        explanation = explain(TransferError(kind, "it failed", by_peer=by_peer))
        assert explanation is not None
        assert explanation.code is not ExitCode.OK


def test_a_full_disk_is_explained_from_both_ends() -> None:
    here = explain(TransferError(FailureKind.STORAGE, "full"))
    there = explain(TransferError(FailureKind.STORAGE, "full", by_peer=True))
    assert here is not None
    assert there is not None
    assert here.hint != there.hint


def test_a_bug_is_not_explained_away() -> None:
    assert explain(ZeroDivisionError("x")) is None
