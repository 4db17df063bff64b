"""``natwalk admin``: the operator's commands to a server that runs on this machine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click
import msgspec
from click.core import ParameterSource

from natwalk.cli.exit_codes import ExitCode, Explanation
from natwalk.cli.output import count_text, duration_text, size_text

if TYPE_CHECKING:
    from natwalk.cli.admin_link import Target

_SOCKET: Final = click.option(
    "--socket",
    "socket_path",
    envvar="NATWALK_ADMIN_SOCKET",
    type=click.Path(path_type=Path),
    help="The server's admin.socket.",
)
_SERVER: Final = click.option(
    "--server",
    envvar="NATWALK_ADMIN_SERVER",
    metavar="URL",
    help="Its HTTP port on this machine instead, such as http://127.0.0.1:8478; needs the token.",
)
_CONFIG: Final = click.option(
    "--config",
    envvar="NATWALK_CONFIG",
    type=click.Path(path_type=Path),
    help="Its natwalk.toml, to find either of the two.",
)
_TOKEN_FILE: Final = click.option(
    "--token-file",
    envvar="NATWALK_ADMIN_TOKEN_FILE",
    type=click.Path(path_type=Path),
    help="File with the token; else NATWALK_ADMIN_TOKEN, or you are asked.",
)
_TLS_NAME: Final = click.option(
    "--tls-name", envvar="NATWALK_ADMIN_TLS_NAME", metavar="NAME", help="Name in its certificate (https)."
)
_CA_FILE: Final = click.option(
    "--ca-file",
    envvar="NATWALK_ADMIN_CA_FILE",
    type=click.Path(path_type=Path),
    help="Certificates (PEM) to trust instead of the system's.",
)
_TIMEOUT: Final = click.option(
    "--timeout",
    envvar="NATWALK_TIMEOUT",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help="Seconds to wait for the answer.",
)
_JSON: Final = click.option(
    "--json", "as_json", envvar="NATWALK_JSON", is_flag=True, help="Print one JSON object on stdout."
)


class Ask:
    """A server to ask, and how its answers are to be shown."""

    def __init__(self, target: Target, *, as_json: bool) -> None:
        self.as_json = as_json
        self._target = target

    def __call__(self, method: str, what: str, body: bytes = b"") -> tuple[int, dict[str, Any]]:
        """Status and object of an answer, which is printed when JSON is wanted; raises AdminFailed."""
        from natwalk.cli.admin_link import AdminFailed, ask

        status, answer = ask(self._target, method, what, body)
        try:
            found = msgspec.json.decode(answer, type=dict[str, Any])
        except msgspec.DecodeError:
            raise AdminFailed(
                ExitCode.FAILED,
                f"{self._target} answers {status} and no JSON",
                "is it a natwalk, and of this version?",
            ) from None
        if self.as_json:
            click.echo(json.dumps(found))
        elif status >= 400 and status != 409:
            raise AdminFailed(ExitCode.FAILED, f"{self._target} answers {status}: {found.get('error', '')}")
        return status, found


def _command(run: Callable[..., Explanation | None]) -> Callable[..., None]:
    """``run`` with the options that say which server, and its failures told."""

    @_SOCKET
    @_SERVER
    @_CONFIG
    @_TOKEN_FILE
    @_TLS_NAME
    @_CA_FILE
    @_TIMEOUT
    @_JSON
    @wraps(run)
    def command(
        *,
        socket_path: Path | None,
        server: str | None,
        config: Path | None,
        token_file: Path | None,
        tls_name: str | None,
        ca_file: Path | None,
        timeout: float,
        as_json: bool,
        **arguments: str,
    ) -> None:
        from dataclasses import replace

        from natwalk.cli.admin_link import AdminFailed

        target = _target(socket_path, server, config, token_file)
        target = replace(target, tls_name=tls_name, ca_file=ca_file, timeout=timeout)
        try:
            failure = run(Ask(target, as_json=as_json), **arguments)
        except AdminFailed as error:
            failure = error.explanation
        if failure is not None:
            _fail(failure)

    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def admin() -> None:
    """Look into a server on this machine, end allocations, reload it, let it run empty.

    The server needs [admin] socket or token-file in its natwalk.toml.
    """


@admin.command()
@_command
def allocations(ask: Ask) -> None:
    """List the allocations there are: whose, from where, as what address, how much."""
    _, found = ask("GET", "allocations")
    if ask.as_json:
        return
    from natwalk.cli.admin_link import AdminFailed

    try:
        listed = msgspec.convert(found, _Listed)
    except msgspec.ValidationError as error:
        raise AdminFailed(ExitCode.FAILED, f"the answer is not understood: {error}", _VERSIONS) from None
    if listed.allocations:
        click.echo(_table([_HEAD, *map(_row, listed.allocations)]))
    missing = listed.total - len(listed.allocations)
    more = f", {missing} of them not shown" if missing else ""
    click.echo(f"{count_text(listed.total, 'allocation')}{more}", err=True)


@admin.command()
@click.argument("user")
@_command
def disconnect(ask: Ask, user: str) -> None:
    """End every allocation of USER, who may come back while the credentials are good."""
    if not user:
        raise click.UsageError("the user has no name")
    _, found = ask("POST", "disconnect", msgspec.json.encode({"user": user}))
    if not ask.as_json:
        click.echo(f"{count_text(int(found.get('ended', 0)), 'allocation')} ended", err=True)


@admin.command()
@_command
def drain(ask: Ask) -> None:
    """Grant no new allocations; the server ends with the last one."""
    _, found = ask("POST", "drain")
    if not ask.as_json:
        click.echo(f"draining: {count_text(int(found.get('allocations', 0)), 'allocation')} left", err=True)


@admin.command()
@_command
def reload(ask: Ask) -> Explanation | None:
    """Read the configuration again; exits with 78 when it is refused and the old one stays."""
    status, found = ask("POST", "reload")
    if status == 409:
        reason = str(found.get("error", ""))
        return Explanation(
            ExitCode.BAD_CONFIGURATION, f"reload refused: {reason}", "the old configuration stays"
        )
    if not ask.as_json:
        click.echo("reloaded", err=True)
    return None


# Which server.


def _target(
    socket_path: Path | None, server: str | None, config: Path | None, token_file: Path | None
) -> Target:
    from natwalk.aio.server_url import InvalidServerUrl
    from natwalk.cli.admin_link import Target, local_url

    if socket_path is not None and server is not None:
        said = {name for name in ("socket_path", "server") if _said(name)}
        if len(said) != 1:
            raise click.UsageError("give --socket or --server, not both")
        socket_path, server = (socket_path, None) if "socket_path" in said else (None, server)
    if socket_path is None and server is None:
        if config is None:
            raise click.UsageError("which server? give --socket, --server or --config")
        socket_path, server, named = _configured(config)
        token_file = token_file or named
    if socket_path is not None:
        return Target(socket_path)
    assert server is not None
    try:
        url = local_url(server)
    except InvalidServerUrl as error:
        raise click.UsageError(str(error)) from None
    return Target(url=url, token=_token(token_file))


def _said(name: str) -> bool:
    """Whether the option ``name`` was given on the command line, not by the environment."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def _configured(path: Path) -> tuple[Path | None, str | None, Path | None]:
    """Socket, URL and token file that the configuration at ``path`` has, without reading its secrets."""
    from natwalk.server.document import read_document
    from natwalk.server.errors import ConfigError

    try:
        document, _ = read_document(path, {}, os.environ)
    except ConfigError as error:
        _fail(Explanation(ExitCode.BAD_CONFIGURATION, str(error), error.hint))
    section, folder = document.admin, path.parent
    if section.socket is not None:
        return folder / section.socket, None, None
    if section.token_file is None:
        _fail(
            Explanation(
                ExitCode.BAD_CONFIGURATION,
                f"{path} has neither admin.socket nor admin.token-file",
                'add [admin] with socket = "/run/natwalk/admin.sock" and restart the server',
            )
        )
    scheme = "http" if document.tls is None else "https"
    return None, f"{scheme}://127.0.0.1:{document.http.port}", folder / section.token_file


