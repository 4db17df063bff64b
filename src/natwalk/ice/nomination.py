"""Which pair the controlling side nominates, and when: policy only, no state and no packets.

RFC 8445 §8.1.1 leaves the choice to the controlling agent and lets it nominate once. Deviates from it in
nominating again: when a better pair turns up later, and when the selected pair stops answering. The
controlled side follows the latest nomination.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from natwalk.ice.config import IceConfig
from natwalk.ice.pair import PENDING, CandidatePair


@dataclass(frozen=True, slots=True)
class Choice:
    """Nominate ``pair`` now (None: leave things as they are) and ask again at ``again_at`` at the latest."""

    pair: CandidatePair | None = None
    again_at: float | None = None


def rank(pair: CandidatePair) -> tuple[bool, bool, int]:
    """Sorts valid pairs: those that answer first, direct ones before relayed, then by priority."""
    return (not pair.suspect, not pair.relayed, pair.priority)


def best(pairs: Collection[CandidatePair]) -> CandidatePair | None:
    """The best valid pair, or None."""
    return max((pair for pair in pairs if pair.valid), key=rank, default=None)


def choose(
    now: float,
    pairs: Collection[CandidatePair],
    selected: CandidatePair | None,
    *,
    config: IceConfig,
    last_switch: float | None,
    more_expected: bool,
) -> Choice:
    """What to nominate at ``now``.

    ``last_switch`` is when a pair was last selected, None if never was; ``more_expected`` tells that
    candidates may still come, so that the absence of a better pair means nothing yet.
    """
    top = best(pairs)
    if top is None or top is selected:
        return Choice()
    if selected is None and last_switch is None:
        due = _first_due(top, pairs, config, more_expected)
    elif last_switch is None or selected is None or not selected.valid or selected.suspect > top.suspect:
        due = now  # a rescue waits for nothing
    else:
        due = _improvement_due(top, selected, pairs, config, last_switch)
    return Choice(pair=top) if due <= now else Choice(again_at=due)


def _first_due(
    top: CandidatePair, pairs: Collection[CandidatePair], config: IceConfig, more_expected: bool
) -> float:
    """When the first nomination is due: later while something better may still succeed."""
    hopeful = [pair for pair in pairs if pair.state in PENDING and not pair.parked]
    if top.relayed:
        direct = any(not pair.relayed for pair in hopeful)
        wait = config.relay_wait if direct or more_expected else 0.0
    else:
        better = any(not pair.relayed and pair.priority > top.priority for pair in hopeful)
        wait = config.type_wait if better else 0.0
    return _validated(pair for pair in pairs if pair.valid and pair.relayed == top.relayed) + wait


def _improvement_due(
    top: CandidatePair,
    selected: CandidatePair,
    pairs: Collection[CandidatePair],
    config: IceConfig,
    last_switch: float,
) -> float:
    """When a better pair may replace one that works: soon from relay to direct, else seldom."""
    if selected.relayed and not top.relayed and top.demotions == 0:
        return _first_due(top, pairs, config, more_expected=False)
    settled = _validated([top]) + config.type_wait
    hold = config.switch_interval * (1 + min(top.demotions, 5))
    return max(settled, last_switch + hold)


def _validated(pairs: Iterable[CandidatePair]) -> float:
    return min(pair.validated_at for pair in pairs if pair.validated_at is not None)
