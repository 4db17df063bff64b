"""The demo in network namespaces: a server and two peers as real processes, their events in one stream."""

from __future__ import annotations

import hashlib
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import msgspec

from natwalk.core import NatError
from natwalk.lab import Lab, Node

Event = dict[str, object]
"""What the commands print with ``--json``, and ``side`` (``a``, ``b``, ``server``, ``demo``) and ``at``."""

FILE_NAME: Final = "demo.bin"
_SERVER_ADDRESSES: Final = ("203.0.113.10", "203.0.113.11")
_LAB_RANGES: Final = ("203.0.113.0/24", "198.51.100.0/24", "192.0.2.0/24")
_CHUNK: Final = 1 << 20
_SILENCE: Final = 60.0
"""Seconds without any event after which the demo gives up."""
_LAST_WORDS: Final = 2000
"""How much of a failed program's standard error is shown, in characters."""


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """What to show: kinds of :data:`natwalk.nat.KINDS`, ``size`` in bytes, a path policy."""

    nat_a: str
    nat_b: str
    same_lan: bool
    size: int
    policy: str


class DemoFailed(NatError):
    """A program of the demo failed; ``exit_code`` is the one to leave with."""

    def __init__(self, message: str, hint: str, exit_code: int) -> None:
        super().__init__(message)
        self.hint = hint
        self.exit_code = exit_code


def run_in_lab(plan: DemoPlan, lab: Lab, on_event: Callable[[Event], None]) -> None:
    """Move a file from host a to host b of ``lab``; every event goes to ``on_event``, on this thread.

    The last event is ``result``: ``sent`` and ``received`` are the SHA-256 of the two files as this
    process reads them. Raises :class:`DemoFailed` when a program fails or nothing happens for a minute.
    """
    on_event(_topology(plan, lab))
    with tempfile.TemporaryDirectory(prefix="natwalk-demo-") as name, _Cast(Path(name), on_event) as cast:
        folder = Path(name)
        source = folder / "sent" / FILE_NAME
        sent = _make_file(source, plan.size)
        _play(plan, lab, cast, source, folder)
        received = _hash_file(folder / "received" / FILE_NAME)
        cast.emit({"event": "result", "side": "demo", "sent": sent, "received": received})


def _play(plan: DemoPlan, lab: Lab, cast: _Cast, source: Path, folder: Path) -> None:
    """Start the three programs, each when the one before it is ready, and wait for the peers' end."""
    listens = [word for address in _SERVER_ADDRESSES for word in ("--listen", address)]
    allows = [word for net in _LAB_RANGES for word in ("--allow-peer", net)]
    relay = ["--relay-address", lab.server.address]
    cast.start("server", lab.server, ["serve", *listens, *relay, *allows, "--json"])
    cast.wait_for("server", "ready")
    common = ["--server", f"http://{lab.server.address}:8478", "--path-policy", plan.policy]
    common += ["--json", "--verbose"]
    cast.start("a", lab.a, ["send", str(source), *common])
    code = str(cast.wait_for("a", "code")["code"])
    output = folder / "received"
    output.mkdir()
    cast.start("b", lab.b, ["receive", code, "--output", str(output), "--yes", *common])
    cast.wait_for_end({"a", "b"})


