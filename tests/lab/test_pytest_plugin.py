"""The pytest plugin, in a small suite of another project that runs in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from lab.needs import needs_tun

PLUGIN = "pytest_natwalk"
SUITE = """
import subprocess
import sys

import pytest

SERVER = '''
import socket
with socket.create_server(("203.0.113.10", 7)) as listener:
    print("ready", flush=True)
    for _ in range(2):
        print(listener.accept()[1][0], flush=True)
'''
CLIENT = "import socket; socket.create_connection(('203.0.113.10', 7), 5).close()"


def seen(lab):
    server = lab.server.popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE)
    with server.stdout as lines:
        assert lines.readline() == b"ready\\n"
        for host in (lab.a, lab.b):
            host.run([sys.executable, "-c", CLIENT])
        return [line.decode().strip() for line in lines]


@pytest.mark.nats("port-restricted", "none")
def test_one_nat(nat_lab):
    assert seen(nat_lab) == ["198.51.100.2", "192.0.2.11"]


@pytest.mark.nats("linux", same_lan=True)
def test_same_nat(nat_lab):
    assert seen(nat_lab) == ["198.51.100.2"] * 2


def test_without_a_marker(nat_lab):
    assert nat_lab.kind_a == "port-restricted"


@pytest.mark.nats("conical")
def test_unknown_kind(nat_lab):
    raise AssertionError
"""
WITHOUT_A_LAB = """
import natwalk.lab.lab
import pytest
from natwalk.lab import LabUnavailable


def refuse():
    raise LabUnavailable("no namespaces", "run as root")


@pytest.fixture(autouse=True)
def nothing(monkeypatch):
    monkeypatch.setattr(natwalk.lab.lab, "Space", refuse)


def test_it(nat_lab):
    raise AssertionError
"""
LOADED = """
import sys


def test_nothing_is_loaded_before_it_is_asked_for():
    assert not [name for name in sys.modules if name.startswith("natwalk")]
"""


def run_suite(folder: Path, text: str) -> str:
    (folder / "test_theirs.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-ra", "-q", "--strict-markers", "-p", "no:asyncio"]
    source = Path(__file__).parents[2] / "src"
    done = subprocess.run(
        [*command, *plugin_option(), "-c", "/dev/null", "--rootdir", str(folder), str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=folder,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(source), "HOME": str(folder)},
    )
    return done.stdout + done.stderr


def plugin_option() -> list[str]:
    """Load it by name where the installed metadata does not do so yet."""
    from importlib.metadata import entry_points

    known = any(entry.value == PLUGIN for entry in entry_points(group="pytest11"))
    return [] if known else ["-p", PLUGIN]


@pytest.mark.lab
@needs_tun
def test_a_suite_of_another_project_runs_behind_nats(tmp_path) -> None:
    said = run_suite(tmp_path, SUITE)
    assert "3 passed, 1 error" in said, said
    assert "marker nats: 'conical' is not a kind of NAT" in said


def test_where_there_can_be_no_lab_tests_are_skipped_with_the_reason(tmp_path) -> None:
    said = run_suite(tmp_path, WITHOUT_A_LAB)
    assert "1 skipped" in said, said
    assert "no laboratory here: no namespaces (run as root)" in said


def test_it_costs_other_suites_nothing(tmp_path) -> None:
    said = run_suite(tmp_path, LOADED)
    assert "1 passed" in said, said


HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "test-your-program-behind-nats.md"


def block(fence: str, containing: str) -> str:
    """The block of the how-to that begins with ``fence`` and has ``containing`` in it."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", HOW_TO.read_text(encoding="utf-8"), re.S | re.M)
    (found,) = (text for language, text in blocks if language == fence and containing in text)
    return found


@pytest.mark.lab
def test_the_suite_of_the_how_to_passes(tmp_path) -> None:
    said = run_suite(tmp_path, block("python", "nat_lab"))
    assert "2 passed" in said, said


@pytest.mark.lab
def test_the_suite_with_aiortc_passes_where_that_is_installed(tmp_path) -> None:
    said = run_suite(tmp_path, block("", "importorskip"))
    if "could not import 'aiortc'" in said:
        pytest.skip("aiortc is not installed: it is no dependency of ours, and the how-to says so")
    assert "1 passed" in said, said


def test_the_package_announces_it() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"pytest_natwalk": PLUGIN}
