"""``natwalk simulate``: what share of a population connects directly, how fast, and what that hangs on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from natwalk.cli.exit_codes import ExitCode
from natwalk.cli.output import Output

if TYPE_CHECKING:
    from natwalk.cli.simulate_work import Job
    from natwalk.sim.population import Population
    from natwalk.sim.population_stats import Tally

_LONGEST: Final = 1 << 20
_AGAIN: Final = "choose another file; --resume FILE keeps the figures while you try"
_HINT: Final = "docs/how-to/ask-a-population.md says what a population file has"


class TechniquesType(click.ParamType[frozenset[str]]):
    """Names of techniques, with commas between."""

    name = "techniques"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> frozenset[str]:
        """The names in ``value``; a usage error for one there is none of."""
        from natwalk.sim.population_stats import ABSENT, TECHNIQUES

        if isinstance(value, frozenset):
            return value
        names = frozenset(name.strip() for name in str(value).split(",") if name.strip())
        unknown = sorted(names - TECHNIQUES.keys() - ABSENT.keys())
        if unknown:
            known = ", ".join((*TECHNIQUES, *ABSENT))
            self.fail(f"{unknown[0]!r} is not a technique: one of {known}", param, ctx)
        return names


@click.command()
@click.option(
    "--population",
    "name",
    required=True,
    envvar="NATWALK_POPULATION",
    metavar="FILE|NAME",
    help="A population file, or homes-2005, internet-2026 or mobile-heavy.",
)
@click.option(
    "--pairs",
    type=click.IntRange(1, 100_000_000),
    default=1000,
    show_default=True,
    envvar="NATWALK_PAIRS",
    help="How many pairs to draw.",
)
@click.option("--seed", type=int, default=1, show_default=True, envvar="NATWALK_SEED", help="Of all chance.")
@click.option(
    "--without",
    type=TechniquesType(),
    default="",
    envvar="NATWALK_WITHOUT",
    help="Techniques to go without, with commas between: punching, ipv6, relay, birthday, portmap…",
)
@click.option(
    "--compare/--no-compare",
    default=True,
    show_default=True,
    envvar="NATWALK_COMPARE",
    help="Run pairs again without each technique, to say what it adds.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 1024),
    envvar="NATWALK_PROCESSES",
    help="How many processes; one for each processor without. The results are the same.",
)
@click.option(
    "--resume",
    "kept",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="NATWALK_RESUME",
    help="Keep what is done in this file, and go on from it.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    envvar="NATWALK_PLOT",
    help="Draw the results into this SVG file.",
)
@click.option("--json", "as_json", is_flag=True, envvar="NATWALK_JSON", help="Print one JSON object.")
def simulate(
    *,
    name: str,
    pairs: int,
    seed: int,
    without: frozenset[str],
    compare: bool,
    processes: int | None,
    kept: Path | None,
    plot: Path | None,
    as_json: bool,
) -> int:
    """Draw pairs of peers from a population and connect each in a simulated internet.

    The pairs run what natwalk runs on real machines, ICE, TURN and path selection, on virtual time. The same
    population, seed and pairs give the same figures, on any number of processes.
    """
    from natwalk.cli.simulate_work import Interrupted, Job, ResumeError, work
    from natwalk.sim.population import PopulationError, parse

    output = Output(as_json=as_json)
    try:
        text = _text(name)
        population = parse(text)
    except PopulationError as error:
        return _fail(output, ExitCode.BAD_CONFIGURATION, f"{name}: {error}", _HINT)
    except (OSError, UnicodeError) as error:
        return _fail(output, ExitCode.BAD_CONFIGURATION, f"{name} cannot be read: {error}", _HINT)
    for path in (kept, plot):
        if path is not None and not path.absolute().parent.is_dir():
            return _fail(
                output, ExitCode.FAILED, f"{path.parent} is not a folder", "make it, or choose another"
            )
    job = Job(text, seed, pairs, without, compare)
    count = min(processes or len(os.sched_getaffinity(0)), job.chunks)
    try:
        tally = work(job, count, kept, output)
    except ResumeError as error:
        return _fail(output, ExitCode.FAILED, str(error), "choose another file, or its options")
    except OSError as error:
        return _fail(
            output, ExitCode.FAILED, f"{kept} cannot be written: {error.strerror}", "choose another file"
        )
    except Interrupted as stop:
        done = f"interrupted after {stop.done} of {pairs} pairs"
        return _fail(output, ExitCode.INTERRUPTED, done, _go_on(kept))
    document = _document(population, job, tally)
    if plot is not None:
        from natwalk.cli.simulate_plot import draw

        try:
            plot.write_text(draw(document), encoding="utf-8")
        except OSError as error:
            return _fail(output, ExitCode.FAILED, f"{plot} cannot be written: {error.strerror}", _AGAIN)
    if as_json:
        click.echo(json.dumps(document, ensure_ascii=False))
    else:
        from natwalk.cli.simulate_view import show

        show(document)
    return ExitCode.OK


def _text(name: str) -> str:
    """The population file called ``name``, or the one at that path."""
    from natwalk.sim.population import PopulationError, shipped, shipped_text

    if name in shipped():
        return shipped_text(name)
    path = Path(name)
    if not path.exists():
        raise PopulationError(f"neither a file nor one of {', '.join(shipped())}")
    with path.open("rb") as file:
        data = file.read(_LONGEST + 1)
    if len(data) > _LONGEST:
        raise PopulationError("longer than 1 MiB")
    return data.decode()


def _document(population: Population, job: Job, tally: Tally) -> dict[str, Any]:
    """What ``--json`` prints: the question, then the figures. Nothing in it depends on the machine."""
    from natwalk.sim.population_arithmetic import expected_shares
    from natwalk.sim.population_stats import report, share_names

    arithmetic = None
    if not population.one_nat and not job.without:
        arithmetic = {name: round(value, 4) for name, value in share_names(expected_shares(population))}
    return {
        "population": population.name,
        "title": population.title,
        "seed": job.seed,
        "without": sorted(job.without),
        "by_arithmetic": arithmetic,
        **report(tally, job.without),
    }


def _go_on(kept: Path | None) -> str:
    if kept is None:
        return "nothing is kept without --resume FILE"
    return f"the same command goes on from {kept}"


def _fail(output: Output, code: ExitCode, message: str, hint: str) -> int:
    from natwalk.cli.exit_codes import Explanation

    output.failure(Explanation(code, message, hint))
    return code
