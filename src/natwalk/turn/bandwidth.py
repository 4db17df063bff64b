"""How many bytes users may relay: a rate for each, a rate for all, an amount a day.

A server without such limits has no meter at all, so that its data plane pays nothing for this module. What is
over a rate is dropped (datagrams) or has to wait (streams): the meter forwards as many bytes as the rate
allows, whoever sends how much. Of the rate of the whole server every active user has an equal share for
certain; what the others leave goes to whoever asks first.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

from natwalk.turn.config import TurnLimits

LARGEST_FRAME: Final = 65_535
"""No bucket holds less than this many bytes: what cannot pass at once would never pass."""
BURST_SECONDS: Final = 0.25
"""How much of a second's bytes may come at once."""
CAPACITY: Final = 65_536
"""Users remembered; the one that was quiet for longest is forgotten first."""

_ACTIVE: Final = 1.0  # seconds without a byte after which a user's share goes to the others
_SLOTS: Final = 24
_SLOT: Final = 3600.0  # seconds; a day is the last 24 slots and the one that is running
_RETRY: Final = 60.0  # seconds a stream of a user without quota waits at most before it asks again


class _Bucket:
    """Tokens that are bytes; ``level`` may go below zero by what a stream has moved already."""

    __slots__ = ("burst", "level", "rate", "stamp")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self.burst = max(LARGEST_FRAME, rate * BURST_SECONDS)
        self.level = self.burst
        self.stamp = now

    def refill(self, now: float) -> float:
        """Add what has come in since the last time; the level."""
        if now > self.stamp:
            self.level = min(self.burst, self.level + (now - self.stamp) * self.rate)
            self.stamp = now
        return self.level

    def set_rate(self, rate: float) -> None:
        """Refill at ``rate`` from now on."""
        self.rate = rate
        self.burst = max(LARGEST_FRAME, rate * BURST_SECONDS)
        self.level = min(self.level, self.burst)

    @property
    def wait(self) -> float:
        """Seconds until the level is not below zero."""
        return max(0.0, -self.level / self.rate)


@dataclass(slots=True)
class _User:
    own: _Bucket | None
    share: _Bucket | None
    last: float
    active: bool = False
    today: int = 0
    slots: deque[tuple[int, int]] = field(default_factory=deque)
    """Bytes by number of the slot, oldest first; ``today`` is their sum."""


class Meter:
    """Says of every datagram whether it may pass; ``throttled`` and ``bytes_throttled`` count the others."""

    def __init__(self, limits: TurnLimits) -> None:
        self.throttled = 0
        self.bytes_throttled = 0
        self._per_user = limits.bandwidth_per_user
        self._daily = limits.bytes_per_user_per_day
        self._total = _Bucket(limits.bandwidth, 0.0) if limits.bandwidth is not None else None
        self._users: OrderedDict[str, _User] = OrderedDict()
        self._over: OrderedDict[str, None] = OrderedDict()
        self._active: set[str] = set()
        self._swept = 0.0

    @classmethod
    def wanted(cls, limits: TurnLimits) -> Meter | None:
        """A meter when ``limits`` has something to measure, else None."""
        values = (limits.bandwidth, limits.bandwidth_per_user, limits.bytes_per_user_per_day)
        return None if all(value is None for value in values) else cls(limits)

    @property
    def limited(self) -> int:
        """How many of the users remembered have been over a limit."""
        return len(self._over)

    def __len__(self) -> int:
        return len(self._users)

    def allow(self, account: str, size: int, now: float) -> bool:
        """Whether a datagram of ``size`` bytes of ``account`` may pass; counts it when it may."""
        user = self._user(account, now)
        fits = (
            (self._daily is None or self._used(user, now) + size <= self._daily)
            and (user.own is None or user.own.refill(now) >= size)
            and (self._total is None or self._in_total(user, size, now))
        )
        if fits:
            self._spend(user, size, now)
        else:
            self._count(account, size)
        return fits

    def debit(self, account: str, size: int, now: float) -> float:
        """Count ``size`` bytes a stream of ``account`` has moved; seconds for which it must not read on."""
        user = self._user(account, now)
        for bucket in (user.own, self._total, user.share):
            if bucket is not None:
                bucket.refill(now)
        self._spend(user, size, now)
        waits = [user.own.wait] if user.own is not None else []
        if self._total is not None and user.share is not None:
            if now - self._swept >= _ACTIVE:
                self._sweep(now)
            # in debt all streams wait; each for what its share needs to bring in what it moved
            waits.append(min(size / user.share.rate, _RETRY) if self._total.level < 0 else 0.0)
        if self._daily is not None and self._used(user, now) >= self._daily:
            waits.append(_RETRY)
        wait = max(waits, default=0.0)
        if wait > 0:
            self._count(account, 0)
        return wait

    def exhausted(self, account: str, now: float) -> bool:
        """Whether ``account`` has used up its bytes of the last 24 hours."""
        user = self._users.get(account)
        return self._daily is not None and user is not None and self._used(user, now) >= self._daily

    def inherit(self, old: Meter) -> None:
        """Take over what ``old``, the meter before a change of limits, knows of amounts used."""
        for account, user in old._users.items():
            mine = self._user(account, user.last)
            mine.slots, mine.today = user.slots, user.today
        self.throttled, self.bytes_throttled = old.throttled, old.bytes_throttled

    def _user(self, account: str, now: float) -> _User:
        user = self._users.get(account)
        if user is None:
            own = None if self._per_user is None else _Bucket(self._per_user, now)
            share = None if self._total is None else _Bucket(self._total.rate, now)
            user = self._users[account] = _User(own, share, now)
            if len(self._users) > CAPACITY:
                forgotten, _ = self._users.popitem(last=False)
                self._active.discard(forgotten)
                self._over.pop(forgotten, None)
        else:
            self._users.move_to_end(account)
        user.last = now
        if user.share is not None and not user.active:
            user.active = True
            self._active.add(account)
        if user.share is not None and self._total is not None:
            user.share.set_rate(self._total.rate / len(self._active))
        return user

    def _in_total(self, user: _User, size: int, now: float) -> bool:
        """Within the user's own share, or there is enough for everybody."""
        assert self._total is not None
        assert user.share is not None
        if now - self._swept >= _ACTIVE:
            self._sweep(now)
        room = self._total.refill(now)
        return user.share.refill(now) >= size or room >= size + self._total.burst / 2

    def _spend(self, user: _User, size: int, now: float) -> None:
        if user.own is not None:
            user.own.level -= size
        if self._total is not None and user.share is not None:
            self._total.level -= size
            user.share.level = max(user.share.level - size, 0.0)  # what is borrowed is not paid back
        if self._daily is not None:
            slot = int(now // _SLOT)
            user.today += size
            if user.slots and user.slots[-1][0] == slot:
                size += user.slots.pop()[1]
            user.slots.append((slot, size))

    def _used(self, user: _User, now: float) -> int:
        first = int(now // _SLOT) - _SLOTS
        while user.slots and user.slots[0][0] < first:
            user.today -= user.slots.popleft()[1]
        return user.today

    def _sweep(self, now: float) -> None:
        """Give the shares of users that went quiet to the others."""
        self._swept = now
        for name in [name for name in self._active if now - self._users[name].last > _ACTIVE]:
            self._users[name].active = False
            self._active.discard(name)

    def _count(self, account: str, size: int) -> None:
        self.throttled += 1
        self.bytes_throttled += size
        self._over[account] = None
