"""One pair of the laboratory's matrix: a server and two peers behind two NATs, all real processes."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from natwalk.lab import Lab, LabError, Node
from natwalk.nat import Outcome, expected

PAIR_LIMIT: Final = 15.0
"""Seconds a pair may take."""
_PATIENCE: Final = 30.0
"""Seconds without a line after which a program is given up."""
_SERVER: Final = "http://203.0.113.10:8478"
_SERVE: Final = (
    *("serve", "--json", "--relay-address", "203.0.113.10"),
    *("--listen", "203.0.113.10", "--listen", "203.0.113.11"),
    *("--allow-peer", "203.0.113.0/24", "--allow-peer", "198.51.100.0/24", "--allow-peer", "192.0.2.0/24"),
)
_LINES: Final = 5000
"""Lines kept of one program."""


@dataclass(frozen=True, slots=True)
class PairResult:
    """What became of one pair: ``found`` on both sides, in ``seconds`` from the start of the first peer."""

    nat_a: str
    nat_b: str
    expected: Outcome
    found: str
    reason: str
    seconds: float
    trace: tuple[str, ...] = ()
    """What both programs said, where the captures are, what the simulator says; in full if it is not ok."""

    @property
    def ok(self) -> bool:
        """Whether it is what the table says, in time."""
        return self.found == self.expected.value and self.seconds < PAIR_LIMIT

    def row(self) -> dict[str, object]:
        """For JSON."""
        row: dict[str, object] = {
            "nat_a": self.nat_a,
            "nat_b": self.nat_b,
            "expected": self.expected.value,
            "found": self.found,
            "seconds": round(self.seconds, 2),
            "reason": self.reason,
            "ok": self.ok,
        }
        return row if self.ok else {**row, "trace": list(self.trace)}


def run_pair(nat_a: str, nat_b: str, *, engine: bool = False, captures: Path | None = None) -> PairResult:
    """Connect two peers behind those kinds of NAT. Raises LabError when a program does not do its part.

    ``captures`` is a folder for pcap files of both hosts' cables; they are kept when the result is not the
    expected one.
    """
    with (
        tempfile.TemporaryDirectory(prefix="natwalk-pair-") as folder,
        Lab(nat_a, nat_b, engine=engine) as lab,
    ):
        files = _capture(lab, captures, f"{nat_a}-{nat_b}")
        with (
            _Program(lab.server, ["-m", "natwalk", *_SERVE], Path(folder) / "server") as server,
            _Program(lab.a, ["-m", "natwalk.cli.lab_peer", _SERVER], Path(folder) / "a", server) as a,
        ):
            began = a.began
            code = str(a.wait_for("code")["code"])
            arguments = ["-m", "natwalk.cli.lab_peer", _SERVER, code]
            with _Program(lab.b, arguments, Path(folder) / "b") as b:
                outcome_a, outcome_b = a.wait_for("outcome"), b.wait_for("outcome")
            seconds = time.monotonic() - began
            trace = (*a.lines("a"), *b.lines("b"), *(f"capture: {file}" for file in files))
    same = outcome_a["kind"] == outcome_b["kind"]
    found = outcome_a["kind"] if same else f"a: {outcome_a['kind']}, b: {outcome_b['kind']}"
    result = PairResult(
        nat_a, nat_b, expected(nat_a, nat_b), str(found), str(outcome_a["reason"]), seconds, trace
    )
    if result.ok:
        for file in files:
            file.unlink(missing_ok=True)
        return result
    return replace(result, trace=(*trace, *_simulated(nat_a, nat_b)))


def _simulated(nat_a: str, nat_b: str) -> list[str]:
    """What the same pair goes through in the simulator, for comparison."""
    from natwalk.sim.demo import SimulatedDemoFailed, run

    events: list[str] = []
    try:
        run(nat_a, nat_b, 1000, "any", lambda event: events.append(f"simulator: {json.dumps(event)}"))
    except SimulatedDemoFailed as error:
        events.append(f"simulator: {error}")
    return events[:_LINES]


def _capture(lab: Lab, folder: Path | None, name: str) -> list[Path]:
    if folder is None:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for side, node in (("a", lab.a), ("b", lab.b)):
        files.append(folder / f"{name}-{side}.pcap")
        node.capture(files[-1])
    return files


class _Program:
    """A Python program on a node, followed by its JSON lines; ``after`` is ready before it starts."""

    def __init__(
        self, node: Node, arguments: Sequence[str], stderr: Path, after: _Program | None = None
    ) -> None:
        if after is not None:
            after.wait_for("ready")
        self.began = time.monotonic()
        self._stderr = stderr
        self._events: list[str] = []
        self._queue: queue.Queue[bytes] = queue.Queue()
        with stderr.open("wb") as errors:
            self._process = node.popen([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=errors)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, name: str) -> dict[str, Any]:
        """Its next event called ``name``. Raises LabError when it ends or says nothing for long."""
        while True:
            try:
                line = self._queue.get(timeout=_PATIENCE)
            except queue.Empty:
                raise LabError(f"no {name} from {self._stderr.name}: {self._last_words()}") from None
            if not line:
                raise LabError(f"{self._stderr.name} ended before {name}: {self._last_words()}")
            if len(self._events) < _LINES:
                self._events.append(line.decode(errors="replace").strip())
            event: dict[str, Any] = json.loads(line)
            if event.get("event") == name:
                return event

    def lines(self, side: str) -> list[str]:
        """All it said so far."""
        return [f"{side}: {line}" for line in self._events]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _last_words(self) -> str:
        said = self._stderr.read_text(errors="replace")[-2000:].strip()
        return said or "; ".join(self._events[-3:]) or "it said nothing"

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._queue.put(line)
        self._queue.put(b"")
