"""``natwalk lab``: an internet that stays between commands, and of which nothing stays after them."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab.needs import needs_tun
from natwalk.lab import LabError, why_unavailable
from natwalk.lab.run_directory import MARK, Identity, RunDirectory
from natwalk.lab.space import tool

UNAVAILABLE = why_unavailable()
TOPOLOGY = """
[network.core]
subnet = "203.0.113.0/24"
[network.isp]
subnet = "198.51.100.0/24"
[network.home]
subnet = "192.168.1.0/24"
[nat.router]
kind = "linux"
outside = "isp"
inside = "home"
[host.alice]
network = "home"
cable = { delay-ms = 1 }
[server.relay]
network = "core"
run = "sleep 1000"
"""
pytestmark = [
    pytest.mark.lab,
    needs_tun,
    pytest.mark.skipif(UNAVAILABLE is not None, reason=f"no lab here: {UNAVAILABLE}"),
]


class Shell:
    """Runs ``natwalk lab`` with a folder of its own for what is up."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "labs"
        self.run = RunDirectory("default", self.root)
        self.topology = folder / "topology.toml"
        self.topology.write_text(TOPOLOGY)
        self.environment = {**os.environ, "NATWALK_LAB_DIR": str(self.root)}

    def __call__(self, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "natwalk", "lab", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    def up(self) -> str:
        return self("up", str(self.topology))

    def state(self) -> dict:
        state = self.run.state()
        assert state
        return state


@pytest.fixture
def shell(tmp_path):
    made = Shell(tmp_path)
    yield made
    made.run.clean() if made.run.keeper() is None else made("down")


def members(lab: str, namespaces: list[int]) -> list[int]:
    """Processes that are of the lab, by their mark or by where they are."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            marked = f"{MARK}={lab}".encode() in Path(f"/proc/{name}/environ").read_bytes()
            inside = os.stat(f"/proc/{name}/ns/net").st_ino in namespaces
        except OSError:
            continue
        if (marked or inside) and Identity.of(int(name)) is not None:
            found.append(int(name))
    return found


def links() -> str:
    return subprocess.run([tool("ip"), "-o", "link"], capture_output=True, text=True, check=True).stdout


def wait_for_end(pid: int) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([handle], [], [], 10)[0], f"process {pid} is still there"
    finally:
        os.close(handle)


def test_a_lab_from_up_to_down(shell, tmp_path) -> None:
    before = links()
    assert "is up" in shell.up()
    state = shell.state()
    assert "192.168.1.10" in shell("exec", "alice", "--", tool("ip"), "address")
    assert shell("exec", "alice", "sh", "-c", "exit 7", status=7) == ""
    status = json.loads(shell("status", "--json"))
    assert status["nodes"]["router"]["address"] == "198.51.100.2"
    assert "engine: linux" in shell("status")
    pcap = tmp_path / "alice.pcap"
    shell("event", "capture", "alice", str(pcap))
    shell("event", "cut", "alice", "--direction", "in")
    shell("event", "mend", "alice")
    shell("event", "reboot", "router", "--new-ports")
    shell("event", "kind", "router", "symmetric")
    assert shell("event", "fill", "router", "--count", "10").strip() == "10"
    shell("event", "cable", "alice", "--delay-ms", "5", "--jitter-ms", "1")
    assert shell("event", "capture", "alice").strip() == str(pcap)
    assert pcap.stat().st_size >= 24
    assert shell("event", "move", "alice", "core").strip() == "203.0.113.20"
    assert "is up already" in shell("up", str(shell.topology), status=1)
    assert "there is no 'zoe'" in shell("exec", "zoe", "true", status=1)
    shell("down")
    assert members(state["id"], state["namespaces"]) == []
    assert not shell.run.path.exists()
    assert links() == before
    assert "there is no lab" in shell("down", status=1)
    assert "there is no lab" in shell("status", status=1)


def test_what_is_wrong_in_a_file_is_named_and_nothing_is_made(shell) -> None:
    shell.topology.write_text(TOPOLOGY.replace("kind", "kinf"))
    assert "unknown key 'kinf'" in shell("up", str(shell.topology), status=78)
    assert not shell.run.path.exists()


def test_a_lab_whose_process_is_killed_leaves_nothing(shell) -> None:
    before = links()
    shell.up()
    state = shell.state()
    os.kill(state["daemon"][0], signal.SIGKILL)
    for pid in members(state["id"], state["namespaces"]):
        wait_for_end(pid)
    assert members(state["id"], state["namespaces"]) == []
    assert links() == before
    assert shell.run.path.exists(), "only its folder, which the next one takes"
    shell.up()
    assert shell.state()["id"] != state["id"]


def test_the_next_up_removes_what_is_left_when_all_that_cleans_up_is_killed(shell) -> None:
    """Routers, cables and programs stay, one without its mark, alone in its namespace."""
    shell.up()
    state = shell.state()
    status = json.loads(shell("status", "--json"))
    anonymous = subprocess.Popen(
        [tool("nsenter"), "-t", str(status["nodes"]["alice"]["pid"]), *user(status), "-n", "sleep", "1000"],
        env={"PATH": os.environ["PATH"]},
    )
    entered(anonymous.pid, state["namespaces"])
    for pid in (status["keeper"], state["daemon"][0]):
        os.kill(pid, signal.SIGSTOP)  # neither can clean up when the other goes
    for pid in (status["keeper"], state["daemon"][0]):
        os.kill(pid, signal.SIGKILL)
        wait_for_end(pid)
    left = members(state["id"], state["namespaces"])
    assert anonymous.pid in left
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        assert "processes of a lab that was killed" in shell.up()
        anonymous.wait(5)
        assert members(state["id"], []) == []
        assert stranger.poll() is None, "nobody else is harmed"
    finally:
        stranger.kill()
        stranger.wait()


def user(status: dict) -> list[str]:
    return ["-U", "--preserve-credentials"] if status["user_namespace"] else []


def entered(pid: int, namespaces: list[int]) -> None:
    for _ in range(1000):
        if os.stat(f"/proc/{pid}/ns/net").st_ino in namespaces:
            return
        select.select([], [], [], 0.01)
    raise AssertionError("it never got in")


def test_a_name_may_not_lead_elsewhere() -> None:
    for name in ("../x", "", ".hidden"):
        with pytest.raises(LabError, match="no name for a lab"):
            RunDirectory(name)
