"""The session that runs and, after an ICE restart, the one before it: where a pair is looked for."""

from __future__ import annotations

from natwalk.core import Path
from natwalk.ice.lifecycle import Lifecycle
from natwalk.ice.pair import CandidatePair, PairId, PairInfo
from natwalk.ice.pairing import Pairing
from natwalk.ice.previous import Previous


class Sessions:
    """Pairs of both, by id and by path, and the one to send on."""

    __slots__ = ("life", "pairing", "previous")

    def __init__(self, pairing: Pairing, life: Lifecycle) -> None:
        self.pairing = pairing
        self.life = life
        self.previous: Previous | None = None

    @property
    def lives(self) -> tuple[Lifecycle, ...]:
        """The lifecycle that runs, and the one before it if there is one."""
        return (self.life,) if self.previous is None else (self.life, self.previous.life)

    def by_priority(self) -> list[CandidatePair]:
        """All pairs, best first, those of before a restart last."""
        pairs = sorted(self.pairing.checklist, key=lambda pair: pair.priority, reverse=True)
        return pairs if self.previous is None else [*pairs, *self.previous.pairing.checklist]

    def selected(self) -> CandidatePair | None:
        """The selected pair, of before a restart as long as there is no new one."""
        return next((life.selection.pair for life in self.lives if life.selection.pair is not None), None)

    def carrier(self) -> CandidatePair | None:
        """The pair to send on, of before a restart as long as nothing new is selected."""
        if self.previous is not None and self.life.selection.pair is None and self.previous.carries:
            return self.previous.life.selection.current()
        return self.life.selection.current()

    def find(self, pair: PairId) -> CandidatePair | None:
        """The pair with that id, or None."""
        found = self.pairing.checklist.get(pair)
        return found if found is not None or self.previous is None else self.previous.get(pair)

    def at(self, path: Path) -> CandidatePair | None:
        """The pair that a datagram on ``path`` belongs to, the new session's if both have a valid one."""
        pair = self.pairing.checklist.pairs.get(path)
        if self.previous is None or (pair is not None and pair.valid):
            return pair
        return self.previous.valid_at(path) or pair

    def owner(self, pair: CandidatePair) -> Lifecycle:
        """The lifecycle ``pair`` belongs to."""
        return self.life if self.pairing.checklist.get(pair.id) is pair else self.lives[-1]

    def info(self, pair: CandidatePair) -> PairInfo:
        """A snapshot of ``pair`` for the application."""
        return pair.info(selected=pair is self.selected())
