"""``python -m fuzz``: each target for a while; an input that finds something is kept, and is an error."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field

from fuzz import CORPUS, ROOT
from fuzz.targets import TARGETS

WORK = ROOT / "build" / "fuzz"
_STATUS = re.compile(r"^#(\d+)\s.*?cov: (\d+).*exec/s: (\d+)")


@dataclass
class Outcome:
    """How one target went."""

    executions: int = 0
    covered: int = 0
    code: int = 0
    seconds: float = 0.0
    last: deque[str] = field(default_factory=lambda: deque(maxlen=60))


def main() -> int:
    """0 when nothing was found, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="make fuzz ARGS=", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument(
        "--target", action="append", choices=sorted(TARGETS), help="only this one; repeatable"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the fuzzer's randomness; 0 for any")
    options = parser.parse_args()
    found = 0
    for name in options.target or TARGETS:
        outcome = fuzz(name, options.seconds, options.seed)
        rate = outcome.executions / max(outcome.seconds, 0.001)
        verdict = "found something" if outcome.code else "found nothing"
        print(
            f"{name}: {verdict} in {outcome.executions:,} executions, {rate:,.0f} a second,"
            f" {outcome.covered} branches",
            flush=True,
        )
        if outcome.code:
            found = 1
            print("\n".join(outcome.last))
            print(f"the input is kept in {(CORPUS / name).relative_to(ROOT)}, where the tests read it")
    return found


def fuzz(name: str, seconds: int, seed: int) -> Outcome:
    """Run one target in a process of its own, telling how it goes every few seconds."""
    kept, new = CORPUS / name, WORK / name
    kept.mkdir(parents=True, exist_ok=True)
    new.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "fuzz.run", name, f"-max_total_time={seconds}", f"-seed={seed}"),
        *(f"-artifact_prefix={kept}/", "-max_len=600", "-timeout=20", "-rss_limit_mb=2048"),
        *(str(new), str(kept)),
    ]
    outcome, begin, told = Outcome(), time.monotonic(), 0.0
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONPATH": paths},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            outcome.last.append(line.rstrip())
            if (match := _STATUS.match(line)) is None:
                continue
            outcome.executions, outcome.covered, rate = (int(part) for part in match.groups())
            outcome.seconds = time.monotonic() - begin
            if outcome.seconds - told > 5:
                told = outcome.seconds
                left = max(0, round(seconds - told))
                print(f"{name}: {outcome.executions:,} executions, {rate:,}/s, {left} s left", flush=True)
    outcome.code = process.returncode
    outcome.seconds = time.monotonic() - begin
    return outcome


if __name__ == "__main__":
    raise SystemExit(main())
