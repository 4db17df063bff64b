"""How the engine's last words become ours."""

from __future__ import annotations

import pytest
from qh3.quic.events import ConnectionTerminated

from natwalk.core import LocalProtocolError
from natwalk.secure import CloseCode
from natwalk.secure.endings import WRONG_CERTIFICATE, check_code, explain


def test_the_peers_own_codes_pass() -> None:
    for code in (0, 7, 0xFFFF_FFFF, CloseCode.AUTHENTICATION_FAILED, CloseCode.OVERFLOW):
        ending = explain(ConnectionTerminated(code, None, "why\x07"), by_peer=True)
        assert (ending.code, ending.reason, ending.by_peer) == (code, "why?", True)


def test_codes_nobody_defined_are_transport_errors() -> None:
    ending = explain(ConnectionTerminated(1 << 60, None, ""), by_peer=True)
    assert (ending.code, ending.by_peer) == (CloseCode.TRANSPORT_ERROR, True)
    assert ending.reason == "QUIC error (0x1000000000000000)"


def test_errors_of_the_engine_by_kind() -> None:
    idle = explain(ConnectionTerminated(1, 0, "Idle timeout"), by_peer=False)
    assert idle.code == CloseCode.IDLE_TIMEOUT
    assert explain(ConnectionTerminated(0x12A, 6, "Fingerprints"), by_peer=False) == WRONG_CERTIFICATE
    assert explain(ConnectionTerminated(0x12A, 6, "x"), by_peer=True).code == CloseCode.TRANSPORT_ERROR
    # a peer that says "Idle timeout" has closed, which is something else
    assert explain(ConnectionTerminated(1, 0, "Idle timeout"), by_peer=True).code == CloseCode.TRANSPORT_ERROR
    broken = explain(ConnectionTerminated(0xA, 6, "x" * 1000), by_peer=False)
    assert broken.code == CloseCode.TRANSPORT_ERROR
    assert len(broken.reason) <= 200


@pytest.mark.parametrize("code", [-1, 1 << 32, CloseCode.IDLE_TIMEOUT])
def test_application_codes_have_a_range(code: int) -> None:
    with pytest.raises(LocalProtocolError):
        check_code(code)
    check_code(0)
    check_code((1 << 32) - 1)
