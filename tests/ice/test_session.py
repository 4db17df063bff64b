"""What the parts of an agent share."""

from __future__ import annotations

import random

import pytest

from natwalk.ice import IceConfig, IceParameters
from natwalk.ice.session import Session
from natwalk.stun import short_term_key


def session() -> Session:
    source = random.Random(1).randbytes
    return Session(IceConfig(), source, True, 1, IceParameters("here", "h" * 22))


def test_keys_and_username_are_those_of_rfc_8445() -> None:
    """RFC 8445 §7.2.2: the peer's ufrag first; requests are keyed with the password of who answers."""
    made = session()
    made.remote = IceParameters("peer", "p" * 22)
    assert made.remote_username == "peer:here"
    assert made.remote_key == short_term_key("p" * 22)
    assert made.local_key == short_term_key("h" * 22)


def test_without_remote_parameters_there_is_no_key_of_theirs() -> None:
    with pytest.raises(AssertionError):
        session().remote_key  # noqa: B018


def test_transaction_ids_are_twelve_random_bytes() -> None:
    made = session()
    ids = {made.transaction_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {len(each) for each in ids} == {12}


def test_random_numbers_stay_in_their_range_and_fill_it() -> None:
    made = session()
    numbers = [made.between(4.0, 6.0) for _ in range(2000)]
    assert 4.0 <= min(numbers) < 4.1
    assert 5.9 < max(numbers) < 6.0
