"""``natwalk.toml``, flags and defaults, made into values that are known to be good.

Every mistake is a :class:`~natwalk.server.errors.ConfigError` that names the key and the value; nothing
is guessed and nothing unknown is ignored.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from natwalk.rendezvous import RendezvousLimits
from natwalk.server.addresses import default_listen, default_relay_addresses, expand
from natwalk.server.errors import ConfigError
from natwalk.server.schema import Document, RendezvousSection, StunSection, TurnSection
from natwalk.server.secret import kept_secret, new_secret, read_secret
from natwalk.turn import PeerPolicy, TurnConfig, TurnLimits

_MAX_FILE: Final = 1 << 20
_HOST_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-)){0,20}\.?")
_FIX: Final = "correct it in {where}, or run natwalk serve without it for the defaults"

Table = dict[str, "Value"]
Value = str | int | float | bool | list["Value"] | Table
Flags = Mapping[str, str | int | list[str] | None]
"""Values from flags or the environment by dotted key (``server.listen``); None means not given."""


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files of the HTTP server's certificate chain and key."""

    cert: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """All that ``natwalk serve`` needs. ``listen`` has concrete addresses where the machine has any."""

    listen: tuple[str, ...]
    http_hosts: tuple[str, ...]
    stun_port: int
    stun_alternate_port: int | None
    """A second port for STUN, so that clients can tell how their NAT maps; None for no such port."""
    http_port: int
    public_host: str | None
    turn: TurnConfig
    auth_secret: str = field(repr=False)
    rendezvous: RendezvousLimits
    tls: Tls | None
    warnings: tuple[str, ...] = ()


def load(path: Path | None, flags: Flags = MappingProxyType({})) -> ServeConfig:
    """The configuration of file ``path`` (None: the embedded defaults), overridden by ``flags``.

    Raises ConfigError. Relative paths in the file are relative to its folder. Reads secrets; makes one
    in ``state-dir`` when none is configured.
    """
    table = {} if path is None else _read(path)
    where = "the flags" if path is None else str(path)
    for key, value in flags.items():
        if value is not None:
            _set(table, key, value)
    try:
        document = msgspec.convert(table, Document)
    except msgspec.ValidationError as error:
        raise _explained(error, table, where) from None
    return _build(document, Path() if path is None else path.parent, path, where)


def _build(document: Document, folder: Path, path: Path | None, where: str) -> ServeConfig:
    listen = document.server.listen or default_listen()
    for host in listen:
        _check_ip("server.listen", host, where)
    if document.server.public_host is not None:
        _check_host(document.server.public_host, where)
    concrete = expand(listen)
    secret = _auth_secret(document, folder)
    return ServeConfig(
        listen=tuple(concrete),
        http_hosts=tuple(dict.fromkeys(listen)),
        stun_port=document.stun.port,
        stun_alternate_port=_alternate_port(document.stun),
        http_port=document.http.port,
        public_host=document.server.public_host,
        turn=_turn(document.turn, document.server.realm, secret, concrete, where),
        auth_secret=secret,
        rendezvous=_rendezvous(document.rendezvous),
        tls=_tls(document, folder),
        warnings=tuple(_warnings(document, path)),
    )


def _alternate_port(section: StunSection) -> int | None:
    """Any free one beside any free one, else the one asked for, else the next one after the first."""
    if section.alternate_port is not None:
        return section.alternate_port or None
    return 0 if section.port == 0 else min(section.port + 1, 65535)


def _turn(section: TurnSection, realm: str, secret: str, listen: list[str], where: str) -> TurnConfig:
    relays = section.relay_addresses
    if relays is None:
        relays = default_relay_addresses(listen)
    for host in relays:
        _check_ip("turn.relay-addresses", host, where)
    match = re.fullmatch(r"([0-9]{1,5})\s*-\s*([0-9]{1,5})", section.relay_ports)
    if match is None:
        raise ConfigError(
            f"turn.relay-ports is {section.relay_ports!r}, not a range like 49152-65535",
            _FIX.format(where=where),
        )
    limits = section.limits
    try:
        return TurnConfig(
            realm=realm,
            users=MappingProxyType(dict(section.users)),
            auth_secrets=(secret,),
            relay_addresses=tuple(str(ip_address(host)) for host in relays),
            port_range=(int(match[1]), int(match[2])),
            policy=PeerPolicy(section.peers.allow, section.peers.deny),
            limits=TurnLimits(
                allocations=limits.allocations,
                allocations_per_user=limits.allocations_per_user,
                permissions_per_allocation=limits.permissions_per_allocation,
                channels_per_allocation=limits.channels_per_allocation,
            ),
        )
    except ValueError as error:
        raise ConfigError(f"turn: {error}", _FIX.format(where=where)) from error


