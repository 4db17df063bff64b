"""Whether a message was made by someone who has the key (RFC 8489 §14.5, §14.6)."""

from __future__ import annotations

import hmac
from typing import Final

from natwalk.core import IntegrityError
from natwalk.stun.attributes import MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256
from natwalk.stun.message import Message

_SHA1_SIZE: Final = 20


def check_integrity(message: Message, key: bytes, *, sha256: bool | None = None) -> None:
    """Return if ``message``, as decoded, carries a right integrity attribute; raise IntegrityError if not.

    MESSAGE-INTEGRITY-SHA256 decides when it is there, else MESSAGE-INTEGRITY. ``sha256`` names the one
    that must be there, for a server that made the client choose (RFC 8489 §9.2.4): the other does not
    count then. A message built here was never received, so it has none. Compares in constant time.
    """
    sha1_at, sha256_at = message.integrity_offsets
    use_sha256 = bool(sha256_at) if sha256 is None else sha256
    at = sha256_at if use_sha256 else sha1_at
    if not at:
        name = MESSAGE_INTEGRITY_SHA256 if use_sha256 or sha256 else MESSAGE_INTEGRITY
        raise IntegrityError(f"the message has no {name.name}")
    raw = message.raw
    size = raw[at + 2] << 8 | raw[at + 3] if use_sha256 else _SHA1_SIZE
    start = at + 4
    end = start + size
    # the header's length counts up to the end of the integrity attribute, whatever follows it
    covered = raw[:2] + (end - 20).to_bytes(2, "big") + raw[4:at]
    expected = hmac.digest(key, covered, "sha256" if use_sha256 else "sha1")
    if not hmac.compare_digest(expected[:size], raw[start:end]):
        raise IntegrityError("the integrity attribute does not verify")
