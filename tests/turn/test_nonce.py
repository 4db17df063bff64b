from __future__ import annotations

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import Address, Path
from natwalk.turn.nonce import NONCE_LENGTH, NonceIssuer

HERE = Address("203.0.113.50", 3478)
PATH = Path(HERE, Address("198.51.100.7", 40000))
SECRET = b"0123456789abcdef"


def make(secret: bytes = SECRET) -> NonceIssuer:
    return NonceIssuer(secret, random_bytes=secrets.token_bytes)


def test_fresh_for_its_lifetime_and_stale_after() -> None:
    """FAULTS 59 for nonces: 600 s on a virtual clock, no memory."""
    issuer = make()
    nonce = issuer.issue(PATH, 1000.0)
    assert issuer.is_fresh(nonce, PATH, 1000.0)
    assert issuer.is_fresh(nonce, PATH, 1600.0)
    assert not issuer.is_fresh(nonce, PATH, 1600.1)


def test_good_for_one_client_and_one_secret_only() -> None:
    nonce = make().issue(PATH, 1000.0)
    assert not make().is_fresh(nonce, Path(HERE, PATH.remote.with_port(40001)), 1000.0)
    assert not make().is_fresh(nonce, Path(HERE.with_port(443), PATH.remote), 1000.0)
    assert not make(b"another secret of 16+").is_fresh(nonce, PATH, 1000.0)
    assert make().is_fresh(nonce, PATH, 1000.0)


def test_from_the_future_is_not_fresh() -> None:
    nonce = make().issue(PATH, 2000.0)
    assert not make().is_fresh(nonce, PATH, 1000.0)


def test_thousand_nonces_at_one_instant_do_not_repeat() -> None:
    """FAULTS 47: no repeats, not even for one client at one time."""
    issuer = make()
    assert len({issuer.issue(PATH, 1000.0) for _ in range(1000)}) == 1000


def test_is_printable_and_of_fixed_length() -> None:
    nonce = make().issue(PATH, 1000.0)
    assert len(nonce) == NONCE_LENGTH
    assert nonce.isascii()
    assert nonce.decode().isprintable()


@given(flip=st.integers(0, NONCE_LENGTH * 8 - 1))
def test_no_flipped_bit_is_accepted(flip: int) -> None:
    issuer = make()
    nonce = bytearray(issuer.issue(PATH, 1000.0))
    nonce[flip // 8] ^= 1 << flip % 8
    assert not issuer.is_fresh(bytes(nonce), PATH, 1000.0)


@given(nonce=st.binary(max_size=64))
def test_any_bytes_are_just_not_fresh(nonce: bytes) -> None:
    assert not make().is_fresh(nonce, PATH, 1000.0)


def test_short_secret_is_refused() -> None:
    with pytest.raises(ValueError):
        make(b"short")
