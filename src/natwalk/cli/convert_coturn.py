"""``natwalk convert-coturn``: coturn's ``turnserver.conf`` made into a ``natwalk.toml``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import click

if TYPE_CHECKING:
    from natwalk.server.coturn import Conversion

_FAILED: Final = 1
_BAD_CONFIGURATION: Final = 78
_LONGEST: Final = 1 << 20


@click.command(name="convert-coturn", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("turnserver_conf", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    envvar="NATWALK_OUTPUT",
    type=click.Path(path_type=Path),
    help="Write natwalk.toml here, and secrets into files beside it; stdout without.",
)
@click.option("--force", envvar="NATWALK_FORCE", is_flag=True, help="Replace files that are there already.")
@click.option("--quiet", "-q", envvar="NATWALK_QUIET", is_flag=True, help="Say only what was not converted.")
def convert_coturn(*, turnserver_conf: Path, output: Path | None, force: bool, quiet: bool) -> None:
    """Convert coturn's configuration file TURNSERVER_CONF into a natwalk.toml.

    Every setting is converted, or said to need nothing, or said to be unsupported, with the reason and what
    to do instead. Exits with 78 when a value cannot be, and then writes nothing.
    """
    from natwalk.server.coturn import convert, parse

    folder = turnserver_conf.parent
    conversion = convert(parse(_read(turnserver_conf)), tls_check=lambda *pair: _tls_check(folder, *pair))
    _report(conversion, quiet=quiet)
    if conversion.wrong:
        first = conversion.wrong[0]
        _fail(_BAD_CONFIGURATION, f"line {first.line}, {first.key}: {first.text}", "nothing was written")
    if output is None:
        click.echo(conversion.toml, nl=False)
        for name in conversion.secrets:
            click.echo(f"Put the secret into {name} beside the file, or let -o do it (chmod 600).", err=True)
        return
    _write(conversion, output, force=force)
    click.echo(f"Check it with:  natwalk serve --config {output} --check-config", err=True)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_LONGEST + 1)
        if len(data) > _LONGEST:
            _fail(_BAD_CONFIGURATION, f"{path} is longer than 1 MiB", "give the path of a turnserver.conf")
        return data.decode()
    except OSError as error:
        _fail(_FAILED, f"{path} cannot be read: {error.strerror}", "give the path of a turnserver.conf")
    except UnicodeError:
        _fail(_BAD_CONFIGURATION, f"{path} is not text in UTF-8", "give the path of a turnserver.conf")


def _tls_check(folder: Path, cert: str, key: str) -> str | None:
    """Why the two files cannot be used, or None."""
    from natwalk.server.certificate import read_tls
    from natwalk.server.errors import ConfigError

    try:
        read_tls(folder / cert, folder / key, None)
    except ConfigError as error:
        return str(error)
    return None


def _report(conversion: Conversion, *, quiet: bool) -> None:
    from natwalk.server.coturn import Verdict, merged

    counts = dict.fromkeys(Verdict, 0)
    for remark in conversion.remarks:
        counts[remark.verdict] += 1
    remarks = merged(conversion.remarks)
    width = max((len(remark.key) for remark in remarks), default=0)
    for verdict, title in _TITLES.items():
        silent = quiet and title in {"Converted", "Needs nothing"}
        lines = [remark for remark in remarks if remark.verdict.value == verdict]
        if lines and not silent:
            click.echo(f"{title}:", err=True)
        for remark in lines if not silent else ():
            click.echo(f"  {remark.lines:>9}  {remark.key:<{width}}  {remark.text}", err=True)
    for note in conversion.notes:
        click.echo(f"Note: {note}.", err=True)
    click.echo(
        f"natwalk convert-coturn: {counts[Verdict.CONVERTED]} settings converted, "
        f"{counts[Verdict.NEEDLESS]} need nothing, {counts[Verdict.UNSUPPORTED]} not supported, "
        f"{counts[Verdict.UNKNOWN]} unknown",
        err=True,
    )


_TITLES: Final = {
    "converted": "Converted",
    "needs nothing": "Needs nothing",
    "not supported": "Not supported",
    "unknown": "Unknown",
    "wrong": "Wrong",
}


def _write(conversion: Conversion, output: Path, *, force: bool) -> None:
    """The TOML and the secrets, readable by their owner alone; never over a file that is there unasked."""
    files = {output: conversion.toml}
    files |= {output.parent / name: f"{secret}\n" for name, secret in conversion.secrets.items()}
    taken = [path for path in files if path.exists()]
    if taken and not force:
        _fail(_FAILED, f"{taken[0]} is there already", "choose another name, or replace it with --force")
    for path, text in files.items():
        try:
            fresh = path.with_name(f".{path.name}.{os.getpid()}")
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            fresh.replace(path)
        except OSError as error:
            _fail(_FAILED, f"{path} cannot be written: {error.strerror}", "choose another place with -o")


def _fail(code: int, message: str, hint: str) -> NoReturn:
    click.echo(f"natwalk convert-coturn: {message}", err=True)
    click.echo(f"  {hint}", err=True)
    sys.exit(code)
