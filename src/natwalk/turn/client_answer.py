"""What a server's answer to an Allocate request grants, as a value (RFC 8656 §7.3)."""

from __future__ import annotations

from dataclasses import dataclass, field

from natwalk.core import Address, Reach, RemoteProtocolError, reach
from natwalk.stun import (
    ADDRESS_ERROR_CODE,
    LIFETIME,
    MOBILITY_TICKET,
    RESERVATION_TOKEN,
    XOR_MAPPED_ADDRESS,
    XOR_RELAYED_ADDRESS,
    AddressErrorCode,
    Message,
)
from natwalk.turn.client_options import AllocationOptions


@dataclass(frozen=True, slots=True)
class Grant:
    """An allocation as granted: the relayed addresses, at most one of each IP version, and the rest."""

    relayed: tuple[Address, ...]
    lifetime: int
    mapped: Address | None
    reservation_token: bytes | None = field(default=None, repr=False)
    ticket: bytes | None = field(default=None, repr=False)
    address_errors: tuple[AddressErrorCode, ...] = ()


def read_grant(message: Message, options: AllocationOptions) -> Grant:
    """What the success response ``message`` grants to a client that asked for ``options``.

    Raises :class:`RemoteProtocolError` when it is incomplete or not what was asked for.
    """
    lifetime, mapped = message.get(LIFETIME), message.get(XOR_MAPPED_ADDRESS)
    offered = message.all(XOR_RELAYED_ADDRESS)[: 2 if options.dual else 1]
    if not offered or lifetime is None:
        raise RemoteProtocolError("the server's answer lacks XOR-RELAYED-ADDRESS or LIFETIME")
    by_family: dict[int, Address] = {}
    for relayed in offered:
        wrong_family = options.family is not None and relayed.version != options.family
        if not is_plausible(relayed) or wrong_family or relayed.version in by_family:
            raise RemoteProtocolError(f"the server offers {relayed}, which cannot be a relayed address here")
        by_family[relayed.version] = relayed
    return Grant(
        tuple(by_family.values()),
        lifetime,
        mapped if mapped is not None and is_plausible(mapped) else None,
        message.get(RESERVATION_TOKEN),
        message.get(MOBILITY_TICKET) or None,
        tuple(message.all(ADDRESS_ERROR_CODE)),
    )


def is_plausible(address: Address) -> bool:
    """Whether somebody could be at ``address``."""
    return address.port != 0 and reach(address.ip) not in {Reach.UNSPECIFIED, Reach.MULTICAST}
