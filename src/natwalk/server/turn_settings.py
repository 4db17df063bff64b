"""``[turn]`` and its tables made into a :class:`~natwalk.turn.TurnConfig`, secrets read from their files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Final

from natwalk.server.addresses import default_relay_addresses
from natwalk.server.document import FIX
from natwalk.server.errors import ConfigError
from natwalk.server.schema import Document, PeersSection, TurnLimitsSection, TurnSection
from natwalk.server.secret import (
    check_passwords,
    kept_file,
    kept_secret,
    new_secret,
    read_key,
    read_secret,
    read_users,
)
from natwalk.stun import Algorithm
from natwalk.turn import PeerPolicy, TurnConfig, TurnLimits
from natwalk.turn.config import OAuthKey
from natwalk.turn.public_addresses import PublicAddresses

_RANGE: Final = re.compile(r"([0-9]{1,5})\s*-\s*([0-9]{1,5})")
_ALGORITHMS: Final = {"sha-256": Algorithm.SHA256, "md5": Algorithm.MD5}


@dataclass(frozen=True, slots=True)
class Credentials:
    """What was read for ``[turn]``; ``files`` are those it came from, for whoever watches them."""

    auth_secrets: tuple[str, ...]
    users: dict[str, str]
    oauth_keys: tuple[OAuthKey, ...]
    files: tuple[Path, ...]


def read_credentials(document: Document, folder: Path, generated: str | None) -> Credentials:
    """The secrets, users and keys; ``generated`` is the secret made at start when none is configured.

    Raises ConfigError, which names files and users and never a secret.
    """
    section = document.turn
    weak = section.allow_weak_secrets
    files: list[Path] = []
    secrets: list[str] = []
    named = [] if section.auth_secret_file is None else [("turn.auth-secret-file", section.auth_secret_file)]
    named += [("turn.auth-secret-files", name) for name in section.auth_secret_files]
    for key, name in named:
        files.append(folder / name)
        secrets.append(read_secret(folder / name, key, weak=weak))
    if not secrets and document.server.state_dir is not None:
        secrets.append(kept_secret(folder / document.server.state_dir))
        files.append(kept_file(folder / document.server.state_dir))
    users = dict(section.users)
    if section.users_file is not None:
        files.append(folder / section.users_file)
        for name, password in read_users(folder / section.users_file).items():
            if name in users:
                raise ConfigError(
                    f"the TURN user {name!r} is in turn.users and in turn.users-file", "remove one of them"
                )
            users[name] = password
    check_passwords(users, weak=weak)
    keys = []
    for entry in section.oauth_keys:
        files.append(folder / entry.key_file)
        data = read_key(folder / entry.key_file, "turn.oauth-keys key-file")
        keys.append(OAuthKey(entry.kid, data, entry.not_before, entry.not_after))
    return Credentials(tuple(secrets or [generated or new_secret()]), users, tuple(keys), tuple(files))


def turn_config(document: Document, credentials: Credentials, listen: list[str], where: str) -> TurnConfig:
    """The TURN server's configuration; raises ConfigError that names the key and the value."""
    section = document.turn
    relays = section.relay_addresses
    if relays is None:
        relays = default_relay_addresses(listen)
    relays = [_relay(host, where) for host in relays]
    try:
        return TurnConfig(
            realm=document.server.realm,
            users=MappingProxyType(credentials.users),
            auth_secrets=credentials.auth_secrets,
            relay_addresses=tuple(relays),
            public_addresses=_public(document.server.public_addresses, relays, where),
            port_range=_port_range(section.relay_ports, where),
            policy=_policy(section.peers, section.denied_ports),
            limits=_limits(section.limits),
            nonce_lifetime=section.nonce_lifetime,
            software="natwalk" if section.software else None,
            classic_stun=document.stun.classic,
            rfc5766_channels=section.channels == "rfc5766",
            tcp_relays=section.tcp_relays,
            mobility=section.mobility,
            password_algorithms=_algorithms(section),
            oauth_keys=credentials.oauth_keys,
            third_party_authorization=section.third_party_authorization,
        )
    except ValueError as error:
        raise ConfigError(f"turn: {error}", FIX.format(where=where)) from error


def _public(entries: dict[str, str], relays: list[str], where: str) -> Mapping[str, str]:
    """``server.public-addresses``, a wildcard replaced by the relay address of its IP version."""
    key = "server.public-addresses"
    mapped: dict[str, str] = {}
    wildcards: dict[int, str] = {}
    for bound, public in entries.items():
        try:
            ip, told = ip_address(bound), str(ip_address(public))
        except ValueError:
            raise ConfigError(
                f"{key} has {bound!r} = {public!r}, which are not two IP addresses", FIX.format(where=where)
            ) from None
        if ip.is_unspecified:
            wildcards[ip.version] = told
        else:
            mapped[str(ip)] = told
    for version, told in wildcards.items():
        mine = [host for host in relays if ip_address(host).version == version and host not in mapped]
        if relays and len(mine) != 1:
            raise ConfigError(
                f"{key} has {told!r} for every relay address of IPv{version}, and there are {len(mine)}",
                "write the relay address that it belongs to instead of the wildcard",
            )
        mapped |= dict.fromkeys(mine, told)
    try:
        return PublicAddresses(mapped).advertised_hosts
    except ValueError as error:
        raise ConfigError(f"{key}: {error}", FIX.format(where=where)) from None


def _policy(section: PeersSection, denied_ports: list[int] | None) -> PeerPolicy:
    if denied_ports is None:
        return PeerPolicy(section.allow, section.deny)
    return PeerPolicy(section.allow, section.deny, denied_ports=[0, *denied_ports])


def _limits(section: TurnLimitsSection) -> TurnLimits:
    return TurnLimits(**{name: getattr(section, name) for name in section.__struct_fields__})


def _algorithms(section: TurnSection) -> tuple[Algorithm, ...]:
    return tuple(dict.fromkeys(_ALGORITHMS[name] for name in section.password_algorithms))


def _relay(host: str, where: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError:
        raise ConfigError(
            f"turn.relay-addresses has {host!r}, which is not an IP address", FIX.format(where=where)
        ) from None


def _port_range(text: str, where: str) -> tuple[int, int]:
    match = _RANGE.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"turn.relay-ports is {text!r}, not a range like 49152-65535", FIX.format(where=where)
        )
    return int(match[1]), int(match[2])
