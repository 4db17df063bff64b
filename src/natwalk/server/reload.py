"""Taking up a changed configuration while clients are served, and noticing that a file changed.

A configuration that is wrong changes nothing. What a running server cannot change keeps its old value, and
is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from natwalk.aio.tls import ServerTls
from natwalk.server.config import ServeConfig
from natwalk.server.errors import ConfigError
from natwalk.server.http import HttpServer
from natwalk.server.state import Services

Load = Callable[[], ServeConfig]
"""Reads the configuration again; raises ConfigError."""

FIXED: Final = {
    "listen": "server.listen",
    "http_hosts": "http.listen",
    "stun_port": "stun.port",
    "stun_alternate_port": "stun.alternate-port",
    "stun_alternate_address": "stun.alternate-address",
    "stun_partner": "stun.partner",
    "stun_partner_secret": "stun.partner-secret-file",
    "stun_tcp": "stun.tcp",
    "tls_port": "stun.tls-port",
    "turn_tls": "turn.tls",
    "turn_dtls": "turn.dtls",
    "http_port": "http.port",
    "public_addresses": "server.public-addresses",
    "rendezvous": "rendezvous",
    "streams": "streams",
    "proxy_from": "proxy-protocol.from",
}
"""Fields of the configuration that stay while the server runs, and their keys."""
FIXED_TURN: Final = {
    "realm": "server.realm",
    "relay_addresses": "turn.relay-addresses",
    "public_addresses": "server.public-addresses",
    "port_range": "turn.relay-ports",
}


class Reloader:
    """Reloads one server. ``load`` may raise ConfigError; ``https`` and ``tls`` hold its certificates."""

    def __init__(
        self, services: Services, load: Load, https: Iterable[HttpServer], tls: ServerTls | None
    ) -> None:
        self._services = services
        self._load = load
        self._https = tuple(https)
        self._tls = tls

    def reload(self) -> str | None:
        """Take up the configuration as it is now; why it was refused, or None when it is done."""
        services = self._services
        try:
            config, stays = pinned(services.config, self._load())
            self._certificates(config)
            services.turn.reconfigure(config.turn)
            if services.relay is not None:
                services.relay.reconfigure(config.relay.config)
        except (ConfigError, ValueError, OSError) as error:
            return self._refused(error)
        for warning in config.warnings:
            if warning not in services.config.warnings:
                services.log.warning(warning)
        services.log.reconfigure(config.log, (*config.secrets, *services.config.secrets))
        services.config = config
        services.health.reloads += 1
        services.health.last_reload_good = True
        services.log.info("reloaded", allocations=services.turn.stats.allocations)
        if stays:
            services.log.warning("these need a restart to change, and stay as they were", keys=stays)
        return None

    def _refused(self, error: Exception) -> str:
        health, log = self._services.health, self._services.log
        health.reload_failures += 1
        health.last_reload_good = False
        hint = error.hint if isinstance(error, ConfigError) else "correct it and reload again"
        log.error("reload refused, the old configuration stays", reason=str(error), hint=hint)
        return str(error)

    def _certificates(self, config: ServeConfig) -> None:
        if config.tls is None:
            return
        if self._tls is not None:
            self._tls.reload()
        for server in self._https:
            server.reload_certificate(config.tls)


def pinned(old: ServeConfig, new: ServeConfig) -> tuple[ServeConfig, list[str]]:
    """``new`` with what cannot change taken from ``old``, and the keys of what would have changed."""
    stays = [key for name, key in FIXED.items() if getattr(old, name) != getattr(new, name)]
    stays += [key for name, key in FIXED_TURN.items() if getattr(old.turn, name) != getattr(new.turn, name)]
    stays = list(dict.fromkeys(stays))
    turn = replace(new.turn, **{name: getattr(old.turn, name) for name in FIXED_TURN})
    config = replace(new, turn=turn, **{name: getattr(old, name) for name in FIXED})
    if _files(old) != _files(new):
        stays.append("tls")
        config = replace(config, tls=old.tls)
    if (old.relay.enabled, old.relay.seed) != (new.relay.enabled, new.relay.seed):
        stays.append("relay.enabled")
        config = replace(config, relay=replace(new.relay, enabled=old.relay.enabled, seed=old.relay.seed))
    if old.metrics.listen != new.metrics.listen:
        stays.append("metrics.listen")
        config = replace(config, metrics=replace(new.metrics, listen=old.metrics.listen))
    if (old.admin.socket, old.admin.token is None) != (new.admin.socket, new.admin.token is None):
        stays.append("admin")
        config = replace(config, admin=old.admin)
    return config, stays


def _files(config: ServeConfig) -> tuple[object, ...] | None:
    return None if config.tls is None else (config.tls.cert, config.tls.key, config.tls.port)


class FileWatch:
    """Notices that one of ``files`` is another than before, once it stays the same for two looks."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._files = tuple(files)
        self._known = self._seen = self._look()

    def watch(self, files: Iterable[Path]) -> None:
        """Watch ``files`` from now on, as they are now."""
        self._files = tuple(files)
        self._known = self._seen = self._look()

    def changed(self) -> bool:
        """True once for each change. A file being written, or one of a pair, is waited for."""
        before, self._seen = self._seen, self._look()
        if self._seen != before or self._seen == self._known:
            return False
        self._known = self._seen
        return True

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_identity(path) for path in self._files)


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
