"""Same seed, same trace, byte for byte: in this process twice, and in others whatever their hashes.

QUIC draws keys and connection ids from the operating system, and its library takes no other source. The text
of a trace says times, addresses, sizes and what can be read without keys, and none of that depends on them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from hashlib import sha256
from multiprocessing import get_context

import pytest

from natwalk.sim import LADDER, Trace
from natwalk.sim.internet import two_peers
from natwalk.sim.peer import PeerMeeting

SEEDS = (1, 2, 3)


def whole_run(seed: int, rung: str = "very-bad") -> str:
    """The digest of the whole trace of a connection with a stream, on a bad link."""
    digest = sha256()
    lines = 0

    def take(line: str) -> None:
        nonlocal lines
        lines += 1
        digest.update(line.encode() + b"\n")

    internet = two_peers(
        "port-restricted", "symmetric", seed=seed, access=LADDER[rung], trace=Trace(limit=0, sink=take)
    )
    meeting = PeerMeeting(internet)
    assert meeting.connect()
    meeting.a.send(bytes(20_000), fin=True)
    internet.network.run_for(60.0)
    assert lines > 500
    return digest.hexdigest()


@pytest.mark.parametrize("rung", ["good-wifi", "very-bad"])
def test_twice_the_same(rung: str) -> None:
    assert whole_run(1, rung) == whole_run(1, rung)


def test_one_process_or_two() -> None:
    """Spawned, not forked: nothing that this process did before is there."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(whole_run, SEEDS)) == [whole_run(seed) for seed in SEEDS]


def test_the_order_of_sets_does_not_matter() -> None:
    program = "from sim.test_determinism import whole_run; print(whole_run(1))"
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert digests == {whole_run(1)}
