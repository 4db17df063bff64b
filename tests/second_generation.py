"""Requests to a TURN server as a client of RFC 8489's second generation of credentials makes them."""

from __future__ import annotations

from typing import Any

from natwalk.stun import (
    NONCE,
    PASSWORD_ALGORITHM,
    PASSWORD_ALGORITHMS,
    REALM,
    REQUESTED_TRANSPORT,
    USERHASH,
    USERNAME,
    Algorithm,
    Message,
    Method,
    PasswordAlgorithm,
    decode,
    encode,
    long_term_key,
    request,
    userhash,
)
from turn_world import REALM_NAME, USERS, Raw

UDP = (REQUESTED_TRANSPORT, 17)
OFFER = (PasswordAlgorithm(Algorithm.SHA256), PasswordAlgorithm(Algorithm.MD5))


def challenged(raw: Raw) -> Message:
    refused = raw.bare(Method.ALLOCATE, UDP)
    assert refused is not None
    raw.nonce = refused.get(NONCE) or b""
    return refused


def second(
    raw: Raw,
    *,
    algorithm: Algorithm | None = Algorithm.SHA256,
    offer: tuple[PasswordAlgorithm, ...] | None = OFFER,
    user: str = "alice",
    password: str | None = None,
    hashed: bool = False,
    sha256: bool = True,
    nonce: bytes | None = None,
    method: Method = Method.ALLOCATE,
) -> tuple[Message | None, bytes]:
    """A request as an RFC 8489 client makes it, and the key it was signed with."""
    if not raw.nonce:
        challenged(raw)
    name = (USERHASH, userhash(user, REALM_NAME)) if hashed else (USERNAME, user)
    attributes: list[Any] = [UDP, name, (REALM, REALM_NAME), (NONCE, raw.nonce if nonce is None else nonce)]
    if offer is not None:
        attributes.append((PASSWORD_ALGORITHMS, offer))
    if algorithm is not None:
        attributes.append((PASSWORD_ALGORITHM, PasswordAlgorithm(algorithm)))
    key = long_term_key(
        user, REALM_NAME, password or USERS.get(user, "?"), sha256=algorithm is Algorithm.SHA256
    )
    message = request(method, raw.world.random.randbytes(12), *attributes)
    answers = raw.say(encode(message, integrity_key=key, sha256=sha256))
    return (decode(answers[0]) if answers else None), key
