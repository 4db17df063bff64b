"""The processes of ``natwalk simulate``: chunks of pairs out, tallies back, progress, stop and go on."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from threading import Thread
from typing import Any, Final

from natwalk import __version__
from natwalk.cli.output import Output, duration_text
from natwalk.sim.population import Population, parse
from natwalk.sim.population_stats import Tally, simulate

CHUNK: Final = 25
"""Pairs one process is given at a time: about half a second."""
AHEAD: Final = 2
"""Chunks a process has waiting at most."""
SAVE_EVERY: Final = 2.0
LIVE_EVERY: Final = 0.2
LINE_EVERY: Final = 10.0
"""Seconds between saves, between updates of the live line, and between lines where there is no terminal."""
_FORMAT: Final = 1


class ResumeError(Exception):
    """The file to go on from is of another run, not such a file, or cannot be written."""


class Interrupted(Exception):
    """Someone pressed Ctrl-C; ``done`` pairs are in the resume file, if there is one."""

    def __init__(self, done: int) -> None:
        super().__init__(f"{done} pairs done")
        self.done = done


@dataclass(frozen=True, slots=True)
class Job:
    """Everything the figures depend on."""

    text: str
    """The population file."""
    seed: int
    pairs: int
    without: frozenset[str] = frozenset()
    compare: bool = True

    @property
    def chunks(self) -> int:
        """How many chunks the pairs make."""
        return -(-self.pairs // CHUNK)

    def numbers(self, chunk: int) -> range:
        """The pairs in a chunk."""
        return range(chunk * CHUNK, min((chunk + 1) * CHUNK, self.pairs))

    def label(self) -> dict[str, Any]:
        """What a resume file must agree on."""
        return {
            "format": _FORMAT,
            "natwalk": __version__,
            "population": hashlib.sha256(self.text.encode()).hexdigest(),
            "seed": self.seed,
            "pairs": self.pairs,
            "without": sorted(self.without),
            "compare": self.compare,
        }


@dataclass(slots=True)
class State:
    """What is done so far."""

    tally: Tally = field(default_factory=Tally)
    done: set[int] = field(default_factory=set)

    def add(self, chunk: int, tally: Tally) -> None:
        """Take the figures of one chunk."""
        self.done.add(chunk)
        self.tally.merge(tally)


def work(job: Job, processes: int, kept: Path | None, output: Output) -> Tally:
    """Run the whole job on so many processes; what ``kept`` has is not done again.

    Raises ResumeError for a file of another run or one that cannot be written, and Interrupted on Ctrl-C,
    when all that was done is saved.
    """
    state = State() if kept is None else _load(job, kept)
    progress = _Progress(job, state, output)
    saved = time.monotonic()
    with Stop() as stop:
        run = _here(job, state, stop) if processes == 1 else _pool(job, state, processes, stop)
        try:
            for chunk, tally in run:
                state.add(chunk, tally)
                progress.show()
                if kept is not None and time.monotonic() - saved > SAVE_EVERY:
                    _save(job, state, kept)
                    saved = time.monotonic()
        finally:
            output.clear()
            if kept is not None:
                _save(job, state, kept)
    if len(state.done) < job.chunks:
        raise Interrupted(state.tally.pairs)
    progress.end()
    return state.tally


class Stop:
    """Notes Ctrl-C while it is entered: chunks are finished and kept, never left half added."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Stop:
        self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *exc: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _ask(self, number: int, frame: object) -> None:
        self.asked = True


def _here(job: Job, state: State, stop: Stop) -> Iterator[tuple[int, Tally]]:
    """Chunk after chunk in this process."""
    for chunk in range(job.chunks):
        if stop.asked:
            return
        if chunk not in state.done:
            yield chunk, run_chunk(job, chunk)


def _pool(job: Job, state: State, processes: int, stop: Stop) -> Iterator[tuple[int, Tally]]:
    """Chunks on ``processes`` processes, as they come; a few ahead only, so that memory stays flat."""
    context = multiprocessing.get_context("spawn")
    left = [chunk for chunk in range(job.chunks) if chunk not in state.done]
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_begin_worker) as pool:
        pending: dict[Future[dict[str, Any]], int] = {}
        for chunk in left:
            if stop.asked:
                break
            pending[pool.submit(_run_remotely, job, chunk)] = chunk
            if len(pending) >= processes * AHEAD:
                yield from _finished(pending)
        while pending:
            if stop.asked:
                pending = {future: chunk for future, chunk in pending.items() if not future.cancel()}
            yield from _finished(pending)


def _finished(pending: dict[Future[dict[str, Any]], int]) -> Iterator[tuple[int, Tally]]:
    """The chunks that are ready, one at least if any is to come."""
    done, _ = wait(pending, return_when=FIRST_COMPLETED)
    for future in done:
        yield pending.pop(future), Tally.from_json(future.result())


def run_chunk(job: Job, chunk: int) -> Tally:
    """The figures of one chunk."""
    population = _parsed(job.text)
    draws = (population.draw(job.seed, number) for number in job.numbers(chunk))
    return simulate(draws, job.without, compare=job.compare)


def _run_remotely(job: Job, chunk: int) -> dict[str, Any]:
    return run_chunk(job, chunk).to_json()


@lru_cache(maxsize=1)
def _parsed(text: str) -> Population:
    return parse(text)


def _begin_worker() -> None:
    """Leave Ctrl-C to the parent, and do not outlive it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)


def _load(job: Job, kept: Path) -> State:
    """What the file has, or nothing when there is none."""
    try:
        values = json.loads(kept.read_text(encoding="utf-8"))
        label = values["job"]
        state = State(Tally.from_json(values["tally"]), set(map(int, values["done"])))
    except FileNotFoundError:
        return State()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResumeError(f"{kept} is not a file to go on from: {error}") from error
    for key, value in job.label().items():
        if label.get(key) != value:
            raise ResumeError(f"{kept} is of another run: {key} was {label.get(key)}, is {value}")
    return state


def _save(job: Job, state: State, kept: Path) -> None:
    """Write the file whole or not at all."""
    values = {"job": job.label(), "done": sorted(state.done), "tally": state.tally.to_json()}
    fresh = kept.with_name(f".{kept.name}.{os.getpid()}")
    try:
        fresh.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
        fresh.replace(kept)
    except OSError as error:
        raise ResumeError(f"{kept} cannot be written: {error.strerror}") from error


class _Progress:
    """How far it is, how fast, how long still: a live line on a terminal, else a line now and then."""

    def __init__(self, job: Job, state: State, output: Output) -> None:
        self._job = job
        self._state = state
        self._output = output
        self._began = self._shown = time.monotonic()
        self._before = state.tally.pairs
        self._live = sys.stderr.isatty()

    def show(self) -> None:
        """Tell, unless that was done a moment ago."""
        now = time.monotonic()
        if now - self._shown < (LIVE_EVERY if self._live else LINE_EVERY):
            return
        self._shown = now
        done, pairs = self._state.tally.pairs, self._job.pairs
        rate = (done - self._before) / (now - self._began)
        left = f", {duration_text((pairs - done) / rate)} left" if rate else ""
        self._output.live(f"{done} of {pairs} pairs, {rate:.1f} pairs/s{left}")

    def end(self) -> None:
        """Say how long it took."""
        took = time.monotonic() - self._began
        done = self._state.tally.pairs - self._before
        if done:
            self._output.say(f"{done} pairs in {duration_text(took)}, {done / took:.1f} pairs/s")
