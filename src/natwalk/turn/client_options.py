"""What a TURN client asks of its allocation, checked on construction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from natwalk.core import Transport
from natwalk.stun import (
    ADDITIONAL_ADDRESS_FAMILY,
    DONT_FRAGMENT,
    EVEN_PORT,
    LIFETIME,
    MOBILITY_TICKET,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
)
from natwalk.stun.attributes import unknown

FAMILIES: Final = {4: 1, 6: 2}  # REQUESTED-ADDRESS-FAMILY by IP version, RFC 8656 §18.6
_PROTOCOLS: Final = {Transport.UDP: 17, Transport.TCP: 6}  # RFC 8656 §18.8, RFC 6062 §4.1
_TOKEN_LENGTH: Final = 8
# What coturn up to 4.6 takes for ADDITIONAL-ADDRESS-FAMILY: the number the drafts of RFC 8656 had.
_DRAFT_ADDITIONAL_FAMILY: Final = unknown(0x8032)


@dataclass(frozen=True, slots=True)
class AllocationOptions:
    """What an Allocate request asks for (RFC 8656 §7.1).

    ``lifetime`` in seconds is asked for and kept up. ``family`` is the IP version of the relayed address,
    None for the server's default; ``dual`` asks for one of each. ``relay`` is what the relayed address
    speaks: UDP, or TCP (RFC 6062), which needs TCP or TLS to the server. ``even_port`` wants an even port,
    ``reserve_next`` also has the next one kept; ``reservation_token`` claims one that was kept so.
    ``dont_fragment`` makes the server say now whether it can send with the DF bit. ``mobility`` asks for a
    ticket to move the allocation to another socket with (RFC 8016); a server that has none says so.

    Raises ValueError on a combination that the RFCs forbid.
    """

    lifetime: int = 600
    family: int | None = None
    dual: bool = False
    relay: Transport = Transport.UDP
    even_port: bool = False
    reserve_next: bool = False
    reservation_token: bytes | None = field(default=None, repr=False)
    dont_fragment: bool = False
    mobility: bool = False

    def __post_init__(self) -> None:
        if self.family not in {None, 4, 6}:
            raise ValueError(f"family {self.family!r} is not 4, 6 or None")
        if not 0 <= self.lifetime < 1 << 32:
            raise ValueError(f"a lifetime of {self.lifetime} seconds")
        if self.relay not in _PROTOCOLS:
            raise ValueError(f"a relayed address speaks UDP or TCP, not {self.relay}")
        if self.dual and (self.family is not None or self.reserve_next):
            raise ValueError("both address families exclude a single one and a pair of ports (RFC 8656 §7.1)")
        if self.reservation_token is not None:
            self._check_token(self.reservation_token)
        if self.relay is Transport.TCP and (
            self.even_port or self.reserve_next or self.reservation_token is not None or self.dont_fragment
        ):
            raise ValueError("a TCP allocation has no even ports, reservations or DF bit (RFC 6062 §4.1)")

    def _check_token(self, token: bytes) -> None:
        if len(token) != _TOKEN_LENGTH:
            raise ValueError(f"a reservation token of {len(token)} bytes, not 8")
        if self.family is not None or self.dual or self.even_port or self.reserve_next:
            raise ValueError("a reservation token decides about family and port by itself (RFC 8656 §7.1)")

    def attributes(self, *, mobility: bool) -> tuple[tuple[Any, Any], ...]:
        """The attributes of the Allocate request, with a request for a ticket if ``mobility``."""
        found: list[tuple[Any, Any]] = [
            (REQUESTED_TRANSPORT, _PROTOCOLS[self.relay]),
            (LIFETIME, self.lifetime),
        ]
        if self.family is not None:
            found.append((REQUESTED_ADDRESS_FAMILY, FAMILIES[self.family]))
        if self.dual:
            found.append((ADDITIONAL_ADDRESS_FAMILY, FAMILIES[6]))
            found.append((_DRAFT_ADDITIONAL_FAMILY, bytes((FAMILIES[6], 0, 0, 0))))
        if self.even_port or self.reserve_next:
            found.append((EVEN_PORT, self.reserve_next))
        if self.reservation_token is not None:
            found.append((RESERVATION_TOKEN, self.reservation_token))
        if self.dont_fragment:
            found.append((DONT_FRAGMENT, True))
        if mobility:
            found.append((MOBILITY_TICKET, b""))
        return tuple(found)
