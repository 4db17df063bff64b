"""The two proofs: every field is bound, every decoder input is an object or MalformedMessage."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natwalk.core import IntegrityError, MalformedMessage, RemoteProtocolError
from natwalk.secure import Identity
from natwalk.secure.auth import (
    CLIENT_PROOF_LIMIT,
    SERVER_PROOF_LENGTH,
    ClientProof,
    prove_client,
    prove_server,
    verify_client,
    verify_server,
)
from secure.pair import AUTH_KEY, CLIENT_IDENTITY, SERVER_IDENTITY, seeded_bytes

CLIENT, SERVER = CLIENT_IDENTITY.fingerprint, SERVER_IDENTITY.fingerprint
PROOF = prove_client(CLIENT_IDENTITY, SERVER, AUTH_KEY, seeded_bytes(1))
ANSWER = prove_server(PROOF.nonce, CLIENT, SERVER, AUTH_KEY)


def test_good_proofs_verify() -> None:
    verify_client(ClientProof.decode(PROOF.encode()), CLIENT, SERVER, AUTH_KEY)
    verify_server(ANSWER, PROOF.nonce, CLIENT, SERVER, AUTH_KEY)
    assert len(PROOF.encode()) < CLIENT_PROOF_LIMIT
    assert len(ANSWER) == SERVER_PROOF_LENGTH


def test_no_single_byte_of_a_proof_may_change() -> None:
    for encoded, verify in (
        (PROOF.encode(), lambda data: verify_client(ClientProof.decode(data), CLIENT, SERVER, AUTH_KEY)),
        (ANSWER, lambda data: verify_server(data, PROOF.nonce, CLIENT, SERVER, AUTH_KEY)),
    ):
        for at in range(len(encoded)):
            changed = encoded[:at] + bytes([encoded[at] ^ 0x10]) + encoded[at + 1 :]
            with pytest.raises(RemoteProtocolError):
                verify(changed)


@pytest.mark.parametrize(
    ("client", "server", "key"),
    [(SERVER, SERVER, AUTH_KEY), (CLIENT, CLIENT, AUTH_KEY), (CLIENT, SERVER, b"other" * 8)],
)
def test_proofs_are_bound_to_both_certificates_and_the_key(client: bytes, server: bytes, key: bytes) -> None:
    """A proof for one server is worth nothing at another (replay)."""
    with pytest.raises(IntegrityError):
        verify_client(PROOF, client, server, key)
    with pytest.raises(IntegrityError):
        verify_server(ANSWER, PROOF.nonce, client, server, key)


def test_knowing_the_key_is_not_enough_without_the_certificates_key() -> None:
    thief = Identity.generate()
    stolen = Identity(CLIENT_IDENTITY.certificate, thief.private_key)
    proof = prove_client(stolen, SERVER, AUTH_KEY, seeded_bytes(1))
    with pytest.raises(IntegrityError, match="did not sign"):
        verify_client(proof, CLIENT, SERVER, AUTH_KEY)


def test_the_answer_is_fresh() -> None:
    with pytest.raises(IntegrityError):
        verify_server(ANSWER, bytes(32), CLIENT, SERVER, AUTH_KEY)


def test_one_direction_cannot_be_reflected_as_the_other() -> None:
    assert PROOF.mac != ANSWER[-32:]
    with pytest.raises(IntegrityError):
        verify_server(ANSWER[:4] + PROOF.mac, PROOF.nonce, CLIENT, SERVER, AUTH_KEY)


@settings(max_examples=200, deadline=None)
@given(
    data=st.one_of(
        st.binary(max_size=600),
        st.builds(lambda rest: b"NWA1" + rest, st.binary(max_size=600)),
        st.builds(
            lambda nonce, cert, rest: b"NWA1" + nonce + len(cert).to_bytes(2, "big") + cert + rest,
            st.binary(min_size=32, max_size=32),
            st.binary(max_size=1100),
            st.one_of(st.binary(min_size=96, max_size=96), st.binary(max_size=200)),
        ),
    )
)
def test_decode_gives_a_proof_or_malformed_message(data: bytes) -> None:
    try:
        proof = ClientProof.decode(data)
    except MalformedMessage:
        return
    assert proof.encode() == data
    with pytest.raises(IntegrityError):
        verify_client(proof, CLIENT, SERVER, AUTH_KEY)


def test_round_trip() -> None:
    assert ClientProof.decode(PROOF.encode()) == PROOF
    assert dataclasses.replace(PROOF, nonce=bytes(32)) != PROOF
