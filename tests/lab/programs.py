"""Real natwalk processes in a lab, followed by the events they print."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from natwalk.lab import Lab, Node

URL = "http://203.0.113.10:8478"
SERVE = [
    *("serve", "--json", "--relay-address", "203.0.113.10"),
    *("--listen", "203.0.113.10", "--listen", "203.0.113.11"),
    *("--allow-peer", "203.0.113.0/24", "--allow-peer", "198.51.100.0/24", "--allow-peer", "192.0.2.0/24"),
]
PATIENCE = 60.0


class Program:
    """``natwalk ARGUMENTS`` on a node of a lab, with ``--json`` among the arguments."""

    def __init__(self, node: Node, arguments: list[str], stderr: Path, **places) -> None:
        self.events: list[dict] = []
        self.stderr = stderr
        with stderr.open("ab") as errors:
            self.process = node.popen(
                [sys.executable, "-m", "natwalk", *arguments],
                stdout=subprocess.PIPE,
                stderr=errors,
                **places,
            )
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, wanted: Callable[[dict], bool] | str) -> dict:
        """The next event that is ``wanted`` (a name, or a test); fails when the program ends before."""
        test = (lambda event: event["event"] == wanted) if isinstance(wanted, str) else wanted
        deadline = time.monotonic() + PATIENCE
        while True:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            assert line, f"it ended before {wanted}: {self.story()}"
            self.events.append(json.loads(line))
            if test(self.events[-1]):
                return self.events[-1]

    def finish(self) -> int:
        """Its exit code, with all its events read."""
        while line := self._lines.get(timeout=PATIENCE):
            self.events.append(json.loads(line))
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """SIGKILL, and read what it had said."""
        self.process.kill()
        self.finish()

    def named(self, name: str) -> list[dict]:
        return [event for event in self.events if event["event"] == name]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        self.process.stdout.close()

    def story(self) -> str:
        """For assertion messages: its last events and its standard error."""
        events = [event for event in self.events if event["event"] != "progress"][-12:]
        return f"{events}\n{self.stderr.read_text(errors='replace')[-3000:]}"

    def _read(self) -> None:
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(b"")


class Stage:
    """A lab with a server; starts senders on a and receivers on b."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.output = folder / "output"
        self.output.mkdir()
        self._programs: list[Program] = []

    def serve(self) -> None:
        """Start the server and wait until it is ready."""
        self._start(self.lab.server, SERVE, "server").wait_for("ready")

    def send(self, *paths: Path) -> Program:
        return self._start(
            self.lab.a, ["send", *map(str, paths), "--server", URL, "--json", "--verbose"], "sender"
        )

    def receive(self, code: str) -> Program:
        arguments = ["receive", code, "--output", str(self.output), "--yes", "--server", URL]
        return self._start(self.lab.b, [*arguments, "--json", "--verbose"], "receiver")

    def _start(self, node: Node, arguments: list[str], name: str) -> Program:
        program = Program(node, arguments, self.folder / f"{name}.stderr")
        self._programs.append(program)
        return program

    def close(self) -> None:
        for program in self._programs:
            program.close()


def received_bytes(node: Node, interface: str = "eth0") -> int:
    """What has come in there since the lab was built."""
    (link,) = json.loads(node.run(["ip", "-s", "-j", "link", "show", interface]).stdout)
    return link["stats64"]["rx"]["bytes"]
