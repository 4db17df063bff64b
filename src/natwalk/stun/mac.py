"""HMAC with the work that depends on the key alone done once (RFC 2104 §4)."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from hashlib import _Hash

_BLOCK: Final = 64
"""Block size in bytes of both SHA-1 and SHA-256."""
_INNER: Final = bytes(i ^ 0x36 for i in range(256))
_OUTER: Final = bytes(i ^ 0x5C for i in range(256))

Digest = Literal["sha1", "sha256"]


def mac(key: bytes, data: bytes, digest: Digest) -> bytes:
    """The HMAC of ``data``: 20 bytes for sha1, 32 for sha256.

    Twice as fast as :func:`hmac.digest` for the short messages here, because hashing the padded key is
    half the work and a session has few keys.
    """
    inner_state, outer_state = _states(key, digest)
    inner = inner_state.copy()
    inner.update(data)
    outer = outer_state.copy()
    outer.update(inner.digest())
    return outer.digest()


@lru_cache(maxsize=1024)
def _states(key: bytes, digest: Digest) -> tuple[_Hash, _Hash]:
    """The two hashes that have taken in the padded key; never changed, only copied."""
    # SHA-1 is what RFC 8489 §14.5 defines; its weakness against collisions does not touch HMAC
    new = hashlib.sha256 if digest == "sha256" else hashlib.sha1
    padded = (new(key).digest() if len(key) > _BLOCK else key).ljust(_BLOCK, b"\0")
    return new(padded.translate(_INNER)), new(padded.translate(_OUTER))
