"""How long ``natwalk --version`` takes, whole process, beside ``wormhole --version``."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 7


def once(argv: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    scripts = Path(sys.executable).parent
    commands = {name: [str(scripts / name), "--version"] for name in ("natwalk", "wormhole")}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for argv in commands.values():
        once(argv)
    for _ in range(ROUNDS):
        for name, argv in commands.items():
            times[name].append(once(argv))
    ours, theirs = (statistics.median(times[name]) for name in ("natwalk", "wormhole"))
    print(f"natwalk --version   median {ours * 1000:6.0f} ms  (goal: under 300)")
    print(f"wormhole --version  median {theirs * 1000:6.0f} ms")
    print(f"ratio (ours / theirs) {ours / theirs:.2f}")
