"""The lab as a whole: what is where, errors, and that nothing is ever left behind."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import pytest

import natwalk
from natwalk.lab import Lab, LabError, LabUnavailable, space, why_unavailable
from natwalk.lab.space import tool

PACKAGE = Path(natwalk.__file__).parent
NOBODY = 65534
OWNER = """
import json, subprocess, sys
from natwalk.lab import Lab
lab = Lab("cgnat", "symmetric")
sleeper = lab.b.popen(["sh", "-c", "sleep 1000 & sleep 1000"])
nodes = [lab.internet, lab.server, lab.a, lab.b, *lab.routers_a, *lab.routers_b]
print(json.dumps({"nodes": [n.pid for n in nodes], "sleeper": sleeper.pid, "keeper": lab.keeper_pid,
                  "user_namespace": lab.in_user_namespace}), flush=True)
sys.stdin.readline()
lab.close()
print("closed", flush=True)
"""


class Watched:
    """Network namespaces, held open so that their inode numbers stay theirs."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._handles = [os.open(f"/proc/{pid}/ns/net", os.O_RDONLY) for pid in pids]
        self.inodes = {os.fstat(handle).st_ino for handle in self._handles}

    def processes(self) -> list[int]:
        """Who is in them, as far as we may look."""
        found = []
        for name in os.listdir("/proc"):
            if name.isdecimal():
                try:
                    if os.stat(f"/proc/{name}/ns/net").st_ino in self.inodes:
                        found.append(int(name))
                except OSError:
                    continue  # gone, or not ours to look at
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            os.close(handle)


def children() -> set[int]:
    """Processes that are ours."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                stat = Path(f"/proc/{name}/stat").read_text()
            except OSError:
                continue
            if int(stat.rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(name))
    return found


def links() -> str:
    return subprocess.run([tool("ip"), "-o", "link"], capture_output=True, text=True, check=True).stdout


def wait_until_gone(pids: list[int], seconds: float = 10.0) -> None:
    """Wait, by pidfd, until processes that are not our children have ended."""
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            assert select.select([handle], [], [], seconds)[0], f"process {pid} is still there"
        finally:
            os.close(handle)


@pytest.mark.lab
def test_addresses_are_from_documentation_and_private_ranges() -> None:
    with Lab("port-restricted", "none") as lab:
        assert lab.server.address == "203.0.113.10"
        assert lab.a.address == "192.168.1.10"
        assert lab.b.address == "192.0.2.11"
        assert lab.nat_a.address == "198.51.100.2"
        with pytest.raises(LabError, match="host b has a public address"):
            _ = lab.nat_b


@pytest.mark.lab
def test_programs_get_their_input_and_give_output_and_exit_code() -> None:
    with Lab("none", "none") as lab:
        assert lab.a.run(["cat"], text="over").stdout == "over"
        assert lab.a.run(["false"], check=False).returncode == 1
        with pytest.raises(LabError, match=r"ip -batch - in a: .*nonsense"):
            lab.a.ip("nonsense")
        with pytest.raises(subprocess.TimeoutExpired):
            lab.a.run(["sleep", "10"], timeout=0.2)
        assert repr(lab.a) == "<Node a>"


@pytest.mark.lab
def test_a_started_program_is_the_process_that_signals_reach() -> None:
    with Lab("none", "none") as lab:
        process = lab.a.popen(["sh", "-c", "echo $$; exec sleep 1000"], stdout=subprocess.PIPE)
        assert int(process.stdout.readline()) == process.pid
        process.stdout.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == -signal.SIGTERM


@pytest.mark.lab
def test_closing_kills_what_still_runs_and_may_be_repeated() -> None:
    lab = Lab("port-restricted", "symmetric")
    nodes = [lab.a, lab.b, lab.server, lab.internet, lab.nat_a, lab.nat_b]
    with Watched(node.pid for node in nodes) as watched:
        process = lab.a.popen(["sleep", "1000"])
        assert {node.pid for node in nodes} <= set(watched.processes())
        lab.close()
        assert process.returncode == -signal.SIGKILL
        assert watched.processes() == []
    lab.close()


@pytest.mark.lab
def test_a_program_on_its_way_into_a_lab_that_ends_does_not_get_in() -> None:
    """Started just before the end, it may hold the namespace open already and enter after the sweep."""
    for _ in range(5):
        lab = Lab("none", "none")
        with Watched([lab.a.pid]) as watched:
            late = [
                subprocess.Popen(lab.a.argv(["sleep", "1000"]), stderr=subprocess.DEVNULL) for _ in range(9)
            ]
            lab.close()
            assert [process.wait(5) for process in late].count(0) == 0
            assert watched.processes() == []


@pytest.mark.lab
def test_an_unknown_kind_is_refused_before_anything_is_made() -> None:
    before = children()
    with pytest.raises(ValueError, match="'conical' is not a kind of NAT"):
        Lab("conical")
    with pytest.raises(ValueError, match="nat64 needs IPv6"):
        Lab("nat64")
    assert children() == before


@pytest.mark.lab
def test_a_lab_that_fails_half_way_is_taken_down(monkeypatch) -> None:
    made = []

    def refuse(self, node, interface, *numbers) -> None:
        made.append(Watched([node.pid]))
        raise LabError("no cable left")

    monkeypatch.setattr("natwalk.lab.nodes.Network.attach", refuse)
    with pytest.raises(LabUnavailable, match="no cable left") as caught:
        Lab()
    assert "the kernel must have" in caught.value.hint
    (watched,) = made
    with watched:
        assert watched.processes() == []


def owner(
    python: str, path: Path, user: int | None = None, prefix: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*prefix, python, "-c", OWNER],
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"},
    )


def check_that_it_vanishes(process: subprocess.Popen[str], *, in_user_namespace: bool) -> None:
    """SIGKILL the owner of a lab: no process, no namespace, no link may remain."""
    before = links()
    with process:
        made = json.loads(process.stdout.readline())
        assert made["user_namespace"] is in_user_namespace
        with Watched(made["nodes"]) as watched:
            assert len(watched.inodes) == 7
            assert set(made["nodes"]) <= set(watched.processes())
            process.kill()
            process.wait(10)
            wait_until_gone([made["keeper"], made["sleeper"], *made["nodes"]])
            assert watched.processes() == []
    assert links() == before


@pytest.mark.lab
def test_nothing_is_left_after_the_owner_is_killed() -> None:
    process = owner(sys.executable, PACKAGE.parent)
    check_that_it_vanishes(process, in_user_namespace=os.geteuid() != 0)


@pytest.mark.lab
@pytest.mark.skipif(os.geteuid() != 0, reason="about root without a capability; this is a plain user")
def test_root_in_a_container_without_the_capability_gets_a_user_namespace() -> None:
    prefix = ("setpriv", "--bounding-set=-sys_admin")
    process = owner(sys.executable, PACKAGE.parent, prefix=prefix)
    check_that_it_vanishes(process, in_user_namespace=True)


@pytest.fixture
def as_nobody():
    """Starts the owner as an unprivileged user; skips with the reason where that cannot be."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user; the other tests already run without privileges")
    python = next((p for p in (sys.executable, "/usr/bin/python3") if runs_for_nobody(p)), None)
    if python is None:
        pytest.skip("no Python 3.11 or later that user 65534 may run")
    folder = Path(tempfile.mkdtemp(prefix="natwalk-"))  # pytest's own folders are closed to others
    shutil.copytree(PACKAGE, folder / "natwalk", ignore=shutil.ignore_patterns("__pycache__"))
    folder.chmod(0o755)
    yield owner(python, folder, NOBODY)
    shutil.rmtree(folder)


