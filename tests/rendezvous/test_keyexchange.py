from __future__ import annotations

import contextlib
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natwalk.core import IntegrityError
from natwalk.rendezvous.keyexchange import CodeExchange, SharedSecretExchange, hkdf
from natwalk.rendezvous.messages import Slot

SECRET = b"k" * 32
random_bytes = Random(5).randbytes


def pair(kind: type, secret_a: bytes, secret_b: bytes, context_b: bytes = b"ctx") -> tuple[bytes, bytes]:
    a = kind(Slot.A, secret_a, b"ctx", random_bytes=random_bytes)
    b = kind(Slot.B, secret_b, context_b, random_bytes=random_bytes)
    return a.finish(b.hello), b.finish(a.hello)


@pytest.mark.parametrize("kind", [CodeExchange, SharedSecretExchange])
class TestBoth:
    def test_the_same_secret_gives_the_same_key_and_a_fresh_one_each_time(self, kind: type) -> None:
        first, second = pair(kind, SECRET, SECRET), pair(kind, SECRET, SECRET)
        assert first[0] == first[1]
        assert second[0] == second[1] != first[0]

    def test_another_secret_or_context_gives_another_key(self, kind: type) -> None:
        a, b = pair(kind, SECRET, b"l" * 32)
        assert a != b
        a, b = pair(kind, SECRET, SECRET, b"other")
        assert a != b

    def test_our_own_hello_and_one_of_our_side_are_refused(self, kind: type) -> None:
        for hello_of in (None, Slot.A):
            a = kind(Slot.A, SECRET, b"", random_bytes=random_bytes)
            other = a if hello_of is None else kind(hello_of, SECRET, b"", random_bytes=random_bytes)
            with pytest.raises(IntegrityError):
                a.finish(other.hello)

    def test_hellos_do_not_show_the_secret_twice_alike(self, kind: type) -> None:
        hellos = {kind(Slot.A, SECRET, b"", random_bytes=random_bytes).hello for _ in range(3)}
        assert len(hellos) == 3


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=70))
def test_any_bytes_for_a_hello_give_a_key_or_an_integrity_error(data: bytes) -> None:
    for kind in (CodeExchange, SharedSecretExchange):
        for hello in (data, b"B" + data[:32].ljust(32, b"\0")):
            exchange = kind(Slot.A, SECRET, b"", random_bytes=random_bytes)
            with contextlib.suppress(IntegrityError):
                assert len(exchange.finish(hello)) == 32


def test_weak_points_are_refused() -> None:
    for point in (bytes(32), b"\1" + bytes(31)):
        with pytest.raises(IntegrityError):
            SharedSecretExchange(Slot.A, SECRET, b"", random_bytes=random_bytes).finish(b"B" + point)
        with pytest.raises(IntegrityError):
            CodeExchange(Slot.A, SECRET, b"", random_bytes=random_bytes).finish(b"B" + point)


def test_a_shared_secret_exchange_meets_several_incarnations_of_the_peer() -> None:
    a = SharedSecretExchange(Slot.A, SECRET, b"", random_bytes=random_bytes)
    keys = set()
    for _ in range(3):
        b = SharedSecretExchange(Slot.B, SECRET, b"", random_bytes=random_bytes)
        assert a.finish(b.hello) == b.finish(a.hello)
        keys.add(a.finish(b.hello))
    assert len(keys) == 3


def test_a_code_exchange_finishes_once() -> None:
    a = CodeExchange(Slot.A, b"code", b"", random_bytes=random_bytes)
    b = CodeExchange(Slot.B, b"code", b"", random_bytes=random_bytes)
    a.finish(b.hello)
    with pytest.raises(IntegrityError):
        a.finish(b.hello)


def test_hkdf_is_that_of_the_rfc() -> None:
    """RFC 5869 appendix A.1."""
    okm = hkdf(b"\x0b" * 22, bytes(range(0xF0, 0xFA)), salt=bytes(range(13)), length=42)
    assert okm.hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )
