"""``natwalk serve``: STUN, TURN, rendezvous and the HTTP API in one process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import click

if TYPE_CHECKING:
    from natwalk.server.config import Flags, ServeConfig
    from natwalk.server.lines import LineWriter
    from natwalk.server.log import ServerLog
    from natwalk.server.run import Ready

_UNAVAILABLE: Final = 69
_BAD_CONFIGURATION: Final = 78
_INTERRUPTED: Final = 130
_GARBAGE_THRESHOLD: Final = 5000


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    envvar="NATWALK_CONFIG",
    type=click.Path(path_type=Path),
    help="natwalk.toml; embedded defaults without.",
)
@click.option(
    "--listen",
    envvar="NATWALK_LISTEN",
    multiple=True,
    metavar="IP",
    help="Address to listen on; all by default.",
)
@click.option(
    "--http-port",
    envvar="NATWALK_HTTP_PORT",
    type=int,
    metavar="PORT",
    help="TCP port of HTTP and WebSocket (8478).",
)
@click.option(
    "--stun-port",
    envvar="NATWALK_STUN_PORT",
    type=int,
    metavar="PORT",
    help="UDP port of STUN and TURN (3478).",
)
@click.option(
    "--relay-address",
    envvar="NATWALK_RELAY_ADDRESS",
    multiple=True,
    metavar="IP",
    help="Address of this machine that relays use.",
)
@click.option("--realm", envvar="NATWALK_REALM", help="TURN realm (natwalk).")
@click.option(
    "--public-host",
    envvar="NATWALK_PUBLIC_HOST",
    metavar="HOST",
    help="Name or address that clients reach this server by.",
)
@click.option(
    "--allow-peer",
    envvar="NATWALK_ALLOW_PEER",
    multiple=True,
    metavar="CIDR",
    help="Peers that TURN relays to although not public.",
)
@click.option(
    "--state-dir",
    envvar="NATWALK_STATE_DIR",
    metavar="DIR",
    help="Keep the TURN secret here, so that restarts keep it.",
)
@click.option(
    "--json",
    "as_json",
    envvar="NATWALK_JSON",
    is_flag=True,
    help="Print one JSON object on stdout when ready.",
)
@click.option(
    "--check-config", envvar="NATWALK_CHECK_CONFIG", is_flag=True, help="Check the configuration and exit."
)
def serve(
    *,
    config: Path | None,
    listen: tuple[str, ...],
    http_port: int | None,
    stun_port: int | None,
    relay_address: tuple[str, ...],
    realm: str | None,
    public_host: str | None,
    allow_peer: tuple[str, ...],
    state_dir: str | None,
    as_json: bool,
    check_config: bool,
) -> None:
    """Run the server that peers meet at: STUN, TURN, rendezvous, relay and a small HTTP API.

    Every option can also be given in the environment: --http-port as NATWALK_HTTP_PORT, and so on, and every
    key of the file, too: turn.relay-ports as NATWALK_TURN_RELAY_PORTS; several values are separated by
    spaces. Exits with 69 when a port is taken and 78 when the configuration is wrong.
    """
    flags: Flags = {
        "server.listen": list(listen) or None,
        "http.port": http_port,
        "stun.port": stun_port,
        "turn.relay-addresses": list(relay_address) or None,
        "server.realm": realm,
        "server.public-host": public_host,
        "turn.peers.allow": list(allow_peer) or None,
        "server.state-dir": None if state_dir is None else str(Path(state_dir).absolute()),
    }
    loaded = _load(config, flags)
    if check_config:
        for warning in loaded.warnings:
            click.echo(f"natwalk serve: warning: {warning}", err=True)
        click.echo("natwalk serve: the configuration is good", err=True)
        return
    sys.exit(_run(loaded, config, flags, as_json=as_json))


def _load(path: Path | None, flags: Flags) -> ServeConfig:
    try:
        from natwalk.server import ConfigError, load
    except ImportError as error:
        _fail(_BAD_CONFIGURATION, f"the server's parts are not installed ({error.name})", _INSTALL)
    try:
        return load(path, flags, os.environ)
    except ConfigError as error:
        _fail(_BAD_CONFIGURATION, str(error), error.hint)


_INSTALL: Final = "run: pip install 'natwalk[server]'"


def _run(config: ServeConfig, path: Path | None, flags: Flags, *, as_json: bool) -> int:
    from natwalk.server import ConfigError, StartError

    try:
        return asyncio.run(_serve(config, path, flags, as_json=as_json))
    except ConfigError as error:
        _fail(_BAD_CONFIGURATION, str(error), error.hint)
    except StartError as error:
        _fail(_UNAVAILABLE, str(error), error.hint)


async def _serve(config: ServeConfig, path: Path | None, flags: Flags, *, as_json: bool) -> int:
    try:
        from natwalk.server import run
        from natwalk.server.lines import LineWriter
        from natwalk.server.log import ServerLog
        from natwalk.server.systemd import Notifier, activated_sockets
    except ImportError as error:
        _fail(_BAD_CONFIGURATION, f"the server's parts are not installed ({error.name})", _INSTALL)

    generated = config.auth_secret if config.generated_secret else None
    lines = LineWriter(2)
    log = ServerLog(lines, config.log, config.secrets)
    for warning in config.warnings:
        lines.write_text(f"natwalk serve: warning: {warning}")
    _listen_to_libraries(log)
    orders: asyncio.Queue[run.Order] = asyncio.Queue()
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number, order in (
        (signal.SIGHUP, run.Order.RELOAD),
        (signal.SIGUSR1, run.Order.DRAIN),
        (signal.SIGTERM, run.Order.FINISH),
    ):
        loop.add_signal_handler(number, orders.put_nowait, order)
    loop.add_signal_handler(signal.SIGINT, interrupted.set)
    try:
        await run.serve(
            config,
            interrupted,
            lambda ready: _announce(ready, lines, as_json=as_json),
            log=log,
            orders=orders,
            load=lambda: _load_again(path, flags, generated),
            notifier=Notifier(os.environ, os.getpid()),
            given=activated_sockets(os.environ, os.getpid()),
            lines_dropped=lines.unsaid,
        )
    finally:
        lines.close()
    return _INTERRUPTED if interrupted.is_set() else 0


def _load_again(path: Path | None, flags: Flags, generated: str | None) -> ServeConfig:
    from natwalk.server import load

    return load(path, flags, os.environ, generated=generated)


def _announce(ready: Ready, lines: LineWriter, *, as_json: bool) -> None:
    if as_json:
        line = {"event": "ready", "http": ready.http, "stun": list(ready.stun), "turn": list(ready.turn)}
        click.echo(json.dumps(line, separators=(",", ":")))
    relays = ", ".join(ready.relays) or "none: this machine has no address to relay from"
    text = (
        f"natwalk serve: ready\n"
        f"  HTTP and rendezvous  {ready.http}\n"
        f"  STUN                 {_column(ready.stun)}\n"
        f"  TURN                 {_column(ready.turn) or 'off'}\n"
        f"  relays from          {relays}\n"
        f"\n"
        f"Send a file through it:  natwalk send FILE --server {ready.http}\n"
        f"Stop with Ctrl-C."
    )
    lines.write_text(text)  # not print: where nobody reads stderr, the server serves all the same


def _column(uris: tuple[str, ...]) -> str:
    return ("\n" + 23 * " ").join(uris)


def _listen_to_libraries(log: ServerLog) -> None:
    """Whatever libraries log goes into the server's own log: warnings and worse, tracebacks included."""
    import logging

    from natwalk.server.log import StandardLogs

    logging.basicConfig(handlers=[StandardLogs(log)], level=logging.WARNING)


def _fail(code: int, message: str, hint: str) -> NoReturn:
    click.echo(f"natwalk serve: {message}", err=True)
    click.echo(f"  {hint}", err=True)
    sys.exit(code)
