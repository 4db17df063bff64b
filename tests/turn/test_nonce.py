from __future__ import annotations

import secrets
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import Address, Path, Transport
from natwalk.turn.nonce import BODY_LENGTH, NonceIssuer

HERE = Address("203.0.113.50", 3478)
PATH = Path(HERE, Address("198.51.100.7", 40000))
SECRET = b"0123456789abcdef"


PREFIX = b"obMatJos2wAAA"
NONCE_LENGTH = len(PREFIX) + BODY_LENGTH
WRAP = float(1 << 24)


def make(secret: bytes = SECRET, **options: Any) -> NonceIssuer:
    settings: dict[str, Any] = {"prefix": PREFIX, "offer": b"\x02\x01"} | options
    return NonceIssuer(secret, random_bytes=secrets.token_bytes, **settings)


def test_fresh_for_its_lifetime_and_stale_after() -> None:
    """FAULTS 59 for nonces: 600 s on a virtual clock, no memory."""
    issuer = make()
    nonce = issuer.issue(PATH, 1000.0)
    assert issuer.is_fresh(nonce, PATH, 1000.0)
    assert issuer.is_fresh(nonce, PATH, 1600.0)
    assert not issuer.is_fresh(nonce, PATH, 1601.0)


def test_good_for_one_client_and_one_secret_only() -> None:
    nonce = make().issue(PATH, 1000.0)
    assert not make().is_fresh(nonce, Path(HERE, PATH.remote.with_port(40001)), 1000.0)
    assert not make().is_fresh(nonce, Path(HERE.with_port(443), PATH.remote), 1000.0)
    assert not make(b"another secret of 16+").is_fresh(nonce, PATH, 1000.0)
    assert not make().is_fresh(nonce, PATH._replace(transport=Transport.TCP), 1000.0)
    assert make().is_fresh(nonce, PATH, 1000.0)


def test_over_a_stream_good_for_the_other_connections_of_that_host() -> None:
    """A data connection's ConnectionBind (RFC 6062 §4.3) needs no challenge of its own."""
    path = PATH._replace(transport=Transport.TCP)
    nonce = make().issue(path, 1000.0)
    assert make().is_fresh(nonce, path._replace(remote=PATH.remote.with_port(40001)), 1000.0)
    assert not make().is_fresh(nonce, path._replace(remote=Address("198.51.100.8", 40000)), 1000.0)
    assert not make().is_fresh(nonce, path._replace(transport=Transport.TLS), 1000.0)


def test_does_not_outlive_the_offer_it_was_made_for() -> None:
    """RFC 8489 §9.2.4: what the client repeats must be what was sent with this NONCE."""
    nonce = make().issue(PATH, 1000.0)
    assert not make(offer=b"\x01").is_fresh(nonce, PATH, 1000.0)
    assert not make(prefix=b"obMatJos2QAAA").is_fresh(nonce, PATH, 1000.0)


def test_plain_ones_are_shorter_and_good_only_where_that_is_wanted() -> None:
    """FAULTS 32: whoever gets a client to use one must not have got around the security features."""
    for plain in (False, True):
        nonce = make(plain=plain).issue(PATH, 1000.0, plain=True)
        assert len(nonce) == BODY_LENGTH
        assert make(plain=plain).is_fresh(nonce, PATH, 1000.0) is plain
        assert not make(plain=plain).is_fresh(PREFIX + nonce, PATH, 1000.0)
        full = make(plain=plain).issue(PATH, 1000.0)
        assert not make(plain=plain).is_fresh(full[len(PREFIX) :], PATH, 1000.0)


def test_old_nonce_does_not_come_back_when_the_stamp_wraps() -> None:
    nonce = make().issue(PATH, 1000.0)
    assert not make().is_fresh(nonce, PATH, 1000.0 + WRAP)
    later = make().issue(PATH, WRAP - 1)
    assert make().is_fresh(later, PATH, WRAP + 1)


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
