"""Keeping an attacker from making two agents use weaker credentials than both have (RFC 8489 §9.2.1).

A server that has more than the old mechanism says so twice: in attributes, which an attacker on the path can
remove from its first answer, and in the NONCE, which the client sends back and an attacker cannot change
without the server noticing.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from enum import IntFlag
from typing import Final

from natwalk.core import IntegrityError
from natwalk.stun.attributes import NONCE, PASSWORD_ALGORITHM, PASSWORD_ALGORITHMS
from natwalk.stun.message import Message
from natwalk.stun.values import Algorithm, PasswordAlgorithm

NONCE_COOKIE: Final = b"obMatJos2"
_FEATURES_LENGTH: Final = 4
_KNOWN: Final = frozenset(Algorithm)


class SecurityFeature(IntFlag):
    """What a NONCE may say its server can do (RFC 8489 §18.1): bit 0 is the leftmost of the 24.

    RFC 8656 §20 has a nonce with bit 0 (``gAAA``); the one of RFC 8489 appendix B, made before the bits were
    numbered so, sets a bit that means nothing now.
    """

    PASSWORD_ALGORITHMS = 1 << 23
    USERNAME_ANONYMITY = 1 << 22


def nonce_prefix(features: SecurityFeature) -> bytes:
    """The 13 bytes with which the NONCE of a server with ``features`` starts (RFC 8489 §9.2)."""
    return NONCE_COOKIE + b64encode(int(features).to_bytes(3, "big"))


def nonce_features(nonce: bytes) -> SecurityFeature | None:
    """What ``nonce`` says of its server; None when it has no such prefix. Features unknown here are left out.

    Raises :class:`IntegrityError` when the prefix is there but its features are not readable: then they
    have been tampered with.
    """
    if not nonce.startswith(NONCE_COOKIE):
        return None
    try:
        bits = b64decode(nonce[len(NONCE_COOKIE) :][:_FEATURES_LENGTH], validate=True)
    except ValueError:
        bits = b""
    if len(bits) != 3:
        raise IntegrityError("the security features in the NONCE are not readable")
    known = SecurityFeature.PASSWORD_ALGORITHMS | SecurityFeature.USERNAME_ANONYMITY
    return SecurityFeature(int.from_bytes(bits, "big")) & known


def choose_algorithm(challenge: Message) -> PasswordAlgorithm | None:
    """The algorithm a client uses after the 401 or 438 ``challenge`` (RFC 8489 §9.2.5).

    The first one offered that is known here, to be sent back in PASSWORD-ALGORITHM beside the offer; None
    when the server offers none, which means MD5 and no such attribute. Raises :class:`IntegrityError` when
    only one of NONCE and attribute speaks of an offer, or when nothing offered is known here.
    """
    features = nonce_features(challenge.get(NONCE) or b"")
    offered = challenge.get(PASSWORD_ALGORITHMS)
    announced = features is not None and SecurityFeature.PASSWORD_ALGORITHMS in features
    if announced != (offered is not None):
        raise IntegrityError("the server's NONCE and PASSWORD-ALGORITHMS do not say the same")
    if offered is None:
        return None
    chosen = next((a for a in offered if a.number in _KNOWN and not a.parameters), None)
    if chosen is None:
        raise IntegrityError("the server offers no password algorithm known here")
    return chosen


def check_algorithm(request: Message, offered: tuple[PasswordAlgorithm, ...]) -> Algorithm:
    """The algorithm the client of ``request`` used, for a server that had ``offered`` some (RFC 8489 §9.2.4).

    MD5 when the request speaks of none. Raises :class:`IntegrityError` when it repeats another offer than
    was made, or only one of offer and choice, or chooses what was not offered: someone changed the offer.
    """
    repeated, chosen = request.get(PASSWORD_ALGORITHMS), request.get(PASSWORD_ALGORITHM)
    if repeated is None and chosen is None:
        return Algorithm.MD5
    if repeated != offered or chosen not in offered or chosen is None or chosen.number not in _KNOWN:
        raise IntegrityError("the request's password algorithms are not those that were offered")
    return Algorithm(chosen.number)
