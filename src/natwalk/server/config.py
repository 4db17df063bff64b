"""``natwalk.toml``, the environment, flags and defaults, made into values that are known to be good.

Every mistake is a :class:`~natwalk.server.errors.ConfigError` that names the key and the value; nothing
is guessed and nothing unknown is ignored.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from types import MappingProxyType
from typing import Final

from natwalk.core import Address
from natwalk.rendezvous import RendezvousLimits
from natwalk.server.addresses import default_listen, expand
from natwalk.server.certificate import Tls, read_tls
from natwalk.server.document import FIX, Flags, read_document
from natwalk.server.errors import ConfigError
from natwalk.server.options import unknown_variables
from natwalk.server.relay_settings import RelaySettings, relay_settings
from natwalk.server.schema import Document, LogSection, RendezvousSection, StunSection
from natwalk.server.secret import read_secret
from natwalk.server.turn_settings import Credentials, read_credentials, turn_config
from natwalk.turn import TurnConfig

__all__ = ["AdminConfig", "Flags", "MetricsConfig", "ServeConfig", "StreamLimits", "Tls", "load"]

Network = IPv4Network | IPv6Network
_HOST_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-)){0,20}\.?")
_TLS_PORT: Final = 5349


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Bounds of TCP, TLS and DTLS connections of clients; timeouts in seconds."""

    connections: int = 8192
    connections_per_source: int = 256
    handshake_timeout: float = 15.0
    idle_timeout: float = 60.0


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """Who may read ``/metrics``: clients in ``allow`` at ``listen``, or at the HTTP port when it is None."""

    allow: tuple[Network, ...]
    listen: Address | None = None


