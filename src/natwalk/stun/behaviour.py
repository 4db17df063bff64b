"""Two addresses and two ports: where a server of behaviour discovery answers from (RFC 5780 §6)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from natwalk.core import Address
from natwalk.stun.values import ChangeRequest

MIN_SECRET: Final = 16
"""Fewest bytes of a secret between partners."""

BOTH: Final = ChangeRequest(change_ip=True, change_port=True)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The addresses of behaviour discovery: A1:P1 is ``primary``, A2:P2 ``alternate`` (RFC 5780 §6.1).

    The two differ in host and in port and are of one IP version. Without ``partner_secret`` this server
    listens on all four combinations; with it, the host of ``alternate`` is another server that shares the
    secret (16 bytes or more) and answers on our behalf, and ours is in its configuration with the ports
    exchanged likewise. ``public`` are the two hosts as clients see them, where a NAT maps them one to one.
    Raises ValueError naming what is wrong.
    """

    primary: Address
    alternate: Address
    partner_secret: bytes = field(default=b"", repr=False)
    public: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        first, second = self.primary, self.alternate
        if first.host == second.host or first.port == second.port or not (first.port and second.port):
            raise ValueError(f"{first} and {second} must differ in address and in port")
        hosts = (first.host, second.host, *(self.public or ()))
        if len({Address(host, 0).version for host in hosts}) > 1:
            raise ValueError(f"{', '.join(hosts)} are not of one IP version")
        if any(Address(host, 0).ip.is_unspecified for host in hosts):
            raise ValueError(f"{first} and {second} must be single addresses, not all of the machine's")
        if self.public is not None and self.public[0] == self.public[1]:
            raise ValueError(f"public addresses {self.public[0]} and {self.public[1]} must differ")
        if self.partner_secret and len(self.partner_secret) < MIN_SECRET:
            raise ValueError(f"a secret between partners of less than {MIN_SECRET} bytes")

    @property
    def local_addresses(self) -> tuple[Address, ...]:
        """What this server must listen on, over UDP."""
        hosts = (self.primary.host,) if self.partner_secret else (self.primary.host, self.alternate.host)
        return tuple(
            Address(host, port) for host in hosts for port in (self.primary.port, self.alternate.port)
        )

    def origin(self, local: Address, change: ChangeRequest) -> Address:
        """Where the answer to a request that came to ``local`` is sent from (RFC 5780 §6.1, table 1)."""
        host, port = local
        if change.change_ip:
            host = self.alternate.host if host == self.primary.host else self.primary.host
        if change.change_port:
            port = self.alternate.port if port == self.primary.port else self.primary.port
        return Address(host, port)

    def seen(self, local: Address) -> Address:
        """``local`` as clients see it."""
        if self.public is None:
            return local
        return Address(self.public[local.host != self.primary.host], local.port)
