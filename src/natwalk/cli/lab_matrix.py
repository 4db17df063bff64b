"""``natwalk lab matrix``: every kind of NAT with every other, by real processes, beside what is expected."""

from __future__ import annotations

import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import click

from natwalk.cli.exit_codes import ExitCode
from natwalk.cli.lab_page import page
from natwalk.cli.lab_pair import PairResult, run_pair
from natwalk.nat import KINDS

_LETTERS: Final = {"direct": "D", "relay": "R", "none": "-"}


@click.command("matrix")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(list(KINDS)),
    help="Only these kinds; may be repeated. All by default.",
)
@click.option("--engine", is_flag=True, help="Our engine as the routers, instead of the kernel.")
@click.option("--jobs", type=click.IntRange(1, 16), default=1, show_default=True, help="Pairs at a time.")
@click.option(
    "--html", "html", type=click.Path(dir_okay=False, path_type=Path), help="Write the grid as one page."
)
@click.option(
    "--captures",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep pcap files of unexpected pairs here; else in a temporary folder.",
)
@click.option(
    "--json", "as_json", is_flag=True, envvar="NATWALK_JSON", help="An object a pair, then a summary."
)
def matrix(
    *,
    kinds: tuple[str, ...],
    engine: bool,
    jobs: int,
    html: Path | None,
    captures: Path | None,
    as_json: bool,
) -> None:
    """Connect two peers behind every pair of NATs, with a server, as real processes in namespaces.

    Exits with 0 when every pair ends on the path the table of ``natwalk.nat`` expects, in 15 seconds.
    """
    chosen = list(kinds) or list(KINDS)
    pairs = [(a, b) for a in chosen for b in chosen]
    folder = captures or Path(tempfile.mkdtemp(prefix="natwalk-matrix-"))
    began = time.monotonic()
    results: list[PairResult] = []
    with ThreadPoolExecutor(jobs) as pool:
        for result in pool.map(lambda pair: run_pair(*pair, engine=engine, captures=folder), pairs):
            results.append(result)
            _tell(result, as_json)
    seconds = time.monotonic() - began
    if captures is None and not any(folder.iterdir()):
        folder.rmdir()
    good = sum(result.ok for result in results)
    if as_json:
        click.echo(
            json.dumps({"event": "summary", "pairs": len(results), "ok": good, "seconds": round(seconds, 1)})
        )
    else:
        click.echo("\n".join(_grid(chosen, results)))
        click.echo(f"{good} of {len(results)} as expected, in {seconds:.0f} s")
    if html is not None:
        html.write_text(page(chosen, results, engine=engine), encoding="utf-8")
    if good < len(results):
        raise click.exceptions.Exit(ExitCode.FAILED)


def _tell(result: PairResult, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"event": "pair", **result.row()}))
        return
    mark = "ok " if result.ok else "BAD"
    what = f"{result.nat_a:18} {result.nat_b:18} {result.found:8} {result.seconds:5.1f} s"
    click.echo(f"{mark} {what}  {result.reason}", err=True)
    if not result.ok:
        click.echo(f"    expected {result.expected.value}; what both programs said:", err=True)
        for line in result.trace:
            click.echo(f"    {line}", err=True)


def _grid(kinds: list[str], results: list[PairResult]) -> list[str]:
    """The results as text: rows are side a, columns side b."""
    found = {(result.nat_a, result.nat_b): result for result in results}
    lines = [" " * 20 + " ".join(f"{number:>3}" for number in range(1, len(kinds) + 1))]
    for number, a in enumerate(kinds, 1):
        cells = []
        for b in kinds:
            result = found[a, b]
            cells.append(_LETTERS.get(result.found, "?") + ("" if result.ok else "!"))
        lines.append(f"{number} {a:18}" + " ".join(f"{cell:>3}" for cell in cells))
    return lines
