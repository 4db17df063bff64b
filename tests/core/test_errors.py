import pytest

from natwalk.core import (
    ErrorResponse,
    IntegrityError,
    LocalProtocolError,
    MalformedMessage,
    NatError,
    RemoteProtocolError,
    TransactionTimeout,
)


@pytest.mark.parametrize(
    "error", [LocalProtocolError, RemoteProtocolError, MalformedMessage, IntegrityError, TransactionTimeout]
)
def test_every_error_has_the_one_root(error: type[Exception]) -> None:
    assert issubclass(error, NatError)


def test_a_transaction_timeout_is_caught_as_a_timeout() -> None:
    with pytest.raises(TimeoutError):
        raise TransactionTimeout("no answer from 192.0.2.1:3478")


def test_an_error_response_carries_its_code() -> None:
    error = ErrorResponse(437, "Allocation Mismatch")
    assert (error.code, error.reason, str(error)) == (437, "Allocation Mismatch", "437 Allocation Mismatch")
    assert str(ErrorResponse(400)) == "400"
