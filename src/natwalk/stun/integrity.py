"""Whether a message was made by someone who has the key (RFC 8489 §14.5, §14.6)."""

from __future__ import annotations

from hmac import compare_digest
from struct import Struct
from typing import Final

from natwalk.core import IntegrityError
from natwalk.stun.mac import mac
from natwalk.stun.message import Message

_U16: Final = Struct("!H").pack


def check_integrity(message: Message, key: bytes, *, sha256: bool | None = None) -> None:
    """Return if ``message``, as decoded, carries a right integrity attribute; raise IntegrityError if not.

    MESSAGE-INTEGRITY-SHA256 decides when it is there, else MESSAGE-INTEGRITY. ``sha256`` names the one
    that must be there, for a server that made the client choose (RFC 8489 §9.2.4): the other does not
    count then. A message built here was never received, so it has none. Compares in constant time.
    """
    sha1_at, sha256_at = message.integrity_offsets
    raw = message.raw
    # the header's length counts up to the end of the integrity attribute, whatever follows it
    if sha256_at if sha256 is None else sha256:
        if not sha256_at:
            raise IntegrityError("the message has no MESSAGE-INTEGRITY-SHA256")
        end = sha256_at + 4 + (raw[sha256_at + 2] << 8 | raw[sha256_at + 3])
        received = raw[sha256_at + 4 : end]
        expected = mac(key, raw[:2] + _U16(end - 20) + raw[4:sha256_at], "sha256")[: len(received)]
    else:
        if not sha1_at:
            raise IntegrityError("the message has no MESSAGE-INTEGRITY")
        received = raw[sha1_at + 4 : sha1_at + 24]
        expected = mac(key, raw[:2] + _U16(sha1_at + 4) + raw[4:sha1_at], "sha1")
    if not compare_digest(expected, received):
        raise IntegrityError("the message's integrity attribute does not verify")
