"""``natwalk turn test``: whether TURN servers do what a browser needs of them."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from natwalk.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from natwalk.aio.client_tls import ClientTls
    from natwalk.aio.turn_test import Check, EndpointReport, ServerReport
    from natwalk.stun.resolution import ServerEndpoint
    from natwalk.turn import PasswordCredentials

_REST_LIFETIME: Final = 3600


@click.command("test", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("uris", nargs=-1, required=True, metavar="URI...")
@click.option("-u", "--username", envvar="NATWALK_TURN_USERNAME", help="Name of the user.")
@click.option(
    "--password-file",
    envvar="NATWALK_TURN_PASSWORD_FILE",
    type=click.Path(path_type=Path),
    help="File with the password; else NATWALK_TURN_PASSWORD, or you are asked.",
)
@click.option(
    "--secret-file",
    envvar="NATWALK_TURN_SECRET_FILE",
    type=click.Path(path_type=Path),
    help="File with the shared secret of TURN REST credentials, instead of a password.",
)
@click.option(
    "--ca-file",
    envvar="NATWALK_TURN_CA_FILE",
    type=click.Path(path_type=Path),
    help="Certificates (PEM) to trust instead of the system's.",
)
@click.option(
    "--timeout",
    envvar="NATWALK_TIMEOUT",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help="Seconds to wait for each step.",
)
@click.option(
    "--seconds",
    envvar="NATWALK_TURN_SECONDS",
    type=click.FloatRange(min=0.0, max=60.0),
    default=1.0,
    show_default=True,
    help="Seconds to measure throughput for; 0 leaves it out.",
)
@click.option(
    "--json", "as_json", envvar="NATWALK_JSON", is_flag=True, help="Print one JSON object on stdout."
)
def turn_test(
    *,
    uris: tuple[str, ...],
    username: str | None,
    password_file: Path | None,
    secret_file: Path | None,
    ca_file: Path | None,
    timeout: float,
    seconds: float,
    as_json: bool,
) -> None:
    """Try TURN servers from here: reach, login, relay, permission, round trip, throughput, certificate.

    URI is like turn:turn.example.org, turn:192.0.2.1:3478?transport=tcp or turns:turn.example.org:443. Exits
    with 0 when a browser could relay through every one of them, 4 when one refuses the credentials, 69 when
    one cannot be reached, else 1.
    """
    from natwalk.aio.client_tls import ClientTls

    _check(uris)
    credentials = _credentials(username, password_file, secret_file)
    tls = ClientTls(ca_file=ca_file)
    reports = asyncio.run(_examine_all(uris, credentials, tls, timeout, seconds, quiet=as_json))
    if as_json:
        whole = {"ok": all(report.ok for report in reports), "servers": [_plain(each) for each in reports]}
        click.echo(json.dumps(whole))
    else:
        _print(reports)
    click.get_current_context().exit(_exit_code(reports))


def _check(uris: Sequence[str]) -> None:
    from natwalk.stun import parse_uri
    from natwalk.stun.uri import InvalidServerUri

    for uri in uris:
        try:
            parsed = parse_uri(uri)
        except InvalidServerUri as error:
            raise click.UsageError(str(error)) from None
        if not parsed.scheme.is_turn:
            raise click.UsageError(f"{uri} names a STUN server: give turn:{parsed.host}")


async def _examine_all(
    uris: Sequence[str],
    credentials: PasswordCredentials,
    tls: ClientTls,
    timeout: float,
    seconds: float,
    *,
    quiet: bool,
) -> list[ServerReport]:
    from rich.console import Console

    from natwalk.aio.turn_test import examine

    console = Console(stderr=True, quiet=quiet)
    reports = []
    with console.status("") as status:  # shown on a terminal only

        def tell(endpoint: ServerEndpoint, check: Check) -> None:
            status.update(f"{_where(endpoint)}: {check.step}")

        for uri in uris:
            status.update(f"{uri}: reach")
            reports.append(
                await examine(uri, credentials, tls=tls, within=timeout, seconds=seconds, on_check=tell)
            )
    return reports


def _credentials(
    username: str | None, password_file: Path | None, secret_file: Path | None
) -> PasswordCredentials:
    from natwalk.turn import PasswordCredentials, rest_credentials

    if secret_file is not None and password_file is not None:
        raise click.UsageError("give --password-file or --secret-file, not both")
    try:
        if secret_file is not None:
            name, password = rest_credentials(_read(secret_file), time.time(), _REST_LIFETIME, username or "")
            return PasswordCredentials(name, password)
        if username is None:
            raise click.UsageError("whose password? give --username, or --secret-file")
        return PasswordCredentials(username, _password(password_file))
    except ValueError as error:
        raise click.UsageError(f"the username or the password cannot be used: {error}") from None


def _password(file: Path | None) -> str:
    import os

    if file is not None:
        return _read(file)
    given = os.environ.get("NATWALK_TURN_PASSWORD")
    return given if given is not None else str(click.prompt("Password", hide_input=True, err=True))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{file} cannot be read: {error}") from None


def _where(endpoint: ServerEndpoint) -> str:
    return f"{endpoint.transport} {endpoint.address}"


def _shown(text: str) -> str:
    """Text that may come from a server, so that a terminal obeys none of it."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _print(reports: list[ServerReport]) -> None:
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(Column("server", overflow="fold"), "step", "", "found")
    for report in reports:
        for each in report.endpoints:
            title = f"{report.uri}\n{_where(each.endpoint)}\n{_verdict(each)}"
            steps = "\n".join(check.step for check in each.checks)
            marks = "\n".join("ok" if check.ok else "FAIL" for check in each.checks)
            found = "\n".join(_shown(_found(check)) for check in each.checks)
            table.add_row(*(Text(cell) for cell in (title, steps, marks, found)), end_section=True)
        if report.problem:
            table.add_row(Text(report.uri), "reach", "FAIL", Text(_shown(report.problem)), end_section=True)
    Console(stderr=True).print(table)
    for report in reports:
        for each in report.endpoints:
            for check in each.checks:
                if check.hint:
                    where = f"{report.uri} ({_where(each.endpoint)})"
                    click.echo(f"{where}: {check.step}: {check.hint}", err=True)