def _rendezvous(section: RendezvousSection) -> RendezvousLimits:
    return RendezvousLimits(
        nameplate_ttl=section.nameplate_ttl,
        idle_timeout=section.idle_timeout,
        resume_idle_timeout=section.resume_idle_timeout,
        allocations_per_minute=section.allocations_per_minute,
        claims_per_minute=section.claims_per_minute,
        mailboxes_per_source=section.mailboxes_per_source,
    )


def _auth_secret(document: Document, folder: Path) -> str:
    if document.turn.auth_secret_file is not None:
        return read_secret(folder / document.turn.auth_secret_file)
    if document.server.state_dir is not None:
        return kept_secret(folder / document.server.state_dir)
    return new_secret()


def _tls(document: Document, folder: Path) -> Tls | None:
    if document.tls is None:
        return None
    tls = Tls(folder / document.tls.cert, folder / document.tls.key)
    for key, file in (("cert", tls.cert), ("key", tls.key)):
        if not file.is_file():
            raise ConfigError(
                f"tls.{key} {file} is not a file", "give the PEM files of a certificate, or remove [tls]"
            )
    return tls


def _warnings(document: Document, path: Path | None) -> list[str]:
    warnings = []
    if document.turn.users and path is not None and path.stat().st_mode & 0o007:
        warnings.append(f"{path} has passwords in it and everyone on this machine may read it: chmod 640 it")
    if document.stun.tls_port is not None:
        warnings.append("stun.tls-port is set, and this version serves STUN and TURN over UDP only")
    return warnings


def _read(path: Path) -> Table:
    hint = "give the path of a natwalk.toml, or none for the defaults"
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint) from error
    if len(data) > _MAX_FILE:
        raise ConfigError(f"{path} is longer than 1 MiB", hint)
    try:
        table: Table = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {error}", "correct the file (https://toml.io)") from error
    return table


def _set(table: Table, key: str, value: str | int | list[str]) -> None:
    *sections, last = key.split(".")
    for section in sections:
        inner = table.setdefault(section, {})
        if not isinstance(inner, dict):
            return  # the conversion that follows says what is wrong with it
        table = inner
    table[last] = list(value) if isinstance(value, list) else value


def _check_ip(key: str, host: str, where: str) -> None:
    try:
        ip_address(host)
    except ValueError:
        raise ConfigError(
            f"{key} has {host!r}, which is not an IP address", _FIX.format(where=where)
        ) from None


def _check_host(host: str, where: str) -> None:
    try:
        ip_address(host)
    except ValueError:
        if not _HOST_NAME.fullmatch(host) or len(host) > 253:
            raise ConfigError(
                f"server.public-host is {host!r}, which is neither a host name nor an IP address",
                _FIX.format(where=where),
            ) from None


def _explained(error: msgspec.ValidationError, table: Table, where: str) -> ConfigError:
    """A sentence that names the key and the value; values of ``turn.users`` are secrets and are not shown."""
    text, _, place = str(error).partition(" - at `$")
    keys = re.findall(r"[^.\[\]`]+", place)
    dotted = ".".join(key for key in keys if not key.isdigit() and key != "...")
    unknown = re.search(r"unknown field `([^`]*)`", text)
    if unknown:
        key = f"{dotted}.{unknown[1]}".lstrip(".")
        near = get_close_matches(unknown[1], _keys(Document), n=1)
        hint = f"did you mean {near[0]}?" if near else f"remove it from {where}"
        return ConfigError(f"unknown key {key} in {where}", hint)
    value: Value | None = table
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and key.isdigit():
            value = value[int(key)]
        else:
            value = None
    shown = "" if dotted.startswith("turn.users") or value is None else f" is {str(value)[:100]!r}"
    reason = text.replace("`", "")
    return ConfigError(
        f"{dotted or 'the file'}{shown}: {reason[:1].lower()}{reason[1:]}", _FIX.format(where=where)
    )


def _keys(struct: type[msgspec.Struct]) -> list[str]:
    """Every key of a table and of the tables in it."""
    keys: list[str] = []
    for item in msgspec.structs.fields(struct):
        keys.append(item.encode_name)
        if isinstance(item.default, msgspec.Struct):
            keys.extend(_keys(type(item.default)))
    return keys
