"""Which transaction starts next, and when: triggered checks, then questions and checks in turn."""

from __future__ import annotations

from natwalk.core import earliest
from natwalk.ice.connectivity import Connectivity, Purpose
from natwalk.ice.gathering import Gatherer
from natwalk.ice.lifecycle import Lifecycle
from natwalk.ice.pacing import Pacer
from natwalk.ice.pair import On, State
from natwalk.ice.pairing import Pairing
from natwalk.ice.session import Session


class Pump:
    """Starts what gathering and one session's checklist want to start, as the pacing allows."""

    __slots__ = ("_asked_last", "_connectivity", "_gatherer", "_life", "_pacer", "_pairing", "_session")

    def __init__(
        self,
        session: Session,
        pacer: Pacer,
        gatherer: Gatherer,
        pairing: Pairing,
        connectivity: Connectivity,
        life: Lifecycle,
    ) -> None:
        self._session = session
        self._pacer = pacer
        self._gatherer = gatherer
        self._pairing = pairing
        self._connectivity = connectivity
        self._life = life
        self._asked_last = False

    def run(self, now: float) -> None:
        """Start everything whose turn it is at ``now``."""
        checklist = self._pairing.checklist
        while self._pacer.ready(now):
            pair = checklist.next_triggered() if self._checking else None
            if pair is None and not self._asked_last and self._gatherer.start_next(now):
                self._asked_last = True
                self._pacer.took(now)
                continue
            self._asked_last = False
            if pair is None and self._checking:
                pair = checklist.next_ordinary(self._life.selection.wanted)
            if pair is not None:
                started = self._connectivity.start(
                    pair, Purpose.CHECK, now, outstanding=checklist.outstanding
                )
                if started and pair.state is State.WAITING:
                    pair.on(On.PERFORM)
                self._pacer.took(now)
            elif not self._gatherer.ready(now):
                return

    def next_start(self, now: float) -> float | None:
        """When something may be started, or None."""
        question = self._gatherer.next_question()
        start = None if question is None else max(question, self._pacer.at(now))
        if self._checking and self._pairing.checklist.has_work(self._life.selection.wanted):
            start = earliest(start, self._pacer.at(now))
        return start

    @property
    def _checking(self) -> bool:
        """Whether this side sends checks: it is full, and knows whom to."""
        return self._session.remote is not None and not self._session.config.lite
