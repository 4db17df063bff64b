"""Whole peers on iroh's ladder of bad links: each rung connects, and streams stay intact."""

from __future__ import annotations

from itertools import pairwise

import pytest

from natwalk.path import PathKind
from natwalk.sim import LADDER, LinkConfig, allowance, sequence
from natwalk.sim.internet import DELAY, two_peers
from natwalk.sim.peer import PeerMeeting

DATA = bytes(range(256)) * 40
ONE_SIDE_ONLY = frozenset({"absurd"})
"""A quarter lost on both sides, forty in a row: at one retransmission in seconds a burst lasts for minutes.
iroh leaves out the last two rungs on both sides, we the last one."""


def climb(kind: str, rung: str, seed: int, *, both: bool) -> PeerMeeting:
    config = LADDER[rung]
    easy = LinkConfig(delay=DELAY)
    internet = two_peers(kind, kind, seed=seed, access=config, access_b=config if both else easy)
    network = internet.network
    meeting = PeerMeeting(internet)
    start, limit = network.now, allowance(rung)
    what = f"{kind} on {rung}, seed {seed}"
    assert meeting.connect(within=limit), f"{what}: {meeting.a.ended}\n{sequence(network.trace)}"
    assert meeting.b is not None
    there, back = meeting.a.send(DATA, fin=True), meeting.b.send(DATA[::-1], fin=True)
    network.run(start + limit, stop=lambda: there in meeting.b.finished and back in meeting.a.finished)
    assert there in meeting.b.finished, f"{what}: not there within {limit} s\n{network.trace.text(200)}"
    assert back in meeting.a.finished, f"{what}: not back within {limit} s\n{network.trace.text(200)}"
    assert meeting.b.received[there] == DATA
    assert meeting.a.received[back] == DATA[::-1]
    return meeting


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("kind", "path"), [("port-restricted", PathKind.DIRECT), ("symmetric", PathKind.RELAY)]
)
@pytest.mark.parametrize("rung", list(LADDER))
def test_every_rung_connects(rung: str, kind: str, path: PathKind, seed: int) -> None:
    meeting = climb(kind, rung, seed, both=rung not in ONE_SIDE_ONLY)
    assert meeting.a.info is not None
    assert meeting.a.info.kind is path


@pytest.mark.parametrize("kind", ["port-restricted", "symmetric"])
def test_flipped_bits_are_never_taken_for_data(kind: str) -> None:
    """One packet in twenty damaged on each line, past every checksum: integrity is the cores' own."""
    config = LinkConfig(delay=DELAY, corrupt=0.05)
    internet = two_peers(kind, kind, seed=1, access=config)
    meeting = PeerMeeting(internet)
    assert meeting.connect(), sequence(internet.network.trace)
    assert meeting.b is not None
    stream = meeting.a.send(DATA * 10, fin=True)
    internet.network.run_for(60.0, stop=lambda: stream in meeting.b.finished)
    assert meeting.b.received[stream] == DATA * 10
    assert meeting.a.ended is None


def test_the_rungs_are_those_of_iroh_and_each_takes_longer() -> None:
    assert len(LADDER) == 9
    assert [allowance(rung) for rung in LADDER] == [20, 30, 40, 50, 60, 70, 80, 90, 100]
    rates = [config.rate for name, config in LADDER.items() if name != "satellite"]
    assert all(a > b for a, b in pairwise(rates) if a is not None and b is not None)
    with pytest.raises(ValueError, match="good"):
        allowance("good")
