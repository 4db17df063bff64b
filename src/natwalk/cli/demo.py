"""``natwalk demo``: an internet on this machine, on which two peers behind NATs move a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import click

from natwalk.cli.demo_lab import DemoFailed, DemoPlan, Event, run_in_lab
from natwalk.cli.demo_story import Story
from natwalk.cli.demo_text import plain_lines, summary_lines
from natwalk.cli.exit_codes import ExitCode
from natwalk.lab import Lab, LabUnavailable
from natwalk.nat import KINDS

_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_FRAME: Final = 0.1  # seconds
_KEPT_ABOVE: Final = frozenset({"no-namespaces", "output", "error", "failed"})


class SizeType(click.ParamType[int]):
    """Bytes, with an optional K, M or G for 1024, 1024² or 1024³ of them."""

    name = "bytes"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of bytes ``value`` stands for; a usage error when it stands for none."""
        text = str(value).upper()
        digits = text.rstrip("KMG")
        unit = _UNITS.get(text[len(digits) :])
        if unit is None or not (digits.isascii() and digits.isdigit()):
            self.fail(f"{value!r} is not a size like 500, 64K, 100M or 1G", param, ctx)
        return int(digits) * unit


@click.command()
@click.option(
    "--nat-a",
    type=click.Choice(list(KINDS)),
    default="port-restricted",
    show_default=True,
    envvar="NATWALK_NAT_A",
    help="What is before the sender.",
)
@click.option(
    "--nat-b",
    type=click.Choice(list(KINDS)),
    default="port-restricted",
    show_default=True,
    envvar="NATWALK_NAT_B",
    help="What is before the receiver.",
)
@click.option("--same-lan", is_flag=True, envvar="NATWALK_SAME_LAN", help="Both peers behind the first NAT.")
@click.option(
    "--size",
    type=SizeType(),
    default="64M",
    show_default=True,
    envvar="NATWALK_SIZE",
    help="Size of the file.",
)
@click.option(
    "--path-policy",
    type=click.Choice(["any", "direct", "relay"]),
    default="any",
    show_default=True,
    envvar="NATWALK_PATH_POLICY",
    help="Which paths the peers may use.",
)
@click.option("--json", "as_json", is_flag=True, envvar="NATWALK_JSON", help="Events, one object a line.")
def demo(*, nat_a: str, nat_b: str, same_lan: bool, size: int, path_policy: str, as_json: bool) -> None:
    """Connect two peers behind NATs on an internet made of network namespaces, and move a file.

    Needs root or unprivileged user namespaces, and nftables; elsewhere the same two peers run in the
    simulator. Exits with 0 only if the file arrived whole.
    """
    plan = DemoPlan(nat_a, nat_a if same_lan else nat_b, same_lan, size, path_policy)
    story = Story()
    with _presenting(story, as_json=as_json) as present:

        def on_event(event: Event) -> None:
            story.take(event)
            present(event)

        try:
            _run(plan, on_event)
        except DemoFailed as failure:
            words = {"message": str(failure), "hint": failure.hint}
            on_event({"event": "failed", "side": "demo", "at": story.at, "code": failure.exit_code, **words})
            raise click.exceptions.Exit(failure.exit_code) from None
        on_event(story.summary())
    if not story.ok:
        raise click.exceptions.Exit(ExitCode.INTEGRITY)


def _run(plan: DemoPlan, on_event: Callable[[Event], None]) -> None:
    try:
        lab = Lab(plan.nat_a, plan.nat_b, same_lan=plan.same_lan)
    except LabUnavailable as error:
        on_event({"event": "no-namespaces", "side": "demo", "reason": error.reason, "hint": error.hint})
        _run_in_simulator(plan, str(error), on_event)
        return
    with lab:
        run_in_lab(plan, lab, on_event)


def _run_in_simulator(plan: DemoPlan, why: str, on_event: Callable[[Event], None]) -> None:
    from natwalk.sim.demo import SimulatedDemoFailed, run

    def with_reason(event: Event) -> None:
        on_event({**event, "why": why} if event.get("event") == "topology" else event)

    try:
        run(plan.nat_a, plan.nat_b, plan.size, plan.policy, with_reason, same_lan=plan.same_lan)
    except SimulatedDemoFailed as error:
        raise DemoFailed(str(error), "", ExitCode.NO_PATH) from error


@contextmanager
def _presenting(story: Story, *, as_json: bool) -> Iterator[Callable[[Event], None]]:
    """How events reach the user: JSON lines, a live screen, or lines of text."""
    if as_json:
        import msgspec

        yield lambda event: click.echo(msgspec.json.encode(event))
    elif sys.stdout.isatty():
        with _live(story) as show:
            yield show
    else:
        yield lambda event: _echo_lines(event, story)


def _echo_lines(event: Event, story: Story) -> None:
    if event.get("event") == "summary":
        click.echo("\n".join(summary_lines(story)))
        return
    for line in plain_lines(event, story):
        click.echo(line)


@contextmanager
def _live(story: Story) -> Iterator[Callable[[Event], None]]:
    """A screen drawn when something happens, ten times a second at most; problems stay above it."""
    from rich.console import Console
    from rich.live import Live

    from natwalk.cli.demo_view import screen

    console = Console()
    drawn = 0.0
    with Live(screen(story, console.width), console=console, auto_refresh=False) as live:

        def show(event: Event) -> None:
            nonlocal drawn
            if event.get("event") in _KEPT_ABOVE:
                for line in plain_lines(event, story):
                    live.console.print(line, markup=False, highlight=False)
            if event.get("event") != "progress" or time.monotonic() - drawn > _FRAME:
                live.update(screen(story, console.width), refresh=True)
                drawn = time.monotonic()

        yield show
