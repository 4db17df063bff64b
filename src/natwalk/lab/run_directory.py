"""Where a laboratory that outlives its command is written down, and how what a killed one left is removed.

Every lab has a random id. All its processes have it in their environment (:data:`MARK`) and every namespace
has it at its loopback, so that nothing else is ever taken for a part of it, whatever ids processes get again.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from natwalk.lab.errors import LabError
from natwalk.lab.space import tool

MARK: Final = "NATWALK_LAB_ID"
"""Environment variable with the id of the lab a process is part of."""
FOLDER: Final = "NATWALK_LAB_DIR"
"""Environment variable with the folder labs are written down in."""
_SWEEPS: Final = 200
_PAUSE: Final = 0.01
_QUIET: Final = 3


@dataclass(frozen=True, slots=True)
class Identity:
    """A process for ever: its id, which may come again, and when it started, in ticks since boot."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """The process ``pid`` as it is now; None when there is none or it has ended."""
        try:
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if words[0] in "ZX" else cls(pid, int(words[19]))

    def wait(self, seconds: float) -> None:
        """Wait until it has ended. Raises LabError when it does not in time."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.alive and not select.select([handle], [], [], seconds)[0]:
                raise LabError(f"process {self.pid} does not end")
        finally:
            os.close(handle)

    @property
    def alive(self) -> bool:
        """Whether that very process still runs."""
        return Identity.of(self.pid) == self


class RunDirectory:
    """The folder of one lab by its name: ``state.json``, ``socket``, ``log``."""

    def __init__(self, name: str, root: Path | None = None) -> None:
        if not name or "/" in name or name.startswith("."):
            raise LabError(f"{name!r} is no name for a lab")
        self.name = name
        self.path = (root or default_root()) / name
        self.socket = self.path / "socket"
        self.log = self.path / "log"
        self._state = self.path / "state.json"

    def state(self) -> dict[str, Any] | None:
        """What is written down; None when there is nothing."""
        try:
            found = json.loads(self._state.read_text())
        except FileNotFoundError:
            return None
        except ValueError:
            return {}  # killed while writing: the folder is a leftover
        return found if isinstance(found, dict) else {}

    def write(self, state: dict[str, Any]) -> None:
        """Write down ``state``, whole or not at all."""
        draft = self._state.with_suffix(".new")
        draft.write_text(json.dumps(state))
        draft.replace(self._state)

    def create(self) -> None:
        """Make the folder, for this user only. Raises OSError when it is there."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.mkdir(mode=0o700)

    def remove(self) -> None:
        """Remove the folder if it is there."""
        shutil.rmtree(self.path, ignore_errors=True)

    def keeper(self) -> Identity | None:
        """The process that keeps this lab; None when it is not up."""
        state = self.state()
        if not state or "daemon" not in state:
            return None
        process = Identity(*state["daemon"])
        return process if process.alive else None

    def clean(self) -> int:
        """Remove what a killed lab left: its processes, with them its namespaces, and the folder.

        Returns how many processes there were. Raises LabError when some do not end.
        """
        if not self.path.exists():
            return 0
        state = self.state() or {}
        killed = sweep(state["id"], set(state.get("namespaces", ()))) if "id" in state else 0
        self.remove()
        return killed


def default_root() -> Path:
    """Where labs of this user are written down."""
    if FOLDER in os.environ:
        return Path(os.environ[FOLDER])
    if os.geteuid() == 0:
        return Path("/run/natwalk-lab")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "natwalk-lab" if runtime else Path(f"/tmp/natwalk-lab-{os.geteuid()}")  # noqa: S108


def sweep(lab: str, namespaces: set[int]) -> int:
    """Kill every process of the lab with that id; those without the mark too, in its ``namespaces`` (inodes).

    Returns how many there were. Raises LabError when they do not end.
    """
    seen: set[Identity] = set()
    sure: dict[int, bool] = {}
    quiet = 0
    for _ in range(_SWEEPS):
        found = [process for process in _processes(lab, namespaces, sure) if process.pid != os.getpid()]
        for process in found:
            if process.alive:
                _kill(process.pid)
        seen.update(found)
        quiet = 0 if found else quiet + 1
        if quiet == _QUIET:
            return len(seen)
        time.sleep(_PAUSE)
    raise LabError(f"what is left of the lab does not end: {', '.join(str(p.pid) for p in seen if p.alive)}")


def _processes(lab: str, namespaces: set[int], sure: dict[int, bool]) -> list[Identity]:
    mark = f"{MARK}={lab}".encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        pid = int(name)
        process = Identity.of(pid)
        if process is None:
            continue
        try:
            marked = mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            inode = os.stat(f"/proc/{pid}/ns/net").st_ino
        except OSError:
            continue  # it has ended, or is another user's and so not of our lab
        if not marked and inode in namespaces and inode not in sure:
            sure[inode] = _is_of(lab, pid)
        if marked or sure.get(inode, False):
            found.append(process)
    return found


def _is_of(lab: str, pid: int) -> bool:
    """Whether the namespace of ``pid`` says at its loopback that it is of that lab."""
    user = ["-U", "--preserve-credentials"] if os.geteuid() != 0 else []
    command = [tool("nsenter"), "-t", str(pid), *user, "-n", tool("ip"), "link", "show", "lo"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return mark_of(lab) in done.stdout


def mark_of(lab: str) -> str:
    """What the loopback of every namespace of that lab is called besides."""
    return f"natwalk-lab-{lab}"


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def start(run: RunDirectory, topology: Path) -> subprocess.Popen[bytes]:
    """Start the process that keeps a lab; it says ``ready`` or ``failed REASON`` on its standard output."""
    run.create()
    with run.log.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "natwalk.lab.daemon", run.name, str(run.path.parent), str(topology)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, MARK: secrets.token_hex(8)},
            start_new_session=True,
        )