def _verdict(report: EndpointReport) -> str:
    if not report.needed:
        return "works; browsers do not use it" if report.ok else "fails; browsers do not use it"
    return "good for browsers" if report.ok else "no good for browsers"


def _found(check: Check) -> str:
    """What a step found, on one line."""
    if check.value is not None and check.step in _TIMED:
        return f"{check.detail} after {check.value:g} ms"
    return check.detail


_TIMED: Final = frozenset({"reach", "authentication"})


def _plain(report: ServerReport) -> dict[str, Any]:
    """A report as JSON has it."""
    return {
        "uri": report.uri,
        "ok": report.ok,
        "problem": report.problem or None,
        "endpoints": [
            {
                "address": str(each.endpoint.address),
                "transport": str(each.endpoint.transport),
                "ok": each.ok,
                "browsers": each.needed,
                "checks": [
                    {
                        "step": str(check.step),
                        "ok": check.ok,
                        "value": check.value,
                        "detail": check.detail,
                        "hint": check.hint or None,
                    }
                    for check in each.checks
                ],
            }
            for each in report.endpoints
        ],
    }


def _exit_code(reports: list[ServerReport]) -> ExitCode:
    """One code for all: what went wrong at the first server that will not do."""
    for report in reports:
        if report.ok:
            continue
        failed = [check.step for each in report.endpoints for check in each.checks if not check.ok]
        if "authentication" in failed:
            return ExitCode.AUTHENTICATION_FAILED
        if report.problem or all(step == "reach" for step in failed):
            return ExitCode.SERVER_UNAVAILABLE
        return ExitCode.FAILED
    return ExitCode.OK
