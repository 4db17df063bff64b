"""Connectivity checks as messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import Address, ErrorResponse, IntegrityError, LocalProtocolError
from natwalk.ice.checks import build_check, build_error, build_success, read_check
from natwalk.stun import (
    ERROR_CODE,
    FINGERPRINT,
    ICE_CONTROLLED,
    ICE_CONTROLLING,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    PRIORITY,
    UNKNOWN_ATTRIBUTES,
    USE_CANDIDATE,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    Message,
    Method,
    check_integrity,
    decode,
    encode,
    request,
    short_term_key,
)
from natwalk.stun.attributes import Attribute, unknown

KEY = short_term_key("p" * 22)
OTHER = short_term_key("q" * 22)
TID = bytes(range(12))


def check(*, use_candidate: bool = False, controlling: bool = True, size: int = 0) -> bytes:
    return build_check(
        TID,
        username="them:us",
        key=KEY,
        priority=1234,
        controlling=controlling,
        tie_breaker=99,
        use_candidate=use_candidate,
        size=size,
    )


def custom(
    *attributes: Attribute, key: bytes = KEY, sha256: bool = False, fingerprint: bool = True
) -> Message:
    message = request(Method.BINDING, TID, *attributes)
    return decode(encode(message, integrity_key=key, sha256=sha256, fingerprint=fingerprint))


@pytest.mark.parametrize("controlling", [True, False])
@pytest.mark.parametrize("use_candidate", [True, False])
def test_a_check_is_read_as_it_was_built(controlling: bool, use_candidate: bool) -> None:
    message = decode(check(controlling=controlling, use_candidate=use_candidate))
    read = read_check(message, ufrag="them", key=KEY)
    assert (read.ufrag, read.priority, read.tie_breaker) == ("us", 1234, 99)
    assert (read.controlling, read.use_candidate) == (controlling, use_candidate)
    assert (ICE_CONTROLLING in message, ICE_CONTROLLED in message) == (controlling, not controlling)
    assert (USE_CANDIDATE in message) is use_candidate


@given(st.integers(min_value=120, max_value=65507))
def test_a_probe_has_the_size_asked_for_rounded_up_to_four(size: int) -> None:
    data = check(size=size)
    assert size <= len(data) < size + 4
    assert read_check(decode(data), ufrag="them", key=KEY).priority == 1234


@pytest.mark.parametrize("size", [1, 60, 65508, 100_000])
def test_a_probe_of_an_impossible_size_is_refused(size: int) -> None:
    with pytest.raises(LocalProtocolError, match=str(size)):
        check(size=size)


FULL: tuple[Attribute, ...] = ((USERNAME, "them:us"), (PRIORITY, 5), (ICE_CONTROLLING, 1))


@pytest.mark.parametrize(
    ("message", "phrase"),
    [
        (custom(*FULL, fingerprint=False), "FINGERPRINT"),
        (custom(*FULL, key=OTHER), "integrity"),
        (custom((USERNAME, "others:us"), (PRIORITY, 5)), "ufrag"),
        (custom((USERNAME, "them"), (PRIORITY, 5)), "ufrag"),
        (custom((USERNAME, "themX:us"), (PRIORITY, 5)), "ufrag"),
        (custom((PRIORITY, 5), (ICE_CONTROLLING, 1)), "ufrag"),
        (decode(encode(request(Method.BINDING, TID, *FULL), fingerprint=True)), "integrity"),
    ],
)
def test_what_is_not_authentic_is_not_read(message: Message, phrase: str) -> None:
    """FAULTS 72: wrong password, wrong ufrag, no FINGERPRINT, no integrity at all."""
    with pytest.raises(IntegrityError, match=phrase):
        read_check(message, ufrag="them", key=KEY)


def test_integrity_with_sha256_counts_and_is_answered_alike() -> None:
    """FAULTS 72: SHA-256 with the right password is authentic, with another it is not."""
    message = custom(*FULL, sha256=True)
    assert read_check(message, ufrag="them", key=KEY).priority == 5
    with pytest.raises(IntegrityError):
        read_check(custom(*FULL, key=OTHER, sha256=True), ufrag="them", key=KEY)
    response = decode(build_success(message, Address("192.0.2.1", 9), KEY))
    assert MESSAGE_INTEGRITY_SHA256 in response
    assert MESSAGE_INTEGRITY not in response


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (custom((USERNAME, "them:us"), (ICE_CONTROLLING, 1)), 400),
        (custom((USERNAME, "them:us"), (PRIORITY, 0), (ICE_CONTROLLING, 1)), 400),
        (custom((USERNAME, "them:us"), (PRIORITY, 2**31), (ICE_CONTROLLING, 1)), 400),
        (custom(*FULL, (ICE_CONTROLLED, 1)), 400),
    ],
)
def test_an_authentic_request_that_is_no_check_is_a_bad_request(message: Message, code: int) -> None:
    with pytest.raises(ErrorResponse) as caught:
        read_check(message, ufrag="them", key=KEY)
    assert caught.value.code == code


def test_a_request_that_claims_no_role_is_read() -> None:
    """RFC 8445 §7.3.1.1: an old agent claims none; no conflict can be seen then."""
    read = read_check(custom((USERNAME, "them:us"), (PRIORITY, 5)), ufrag="them", key=KEY)
    assert read.controlling is None


def test_an_unknown_required_attribute_is_answered_420_with_its_type() -> None:
    message = custom(*FULL, (unknown(0x7FFF), b""))
    with pytest.raises(ErrorResponse) as caught:
        read_check(message, ufrag="them", key=KEY)
    assert caught.value.code == 420
    response = decode(build_error(message, 420, "Unknown Attribute", KEY))
    assert response.get(UNKNOWN_ATTRIBUTES) == (0x7FFF,)
    check_integrity(response, KEY)


def test_answers_carry_integrity_and_fingerprint() -> None:
    asked = decode(check())
    source = Address("2001:db8::7", 7000)
    good, bad = (
        decode(build_success(asked, source, KEY)),
        decode(build_error(asked, 487, "Role Conflict", KEY)),
    )
    for answer in (good, bad):
        check_integrity(answer, KEY)
        assert FINGERPRINT in answer
        assert answer.transaction_id == TID
        with pytest.raises(IntegrityError):
            check_integrity(answer, OTHER)
    assert good.get(XOR_MAPPED_ADDRESS) == source
    error = bad.get(ERROR_CODE)
    assert error is not None
    assert error.code == 487