def runs_for_nobody(python: str) -> bool:
    version = [python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    try:
        return (
            subprocess.run(
                version, capture_output=True, cwd="/", check=False, user=NOBODY, group=NOBODY, extra_groups=[]
            ).returncode
            == 0
        )
    except (FileNotFoundError, PermissionError):
        return False


@pytest.mark.lab
def test_a_plain_user_has_a_lab_in_a_user_namespace_and_it_vanishes_too(as_nobody) -> None:
    check_that_it_vanishes(as_nobody, in_user_namespace=True)


def test_a_missing_program_names_its_package(monkeypatch) -> None:
    monkeypatch.setattr(space.shutil, "which", lambda name, path: None)
    with pytest.raises(LabUnavailable, match="'nft' is not installed") as caught:
        tool("nft")
    assert caught.value.hint == "install it, on Debian: apt install nftables"
    assert "is not installed" in why_unavailable()


def test_a_machine_without_namespaces_says_so(monkeypatch, tmp_path) -> None:
    """The kernel's refusal, with the step that it refused, reaches the user."""
    monkeypatch.setattr(space, "tool", lambda name: f"/bin/{name}")
    monkeypatch.setattr(space, "__file__", str(tmp_path / "space.py"))
    (tmp_path / "keeper.py").write_text(
        "import sys\nprint(f'failed making a {sys.argv[1]}: Operation not permitted')\n"
    )
    with pytest.raises(LabUnavailable, match="making a user-namespace: Operation not permitted") as caught:
        space.Space()
    assert "run as root" in caught.value.hint


def test_a_keeper_that_dies_is_noticed(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(space, "tool", lambda name: f"/bin/{name}")
    monkeypatch.setattr(space, "__file__", str(tmp_path / "space.py"))
    (tmp_path / "keeper.py").write_text("print('ready', flush=True)\n")
    with pytest.raises(LabUnavailable, match="ended at once"):
        space.Space()


@pytest.mark.lab
def test_the_public_links_have_the_mtu_asked_for() -> None:
    with Lab("port-restricted", "none", mtu=1280) as lab:

        def mtu(node, interface) -> int:
            return json.loads(node.run([tool("ip"), "-j", "link", "show", interface]).stdout)[0]["mtu"]

        assert [mtu(lab.nat_a, "wan"), mtu(lab.b, "eth0"), mtu(lab.internet, "net-a")] == [1280] * 3
        assert mtu(lab.a, "eth0") == 1500
