"""The control stream's state machine, fed in pieces, too much, and after the end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import IntegrityError, MalformedMessage
from natwalk.secure.login import Login
from secure.pair import AUTH_KEY, CLIENT_IDENTITY, SERVER_IDENTITY, seeded_bytes


def both() -> tuple[Login, Login]:
    return (
        Login(True, CLIENT_IDENTITY, SERVER_IDENTITY.fingerprint, AUTH_KEY, seeded_bytes(1)),
        Login(False, SERVER_IDENTITY, CLIENT_IDENTITY.fingerprint, AUTH_KEY, seeded_bytes(2)),
    )


@given(cut=st.integers(0, 400))
def test_proofs_may_come_in_pieces(cut: int) -> None:
    client, server = both()
    opening = client.opening
    assert server.receive(opening[:cut], False) == b""
    assert not server.done
    answer = server.receive(opening[cut:], True)
    assert server.done
    assert client.receive(answer[: cut % len(answer)], False) == b""
    assert not client.done
    assert client.receive(answer[cut % len(answer) :], True) == b""
    assert client.done


def test_server_opens_with_nothing() -> None:
    assert both()[1].opening == b""


def test_too_much_is_refused_before_it_ends() -> None:
    for login in both():
        with pytest.raises(MalformedMessage):
            for _ in range(100):
                login.receive(bytes(100), False)
        assert not login.done


def test_a_cut_or_empty_proof_is_refused() -> None:
    client, server = both()
    with pytest.raises(MalformedMessage):
        server.receive(client.opening[:-1], True)
    with pytest.raises(IntegrityError):
        client.receive(b"", True)
    assert not client.done
    assert not server.done


def test_nothing_follows_a_proof() -> None:
    client, server = both()
    server.receive(client.opening, True)
    with pytest.raises(MalformedMessage):
        server.receive(b"", True)
