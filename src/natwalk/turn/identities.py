"""Whom a server knows: static users, TURN REST names, holders of OAuth tokens, and the keys each signs with.

Nothing here looks at a message's integrity or counts anything: that is for ``admission``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256
from typing import Final, NamedTuple

from natwalk.core import IntegrityError
from natwalk.stun import Algorithm, PreparationError, long_term_key, opaque_string, userhash
from natwalk.turn.config import OAuthKey, TurnConfig
from natwalk.turn.credentials import rest_expiry, rest_password, rest_user
from natwalk.turn.oauth import CLOCK_SKEW, open_token

COTURN_KEY: Final = 16
"""Deviates from RFC 7635 §6.2: coturn, client and server, signs with the first 16 bytes of a longer
``mac_key``, so a request signed so is taken, and answered so; 128 bits are enough for either."""


class Mechanism(Enum):
    """What a client proved itself with."""

    STATIC = "static"
    REST = "rest"
    OAUTH = "oauth"


@dataclass(frozen=True, slots=True)
class Granted:
    """An authenticated client: ``account`` is whom quotas count, ``key`` signs what it sends.

    ``secret_id`` recognises the OAuth key behind it; ``expires`` is when its token ends, on the clock of
    ``now``, which caps what it gets, or None.
    """

    username: str
    account: str
    key: bytes = field(repr=False)
    sha256: bool
    mechanism: Mechanism = Mechanism.STATIC
    secret_id: bytes = field(default=b"", repr=False)
    expires: float | None = None

    def owns(self, other: Granted) -> bool:
        """Whether what ``other`` was granted is this client's too: the same user's, or by a token.

        Tokens name no user, and a new one may be of another key (RFC 7635 §6.2); the 5-tuple, the ticket or
        the connection id that is asked for says the rest.
        """
        if self.mechanism is Mechanism.OAUTH:
            return other.mechanism is Mechanism.OAUTH
        return self.username == other.username and other.mechanism is not Mechanism.OAUTH

    def cap(self, lifetime: int, now: float) -> int:
        """``lifetime`` in seconds, but not beyond the end of a token."""
        return lifetime if self.expires is None else max(1, min(lifetime, int(self.expires - now)))


class Known(NamedTuple):
    """Who a name may stand for, and the keys any of which proves it; no keys: nobody."""

    account: str
    keys: tuple[bytes, ...] = ()
    mechanism: Mechanism = Mechanism.STATIC
    secret_id: bytes = b""
    expires: float | None = None


class Identities:
    """The credentials of one configuration."""

    def __init__(self, config: TurnConfig) -> None:
        self._realm = config.realm
        self._secrets = config.auth_secrets
        self._oauth: dict[str, list[OAuthKey]] = {}
        for key in config.oauth_keys:
            self._oauth.setdefault(key.kid, []).append(key)
        self._server_name = config.oauth_server_name
        self._static: dict[str, tuple[bytes, bytes]] = {}
        self._by_hash: dict[bytes, str] = {}
        for name, password in config.users.items():
            prepared = opaque_string(name)
            self._static[prepared] = self._keys(prepared, password)
            self._by_hash[userhash(prepared, self._realm)] = prepared

    def name_of(self, user_hash: bytes) -> str | None:
        """The static user that ``user_hash`` hides (RFC 8489 §14.4); REST names cannot be found so."""
        return self._by_hash.get(user_hash)

    def look_up(self, username: str, algorithm: Algorithm, wall_now: float | None) -> Known:
        """Who ``username``, prepared, is at the Unix time ``wall_now``; infinity ago for one admitted before.

        None for an unknown time: then no REST name is good.
        """
        static = self._static.get(username)
        if static is not None:
            return Known(username, (static[algorithm is Algorithm.SHA256],))
        expiry = rest_expiry(username)
        if expiry is None or wall_now is None or expiry <= wall_now:
            return Known(username)
        hashed = algorithm is Algorithm.SHA256
        keys = tuple(
            long_term_key(username, self._realm, rest_password(secret, username), sha256=hashed)
            for secret in self._secrets
        )
        return Known(rest_user(username), keys, Mechanism.REST)

    def redeem(self, kid: str, token: bytes, wall_now: float | None, now: float) -> Known:
        """Who holds ``token``, made with the key named ``kid`` (RFC 7635 §6.2).

        Every token is an account of its own: there is no other name in it, and its issuer decides how many
        to give out.
        """
        for key in self._oauth.get(kid, ()):
            if wall_now is None or not key.not_before <= wall_now < key.not_after:
                continue
            try:
                opened = open_token(token, key, self._server_name)
            except IntegrityError:
                continue
            if opened.issued <= wall_now + CLOCK_SKEW and wall_now < opened.expires:
                account = f"{kid}#{sha256(token).hexdigest()[:16]}"
                expires = now + opened.expires - wall_now
                keys = tuple(dict.fromkeys((opened.mac_key, opened.mac_key[:COTURN_KEY])))
                return Known(account, keys, Mechanism.OAUTH, _identity(key), expires)
        return Known(kid)

    def still_grants(self, granted: Granted) -> bool:
        """Whether what ``granted`` was proved with is still good, its age aside."""
        if granted.mechanism is Mechanism.STATIC:
            return granted.key in self._static.get(granted.username, ())
        if granted.mechanism is Mechanism.OAUTH:
            return any(_identity(key) == granted.secret_id for key in self._oauth.get(granted.username, ()))
        return any(
            granted.key in self._keys(granted.username, rest_password(secret, granted.username))
            for secret in self._secrets
        )

    def _keys(self, username: str, password: str) -> tuple[bytes, bytes]:
        md5 = long_term_key(username, self._realm, password)
        return md5, long_term_key(username, self._realm, password, sha256=True)


def prepared_name(username: str) -> str | None:
    """``username`` as it is looked up (RFC 8265 §4.2), or None when no user can be called that.

    Names of more than 512 bytes were never legal in STUN.
    """
    if len(username.encode()) > 512:
        return None
    try:
        return opaque_string(username)
    except PreparationError:
        return None


def _identity(key: OAuthKey) -> bytes:
    return sha256(key.kid.encode() + b"\0" + key.key).digest()
