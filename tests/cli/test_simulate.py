"""``natwalk simulate`` as a user runs it: figures, pictures, processes, Ctrl-C and going on."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from natwalk.cli.exit_codes import ExitCode
from natwalk.cli.output import Output
from natwalk.cli.simulate import simulate
from natwalk.cli.simulate_plot import draw
from natwalk.cli.simulate_view import show
from natwalk.cli.simulate_work import CHUNK, Interrupted, Job, ResumeError, work
from natwalk.sim.population import shipped_text

TINY = """
name = "tiny & fast"
title = "open hosts"
[[network]]
name = "open"
share = 1
delay-ms = 5
nats = { none = 1 }
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(simulate, [str(each) for each in arguments], standalone_mode=False)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def test_the_json_has_every_figure(tmp_path: Path) -> None:
    plot = tmp_path / "plot.svg"
    result = run("--population", "internet-2026", "--pairs", 40, "--processes", 1, "--json", "--plot", plot)
    assert result.return_value == ExitCode.OK
    document = json.loads(result.stdout)
    assert (document["population"], document["pairs"], document["seed"]) == ("internet-2026", 40, 1)
    assert sum(document["share"].values()) == pytest.approx(1, abs=1e-3)
    for figure in ("first_byte_ms", "direct_ms", "packets", "relay_bytes"):
        assert document[figure]["p50"] <= document[figure]["p95"] <= document[figure]["p99"]
    assert document["techniques"]["portmap"]["why"] == "not in this version"
    assert sum(row["pairs"] for row in document["by_kind_pair"]) == 40
    assert document["by_arithmetic"]["direct"] == pytest.approx(0.7646, abs=1e-3)
    picture = ElementTree.fromstring(plot.read_text(encoding="utf-8"))
    words = " ".join(text for text in picture.itertext())
    assert "internet-2026: End users of 2026" in words
    assert f"{document['first_byte_ms']['p50']} / " in words


def test_one_process_and_two_print_the_same_bytes() -> None:
    """Five chunks, so that the two finish them in whatever order."""
    printed = [
        run(
            "--population",
            "internet-2026",
            "--pairs",
            4 * CHUNK + 7,
            "--no-compare",
            "--processes",
            n,
            "--json",
        )
        for n in (1, 2)
    ]
    assert all(result.return_value == ExitCode.OK for result in printed)
    assert printed[0].stdout_bytes == printed[1].stdout_bytes
    assert printed[0].stderr == ""


def test_people_get_tables_and_how_long_it_took(tiny: Path) -> None:
    result = run("--population", tiny, "--pairs", 5, "--processes", 1, "--without", "birthday, relay")
    assert "tiny & fast: open hosts" in result.stdout
    assert "simulated 100.0 % 0.0 % 0.0 %" in " ".join(result.stdout.split())
    assert "left out by --without" in result.stdout
    assert "by arithmetic" not in result.stdout, "arithmetic is of all techniques"
    assert "5 pairs in" in result.stderr


def test_a_name_with_signs_of_its_own_stays_a_picture(tiny: Path, tmp_path: Path) -> None:
    plot = tmp_path / "x.svg"
    run("--population", tiny, "--pairs", 2, "--processes", 1, "--plot", plot)
    assert "tiny & fast" in " ".join(ElementTree.fromstring(plot.read_text(encoding="utf-8")).itertext())


def test_a_population_without_any_success_can_be_shown(tmp_path: Path) -> None:
    path = tmp_path / "wall.toml"
    path.write_text(TINY.replace("none = 1", "udp-blocked = 1"))
    result = run("--population", path, "--pairs", 2, "--processes", 1, "--without", "relay-tcp", "--json")
    document = json.loads(result.stdout)
    assert document["share"]["failed"] == 1
    assert document["direct_ms"]["p50"] is None
    assert "- / - / - ms" in draw(document)
    screen = Console(file=io.StringIO(), width=100)
    show(document, screen)
    assert "100.0 %" in screen.file.getvalue()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--population", "nowhere"), "nowhere: neither a file nor one of homes-2005, internet-2026"),
        (("--population", "/"), "/ cannot be read"),
    ],
)
def test_what_is_no_population_is_bad_configuration(arguments: tuple[str, str], words: str) -> None:
    result = run(*arguments)
    assert result.return_value == ExitCode.BAD_CONFIGURATION
    assert words in result.stderr


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(TINY + "shape = 3\n")
    result = run("--population", path, "--json")
    assert result.return_value == ExitCode.BAD_CONFIGURATION
    assert "network[1].shape is not a key" in json.loads(result.stdout)["message"]