def _token(file: Path | None) -> str:
    if file is not None:
        try:
            token = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise click.UsageError(f"{file} cannot be read: {error}") from None
    else:
        given = os.environ.get("NATWALK_ADMIN_TOKEN")
        token = given if given is not None else str(click.prompt("Token", hide_input=True, err=True))
        token = token.strip()
    if not token or not token.isascii() or not token.isprintable():
        raise click.UsageError("the token is empty, or has characters that HTTP cannot carry")
    return token


def _fail(explanation: Explanation) -> NoReturn:
    code, message, hint = explanation
    click.echo(f"natwalk admin: {message}", err=True)
    if hint:
        click.echo(f"  {hint}", err=True)
    sys.exit(code)


# What is shown.

_VERSIONS: Final = "use the natwalk of the same version as the server"
_HEAD: Final = ("USER", "CLIENT", "OVER", "RELAYED", "EXPIRES", "PEERS", "TO PEERS", "FROM PEERS")


class _Allocation(msgspec.Struct, frozen=True):
    user: str
    client: str
    transport: str
    relays: list[str]
    relay_transport: str
    expires_in: float
    permissions: int
    bytes_to_peers: int
    bytes_from_peers: int
    advertised: list[str] = []


class _Listed(msgspec.Struct, frozen=True):
    allocations: list[_Allocation]
    total: int


def _row(each: _Allocation) -> tuple[str, ...]:
    """What clients know it by, in words for people; names come from outside, so nothing a terminal obeys."""
    from natwalk.transfer.names import shown

    relayed = ", ".join(each.advertised or each.relays)
    return (
        shown(each.user),
        shown(each.client),
        shown(each.transport),
        shown(relayed if each.relay_transport == "udp" else f"{relayed} ({each.relay_transport})"),
        duration_text(each.expires_in),
        str(each.permissions),
        size_text(each.bytes_to_peers),
        size_text(each.bytes_from_peers),
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
