"""What a TURN client proves itself with, and what it has learned from the server's challenges.

RFC 8489 §9.2: the server's 401 brings realm and nonce; one of the second generation also offers password
algorithms and may want the username hidden. What the NONCE says of the server and what its attributes say
must agree, and must not become less later: else someone in between weakens the credentials (§9.2.1).
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from typing import Final

from natwalk.core import IntegrityError
from natwalk.stun import (
    ACCESS_TOKEN,
    NONCE,
    PASSWORD_ALGORITHM,
    PASSWORD_ALGORITHMS,
    REALM,
    USERHASH,
    USERNAME,
    Algorithm,
    Attribute,
    Message,
    PasswordAlgorithm,
    PreparationError,
    SecurityFeature,
    choose_algorithm,
    long_term_key,
    nonce_features,
    userhash,
)

_COTURN_KEY_LENGTH: Final = 16


@dataclass(frozen=True, slots=True)
class PasswordCredentials:
    """A username and its password (RFC 8489 §9.2); those of TURN REST servers are of this kind, too.

    Raises :class:`natwalk.stun.PreparationError`, a ValueError, on a username or password that no
    OpaqueString is (RFC 8265 §4.2).
    """

    username: str
    password: str = field(repr=False)

    def __post_init__(self) -> None:
        long_term_key(self.username, "realm", self.password)  # what cannot become a key is refused here


@dataclass(frozen=True, slots=True)
class OAuthCredentials:
    """A token from an authorization server (RFC 7635 §6.2), and the ``mac_key`` that came with it.

    ``kid`` names the key that the authorization server and the TURN server share. Raises ValueError when
    one of the three is empty.
    """

    kid: str
    token: bytes = field(repr=False)
    mac_key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not (self.kid and self.token and self.mac_key):
            raise ValueError("OAuth credentials need a key id, a token and a MAC key")


Credentials = PasswordCredentials | OAuthCredentials


@dataclass(frozen=True, slots=True)
class Signature:
    """How one request is signed: attributes to add, the key, and with which integrity attribute."""

    attributes: tuple[Attribute, ...]
    key: bytes = field(repr=False)
    sha256: bool


class Authenticator:
    """The state of one client's authentication with one server."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._realm: str | None = None
        self._nonce = b""
        self._key = b""
        self._shortened = False
        self._features = SecurityFeature(0)
        self._offered: tuple[PasswordAlgorithm, ...] | None = None
        self._chosen: PasswordAlgorithm | None = None

    @property
    def authenticated(self) -> bool:
        """Whether a challenge has been taken, so that requests can be signed."""
        return self._realm is not None

    def copy(self) -> Authenticator:
        """The same knowledge for another 5-tuple, as servers issue nonces by 5-tuple."""
        return copy(self)

    def signature(self) -> Signature | None:
        """How to sign the next request; None before the first challenge (RFC 8489 §9.2.3.1)."""
        if self._realm is None:
            return None
        attributes: list[Attribute] = [*self._who(), (REALM, self._realm), (NONCE, self._nonce)]
        sha256 = False
        if isinstance(self._credentials, OAuthCredentials):
            attributes.append((ACCESS_TOKEN, self._credentials.token))
        elif self._chosen is not None:
            attributes += [(PASSWORD_ALGORITHMS, self._offered), (PASSWORD_ALGORITHM, self._chosen)]
            sha256 = True
        return Signature(tuple(attributes), self._key, sha256)

    def take_challenge(self, challenge: Message) -> bool:
        """Learn from a 401 or 438; False when it cannot be answered (RFC 8489 §9.2.5).

        The realm of the first challenge stays. Raises :class:`IntegrityError` when the challenge looks as
        if someone had taken security features out of it.
        """
        nonce, realm = challenge.get(NONCE), self._realm or challenge.get(REALM)
        if nonce is None or realm is None:
            return False
        features = nonce_features(nonce) or SecurityFeature(0)
        chosen = choose_algorithm(challenge)
        if self._features & ~features:
            raise IntegrityError("the server's NONCE takes back security features it announced before")
        try:
            key = self._make_key(realm, chosen)
        except PreparationError:
            return False
        self._realm, self._nonce, self._key, self._features = realm, nonce, key, features
        self._chosen, self._offered = chosen, challenge.get(PASSWORD_ALGORITHMS)
        return True

    def take_refusal(self, challenge: Message) -> bool:
        """Whether to sign once more, in another way, after the 401 to a signed request.

        Deviates from RFC 7635 §6.2: coturn takes the first 16 bytes of a longer ``mac_key`` for the key, so
        a token it refuses is tried like that, once.
        """
        if not isinstance(self._credentials, OAuthCredentials) or self._key != self._credentials.mac_key:
            return False
        if len(self._key) <= _COTURN_KEY_LENGTH or self._shortened:
            return False
        self._shortened = True
        return self.take_challenge(challenge)

    def _who(self) -> tuple[Attribute, ...]:
        if isinstance(self._credentials, OAuthCredentials):
            return ((USERNAME, self._credentials.kid),)
        name = self._credentials.username
        if SecurityFeature.USERNAME_ANONYMITY in self._features and self._realm is not None:
            return ((USERHASH, userhash(name, self._realm)),)
        return ((USERNAME, name),)

    def _make_key(self, realm: str, chosen: PasswordAlgorithm | None) -> bytes:
        if isinstance(self._credentials, OAuthCredentials):
            return self._credentials.mac_key[: _COTURN_KEY_LENGTH if self._shortened else None]
        sha256 = chosen is not None and chosen.number == Algorithm.SHA256
        return long_term_key(self._credentials.username, realm, self._credentials.password, sha256=sha256)
