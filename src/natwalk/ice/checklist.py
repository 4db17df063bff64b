"""The checklist: forming and pruning pairs, freezing, and which pair is checked next (RFC 8445 §6.1)."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final

from natwalk.core import Path
from natwalk.ice.candidate import Candidate, CandidateType
from natwalk.ice.pair import CandidatePair, On, PairId, State, pair_priority

_RELAY_SHARE: Final = 4
"""One place in so many of a full checklist is kept for relayed pairs, which rank last."""


class _Turn(Enum):
    """Whose turn an ordinary check is."""

    HOST = 0
    REFLEXIVE = 1
    RELAYED = 2


class Checklist:
    """The pairs of one session, at most ``limit``, by the path they use.

    A pair with a server-reflexive local candidate is the pair of its base (RFC 8445 §6.1.2.4), so only
    host and relayed local candidates come in here and the path names a pair.
    """

    __slots__ = ("_by_id", "_ids", "_ordinary", "_triggered", "limit", "pairs")

    def __init__(self, limit: int, *, first_id: int = 0) -> None:
        self.limit = limit
        self.pairs: dict[Path, CandidatePair] = {}
        self._by_id: dict[PairId, CandidatePair] = {}
        self._triggered: deque[CandidatePair] = deque()
        self._ids = first_id
        self._ordinary = 0

    def add(
        self, local: Candidate, remote: Candidate, *, controlling: bool, needed: bool = False
    ) -> CandidatePair | None:
        """The pair of the two, new or known; None when the list is full of better ones.

        A new pair waits when nothing of its foundation is under way, or something has succeeded, else it
        is frozen (RFC 8445 §6.1.2.6, RFC 8838 §12). ``needed`` pairs, from which the peer has just been
        heard, push out the last of those not started.
        """
        path = Path(local.base, remote.address)
        if (known := self.pairs.get(path)) is not None:
            return known
        pair = CandidatePair(PairId(self._ids + 1), local, remote, local.base)
        pair.priority = _priority(pair, controlling)
        if len(self.pairs) >= self.limit and not self._make_room(pair, needed):
            return None
        self._ids += 1
        kin = {other.state for other in self if other.foundation == pair.foundation}
        if State.SUCCEEDED in kin or not kin & {State.WAITING, State.IN_PROGRESS}:
            pair.on(On.UNFREEZE)
        self.pairs[path] = self._by_id[pair.id] = pair
        return pair

    @property
    def last_id(self) -> int:
        """The highest number that has named a pair, for the checklist that comes after this one."""
        return self._ids

    def get(self, pair_id: PairId) -> CandidatePair | None:
        """The pair with that id, or None."""
        return self._by_id.get(pair_id)

    def remove(self, pair: CandidatePair) -> None:
        """Forget a pair."""
        self.pairs.pop(pair.path, None)
        self._by_id.pop(pair.id, None)
        if pair in self._triggered:
            self._triggered.remove(pair)

    def reprioritise(self, *, controlling: bool) -> None:
        """Recompute every priority, after a change of role or of a candidate (RFC 8445 §7.3.1.1)."""
        for pair in self:
            pair.priority = _priority(pair, controlling)

    def trigger(self, pair: CandidatePair) -> None:
        """Queue a triggered check of ``pair`` (RFC 8445 §7.3.1.4); nothing to do when it has succeeded."""
        pair.on(On.TRIGGER)
        pair.retry_at = None
        pair.parked = False
        if pair.state is State.WAITING and pair not in self._triggered:
            self._triggered.append(pair)

    def unfreeze(self, succeeded: CandidatePair) -> None:
        """Let the frozen pairs of the same foundation wait for their check (RFC 8445 §7.2.5.3.3)."""
        for pair in self:
            if pair.state is State.FROZEN and not pair.parked and pair.foundation == succeeded.foundation:
                pair.on(On.UNFREEZE)

    def next_triggered(self) -> CandidatePair | None:
        """The next pair of the triggered-check queue, removed from it (RFC 8445 §6.1.4.1)."""
        while self._triggered:
            pair = self._triggered.popleft()
            if pair.state is State.WAITING and pair.path in self.pairs:
                return pair
        return None

    def next_ordinary(self, wanted: Callable[[CandidatePair], bool]) -> CandidatePair | None:
        """The pair whose ordinary check is next (RFC 8445 §6.1.4.2), among those ``wanted``; or None.

        Deviates from RFC 8445 §6.1.4.2 in the order: host, reflexive and relayed pairs take turns, best
        first. Dozens of container addresses would otherwise come before the one that works, and the relay,
        on which data can start while direct paths are still being tried, would come last of all.
        """
        ready = self._ready(wanted)
        if not ready:
            return None
        turn = _Turn(self._ordinary % len(_Turn))
        self._ordinary += 1
        if turn is not _Turn.RELAYED or not any(pair.valid and pair.relayed for pair in self):
            ready = [pair for pair in ready if _turn(pair) is turn] or ready
        best = max(ready, key=lambda pair: pair.priority)
        if best.state is State.FROZEN:
            best.on(On.UNFREEZE)
        return best

    def has_work(self, wanted: Callable[[CandidatePair], bool]) -> bool:
        """Whether a check, triggered or ordinary, is waiting to be started."""
        return bool(self._triggered) or bool(self._ready(wanted))

    @property
    def outstanding(self) -> int:
        """How many pairs are waiting or in progress, for the RTO (RFC 8445 §14.3)."""
        return sum(pair.state in {State.WAITING, State.IN_PROGRESS} for pair in self)

    def __iter__(self) -> Iterator[CandidatePair]:
        return iter(self.pairs.values())

    def __len__(self) -> int:
        return len(self.pairs)

    def _ready(self, wanted: Callable[[CandidatePair], bool]) -> list[CandidatePair]:
        """Waiting pairs; failing that, frozen ones whose foundation is idle (RFC 8445 §6.1.4.2)."""
        waiting = [pair for pair in self if pair.state is State.WAITING and wanted(pair)]
        if waiting:
            return waiting
        busy = {pair.foundation for pair in self if pair.state is State.IN_PROGRESS}
        return [
            pair
            for pair in self
            if pair.state is State.FROZEN and not pair.parked and pair.foundation not in busy and wanted(pair)
        ]

    def _make_room(self, newcomer: CandidatePair, needed: bool) -> bool:
        """Remove the pair that is missed least; False when that is the newcomer (RFC 8445 §6.1.2.5).

        That is the lowest one of the remote address with the most pairs: every remote address keeps its
        best few, however many host candidates either side has.
        """
        idle = {State.FROZEN, State.WAITING, State.FAILED}
        candidates = [pair for pair in self if pair.state in idle and pair not in self._triggered]
        if sum(pair.relayed for pair in self) <= self.limit // _RELAY_SHARE:
            needed = needed or newcomer.relayed
            candidates = [pair for pair in candidates if not pair.relayed]
        if not needed:
            candidates.append(newcomer)
        if not candidates:
            return False
        crowd = Counter(pair.path.remote for pair in (*self, newcomer))
        victim = max(candidates, key=lambda pair: (crowd[pair.path.remote], -pair.priority))
        if victim is newcomer:
            return False
        self.remove(victim)
        return True


def _turn(pair: CandidatePair) -> _Turn:
    if pair.relayed:
        return _Turn.RELAYED
    return _Turn.HOST if pair.remote.type is CandidateType.HOST else _Turn.REFLEXIVE


def _priority(pair: CandidatePair, controlling: bool) -> int:
    ours, theirs = pair.local.priority, pair.remote.priority
    return pair_priority(ours, theirs) if controlling else pair_priority(theirs, ours)
