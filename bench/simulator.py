"""The simulator against real time: one pair of real cores, from the first packet on.

Run it with the environment natwalk is installed in: ``python -m bench simulator``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from natwalk.sim import Trace
from natwalk.sim.ice import IceMeeting
from natwalk.sim.internet import two_peers
from natwalk.sim.peer import PeerMeeting

WANTED = 100
LIFE = 60.0
ROUNDS = 10


def ice(seed: int) -> tuple[float, int]:
    """Virtual seconds and packets of two ICE agents that connect and stay for a minute."""
    internet = two_peers("port-restricted", "cgnat", seed=seed, trace=Trace(limit=0))
    network = internet.network
    start = network.now
    IceMeeting(internet).run()
    network.run_for(LIFE)
    return network.now - start, network.datagrams


def whole(seed: int) -> tuple[float, int]:
    """The same of two whole peers: mailbox, SPAKE2, ICE, QUIC."""
    internet = two_peers("port-restricted", "cgnat", seed=seed, trace=Trace(limit=0))
    network = internet.network
    start = network.now
    meeting = PeerMeeting(internet)
    meeting.connect()
    network.run_for(LIFE)
    return network.now - start, network.datagrams


def main() -> None:
    for name, run in (("two ICE agents, a minute", ice), ("two whole peers, a minute", whole)):
        _print(name, run)


def _print(name: str, run: Callable[[int], tuple[float, int]]) -> None:
    run(0)
    figures = []
    for seed in range(1, ROUNDS + 1):
        began = time.perf_counter()
        virtual, packets = run(seed)
        took = time.perf_counter() - began
        figures.append((virtual / took, took, packets))
    speed, took, packets = (statistics.median(each) for each in zip(*figures, strict=True))
    verdict = "ok" if speed >= WANTED else f"TOO SLOW, {WANTED} x wanted"
    print(f"{name:28} {speed:7,.0f} x real time  {took * 1e3:6.1f} ms  {packets:6,.0f} packets   {verdict}")
