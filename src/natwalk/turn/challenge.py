"""The answers to those who have not proved themselves: 401 and 438, within the size of what was asked.

Over UDP the source of a request may be forged, so an answer must not be worth forging for: a 401 has at most
3.6 times the bytes of its request and a 438 at most as many. What does not fit is left out, from the end of:
REALM, NONCE, PASSWORD-ALGORITHMS, THIRD-PARTY-AUTHORIZATION. Over TCP, TLS and DTLS the source is proven.
"""

from __future__ import annotations

from typing import Final

from natwalk.core import Path, RandomBytes, Transport
from natwalk.stun import (
    NONCE,
    PASSWORD_ALGORITHMS,
    REALM,
    THIRD_PARTY_AUTHORIZATION,
    Algorithm,
    Attribute,
    Message,
    PasswordAlgorithm,
    SecurityFeature,
    nonce_prefix,
)
from natwalk.turn.config import TurnConfig
from natwalk.turn.nonce import BODY_LENGTH, NonceIssuer

UNAUTHENTICATED: Final = 401
STALE_NONCE: Final = 438

SMALLEST_ALLOCATE: Final = 28
"""Bytes of an Allocate that asks for something: a header and REQUESTED-TRANSPORT."""
_TENTHS: Final = {UNAUTHENTICATED: 36, STALE_NONCE: 10}  # of the request's size
_HEADER_AND_ERROR: Final = 28


class Challenger:
    """Makes and recognises the challenges of one configuration."""

    def __init__(self, config: TurnConfig, secret: bytes, random_bytes: RandomBytes) -> None:
        self.offer = _offer(config)
        features = _features(config, self.offer)
        prefix = nonce_prefix(features) if features else b""
        self._realm: Attribute = (REALM, config.realm)
        self._algorithms: tuple[Attribute, ...] = ((PASSWORD_ALGORITHMS, self.offer),) if self.offer else ()
        self._third_party: tuple[Attribute, ...] = ()
        if config.oauth_keys:
            self._third_party = ((THIRD_PARTY_AUTHORIZATION, config.oauth_server_name),)
        with_realm = _HEADER_AND_ERROR + _size(len(config.realm.encode()))
        self._plain_size = with_realm + _size(BODY_LENGTH)
        offered = _size(4 * len(self.offer)) if self.offer else 0
        self._full_size = with_realm + _size(len(prefix) + BODY_LENGTH) + offered
        self._third_party_size = _size(len(config.oauth_server_name.encode())) if self._third_party else 0
        self._nonces = NonceIssuer(
            secret,
            random_bytes=random_bytes,
            lifetime=config.nonce_lifetime,
            prefix=prefix,
            offer=b"".join(bytes([algorithm.number]) for algorithm in self.offer),
            plain=not self.offer or 10 * self._full_size > _TENTHS[UNAUTHENTICATED] * SMALLEST_ALLOCATE,
        )

    def is_fresh(self, nonce: bytes, path: Path, now: float) -> bool:
        """Whether the nonce is one of ours for that client and not too old."""
        return self._nonces.is_fresh(nonce, path, now)

    def attributes(self, code: int, request: Message, path: Path, now: float) -> tuple[Attribute, ...]:
        """What goes along with the error ``code`` (RFC 8489 §9.2.4), as far as it may be sent."""
        room = len(request.raw) * _TENTHS[code] // 10 if path.transport is Transport.UDP else 0xFFFF
        if room < self._plain_size:
            return ()
        if room < self._full_size:
            return self._realm, (NONCE, self._nonces.issue(path, now, plain=True))
        third_party = self._third_party if room >= self._full_size + self._third_party_size else ()
        return self._realm, (NONCE, self._nonces.issue(path, now)), *self._algorithms, *third_party


def _offer(config: TurnConfig) -> tuple[PasswordAlgorithm, ...]:
    """The value of PASSWORD-ALGORITHMS: empty when there is no choice, or nobody has a password."""
    algorithms = config.password_algorithms
    if algorithms == (Algorithm.MD5,) or not (config.users or config.auth_secrets):
        return ()
    return tuple(PasswordAlgorithm(algorithm) for algorithm in algorithms)


def _features(config: TurnConfig, offer: tuple[PasswordAlgorithm, ...]) -> SecurityFeature:
    """What the NONCE says (RFC 8489 §9.2). A client that hears of anonymity hides its name, so it may not
    be said where there are names that cannot be found by their hash: those of TURN REST, which nobody knows
    before they come.
    """
    features = SecurityFeature.PASSWORD_ALGORITHMS if offer else SecurityFeature(0)
    if config.users and not config.auth_secrets:
        features |= SecurityFeature.USERNAME_ANONYMITY
    return features


def _size(length: int) -> int:
    """Bytes of an attribute with a value of ``length``, padded."""
    return 4 + length + -length % 4
