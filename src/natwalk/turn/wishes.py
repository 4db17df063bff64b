"""What an Allocate asks for, read and checked (RFC 8656 §7.2, RFC 6062 §5.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from natwalk.core import Path, Transport
from natwalk.stun import (
    ADDITIONAL_ADDRESS_FAMILY,
    DONT_FRAGMENT,
    EVEN_PORT,
    LIFETIME,
    MOBILITY_TICKET,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    Message,
)
from natwalk.stun.attributes import unknown
from natwalk.turn.allocation import granted_lifetime
from natwalk.turn.config import TurnConfig
from natwalk.turn.replies import Failure
from natwalk.turn.sockets import Ports

UDP: Final = 17
TCP: Final = 6
IP_VERSIONS: Final = {1: 4, 2: 6}  # of the values of REQUESTED-ADDRESS-FAMILY, RFC 8656 §18.6
FAMILIES: Final = {version: family for family, version in IP_VERSIONS.items()}
_IPV6_FAMILY: Final = 2
_DRAFT_ADDITIONAL_FAMILY: Final = unknown(0x8032)


@dataclass(frozen=True, slots=True)
class Wish:
    """An Allocate without contradictions: IP ``versions`` in order, the first being the one asked for.

    ``lifetime`` is what will be granted, in seconds; ``token`` names a reserved socket; ``mobile`` asks for
    a mobility ticket.
    """

    transport: Transport
    versions: tuple[int, ...]
    ports: Ports
    lifetime: int
    token: bytes | None
    mobile: bool


def read_wish(request: Message, path: Path, config: TurnConfig) -> Wish | Failure:
    """What ``request`` asks for, or why that cannot be, in the order of RFC 8656 §7.2."""
    transport = _transport(request, path, config)
    if isinstance(transport, Failure):
        return transport
    family, additional = request.get(REQUESTED_ADDRESS_FAMILY), _additional(request)
    reserve_next, token = request.get(EVEN_PORT), request.get(RESERVATION_TOKEN)
    if token is not None and (reserve_next is not None or family is not None or additional is not None):
        return Failure(400, "RESERVATION-TOKEN goes alone")
    if additional is not None and (family is not None or reserve_next or additional != _IPV6_FAMILY):
        return Failure(400, "ADDITIONAL-ADDRESS-FAMILY is for IPv6 and goes alone")
    if family is not None and family not in IP_VERSIONS:
        return Failure(440)
    ticket = request.get(MOBILITY_TICKET)
    if ticket is not None and not config.mobility:
        return Failure(405)
    if ticket:
        return Failure(400, "MOBILITY-TICKET is empty in an Allocate")
    ports = Ports.PAIR if reserve_next else Ports.ANY if reserve_next is None else Ports.EVEN
    return Wish(
        transport,
        (4, 6) if additional is not None else (IP_VERSIONS[family or 1],),
        ports,
        granted_lifetime(request.get(LIFETIME)),
        token,
        ticket is not None,
    )


def _additional(request: Message) -> int | None:
    """ADDITIONAL-ADDRESS-FAMILY, which clients of coturn up to 4.6 send under the number of a draft."""
    family = request.get(ADDITIONAL_ADDRESS_FAMILY)
    if family is None and (draft := request.get(_DRAFT_ADDITIONAL_FAMILY)):
        return draft[0]
    return family


def _transport(request: Message, path: Path, config: TurnConfig) -> Transport | Failure:
    protocol = request.get(REQUESTED_TRANSPORT)
    if protocol is None:
        return Failure(400, "REQUESTED-TRANSPORT is missing")
    if protocol == UDP:
        return Transport.UDP
    if protocol != TCP or not config.tcp_relays:
        return Failure(442)
    if not path.transport.is_stream:
        return Failure(400, "TCP is relayed for clients on TCP or TLS")
    if EVEN_PORT in request or RESERVATION_TOKEN in request or DONT_FRAGMENT in request:
        return Failure(400, "EVEN-PORT, RESERVATION-TOKEN and DONT-FRAGMENT are for UDP")
    return Transport.TCP
