"""The environment variables of the server's options, beside those of the other commands."""

from __future__ import annotations

from collections.abc import Iterator

import click

from natwalk.cli import cli
from natwalk.server.options import options, unknown_variables


def variables(command: click.Command) -> Iterator[str]:
    """Every environment variable that ``command`` and what is below it read by an option."""
    for parameter in command.params:
        if isinstance(parameter.envvar, str):
            yield parameter.envvar
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from variables(inner)


def test_no_variable_of_another_command_is_reported_as_a_mistake() -> None:
    known = [*variables(cli), "NATWALK_TURN_PASSWORD", "NATWALK_ADMIN_TOKEN"]
    assert "NATWALK_TURN_USERNAME" in known
    assert unknown_variables(dict.fromkeys(known, "x")) == []


def test_a_misspelt_variable_is_reported_with_the_one_it_is_near_to() -> None:
    variable = next(option.variable for option in options() if option.variable)
    (sentence,) = unknown_variables({variable[:-1] + "X": "1"})
    assert variable in sentence
