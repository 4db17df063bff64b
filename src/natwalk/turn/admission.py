"""Who may ask a TURN server for anything: long-term credentials of both generations, TURN REST, OAuth.

The mechanism is RFC 8489 §9.2.4 with RFC 7635. Nothing is remembered of a client before it has authenticated
but bounded counters of its source. Refusals are rate-limited by source, carry no SOFTWARE and no reason
phrase, and are no bigger than they must be: the server must be of no use to reflect traffic.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final, NamedTuple

from natwalk.core import IntegrityError, Path, RandomBytes
from natwalk.stun import (
    ACCESS_TOKEN,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    NONCE,
    PASSWORD_ALGORITHM,
    PASSWORD_ALGORITHMS,
    REALM,
    USERHASH,
    USERNAME,
    Algorithm,
    Attribute,
    Message,
    check_algorithm,
    check_integrity,
)
from natwalk.turn.buckets import WIDE_FACTOR, Backoff, Source, SourceLimit, TokenBuckets, source_of
from natwalk.turn.challenge import STALE_NONCE, UNAUTHENTICATED, Challenger
from natwalk.turn.config import TurnConfig, TurnLimits
from natwalk.turn.identities import Granted, Identities, Known, Mechanism, prepared_name

__all__ = ["Admission", "Granted", "Ignored", "Refused"]

_BAD_REQUEST: Final = 400
_HOLDER_BURST: Final = 8.0
_LONG_AGO: Final = float("-inf")
_KEY_SIZES: Final = {Algorithm.MD5: 16, Algorithm.SHA256: 32}


@dataclass(frozen=True, slots=True)
class Refused:
    """An error to answer with, and the attributes that go along: a challenge when it may be tried again."""

    code: int
    attributes: tuple[Attribute, ...] = ()


@dataclass(frozen=True, slots=True)
class Ignored:
    """Answer nothing; ``reason`` is for the drop counter."""

    reason: str


class _Claim(NamedTuple):
    """What a request says of its sender; ``name`` is None when a USERHASH fits nobody."""

    name: str | None
    label: str
    realm: str
    algorithm: Algorithm
    token: bytes | None


class Admission:
    """Checks the credentials of requests and limits what strangers get."""

    def __init__(self, config: TurnConfig, *, random_bytes: RandomBytes) -> None:
        self._random_bytes = random_bytes
        self._no_one = random_bytes(16)
        self._drawn_secret = random_bytes(32)
        self.wall_offset: float | None = None
        self.refusals: Counter[int] = Counter()
        self.unanswered = 0
        self._limits: TurnLimits | None = None
        self.reconfigure(config)

    def reconfigure(self, config: TurnConfig) -> None:
        """Go by ``config`` from now on; counters of sources stay unless their limits changed.

        Nonces stay good while secret, lifetime and offer are the same.
        """
        identities = Identities(config)
        secret = config.nonce_secret or self._drawn_secret
        self._challenger = Challenger(config, secret, self._random_bytes)
        self._config, self._identities = config, identities
        limits = config.limits
        if limits == self._limits:
            return
        self._limits = limits
        capacity = limits.tracked_sources
        self._refusals = SourceLimit(limits.refusals_rate, limits.refusals_burst, capacity=capacity)
        self._holder_refusals: TokenBuckets[Path] = TokenBuckets(1.0, _HOLDER_BURST, capacity=capacity)
        self._user_failures: Backoff[tuple[int, str]] = Backoff(
            free=limits.failures_per_user, capacity=capacity
        )
        self._source_failures: Backoff[int] = Backoff(free=limits.failures_per_source, capacity=capacity)
        self._wide_failures: Backoff[int] = Backoff(
            free=limits.failures_per_source * WIDE_FACTOR, capacity=capacity
        )

    def admit(
        self, request: Message, path: Path, now: float, known: Granted | None = None
    ) -> Granted | Refused | Ignored:
        """Whether ``request`` proves to be from a user, checked in the order of RFC 8489 §9.2.4.

        ``known`` is who holds the allocation on this path: credentials that have expired since still count
        there, as an expiry limits when a session starts, not how long it lasts; and it is not made to
        wait for what others behind the same address got wrong.
        """
        holder = known is not None
        if MESSAGE_INTEGRITY not in request and MESSAGE_INTEGRITY_SHA256 not in request:
            return self._challenge(UNAUTHENTICATED, request, path, now, holder)
        nonce = request.get(NONCE)
        one_sided = (PASSWORD_ALGORITHM in request) is not (PASSWORD_ALGORITHMS in request)
        if nonce is None or REALM not in request or one_sided:
            return self._refuse(Refused(_BAD_REQUEST), path, now, holder)
        if not self._challenger.is_fresh(nonce, path, now):
            return self._challenge(STALE_NONCE, request, path, now, holder)
        claim = self._claim(request)
        if claim is None:
            return self._refuse(Refused(_BAD_REQUEST), path, now, holder)
        source = source_of(path.remote)
        if known is None or known.username != claim.name:
            if self._source_blocked(source, now):
                self.unanswered += 1
                return Ignored("too many wrong passwords from this source")
            if claim.token is None and self._user_failures.blocked((source.narrow, claim.label), now):
                self.unanswered += 1
                return Ignored("too many wrong passwords for this user from this source")
        granted = self._verify(request, claim, now, known)
        if granted is None:
            self._count_failure(source, claim, now)
            return self._challenge(UNAUTHENTICATED, request, path, now, holder)
        self._user_failures.succeed((source.narrow, claim.label))
        return granted

    def still_grants(self, granted: Granted) -> bool:
        """Whether the secret behind ``granted`` is one of the configuration's, however old its use."""
        return self._identities.still_grants(granted)

    def _claim(self, request: Message) -> _Claim | None:
        """What the credentials say, or None when they make no sense."""
        username, user_hash, realm = request.get(USERNAME), request.get(USERHASH), request.get(REALM)
        if realm is None:
            return None
        try:
            algorithm = check_algorithm(request, self._challenger.offer)
        except IntegrityError:
            return None
        name, label = None, ""
        if username is not None:
            name = prepared_name(username)
            if name is None:
                return None
            label = name
        elif user_hash is not None:
            name = self._identities.name_of(user_hash)
            label = user_hash.hex() if name is None else name
        else:
            return None
        return _Claim(name, label, realm, algorithm, request.get(ACCESS_TOKEN))

    def _verify(self, request: Message, claim: _Claim, now: float, holder: Granted | None) -> Granted | None:
        known = self._known(claim, now, holder)
        right_realm = claim.realm == self._config.realm
        for key in known.keys or (self._no_one,):  # nobody costs as much time as a wrong password
            try:
                check_integrity(request, key)
            except IntegrityError:
                continue
            if claim.name is None or not known.keys or not right_realm:
                return None
            sha256 = MESSAGE_INTEGRITY_SHA256 in request
            return Granted(
                claim.name, known.account, key, sha256, known.mechanism, known.secret_id, known.expires
            )
        return None

    def _known(self, claim: _Claim, now: float, holder: Granted | None) -> Known:
        """Whose keys are to be tried."""
        name = claim.name
        wall = None if self.wall_offset is None else now + self.wall_offset
        same = holder is not None and holder.username == name
        if name is None:
            return Known("")
        if claim.token is not None:
            return self._identities.redeem(name, claim.token, wall, now)
        if same and holder is not None and holder.mechanism is Mechanism.OAUTH:
            alive = holder.expires is None or now < holder.expires
            keys = (holder.key,) if alive else ()
            return Known(holder.account, keys, Mechanism.OAUTH, holder.secret_id, holder.expires)
        if claim.algorithm not in self._config.password_algorithms:
            return Known(name)
        if same and holder is not None and len(holder.key) == _KEY_SIZES[claim.algorithm]:
            # a configuration that has another key for it would have ended what it holds
            return Known(holder.account, (holder.key,), holder.mechanism)
        return self._identities.look_up(name, claim.algorithm, _LONG_AGO if same else wall)

    def _source_blocked(self, source: Source, now: float) -> bool:
        if source.wide is not None and self._wide_failures.blocked(source.wide, now):
            return True
        return self._source_failures.blocked(source.narrow, now)

    def _count_failure(self, source: Source, claim: _Claim, now: float) -> None:
        self._source_failures.fail(source.narrow, now)
        if source.wide is not None:
            self._wide_failures.fail(source.wide, now)
        if claim.token is None:  # a token cannot be guessed, and many share the name of its key
            self._user_failures.fail((source.narrow, claim.label), now)

    def _challenge(
        self, code: int, request: Message, path: Path, now: float, holder: bool
    ) -> Refused | Ignored:
        if not self._may_refuse(path, now, holder):
            return Ignored("too many refusals to this source")
        self.refusals[code] += 1
        return Refused(code, self._challenger.attributes(code, request, path, now))

    def _refuse(self, refused: Refused, path: Path, now: float, holder: bool) -> Refused | Ignored:
        if not self._may_refuse(path, now, holder):
            return Ignored("too many refusals to this source")
        self.refusals[refused.code] += 1
        return refused

    def _may_refuse(self, path: Path, now: float, holder: bool) -> bool:
        # Whoever holds an allocation is counted apart, so that a flood from behind the same NAT
        # cannot keep a client from hearing that its nonce is stale.
        if holder:
            may = self._holder_refusals.take(path, now)
        else:
            may = self._refusals.take(source_of(path.remote), now)
        self.unanswered += not may
        return may
