"""``natwalk demo`` as a user runs it: real namespaces, real processes, a pipe or a terminal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.lab

DEMO = [sys.executable, "-m", "natwalk", "demo"]


def test_the_default_pair_connects_directly_and_the_file_is_whole() -> None:
    done = subprocess.run([*DEMO, "--size", "2M", "--json"], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    summary = events[-1]
    assert (summary["event"], summary["ok"], summary["path"]) == ("summary", True, "direct")
    assert summary["sha256_sent"] == summary["sha256_received"]
    assert summary["first_byte_seconds"] > 0
    seen = {(event["side"], event["event"]) for event in events}
    for side in ("a", "b"):
        assert {(side, name) for name in ("candidate", "check", "path", "connected", "done")} <= seen
    assert all("at" in event for event in events)


def test_a_path_policy_is_obeyed() -> None:
    arguments = ["--size", "100K", "--json", "--path-policy", "relay"]
    done = subprocess.run([*DEMO, *arguments], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {event["kind"] for event in events if event["event"] == "path"} == {"relay"}
    assert events[-1]["path"] == "relay"


def test_on_a_terminal_it_draws_a_live_screen() -> None:
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "110", "LINES": "40"}
    process = subprocess.Popen([*DEMO, "--size", "1M"], stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    screen = read_all(ours)
    assert process.wait(30) == 0, screen
    assert "\x1b[" in screen
    assert "NAT a" in screen
    assert "equal on both sides" in screen


def test_ctrl_c_ends_everything_with_130() -> None:
    process = subprocess.Popen(
        [*DEMO, "--size", "500M", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        assert any(json.loads(line)["event"] == "progress" for line in process.stdout)
        group = os.getpgid(process.pid)
        os.killpg(group, signal.SIGINT)  # as a terminal does: to the demo and to its programs
        process.communicate(timeout=30)
    assert process.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)


def read_all(handle: int) -> str:
    """What comes from a terminal until its other side is closed, which Linux reports as an error."""
    chunks = []
    with os.fdopen(handle, "rb", buffering=0) as terminal:
        try:
            while chunk := terminal.read(65536):
                chunks.append(chunk)
        except OSError:
            pass
    return b"".join(chunks).decode(errors="replace")
