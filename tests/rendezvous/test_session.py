from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import IntegrityError
from natwalk.rendezvous.messages import Slot
from natwalk.rendezvous.session import Session


def pair(secret_b: bytes = b"s" * 32, hello_b: bytes = b"hb") -> tuple[Session, Session]:
    return (
        Session(Slot.A, b"s" * 32, b"ctx", b"ha", b"hb"),
        Session(Slot.B, secret_b, b"ctx", b"ha", hello_b),
    )


def test_the_first_message_confirms_and_yields_nothing() -> None:
    a, b = pair()
    assert not b.confirmed
    assert b.open(*a.seal(b"")) == []
    assert b.confirmed
    assert not a.confirmed
    assert b.open(*a.seal(b"text")) == [b"text"]


@given(st.permutations(range(8)), st.lists(st.integers(0, 7), max_size=8))
def test_order_and_repetition_on_the_way_do_not_matter(order: list[int], repeats: list[int]) -> None:
    a, b = pair()
    sealed = [a.seal(bytes([n])) for n in range(8)]
    got = [body for n in [*order, *repeats] for body in b.open(*sealed[n])]
    assert got == [bytes([n]) for n in range(1, 8)]


def test_another_key_transcript_or_direction_does_not_verify() -> None:
    a, _ = pair()
    number, sealed = a.seal(b"")
    for other in (
        pair(secret_b=b"t" * 32)[1],
        pair(hello_b=b"other")[1],
        Session(Slot.A, b"s" * 32, b"ctx", b"ha", b"hb"),
    ):
        with pytest.raises(IntegrityError):
            other.open(number, sealed)
        assert not other.confirmed


@given(st.integers(0, 20), st.integers(0, 7))
def test_a_changed_bit_or_number_does_not_verify_and_does_no_harm(position: int, bit: int) -> None:
    a, b = pair()
    number, sealed = a.seal(b"x" * 5)
    changed = bytearray(sealed)
    changed[position] ^= 1 << bit
    with pytest.raises(IntegrityError):
        b.open(number, bytes(changed))
    with pytest.raises(IntegrityError):
        b.open(number + 1, sealed)
    b.open(number, sealed)
    assert b.confirmed


def test_messages_far_ahead_are_not_kept() -> None:
    a, b = pair()
    sealed = [a.seal(b"") for _ in range(70)]
    assert b.open(*sealed[64]) == []
    assert b.open(*sealed[63]) == []
    assert len(b._ahead) == 1


def test_derived_keys_agree_and_differ_by_purpose_and_session() -> None:
    a, b = pair()
    assert a.derive("x") == b.derive("x") != a.derive("y")
    assert len(a.derive("x", 64)) == 64
    assert a.tag == b.tag != pair(hello_b=b"other")[1].tag
