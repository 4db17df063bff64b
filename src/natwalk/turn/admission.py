"""Who may ask a TURN server for anything: long-term and TURN REST credentials (RFC 8489 §9.2.4).

Nothing is remembered of a client before it has authenticated but bounded counters of its source. Refusals
are rate-limited by source, carry no SOFTWARE and no reason phrase, and are no bigger than they must be:
the server must be of no use to reflect traffic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from natwalk.core import IntegrityError, Path, RandomBytes
from natwalk.stun import (
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    NONCE,
    PASSWORD_ALGORITHM,
    REALM,
    USERNAME,
    Message,
    PreparationError,
    check_integrity,
    long_term_key,
)
from natwalk.turn.buckets import Backoff, SourceLimit, TokenBuckets, source_of
from natwalk.turn.config import TurnConfig
from natwalk.turn.credentials import rest_expiry, rest_password, rest_user
from natwalk.turn.nonce import NonceIssuer

_BAD_REQUEST: Final = 400
_UNAUTHENTICATED: Final = 401
_STALE_NONCE: Final = 438
_HOLDER_BURST: Final = 8.0


@dataclass(frozen=True, slots=True)
class Granted:
    """An authenticated client: ``account`` is whom quotas count, ``key`` signs what it sends."""

    username: str
    account: str
    key: bytes
    sha256: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """An error to answer with; ``realm`` and ``nonce`` go along when the client should try (again)."""

    code: int
    realm: str | None = None
    nonce: bytes | None = None


@dataclass(frozen=True, slots=True)
class Ignored:
    """Answer nothing; ``reason`` is for the drop counter."""

    reason: str


class Admission:
    """Checks the credentials of requests and limits what strangers get."""

    def __init__(self, config: TurnConfig, *, random_bytes: RandomBytes) -> None:
        limits = config.limits
        self._config = config
        self._nonces = NonceIssuer(
            config.nonce_secret or random_bytes(32),
            random_bytes=random_bytes,
            lifetime=config.nonce_lifetime,
        )
        self._keys = {name: long_term_key(name, config.realm, pw) for name, pw in config.users.items()}
        self._no_one = random_bytes(16)
        self._refusals = SourceLimit(
            limits.refusals_rate, limits.refusals_burst, capacity=limits.tracked_sources
        )
        self._holder_refusals: TokenBuckets[Path] = TokenBuckets(
            1.0, _HOLDER_BURST, capacity=limits.tracked_sources
        )
        self._user_failures: Backoff[tuple[int, str]] = Backoff(
            free=limits.failures_per_user, capacity=limits.tracked_sources
        )
        self._source_failures: Backoff[int] = Backoff(
            free=limits.failures_per_source, capacity=limits.tracked_sources
        )
        self.wall_offset: float | None = None

    def admit(
        self, request: Message, path: Path, now: float, known: Granted | None = None
    ) -> Granted | Refused | Ignored:
        """Whether ``request`` proves to be from a user.

        ``known`` is who holds the allocation on this path: credentials that have expired since still count
        there, as an expiry limits when a session starts, not how long it lasts; and it is not made to
        wait for what others behind the same address got wrong.
        """
        holder = known is not None
        if MESSAGE_INTEGRITY not in request and MESSAGE_INTEGRITY_SHA256 not in request:
            return self._challenge(_UNAUTHENTICATED, path, now, holder)
        username, realm, nonce = request.get(USERNAME), request.get(REALM), request.get(NONCE)
        if username is None or realm is None or nonce is None or PASSWORD_ALGORITHM in request:
            return self._refuse(Refused(_BAD_REQUEST), path, now, holder)
        if not self._nonces.is_fresh(nonce, path, now):
            return self._challenge(_STALE_NONCE, path, now, holder)
        source = source_of(path.remote).narrow
        if known is None or known.username != username:
            if self._source_failures.blocked(source, now):
                return Ignored("too many wrong passwords from this source")
            if self._user_failures.blocked((source, username), now):
                return Ignored("too many wrong passwords for this user from this source")
        granted = self._verify(request, username, now, known) if realm == self._config.realm else None
        if granted is None:
            self._source_failures.fail(source, now)
            self._user_failures.fail((source, username), now)
            return self._challenge(_UNAUTHENTICATED, path, now, holder)
        self._user_failures.succeed((source, username))
        return granted

    def _verify(self, request: Message, username: str, now: float, known: Granted | None) -> Granted | None:
        sha256 = MESSAGE_INTEGRITY_SHA256 in request
        if known is not None and known.username == username:
            account, keys = known.account, [known.key]
        else:
            account, keys = self._candidate_keys(username, now)
        for key in keys or [self._no_one]:  # an unknown user costs as much time as a wrong password
            try:
                check_integrity(request, key)
            except IntegrityError:
                continue
            return Granted(username, account, key, sha256) if keys else None
        return None

    def _candidate_keys(self, username: str, now: float) -> tuple[str, list[bytes]]:
        static = self._keys.get(username)
        if static is not None:
            return username, [static]
        expiry = rest_expiry(username)
        if expiry is None or self.wall_offset is None or expiry <= now + self.wall_offset:
            return username, []
        realm = self._config.realm
        try:
            keys = [
                long_term_key(username, realm, rest_password(secret, username))
                for secret in self._config.auth_secrets
            ]
        except PreparationError:
            return username, []
        return rest_user(username), keys

    def _challenge(self, code: int, path: Path, now: float, holder: bool) -> Refused | Ignored:
        refused = Refused(code, self._config.realm, self._nonces.issue(path, now))
        return self._refuse(refused, path, now, holder)

    def _refuse(self, refused: Refused, path: Path, now: float, holder: bool) -> Refused | Ignored:
        # Whoever holds an allocation is counted apart, so that a flood from behind the same NAT
        # cannot keep a client from hearing that its nonce is stale.
        if holder:
            granted = self._holder_refusals.take(path, now)
        else:
            granted = self._refusals.take(source_of(path.remote), now)
        return refused if granted else Ignored("too many refusals to this source")
