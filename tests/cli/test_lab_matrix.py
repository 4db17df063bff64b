"""``natwalk lab matrix``: pairs of real processes beside the table, and what is said of one that differs."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from lab.needs import needs_tun
from natwalk.cli import lab_matrix, lab_pair
from natwalk.cli.lab import lab
from natwalk.cli.lab_page import page
from natwalk.cli.lab_pair import PAIR_LIMIT, PairResult, run_pair
from natwalk.lab import why_unavailable
from natwalk.nat import KINDS, Outcome, expected

UNAVAILABLE = why_unavailable()
needs_lab = pytest.mark.skipif(UNAVAILABLE is not None, reason=f"no lab here: {UNAVAILABLE}")


def result(nat_a: str, nat_b: str, **changes) -> PairResult:
    outcome = expected(nat_a, nat_b)
    values = {"found": outcome.value, "reason": "<why>", "seconds": 2.0, "trace": ("a: <said>",), **changes}
    return PairResult(nat_a, nat_b, outcome, **values)


@pytest.mark.lab
@needs_lab
@pytest.mark.parametrize(
    ("nat_a", "nat_b", "engine"),
    [
        ("full-cone", "symmetric", False),
        ("symmetric", "port-restricted", False),
        pytest.param("cgnat", "address-restricted", True, marks=needs_tun),
        pytest.param("symmetric", "symmetric", True, marks=needs_tun),
        ("udp-blocked", "none", False),
    ],
)
def test_a_pair_ends_on_the_path_the_table_says(tmp_path, nat_a, nat_b, engine) -> None:
    done = run_pair(nat_a, nat_b, engine=engine, captures=tmp_path)
    assert done.found == expected(nat_a, nat_b).value, "\n".join(done.trace)
    assert done.seconds < PAIR_LIMIT, "\n".join(done.trace)
    assert list(tmp_path.iterdir()) == [], "captures of what went well are not kept"


@pytest.mark.lab
@needs_lab
def test_a_difference_keeps_both_traces_and_captures(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(lab_pair, "expected", lambda *_: Outcome.RELAY)
    done = run_pair("none", "full-cone", captures=tmp_path)
    assert (done.found, done.ok) == ("direct", False)
    sides = {line.partition(":")[0] for line in done.trace if '"event": "path"' in line}
    assert sides == {"a", "b", "simulator"}
    assert {file.name for file in tmp_path.iterdir()} == {"none-full-cone-a.pcap", "none-full-cone-b.pcap"}
    simulated = [line for line in done.trace if line.startswith("simulator: ")]
    assert any('"kind": "direct"' in line for line in simulated), "it shows what the simulator does"
    assert all(file.stat().st_size > 1000 for file in tmp_path.iterdir())


@pytest.fixture
def pretended(monkeypatch):
    """Runs the command with results that are made up by a function of the two kinds."""

    def run(make, *arguments: str):
        monkeypatch.setattr(lab_matrix, "run_pair", lambda a, b, **_: make(a, b))
        return CliRunner().invoke(lab, ["matrix", *arguments])

    return run


def test_the_grid_has_every_pair(pretended) -> None:
    done = pretended(result)
    assert done.exit_code == 0
    assert "49 of 49 as expected" in done.stdout
    assert "5 symmetric           D   D   D   R   R   R   R" in done.stdout


def test_a_difference_is_a_failure_that_shows_the_traces(pretended, tmp_path) -> None:
    def make(a: str, b: str) -> PairResult:
        return result(a, b, found="relay") if (a, b) == ("none", "none") else result(a, b)

    html = tmp_path / "grid.html"
    done = pretended(make, "--kind", "none", "--kind", "symmetric", "--html", str(html))
    assert done.exit_code == 1
    assert "expected direct; what both programs said" in done.stderr
    assert "a: <said>" in done.stderr
    assert "3 of 4 as expected" in done.stdout
    assert "a: &lt;said&gt;" in html.read_text()


def test_a_pair_that_takes_too_long_is_a_failure(pretended) -> None:
    done = pretended(lambda a, b: result(a, b, seconds=PAIR_LIMIT), "--kind", "none", "--json")
    assert done.exit_code == 1
    pair, summary = map(json.loads, done.stdout.splitlines())
    assert (pair["ok"], pair["trace"]) == (False, ["a: <said>"])
    assert summary == {"event": "summary", "pairs": 1, "ok": 0, "seconds": summary["seconds"]}


def test_the_page_needs_nothing_else_and_escapes_what_programs_said() -> None:
    kinds = list(KINDS)
    text = page(kinds, [result(a, b) for a in kinds for b in kinds], engine=False)
    assert text.count("<td ") == 49
    assert "49 of 49 pairs as expected" in text
    assert "<why>" not in text
    for outside in ("http://", "https://", "src=", "@import", "url("):
        assert outside not in text
