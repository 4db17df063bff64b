"""``natwalk serve`` as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

COMMAND = [sys.executable, "-W", "error", "-c", "from natwalk.cli.serve import serve; serve()"]
LOOPBACK = ["--listen", "127.0.0.1", "--http-port", "0", "--stun-port", "0"]


def environment(**more: str) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("NATWALK_")}
    return clean | more


@contextmanager
def serving(*arguments: str, **more: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, object]]]:
    """The process, once it has printed its ready line, and that line."""
    process = subprocess.Popen(
        [*COMMAND, "--json", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**more),
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        yield process, json.loads(line)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
