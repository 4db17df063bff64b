"""``natwalk turn``: what concerns TURN servers."""

from __future__ import annotations

import click

from natwalk.cli.turn_test import turn_test


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def turn() -> None:
    """Look at TURN servers, anybody's."""


turn.add_command(turn_test)