def test_an_unknown_technique_is_a_usage_error() -> None:
    result = CliRunner().invoke(simulate, ["--population", "homes-2005", "--without", "magic"])
    assert result.exit_code == ExitCode.USAGE
    assert "'magic' is not a technique: one of punching, ipv6, relay, relay-tcp, birthday" in result.stderr


def test_a_finished_run_is_read_from_its_file(tiny: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    options = ("--population", tiny, "--pairs", 30, "--processes", 1, "--resume", kept, "--json")
    first, again = run(*options), run(*options)
    assert first.stdout == again.stdout
    assert json.loads(kept.read_text())["done"] == [0, 1]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_file_of_another_run_is_refused(tiny: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    run("--population", tiny, "--pairs", 3, "--processes", 1, "--resume", kept)
    result = run("--population", tiny, "--pairs", 3, "--seed", 2, "--resume", kept)
    assert result.return_value == ExitCode.FAILED
    assert "is of another run: seed was 1, is 2" in result.stderr
    for text in ("{}", "[1]", "not JSON", '{"job": {}, "done": [], "tally": []}'):
        kept.write_text(text)
        result = run("--population", tiny, "--pairs", 3, "--resume", kept)
        assert result.return_value == ExitCode.FAILED
        assert "is not a file to go on from" in result.stderr
        assert kept.read_text() == text, "what is not ours is left alone"


def test_where_nothing_can_be_written_is_said_before_the_work(tiny: Path, tmp_path: Path) -> None:
    for option in ("--plot", "--resume"):
        result = run("--population", tiny, "--pairs", 10**8, option, tmp_path / "nowhere" / "x")
        assert result.return_value == ExitCode.FAILED
        assert "nowhere is not a folder" in result.stderr


def test_a_file_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    job = Job(TINY, 1, CHUNK)
    with pytest.raises(ResumeError, match="cannot be written"):
        work(job, 1, tmp_path / ("x" * 254), Output(as_json=True))


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    """Ctrl-C between two chunks; what is printed in the end is as if nothing had happened."""
    kept = tmp_path / "kept.json"
    job = Job(shipped_text("homes-2005"), 1, 3 * CHUNK, compare=False)
    straight = work(job, 1, None, Output(as_json=True))

    class Impatient(Output):
        def live(self, text: str) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("natwalk.cli.simulate_work.LINE_EVERY", 0.0)
        patch.setattr("natwalk.cli.simulate_work.LIVE_EVERY", 0.0)
        with pytest.raises(Interrupted) as caught:
            work(job, 1, kept, Impatient())
    assert caught.value.done == CHUNK
    assert json.loads(kept.read_text())["done"] == [0]
    assert work(job, 1, kept, Output(as_json=True)).to_json() == straight.to_json()


def started(population: Path, kept: Path) -> subprocess.Popen[str]:
    """The command on two processes, with more to do than it will, and something done."""
    argv = [sys.executable, "-m", "natwalk", "simulate", "--population", str(population)]
    argv += ["--pairs", "1000000", "--processes", "2", "--resume", str(kept)]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    while not kept.exists():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
        assert process.returncode is None
    return process


def test_ctrl_c_exits_with_130_and_keeps_what_is_done(tiny: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    process = started(tiny, kept)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == ExitCode.INTERRUPTED
    assert f"the same command goes on from {kept}" in said
    done = json.loads(kept.read_text())
    assert done["tally"]["pairs"] == len(done["done"]) * CHUNK > 0


def test_workers_do_not_outlive_a_killed_command(tiny: Path, tmp_path: Path) -> None:
    process = started(tiny, tmp_path / "kept.json")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) >= 2
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while any(alive(child) for child in children):
        assert time.monotonic() < deadline, "a worker is still there"
        time.sleep(0.05)


def alive(pid: str) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
