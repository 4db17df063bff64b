"""TURN REST credentials: short-lived user names signed with a shared secret.

The format is that of the expired draft-uberti-behave-turn-rest, which every TURN server understands: the
user name is ``expiry`` or ``expiry:user`` with a Unix time in decimal, the password the base64 of
HMAC-SHA1 over the user name. What the server stores is one secret, not users.
"""

from __future__ import annotations

import hmac
from base64 import b64encode

_MAX_DIGITS = 12


def rest_credentials(secret: str, wall_now: float, ttl: int = 3600, user: str = "") -> tuple[str, str]:
    """A ``(username, password)`` good until ``ttl`` seconds after the Unix time ``wall_now``."""
    expiry = int(wall_now) + ttl
    username = f"{expiry}:{user}" if user else str(expiry)
    return username, rest_password(secret, username)


def rest_password(secret: str, username: str) -> str:
    """The password that belongs to the REST user name ``username`` under ``secret``."""
    digest = hmac.digest(secret.encode(), username.encode(), "sha1")
    return b64encode(digest).decode()


def rest_expiry(username: str) -> int | None:
    """The Unix time at which ``username`` expires, or None when it is no REST user name."""
    stamp = username.partition(":")[0]
    if not (stamp.isascii() and stamp.isdigit()) or len(stamp) > _MAX_DIGITS:
        return None
    return int(stamp)


def rest_user(username: str) -> str:
    """Who a REST user name stands for: the part after the colon, or all of it when there is none."""
    stamp, _, user = username.partition(":")
    return user or stamp
