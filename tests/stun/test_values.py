"""Attribute values check themselves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from natwalk.stun import (
    AddressErrorCode,
    Algorithm,
    EcnCheck,
    ErrorCode,
    IcmpError,
    PasswordAlgorithm,
    TransmitCounter,
)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ErrorCode(299),
        lambda: ErrorCode(700),
        lambda: AddressErrorCode(1, 299),
        lambda: AddressErrorCode(256, 440),
        lambda: PasswordAlgorithm(-1),
        lambda: IcmpError(128, 0),
        lambda: IcmpError(0, 512),
        lambda: IcmpError(3, 4, b"abc"),
        lambda: TransmitCounter(256, 0),
        lambda: EcnCheck(4, True),
    ],
)
def test_values_out_of_range_cannot_be_made(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        make()


def test_values_are_compared_by_what_they_hold() -> None:
    assert ErrorCode(401, "x") == ErrorCode(401, "x") != ErrorCode(401)
    assert PasswordAlgorithm(Algorithm.SHA256) == PasswordAlgorithm(2)
