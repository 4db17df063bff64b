"""FAULTS 32: nobody between client and server can make them use MD5 when both have SHA-256."""

from __future__ import annotations

import pytest

from natwalk.core import IntegrityError
from natwalk.stun import (
    NONCE,
    PASSWORD_ALGORITHM,
    PASSWORD_ALGORITHMS,
    REALM,
    Algorithm,
    Message,
    Method,
    PasswordAlgorithm,
    SecurityFeature,
    check_algorithm,
    choose_algorithm,
    error,
    nonce_features,
    nonce_prefix,
    request,
)

MD5, SHA256 = PasswordAlgorithm(Algorithm.MD5), PasswordAlgorithm(Algorithm.SHA256)
ASKED = request(Method.ALLOCATE, bytes(12))
BOTH = SecurityFeature.PASSWORD_ALGORITHMS | SecurityFeature.USERNAME_ANONYMITY


def challenge(nonce: bytes, *offered: PasswordAlgorithm) -> Message:
    extra = ((PASSWORD_ALGORITHMS, offered),) if offered else ()
    return error(ASKED, 401, "", (REALM, "r"), (NONCE, nonce), *extra)


def test_the_nonce_says_what_its_server_can() -> None:
    assert nonce_prefix(SecurityFeature.USERNAME_ANONYMITY) == b"obMatJos2QAAA"
    assert nonce_prefix(BOTH) == b"obMatJos2wAAA"
    assert nonce_features(b"obMatJos2gAAAadl7W7PeDU4hKE72jda") is SecurityFeature.PASSWORD_ALGORITHMS
    assert nonce_features(b"obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA") == SecurityFeature(0)
    assert nonce_features(nonce_prefix(BOTH) + b"xyz") == BOTH
    assert nonce_features(nonce_prefix(SecurityFeature(0))) == SecurityFeature(0)
    assert nonce_features(b"obMatJos2////") == BOTH  # features nobody knows yet are left out
    assert nonce_features(b"f//499k954d6OL34oL9FSTvy64sA") is None
    assert nonce_features(b"") is None


@pytest.mark.parametrize("nonce", [b"obMatJos2", b"obMatJos2AA", b"obMatJos2A*AA", b"obMatJos2AA=="])
def test_unreadable_features_are_tampering(nonce: bytes) -> None:
    with pytest.raises(IntegrityError):
        nonce_features(nonce)


def test_the_client_takes_the_first_offer_it_knows() -> None:
    nonce = nonce_prefix(BOTH) + b"abc"
    assert choose_algorithm(challenge(nonce, SHA256, MD5)) == SHA256
    assert choose_algorithm(challenge(nonce, PasswordAlgorithm(77), MD5)) == MD5
    assert choose_algorithm(challenge(nonce, PasswordAlgorithm(2, b"odd"), MD5)) == MD5


def test_an_old_server_gets_md5_without_an_attribute() -> None:
    assert choose_algorithm(challenge(b"plain nonce")) is None
    assert choose_algorithm(challenge(nonce_prefix(SecurityFeature.USERNAME_ANONYMITY))) is None
    assert choose_algorithm(error(ASKED, 401)) is None


@pytest.mark.parametrize(
    "tampered",
    [
        challenge(nonce_prefix(BOTH) + b"abc"),  # the offer is stripped
        challenge(nonce_prefix(SecurityFeature.USERNAME_ANONYMITY), SHA256),  # the bit is cleared
        challenge(b"plain", SHA256),
        challenge(nonce_prefix(BOTH), PasswordAlgorithm(77)),
    ],
)
def test_the_client_stops_when_the_offer_was_changed(tampered: Message) -> None:
    with pytest.raises(IntegrityError):
        choose_algorithm(tampered)


def test_the_server_takes_what_it_offered() -> None:
    offered = (SHA256, MD5)
    plain = request(Method.ALLOCATE, bytes(12))
    assert check_algorithm(plain, offered) is Algorithm.MD5
    for chosen in offered:
        repeat = request(
            Method.ALLOCATE, bytes(12), (PASSWORD_ALGORITHMS, offered), (PASSWORD_ALGORITHM, chosen)
        )
        assert check_algorithm(repeat, offered) == chosen.number


@pytest.mark.parametrize(
    "attributes",
    [
        ((PASSWORD_ALGORITHMS, (MD5,)), (PASSWORD_ALGORITHM, MD5)),
        ((PASSWORD_ALGORITHMS, (MD5, SHA256)), (PASSWORD_ALGORITHM, MD5)),
        ((PASSWORD_ALGORITHM, MD5),),
        ((PASSWORD_ALGORITHMS, (SHA256, MD5)),),
        ((PASSWORD_ALGORITHMS, (SHA256, MD5)), (PASSWORD_ALGORITHM, PasswordAlgorithm(3))),
    ],
)
def test_the_server_refuses_what_it_did_not_offer(attributes: tuple[tuple[object, object], ...]) -> None:
    changed = request(Method.ALLOCATE, bytes(12), *attributes)  # type: ignore[arg-type]
    with pytest.raises(IntegrityError):
        check_algorithm(changed, (SHA256, MD5))