class _Cast:
    """The programs of a demo: reads their event lines and hands them on in the order they come."""

    def __init__(self, folder: Path, on_event: Callable[[Event], None]) -> None:
        self._folder = folder
        self._on_event = on_event
        self._lines: queue.Queue[tuple[str, bytes]] = queue.Queue(maxsize=1024)
        self._programs: dict[str, subprocess.Popen[bytes]] = {}
        self._readers: list[threading.Thread] = []
        self._errors: dict[str, Event] = {}
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for program in self._programs.values():
            program.kill()
            program.wait()
        while any(reader.is_alive() for reader in self._readers):
            _drain(self._lines)  # a reader may wait for room in the queue
        for program in self._programs.values():
            assert program.stdout is not None
            program.stdout.close()

    def start(self, side: str, node: Node, arguments: Sequence[str]) -> None:
        """Run ``natwalk ARGUMENTS`` on ``node``."""
        self.emit({"event": "start", "side": side, "command": " ".join(["natwalk", *arguments])})
        with (self._folder / f"{side}.stderr").open("wb") as stderr:
            program = node.popen(
                [sys.executable, "-m", "natwalk", *arguments], stdout=subprocess.PIPE, stderr=stderr
            )
        self._programs[side] = program
        reader = threading.Thread(target=self._read, args=(side, program), daemon=True)
        self._readers.append(reader)
        reader.start()

    def emit(self, event: Event) -> None:
        """Hand on ``event``, with the time since the start."""
        self._on_event({**event, "at": round(time.monotonic() - self._began, 4)})

    def wait_for(self, side: str, name: str) -> Event:
        """Hand on events until ``side`` sends the one called ``name``; raises DemoFailed if it ends first."""
        while True:
            event = self._next()
            if event.get("side") == side:
                if event.get("event") == name:
                    return event
                if event.get("event") == "exit":
                    raise self._failure(side, event)

    def wait_for_end(self, sides: set[str]) -> None:
        """Hand on events until all ``sides`` have exited with 0; raises DemoFailed when a program fails."""
        running = set(sides)
        while running:
            event = self._next()
            if event.get("event") == "exit":
                if event["status"] != 0 or event["side"] not in sides:
                    raise self._failure(str(event["side"]), event)
                running.discard(str(event["side"]))

    def _next(self) -> Event:
        try:
            side, line = self._lines.get(timeout=_SILENCE)
        except queue.Empty:
            raise DemoFailed(
                f"nothing has happened for {_SILENCE:.0f} seconds", "Run it again with --json.", 124
            ) from None
        event = self._parse(side, line)
        if event["event"] == "error":
            self._errors.setdefault(side, event)
        self.emit(event)
        return event

    def _parse(self, side: str, line: bytes) -> Event:
        if not line:  # the end of its output
            return {"event": "exit", "side": side, "status": self._programs[side].wait()}
        try:
            event = msgspec.json.decode(line, type=dict[str, object])
        except msgspec.DecodeError:
            event = {"event": "output", "text": line.decode(errors="replace").rstrip()}
        if event.get("event") in _PEER_SIDE:
            event["of"] = event.pop("side", "local")
        return {"event": "output", **event, "side": side}

    def _read(self, side: str, program: subprocess.Popen[bytes]) -> None:
        assert program.stdout is not None
        for line in program.stdout:
            self._lines.put((side, line))
        self._lines.put((side, b""))

    def _failure(self, side: str, exit_event: Event) -> DemoFailed:
        error = self._errors.get(side) or next(iter(self._errors.values()), {})
        status = exit_event["status"]
        said = (self._folder / f"{side}.stderr").read_text(errors="replace")[-_LAST_WORDS:].strip()
        message = str(error.get("message") or said or f"natwalk ended with {status} on {side}")
        code = status if isinstance(status, int) and status > 0 else 1
        return DemoFailed(message, str(error.get("hint") or ""), code)


_PEER_SIDE: Final = frozenset({"candidate", "nat"})
"""Events whose own ``side`` says whose candidate it is, ``local`` or ``remote``; here that is ``of``."""


def _topology(plan: DemoPlan, lab: Lab) -> Event:
    return {
        "event": "topology",
        "side": "demo",
        "at": 0.0,
        "where": "namespaces",
        "nat_a": lab.kind_a,
        "nat_b": lab.kind_b,
        "same_lan": plan.same_lan,
        "addresses": {
            "a": lab.a.address,
            "b": lab.b.address,
            "nat_a": lab.routers_a[-1].address if lab.routers_a else "",
            "nat_b": lab.routers_b[-1].address if lab.routers_b else "",
            "server": lab.server.address,
        },
        "size": plan.size,
        "path_policy": plan.policy,
    }


def _make_file(path: Path, size: int) -> str:
    """Write ``size`` random bytes; their SHA-256, hexadecimal."""
    path.parent.mkdir()
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, size, _CHUNK):
            chunk = os.urandom(min(_CHUNK, size - start))
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _drain(lines: queue.Queue[tuple[str, bytes]]) -> None:
    try:
        while True:
            lines.get(timeout=0.02)
    except queue.Empty:
        return
