import pytest

from natwalk.peer import Failure
from natwalk.peer.failures import of_close, of_rendezvous
from natwalk.rendezvous import FailureCode
from natwalk.secure import CloseCode


@pytest.mark.parametrize("code", list(FailureCode))
def test_every_refusal_of_the_server_means_something(code: FailureCode) -> None:
    not_found = {"unknown-nameplate", "crowded", "expired", "gone"}
    expected = Failure.CODE_NOT_FOUND if code.value in not_found else Failure.REFUSED
    assert of_rendezvous(code) is expected


@pytest.mark.parametrize(
    ("code", "by_peer", "failure"),
    [
        (CloseCode.AUTHENTICATION_FAILED, False, Failure.AUTHENTICATION),
        (CloseCode.HANDSHAKE_TIMEOUT, False, Failure.TIMEOUT),
        (CloseCode.IDLE_TIMEOUT, False, Failure.PEER_GONE),
        (CloseCode.TRANSPORT_ERROR, True, Failure.PROTOCOL),
        (CloseCode.OVERFLOW, True, Failure.PROTOCOL),
        (CloseCode.NORMAL, True, Failure.PEER_CLOSED),
        (1234, True, Failure.PEER_CLOSED),
        (CloseCode.NORMAL, False, Failure.PROTOCOL),
    ],
)
def test_every_end_of_quic_means_something(code: int, by_peer: bool, failure: Failure) -> None:
    assert of_close(code, by_peer=by_peer) is failure
