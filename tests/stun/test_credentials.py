"""Keys from passwords."""

from __future__ import annotations

import hashlib

import pytest

from natwalk.stun import PreparationError, long_term_key, short_term_key, userhash

MATRIX = "\u30de\u30c8\u30ea\u30c3\u30af\u30b9"


def test_a_short_term_key_is_the_prepared_password() -> None:
    assert short_term_key("VOkJxbRl1RmTxUk/WvJxBt") == b"VOkJxbRl1RmTxUk/WvJxBt"
    assert short_term_key("pa\u00a0ss e\u0301") == "pa ss \u00e9".encode()


def test_a_long_term_key_is_the_hash_rfc_8489_gives() -> None:
    """RFC 8489 §18.5.1.1 and §18.5.1.2."""
    text = b"user:realm:pass"
    assert long_term_key("user", "realm", "pass") == hashlib.md5(text).digest()
    assert long_term_key("user", "realm", "pass", sha256=True) == hashlib.sha256(text).digest()


def test_userhash_is_that_of_rfc_8489_appendix_b_1() -> None:
    expected = "4a3cf38fef6992bda952c6780417da0f24819415569e60b205c46e41407f1704"
    assert userhash(MATRIX, "example.org").hex() == expected


def test_known_and_unknown_users_hash_alike() -> None:
    """FAULTS 33: a hash is 32 bytes whatever the name is."""
    assert {len(userhash(name, "r")) for name in ("a", "a" * 700, MATRIX)} == {32}


@pytest.mark.parametrize("bad", ["", "a\0b", "\u202e", "x" * 764, "\ud800"])
def test_what_cannot_be_prepared_makes_no_key(bad: str) -> None:
    """FAULTS 34."""
    for make in (
        lambda: short_term_key(bad),
        lambda: long_term_key(bad, "r", "p"),
        lambda: long_term_key("u", bad, "p"),
        lambda: long_term_key("u", "r", bad, sha256=True),
        lambda: userhash(bad, "r"),
    ):
        with pytest.raises(PreparationError):
            make()
