"""Ufrag and password: what is generated, what is refused."""

from __future__ import annotations

import random

import pytest

from natwalk.ice import IceParameters
from natwalk.ice.parameters import PWD_BYTES, UFRAG_BYTES


def test_generated_parameters_have_more_than_the_bits_asked_for() -> None:
    """FAULTS 80: 24 bits of ufrag, 128 of password, every bit from the random source."""
    asked: list[int] = []

    def random_bytes(count: int) -> bytes:
        asked.append(count)
        return bytes(count)

    parameters = IceParameters.generate(random_bytes)
    assert asked == [UFRAG_BYTES, PWD_BYTES]
    assert UFRAG_BYTES * 8 >= 24
    assert PWD_BYTES * 8 >= 128
    assert len(parameters.ufrag) >= 4
    assert len(parameters.pwd) >= 22


def test_generated_parameters_do_not_repeat() -> None:
    """FAULTS 80: distinct over many, from a source that does not repeat."""
    source = random.Random(5).randbytes
    many = [IceParameters.generate(source) for _ in range(20_000)]
    assert len({p.ufrag for p in many}) == len({p.pwd for p in many}) == len(many)


def test_the_password_is_not_in_the_repr() -> None:
    """FAULTS 173."""
    parameters = IceParameters("abcd", "s" * 22)
    assert "ssss" not in repr(parameters)


@pytest.mark.parametrize(
    "ufrag", ["", "a", "abc", "a" * 257, "abc\n", "abcd\n", "ab:d", "ab d", "abcé", "abc\0", "-bcd"]
)
def test_a_bad_ufrag_is_refused(ufrag: str) -> None:
    """FAULTS 80."""
    with pytest.raises(ValueError, match="ufrag"):
        IceParameters(ufrag, "p" * 22)


@pytest.mark.parametrize("pwd", ["", "p" * 21, "p" * 257, "p" * 22 + "\n", "p" * 21 + " ", "p" * 21 + "ö"])
def test_a_bad_password_is_refused_and_not_quoted(pwd: str) -> None:
    """FAULTS 80."""
    with pytest.raises(ValueError, match="password") as caught:
        IceParameters("abcd", pwd)
    assert "ppp" not in str(caught.value)


@pytest.mark.parametrize(("ufrag", "pwd"), [("a+/9", "p" * 22), ("a" * 256, "+" * 256)])
def test_the_bounds_of_the_rfc_are_accepted(ufrag: str, pwd: str) -> None:
    assert IceParameters(ufrag, pwd).ufrag == ufrag
