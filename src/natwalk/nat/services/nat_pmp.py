"""NAT-PMP on the router (RFC 6886): requests in, answers out."""

from __future__ import annotations

from ipaddress import IPv4Address
from struct import Struct
from typing import Final

from natwalk.core import Address
from natwalk.nat.packet import IpProtocol
from natwalk.nat.services.leases import Lease, Leases, Refusal

VERSION: Final = 0
PORT: Final = 5351
ANNOUNCE_PORT: Final = 5350

SUCCESS, UNSUPPORTED_VERSION, NOT_AUTHORIZED, NETWORK_FAILURE, NO_RESOURCES, UNSUPPORTED_OPCODE = range(6)

_PROTOCOLS: Final = {1: IpProtocol.UDP, 2: IpProtocol.TCP}
_ANSWER: Final = 128
_HEAD: Final = Struct("!BBHI")
_REQUEST: Final = Struct("!BBHHHI")
_MAPPED: Final = Struct("!HHI")
_RESULTS: Final = {
    Refusal.NOT_AUTHORIZED: NOT_AUTHORIZED,
    Refusal.CONFLICT: NO_RESOURCES,
    Refusal.NO_PORT: NO_RESOURCES,
    Refusal.QUOTA: NO_RESOURCES,
}


class NatPmpServer:
    """Answers the requests of one LAN out of ``leases``."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases

    def answer(self, request: bytes, source: Address, now: float) -> bytes | None:
        """The answer to ``request``; None to what deserves none: too short, or an answer itself."""
        if len(request) < 2 or request[1] >= _ANSWER:
            return None
        version, opcode = request[0], request[1]
        if version != VERSION:
            return self._head(opcode, UNSUPPORTED_VERSION, now)
        if opcode == 0:
            return self.announcement(now)
        protocol = _PROTOCOLS.get(opcode)
        if protocol is None:
            return self._head(opcode, UNSUPPORTED_OPCODE, now)
        if len(request) < _REQUEST.size:
            return None
        _, _, _, internal_port, external_port, lifetime = _REQUEST.unpack_from(request)
        internal = Address(source.host, internal_port)
        if lifetime == 0:
            return self._delete(opcode, protocol, internal, now)
        return self._map(opcode, protocol, internal, external_port, lifetime, now)

    def announcement(self, now: float) -> bytes:
        """The external address: the answer to who asks, and the news to all (RFC 6886 §3.2, §3.2.1)."""
        return self._head(0, SUCCESS, now) + IPv4Address(self._leases.external_host()).packed

    def _map(
        self, opcode: int, protocol: IpProtocol, internal: Address, wish: int, lifetime: int, now: float
    ) -> bytes:
        """Make or renew a mapping (RFC 6886 §3.3)."""
        config = self._leases.config
        seconds = min(max(lifetime, config.shortest_lease), config.longest_lease)
        lease: Lease | Refusal = Refusal.NOT_AUTHORIZED
        if internal.port:
            lease = self._leases.open(protocol, internal, wish, seconds, now)
        if isinstance(lease, Refusal):
            return self._head(opcode, _RESULTS[lease], now) + _MAPPED.pack(internal.port, wish, 0)
        return self._head(opcode, SUCCESS, now) + _MAPPED.pack(
            internal.port, lease.external.port, int(seconds)
        )

    def _delete(self, opcode: int, protocol: IpProtocol, internal: Address, now: float) -> bytes:
        """End one mapping, or with port 0 all of the client's for a protocol (RFC 6886 §3.4)."""
        for lease in self._leases.all(now):
            mine = lease.protocol is protocol and lease.internal.host == internal.host
            if not mine or internal.port not in (0, lease.internal.port):
                continue
            if lease.nonce:
                if internal.port:
                    return self._head(opcode, NOT_AUTHORIZED, now) + _MAPPED.pack(internal.port, 0, 0)
                continue
            self._leases.close(lease, now)
        return self._head(opcode, SUCCESS, now) + _MAPPED.pack(internal.port, 0, 0)

    def _head(self, opcode: int, result: int, now: float) -> bytes:
        return _HEAD.pack(VERSION, _ANSWER + opcode, result, self._leases.epoch(now))
