"""A helper process of the lab that takes orders on standard input and answers each with one line of JSON."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any

from natwalk.lab.errors import LabError
from natwalk.lab.space import Namespace


class Child:
    """Runs ``python -m MODULE`` in a namespace; ``plan`` is its first order. LabError if it refuses."""

    def __init__(self, node: Namespace, module: str, plan: object, *arguments: str) -> None:
        self._what = f"{module.rpartition('.')[2]} of {node.name}"
        self._lock = threading.Lock()
        self._process = node.popen(
            [sys.executable, "-m", module, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        node.on_close(self.close)
        try:
            self.ask(plan)
        except LabError:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ask(self, order: object) -> Any:
        """Give an order; the answer. Raises LabError with what the process says, or when it has ended."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with self._lock:
            try:
                process.stdin.write(json.dumps(order).encode() + b"\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except (BrokenPipeError, ValueError):
                line = b""
        if not line:
            raise LabError(f"{self._what} has ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise LabError(f"{self._what}: {answer['error']}")
        return answer["ok"]

    def close(self) -> None:
        """End it and wait. Safe to call twice."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.close()
        except BrokenPipeError:
            process.kill()
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
