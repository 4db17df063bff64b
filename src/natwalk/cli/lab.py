"""``natwalk lab``: an internet of namespaces that stays, with programs of any kind behind any NATs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from natwalk.cli.exit_codes import ExitCode
from natwalk.lab import LabError, LayoutError
from natwalk.lab.client import ask, command, down, up
from natwalk.lab.run_directory import RunDirectory

_name = click.option(
    "--name",
    default="default",
    show_default=True,
    envvar="NATWALK_LAB",
    help="Which lab, if there are several.",
)
_json = click.option("--json", "as_json", is_flag=True, envvar="NATWALK_JSON", help="Print JSON on stdout.")


class _Refused(click.ClickException):
    """The lab said no."""

    exit_code = ExitCode.FAILED

    def show(self, file: Any = None) -> None:
        click.echo(f"natwalk: {self.message}", err=True)


class _WrongTopology(_Refused):
    """There is something wrong in the file."""

    exit_code = ExitCode.BAD_CONFIGURATION


def _refused(error: LabError) -> _Refused:
    return _WrongTopology(str(error)) if isinstance(error, LayoutError) else _Refused(str(error))


class _Group(click.Group):
    """Imports the matrix, which needs much more, when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), "matrix"})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "matrix":
            from natwalk.cli.lab_matrix import matrix

            return matrix
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Group)
def lab() -> None:
    """Build an internet on this machine and run programs on its hosts.

    Needs Linux with nftables, as root or with unprivileged user namespaces.
    """


@lab.command("up")
@click.argument("topology", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_name
def lab_up(topology: Path, name: str) -> None:
    """Build the internet that the file TOPOLOGY describes, and keep it until ``lab down``."""
    from natwalk.lab.layout_file import read_layout

    try:
        read_layout(topology)
        left = up(RunDirectory(name), topology)
    except LabError as error:
        raise _refused(error) from error
    if left:
        click.echo(f"removed {left} processes of a lab that was killed", err=True)
    click.echo(f"lab {name} is up: natwalk lab exec HOST -- COMMAND", err=True)


@lab.command("exec", context_settings={"ignore_unknown_options": True})
@_name
@click.argument("host")
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED)
def lab_exec(host: str, argv: tuple[str, ...], name: str) -> None:
    """Run a program on HOST: ``natwalk lab exec alice -- ssh relay``. Its exit code is the command's."""
    try:
        line, extra = command(RunDirectory(name), host, list(argv))
    except LabError as error:
        raise _refused(error) from error
    os.execve(line[0], line, {**os.environ, **extra})  # noqa: S606 - the program is the user's own


@lab.command("status")
@_name
@_json
def lab_status(name: str, as_json: bool) -> None:
    """Say which machines there are, with their addresses, NATs and counters."""
    status = _ask(name, do="status")
    if as_json:
        click.echo(json.dumps(status))
        return
    for machine, row in status["nodes"].items():
        nat = row.get("nat")
        words = "" if nat is None else f"{nat['by']}: {nat['kind']}"
        if nat is not None and "mappings" in nat:
            words += f"; {nat['mappings']} mappings, {sum(nat['drops'].values())} dropped"
        click.echo(f"{machine:16} {row['address']:16} {row['address6']:28} {words}".rstrip())
    for program in status["programs"]:
        state = "runs" if program["exit"] is None else f"ended with {program['exit']}"
        click.echo(f"process {program['pid']}: {state}")


@lab.command("down")
@_name
def lab_down(name: str) -> None:
    """Remove the lab with everything that runs in it, or what a killed one left."""
    try:
        down(RunDirectory(name))
    except LabError as error:
        raise _refused(error) from error


@lab.group("event")
def lab_event() -> None:
    """Have something happen: cut, mend, reboot, kind, move, fill, cable, capture."""


@lab_event.command("cut")
@click.argument("machine")
@click.option(
    "--direction",
    type=click.Choice(["both", "in", "out"]),
    default="both",
    show_default=True,
    help="What is lost: what the machine sends (out), what it is sent (in).",
)
@_name
def event_cut(machine: str, direction: str, name: str) -> None:
    """Lose all that crosses the cable of MACHINE, a host or a NAT."""
    _ask(name, do="cut", name=machine, direction=direction)


@lab_event.command("mend")
@click.argument("machine")
@_name
def event_mend(machine: str, name: str) -> None:
    """Undo a cut."""
    _ask(name, do="mend", name=machine)


@lab_event.command("reboot")
@click.argument("nat")
@click.option("--new-ports", is_flag=True, help="Its mappings get other ports afterwards.")
@_name
def event_reboot(nat: str, new_ports: bool, name: str) -> None:
    """Have NAT lose all its state."""
    _ask(name, **{"do": "reboot", "name": nat, "new-ports": new_ports})


@lab_event.command("kind")
@click.argument("nat")
@click.argument("kind")
@_name
def event_kind(nat: str, kind: str, name: str) -> None:
    """Make NAT one of another KIND."""
    _ask(name, do="kind", name=nat, kind=kind)


@lab_event.command("move")
@click.argument("host")
@click.argument("network")
@_name
def event_move(host: str, network: str, name: str) -> None:
    """Plug HOST into another NETWORK; prints the address it has there."""
    click.echo(_ask(name, do="move", name=host, network=network))


@lab_event.command("fill")
@click.argument("nat")
@click.option(
    "--count", type=click.IntRange(min=1), default=65_536, show_default=True, help="How many mappings."
)
@_name
def event_fill(nat: str, count: int, name: str) -> None:
    """Fill the table of NAT; prints how many mappings there was room for."""
    click.echo(_ask(name, do="fill", name=nat, count=count))


@lab_event.command("cable")
@click.argument("machine")
@click.option("--delay-ms", type=click.FloatRange(min=0), default=0.0, help="One way.")
@click.option("--jitter-ms", type=click.FloatRange(min=0), default=0.0, help="More or less than the delay.")
@click.option("--loss", type=click.FloatRange(min=0, max=0.999), default=0.0, help="A share, 0 to 1.")
@click.option("--burst", type=click.FloatRange(min=1), default=1.0, help="Lost in a row, on average.")
@click.option("--rate-mbit", type=click.FloatRange(min=0, min_open=True), default=None, help="Mbit/s.")
@_name
def event_cable(machine: str, name: str, **conditions: float | None) -> None:
    """Change the cable of MACHINE, both ways; the topology must have given it conditions."""
    given = {key.replace("_", "-"): value for key, value in conditions.items() if value is not None}
    _ask(name, do="cable", name=machine, conditions=given)


@lab_event.command("capture")
@click.argument("machine")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@_name
def event_capture(machine: str, file: Path | None, name: str) -> None:
    """Write what crosses the cable of MACHINE to the pcap FILE; without FILE end that."""
    if file is None:
        click.echo(_ask(name, do="stop-capture", name=machine))
    else:
        _ask(name, do="capture", name=machine, file=str(file.absolute()))


def _ask(lab_name: str, /, **order: object) -> Any:
    try:
        return ask(RunDirectory(lab_name), **order)
    except LabError as error:
        raise _refused(error) from error
