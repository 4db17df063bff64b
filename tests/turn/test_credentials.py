from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from natwalk.turn import rest_credentials
from natwalk.turn.credentials import rest_expiry, rest_password, rest_user


def test_username_is_the_expiry_and_password_an_hmac_of_it() -> None:
    username, password = rest_credentials("north", 1_700_000_000.9, 3600, "alice")
    assert username == "1700003600:alice"
    digest = hmac.new(b"north", username.encode(), hashlib.sha1).digest()
    assert password == base64.b64encode(digest).decode() == rest_password("north", username)


def test_without_a_user_the_name_is_the_expiry_alone() -> None:
    assert rest_credentials("north", 100.0, 50)[0] == "150"


@pytest.mark.parametrize(
    ("username", "expiry", "user"),
    [
        ("150", 150, "150"),
        ("150:alice", 150, "alice"),
        ("150:a:b", 150, "a:b"),
        ("alice", None, "alice"),
        ("-5:alice", None, "alice"),
        ("１５０:alice", None, "alice"),
        ("9999999999999:alice", None, "alice"),
        ("", None, ""),
        (":alice", None, "alice"),
    ],
)
def test_reading_a_username(username: str, expiry: int | None, user: str) -> None:
    assert rest_expiry(username) == expiry
    assert rest_user(username) == user
