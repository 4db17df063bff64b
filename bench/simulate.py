"""The simulator: pairs a second, times real time, memory. No peer does that; arithmetic stands in.

Seconds are of processor time, so that a busy machine does not count; shares are held against the closed form.
"""

from __future__ import annotations

import math
import resource
import time

from natwalk.nat import Outcome, preset
from natwalk.sim import LinkConfig
from natwalk.sim.population import PairDraw, PeerDraw, load
from natwalk.sim.population_arithmetic import expected_shares
from natwalk.sim.population_run import Means, PopulationPair
from natwalk.sim.population_stats import Tally, share_names, shares, simulate

POPULATION = "internet-2026"
PARTS, PART = 4, 250
HELD = 60.0  # seconds that one connected pair is kept


def main() -> None:
    population = load(POPULATION)
    whole = Tally()
    numbers = iter(range(PARTS * PART))
    for _ in range(PARTS):
        draws = [population.draw(1, next(numbers)) for _ in range(PART)]
        began = time.process_time()
        whole.merge(simulate(draws))
        took = time.process_time() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"{whole.pairs:6} pairs: {PART / took:5.1f} pairs/s of one processor, peak {peak} MiB")
    print("goal: 16.7 pairs/s (10,000 in 10 minutes), linear in pairs, flat memory; each pair is run")
    print("again without hole punching and without IPv6 where that can matter")
    for a, b in (("port-restricted", "port-restricted"), ("symmetric", "port-restricted")):
        virtual, real = one_pair(a, b)
        print(f"one pair, {a} x {b}, kept for {HELD:.0f} s: {virtual / real:.0f} x real time (goal: 100)")
    print("no other project simulates a population with its own protocol code; beside arithmetic:")
    found = shares(whole.outcomes)
    for name, share in share_names(expected_shares(population)):
        error = math.sqrt(share * (1 - share) / whole.pairs)
        off = (found[name] - share) / error
        print(f"  {name:8} simulated {found[name]:6.1%}, arithmetic {share:6.1%}, {off:+.1f} standard errors")


def one_pair(a: str, b: str) -> tuple[float, float]:
    """Virtual and processor seconds of a pair that connects and stays connected."""
    peers = (PeerDraw("", preset(kind), False, LinkConfig(delay=0.02)) for kind in (a, b))
    began = time.process_time()
    pair = PopulationPair(PairDraw(0, 1, *peers, False), Means())
    start = pair.network.now
    if pair.run().outcome is Outcome.NONE:
        raise RuntimeError(f"{a} and {b} did not connect")
    pair.network.run_for(HELD)
    return pair.network.now - start, time.process_time() - began
