"""The command line: one file a command, each imported only when it is called."""

from __future__ import annotations

import importlib
import sys
from typing import Final

import click

from natwalk import __version__

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "admin": ("natwalk.cli.admin:admin", "Operate a server on this machine: allocations, reload, drain."),
    "convert-coturn": (
        "natwalk.cli.convert_coturn:convert_coturn",
        "Convert coturn's turnserver.conf into a natwalk.toml.",
    ),
    "demo": ("natwalk.cli.demo:demo", "An internet on this machine: two peers behind NATs move a file."),
    "lab": ("natwalk.cli.lab:lab", "An internet on this machine, with your own programs behind any NATs."),
    "receive": ("natwalk.cli.receive:receive", "Receive files with the code the sender reads to you."),
    "send": ("natwalk.cli.send:send", "Send files or folders to whoever has the one-time code."),
    "serve": ("natwalk.cli.serve:serve", "Run the server: STUN, TURN, rendezvous and its HTTP API."),
    "simulate": (
        "natwalk.cli.simulate:simulate",
        "What share of a population connects directly, how fast, and why not.",
    ),
    "turn": ("natwalk.cli.turn:turn", "Test TURN servers: natwalk turn test URI..."),
}
"""Name of a command: where it lives, and its line in ``natwalk --help`` (so that help imports none)."""


class LazyGroup(click.Group):
    """Imports a command when it is called, so that ``natwalk --version`` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All command names, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command called ``cmd_name``, imported now, or None when there is none."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{COMMANDS[cmd_name][0]} is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in sorted(COMMANDS)])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="natwalk", message="%(prog)s %(version)s")
def cli() -> None:
    """Connect two programs on any two machines, whatever NATs and firewalls are between them."""


def main() -> None:
    """Run the command line and exit with a code of DESIGN.md §5."""
    from natwalk.cli.exit_codes import ExitCode, explain

    try:
        status = cli.main(standalone_mode=False)  # what a command gave to Exit comes back as a value
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        sys.exit(ExitCode.FAILED)
    except Exception as error:
        explained = explain(error)
        if explained is None:
            raise
        code, message, hint = explained
        click.echo(f"natwalk: {message}", err=True)
        if hint:
            click.echo(f"  {hint}", err=True)
        sys.exit(code)
    sys.exit(status if isinstance(status, int) else ExitCode.OK)