@dataclass(frozen=True, slots=True)
class AdminConfig:
    """The operator's commands: on a socket of this machine, or over HTTP from loopback with a token."""

    socket: Path | None = None
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """All that ``natwalk serve`` needs. ``listen`` has concrete addresses where the machine has any."""

    listen: tuple[str, ...]
    http_hosts: tuple[str, ...]
    stun_port: int
    stun_alternate_port: int | None
    """A second port for STUN, so that clients can tell how their NAT maps; None for no such port."""
    stun_alternate_address: str | None = None
    """A second address of this machine, for behaviour discovery (RFC 5780 §6)."""
    stun_partner: str | None = None
    """The address of another machine that answers as the second address would."""
    stun_partner_secret: bytes = field(default=b"", repr=False)
    stun_tcp: bool = True
    tls_port: int | None = None
    """The port of TURN over TLS (TCP) and DTLS (UDP); None when there is no certificate."""
    turn_tls: bool = True
    turn_dtls: bool = True
    http_port: int
    public_host: str | None
    public_addresses: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """What clients know addresses by: those of this machine, as ``turn`` has them, and of the partner."""
    turn: TurnConfig
    auth_secret: str = field(repr=False)
    generated_secret: bool = False
    """Whether ``auth_secret`` was made at start and is kept nowhere."""
    rendezvous: RendezvousLimits
    relay: RelaySettings
    tls: Tls | None
    streams: StreamLimits = StreamLimits()
    proxy_from: tuple[Network, ...] = ()
    log: LogSection
    metrics: MetricsConfig
    admin: AdminConfig = AdminConfig()
    alternate: Address | None = None
    """Where new clients are sent while this server drains."""
    drain_seconds: float = 3.0
    warnings: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    """Every file the configuration was read from."""

    def known_as(self, host: str) -> str:
        """What clients know the address ``host`` of this machine, or the partner's, by."""
        return self.public_addresses.get(host, host)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret text, for whoever must keep them out of what is written."""
        token = () if self.admin.token is None else (self.admin.token,)
        partner = (self.stun_partner_secret.decode(),) if self.stun_partner_secret else ()
        return (*self.turn.auth_secrets, *self.turn.users.values(), *token, *partner)


def load(
    path: Path | None,
    flags: Flags = MappingProxyType({}),
    environ: Mapping[str, str] = MappingProxyType({}),
    *,
    generated: str | None = None,
) -> ServeConfig:
    """The configuration of file ``path`` (None: the embedded defaults), then variables, then flags.

    Raises ConfigError. Relative paths are relative to the file's folder. Reads secrets; makes one in
    ``state-dir`` when none is configured, or uses ``generated``, the one a running server made at start.
    """
    document, where = read_document(path, flags, environ)
    folder = Path() if path is None else path.parent
    credentials = read_credentials(document, folder, generated)
    config = _build(document, folder, credentials, where, () if path is None else (path,))
    warnings = [*_warnings(document, path, config), *unknown_variables(environ)]
    return replace(config, warnings=tuple(warnings))


def _build(
    document: Document, folder: Path, credentials: Credentials, where: str, files: tuple[Path, ...]
) -> ServeConfig:
    server, stun = document.server, document.stun
    listen = _listen(server.listen, "server.listen", where) or default_listen()
    http_listen = _listen(document.http.listen, "http.listen", where) or listen
    if server.public_host is not None:
        _check_host(server.public_host, where)
    second = _address("stun.alternate-address", stun.alternate_address, where)
    concrete = expand(listen if second is None else [*listen, second])
    tls = _tls(document, folder)
    token_file = None if document.admin.token_file is None else folder / document.admin.token_file
    admin = AdminConfig(
        None if document.admin.socket is None else folder / document.admin.socket,
        None if token_file is None else read_secret(token_file, "admin.token-file"),
    )
    partner_secret, partner_files = _partner_secret(stun, folder)
    more = [*partner_files, *([] if token_file is None else [token_file])]
    more += [] if tls is None else [tls.cert, tls.key]
    limits = document.streams
    partner = _address("stun.partner", stun.partner, where)
    turn = turn_config(document, credentials, concrete, where)
    public = turn.public_addresses
    mine = {host: told for host, told in public.items() if host != partner}  # others' relays are plain peers
    return ServeConfig(
        listen=tuple(concrete),
        http_hosts=tuple(dict.fromkeys(http_listen)),
        stun_port=stun.port,
        stun_alternate_port=_alternate_port(stun),
        stun_alternate_address=second,
        stun_partner=partner,
        stun_partner_secret=partner_secret,
        stun_tcp=stun.tcp,
        tls_port=_tls_port(stun) if tls is not None else None,
        turn_tls=document.turn.tls and tls is not None,
        turn_dtls=document.turn.dtls and tls is not None,
        http_port=document.http.port,
        public_host=server.public_host,
        public_addresses=public,
        turn=replace(turn, public_addresses=MappingProxyType(mine)),
        auth_secret=credentials.auth_secrets[0],
        generated_secret=not _has_secret_file(document),
        rendezvous=_rendezvous(document.rendezvous),
        relay=relay_settings(document.relay, _state_dir(document, folder), where),
        tls=tls,
        streams=StreamLimits(**{name: getattr(limits, name) for name in limits.__struct_fields__}),
        proxy_from=_networks("proxy-protocol.from", document.proxy_protocol.from_, where),
        log=document.log,
        metrics=MetricsConfig(
            _networks("metrics.allow", document.metrics.allow, where),
            _endpoint("metrics.listen", document.metrics.listen, where),
        ),
        admin=admin,
        alternate=_endpoint("server.alternate", server.alternate, where),
        drain_seconds=server.drain_seconds,
        files=(*files, *credentials.files, *more),
    )


def _state_dir(document: Document, folder: Path) -> Path | None:
    return None if document.server.state_dir is None else folder / document.server.state_dir


def _has_secret_file(document: Document) -> bool:
    turn = document.turn
    named = turn.auth_secret_file is not None or bool(turn.auth_secret_files)
    return named or document.server.state_dir is not None


def _partner_secret(section: StunSection, folder: Path) -> tuple[bytes, list[Path]]:
    """The secret shared with the partner, and its file."""
    if section.alternate_address is not None and section.partner is not None:
        raise ConfigError(
            "stun.alternate-address and stun.partner are both set",
            "keep alternate-address when the second address is this machine's, else partner",
        )
    if section.partner is None:
        return b"", []
    if section.partner_secret_file is None:
        raise ConfigError(
            f"stun.partner is {section.partner!r}, and there is no stun.partner-secret-file",
            "put the same secret into a file on both machines, and name it",
        )
    path = folder / section.partner_secret_file
    return read_secret(path, "stun.partner-secret-file").encode(), [path]


def _alternate_port(section: StunSection) -> int | None:
    """Any free one beside any free one, else the one asked for, else the next one after the first."""
    if section.alternate_port is not None:
        return section.alternate_port or None
    return 0 if section.port == 0 else min(section.port + 1, 65535)


def _tls_port(section: StunSection) -> int:
    """The one asked for, else any free one beside any free one, else the registered one (RFC 7065 §3.1)."""
    if section.tls_port is not None:
        return section.tls_port
    return 0 if section.port == 0 else _TLS_PORT


def _rendezvous(section: RendezvousSection) -> RendezvousLimits:
    return RendezvousLimits(**{name: getattr(section, name) for name in section.__struct_fields__})


def _tls(document: Document, folder: Path) -> Tls | None:
    section = document.tls
    return None if section is None else read_tls(folder / section.cert, folder / section.key, section.port)


def _warnings(document: Document, path: Path | None, config: ServeConfig) -> list[str]:
    warnings = []
    if document.turn.users and path is not None and path.stat().st_mode & 0o007:
        warnings.append(f"{path} has passwords in it and everyone on this machine may read it: chmod 640 it")
    if document.stun.tls_port is not None and config.tls is None:
        warnings.append("stun.tls-port is set, and without a certificate in [tls] there is no TLS or DTLS")
    if document.turn.allow_weak_secrets:
        warnings.append("turn.allow-weak-secrets is on: whoever sees one request can guess a weak password")
    if config.tls is not None and (warning := config.tls.warning(time.time())):
        warnings.append(warning)
    return warnings


def _listen(hosts: list[str] | None, key: str, where: str) -> list[str]:
    for host in hosts or ():
        _address(key, host, where)
    return list(hosts or ())


def _address(key: str, host: str | None, where: str) -> str | None:
    """``host`` in canonical form; raises ConfigError when it is no IP address."""
    if host is None:
        return None
    try:
        return str(ip_address(host))
    except ValueError:
        raise ConfigError(
            f"{key} has {host!r}, which is not an IP address", FIX.format(where=where)
        ) from None


def _endpoint(key: str, text: str | None, where: str) -> Address | None:
    if text is None:
        return None
    try:
        return Address.parse(text)
    except ValueError:
        raise ConfigError(
            f"{key} is {text!r}, which is not an address like 192.0.2.1:3478 or [2001:db8::1]:3478",
            FIX.format(where=where),
        ) from None


def _networks(key: str, entries: Iterable[str], where: str) -> tuple[Network, ...]:
    networks = []
    for entry in entries:
        try:
            networks.append(ip_network(entry))
        except ValueError as error:
            raise ConfigError(
                f"{key} has {entry!r}, which is not an address or a network: {error}", FIX.format(where=where)
            ) from None
    return tuple(networks)


def _check_host(host: str, where: str) -> None:
    try:
        ip_address(host)
    except ValueError:
        if not _HOST_NAME.fullmatch(host) or len(host) > 253:
            raise ConfigError(
                f"server.public-host is {host!r}, which is neither a host name nor an IP address",
                FIX.format(where=where),
            ) from None
