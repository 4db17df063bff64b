"""Laboratories that outlive the command that made them: up, orders, down."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, Final

from natwalk.lab.errors import LabError
from natwalk.lab.run_directory import MARK, RunDirectory, start

_PATIENCE: Final = 60.0
"""Seconds an order may take."""


def up(run: RunDirectory, topology: Path) -> int:
    """Build the topology of a file and have it kept; how many processes a killed lab had left there.

    Raises LabError when it is up already or the file is wrong.
    """
    if run.keeper() is not None:
        raise LabError(f"the lab {run.name!r} is up already: natwalk lab down")
    left = run.clean()
    process = start(run, topology.absolute())
    assert process.stdout is not None
    with process.stdout as lines:
        line = lines.readline().decode().strip()
    if line != "ready":
        process.wait(_PATIENCE)
        reason = line.removeprefix("failed ")
        if not reason:
            reason = "the process that keeps the lab ended at once"
        raise LabError(reason)
    process.returncode = 0  # it is to outlive us: nobody waits for it
    return left


def ask(run: RunDirectory, **order: object) -> Any:
    """Give a lab an order; its answer. Raises LabError with what it says, or when it is not up."""
    if run.keeper() is None:
        raise LabError(f"there is no lab {run.name!r}: natwalk lab up TOPOLOGY")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(_PATIENCE)
        try:
            sock.connect(str(run.socket))
            sock.sendall(json.dumps(order).encode() + b"\n")
            data = b""
            while not data.endswith(b"\n") and (part := sock.recv(1 << 20)):
                data += part
        except OSError as error:
            raise LabError(f"the lab {run.name!r} does not answer: {error}") from error
    if not data:
        raise LabError(f"the lab {run.name!r} ended meanwhile")
    answer: dict[str, Any] = json.loads(data)
    if "error" in answer:
        raise LabError(answer["error"])
    return answer["ok"]


def down(run: RunDirectory) -> None:
    """Take a lab down, or remove what a killed one left. Raises LabError when there is neither."""
    keeper = run.keeper()
    if keeper is not None:
        ask(run, do="down")
        keeper.wait(_PATIENCE)
    elif not run.path.exists():
        raise LabError(f"there is no lab {run.name!r}")
    run.clean()


def command(run: RunDirectory, host: str, argv: list[str]) -> tuple[list[str], dict[str, str]]:
    """The command line that runs ``argv`` on a host of a lab, and what to add to its environment."""
    state = run.state() or {}
    prefix: list[str] = ask(run, do="argv", host=host)
    return [*prefix, *argv], {MARK: str(state.get("id", ""))}
