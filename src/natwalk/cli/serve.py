"""``natwalk serve``: STUN, TURN, rendezvous and the HTTP API in one process."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import click

if TYPE_CHECKING:
    from natwalk.server.config import Flags, ServeConfig
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
    for warning in loaded.warnings:
        click.echo(f"natwalk serve: warning: {warning}", err=True)
    if check_config:
        click.echo("natwalk serve: the configuration is good", err=True)
        return
    sys.exit(_run(loaded, as_json=as_json))


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


def _run(config: ServeConfig, *, as_json: bool) -> int:
    from natwalk.server import ConfigError, StartError

    try:
        return asyncio.run(_serve(config, as_json=as_json))
    except ConfigError as error:
        _fail(_BAD_CONFIGURATION, str(error), error.hint)
    except StartError as error:
        _fail(_UNAVAILABLE, str(error), error.hint)


async def _serve(config: ServeConfig, *, as_json: bool) -> int:
    try:
        from natwalk.server import run
    except ImportError as error:
        _fail(_BAD_CONFIGURATION, f"the server's parts are not installed ({error.name})", _INSTALL)

    _log_to_stderr()
    stop = asyncio.Event()
    received: list[int] = []

    def on_signal(number: int) -> None:
        received.append(number)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)

    def on_ready(ready: Ready) -> None:
        _settle_garbage()
        _announce(ready, as_json=as_json)

    await run.serve(config, stop, on_ready)
    return _INTERRUPTED if signal.SIGINT in received else 0


def _settle_garbage() -> None:
    """Leave what start-up made out of garbage collection, and look for cycles less often.

    Every allocation is dozens of objects that stay, so that with Python's defaults a tenth of a busy
    server's time would go into walks over what is no garbage.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE_THRESHOLD, 20, 20)


def _announce(ready: Ready, *, as_json: bool) -> None:
    if as_json:
        line = {"event": "ready", "http": ready.http, "stun": list(ready.stun), "turn": list(ready.turn)}
        click.echo(json.dumps(line, separators=(",", ":")))
    relays = ", ".join(ready.relays) or "none: this machine has no address to relay from"
    click.echo(
        f"natwalk serve: ready\n"
        f"  HTTP and rendezvous  {ready.http}\n"
        f"  STUN                 {'  '.join(ready.stun)}\n"
        f"  TURN                 {'  '.join(ready.turn) or 'off'}\n"
        f"  relays from          {relays}\n"
        f"\n"
        f"Send a file through it:  natwalk send FILE --server {ready.http}\n"
        f"Stop with Ctrl-C.",
        err=True,
    )


def _log_to_stderr() -> None:
    """Everything that is logged is for people and goes to stderr, warnings and worse."""
    import logging

    import structlog

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )


def _fail(code: int, message: str, hint: str) -> NoReturn:
    click.echo(f"natwalk serve: {message}", err=True)
    click.echo(f"  {hint}", err=True)
    sys.exit(code)
