"""Numbers and progress in words, events as JSON lines, and one live line that never mixes with others."""

import json
import sys

import pytest

from natwalk.cli.exit_codes import ExitCode, Explanation
from natwalk.cli.output import Output, count_text, duration_text, progress_line, size_text
from natwalk.transfer import Progress

PROGRESS = Progress(500_000, 2_000_000, 100_000, 1_000_000.0, 1, 3, "x")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_940, "99.9 kB"),
        (150_000, "150 kB"),
        (999_600, "1.0 MB"),
        (12_345_678, "12.3 MB"),
        (5e18, "5.0 EB"),
        (5e22, "50000 EB"),
    ],
)
def test_sizes(size: float, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.99, "10 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_counts() -> None:
    assert (count_text(1, "file"), count_text(0, "file")) == ("1 file", "0 files")


def test_the_progress_line_says_rate_and_time_left() -> None:
    line = progress_line(PROGRESS)
    assert "[######..................]  25 %" in line
    for part in ("500 kB of 2.0 MB", "1.0 MB/s", "1.5 s left", "1 of 3 files"):
        assert part in line
    done = progress_line(Progress(0, 0, 0, 0.0, 1, 1, ""))
    assert "100 %" in done
    assert "left" not in done
    assert "files" not in done


def test_events_are_json_lines_and_people_hear_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(as_json=True)
    output.event("code", code="ü")
    output.say("hello")
    output.progress(PROGRESS)
    out, err = capsys.readouterr()
    code, progress = map(json.loads, out.splitlines())
    assert code == {"event": "code", "code": "ü"}
    assert (progress["bytes"], progress["total"], progress["rate"]) == (500_000, 2_000_000, 1_000_000)
    assert progress["seconds_left"] == 1.5
    assert err == ""


def test_people_hear_on_stderr_only(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(verbose=True)
    output.event("code", code="x")
    output.say("hello")
    output.detail("more")
    output.progress(PROGRESS)
    Output().detail("not this")
    assert capsys.readouterr() == ("", "hello\n  more\n")


def test_a_failure_is_told_both_ways(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=True).failure(Explanation(ExitCode.NO_PATH, "no path", "try this"))
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "event": "error",
        "code": 3,
        "name": "no_path",
        "message": "no path",
        "hint": "try this",
    }
    assert err == "natwalk: no path\n  try this\n"
    Output().failure(Explanation(ExitCode.FAILED, "bad", ""))
    assert capsys.readouterr() == ("", "natwalk: bad\n")


def test_the_live_line_is_wiped_before_the_next_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    output = Output()
    output.progress(PROGRESS)
    output.say("path: direct")
    output.clear()
    _, err = capsys.readouterr()
    live, rest = err.split("\x1b[K", 1)
    assert len(live) == 40
    assert live.startswith("\r[####")
    assert rest == "\r\x1b[Kpath: direct\n"
