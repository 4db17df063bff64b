"""The addresses of behaviour discovery (RFC 5780), when the configuration names a second one."""

from __future__ import annotations

from ipaddress import ip_address

from natwalk.core import Address
from natwalk.server.config import ServeConfig
from natwalk.server.errors import ConfigError
from natwalk.server.ports import Ports
from natwalk.stun import Behaviour


def behaviour(config: ServeConfig, ports: Ports) -> Behaviour | None:
    """What the Binding server is told, or None without a second address; raises ConfigError."""
    second = config.stun_alternate_address or config.stun_partner
    if second is None:
        return None
    version = ip_address(second).version
    firsts = [host for host in config.listen if ip_address(host).version == version and host != second]
    hint = "name in server.listen the address of this machine that belongs to it, and set stun.alternate-port"
    if not firsts or ports.alternate is None:
        raise ConfigError(
            f"behaviour discovery with {second} needs another address of its IP version and two ports", hint
        )
    public = (config.known_as(firsts[0]), config.known_as(second))
    try:
        return Behaviour(
            Address(firsts[0], ports.stun),
            Address(second, ports.alternate),
            config.stun_partner_secret,
            public if public != (firsts[0], second) else None,
        )
    except ValueError as error:
        raise ConfigError(f"stun: {error}", hint) from error
