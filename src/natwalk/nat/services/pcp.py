"""PCP on the router (RFC 6887): ANNOUNCE, MAP with PREFER_FAILURE and FILTER, PEER for UDP."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from ipaddress import IPv4Network, IPv6Network, ip_address
from struct import Struct
from typing import Final, NamedTuple

from natwalk.core import Address
from natwalk.nat.packet import IpProtocol
from natwalk.nat.services.leases import Lease, Leases, Refusal
from natwalk.nat.table import Guest

VERSION: Final = 2
LONGEST: Final = 1100
"""Bytes of a message (RFC 6887 §7)."""


class Result(IntEnum):
    """RFC 6887 §7.4."""

    SUCCESS = 0
    UNSUPP_VERSION = 1
    NOT_AUTHORIZED = 2
    MALFORMED_REQUEST = 3
    UNSUPP_OPCODE = 4
    UNSUPP_OPTION = 5
    MALFORMED_OPTION = 6
    NETWORK_FAILURE = 7
    NO_RESOURCES = 8
    UNSUPP_PROTOCOL = 9
    USER_EX_QUOTA = 10
    CANNOT_PROVIDE_EXTERNAL = 11
    ADDRESS_MISMATCH = 12
    EXCESSIVE_REMOTE_PEERS = 13


class Option(IntEnum):
    """Those of RFC 6887 §13 that are understood."""

    PREFER_FAILURE = 2
    FILTER = 3


ERROR_LIFETIME: Final = 30
"""Seconds an error is said to last: short, so that clients ask again soon."""
FILTERS: Final = 8
"""Filters of one mapping."""

_ANSWER: Final = 0x80
_ANNOUNCE, _MAP, _PEER = 0, 1, 2
_OPTIONAL: Final = 128
_HEAD: Final = Struct("!BBHI16s")
_REPLY: Final = Struct("!BBBBII12x")
_MAPPING: Final = Struct("!12sB3xHH16s")
_PEERING: Final = Struct("!12sB3xHH16sH2x16s")
_FILTERING: Final = Struct("!xBH16s")
_RESULTS: Final = {
    Refusal.NOT_AUTHORIZED: Result.NOT_AUTHORIZED,
    Refusal.CONFLICT: Result.CANNOT_PROVIDE_EXTERNAL,
    Refusal.NO_PORT: Result.NO_RESOURCES,
    Refusal.QUOTA: Result.USER_EX_QUOTA,
}
_PROTOCOLS: Final = {6: IpProtocol.TCP, 17: IpProtocol.UDP}


class _Failed(Exception):
    """A request that gets an error."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.name)
        self.result = result


class _Options(NamedTuple):
    prefer_failure: bool
    guests: tuple[Guest, ...]
    raw: bytes
    """Those that were processed, as they came: they are part of the answer."""


class PcpServer:
    """Answers the requests of one LAN out of ``leases``."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases

    def answer(self, request: bytes, source: Address, now: float) -> bytes | None:
        """The answer to ``request``; None to what deserves none: too short, or an answer itself."""
        if len(request) < 2 or request[1] & _ANSWER:
            return None
        try:
            return self._checked(request, source, now)
        except _Failed as failed:
            return self._error(request, failed.result, now)

    def _checked(self, request: bytes, source: Address, now: float) -> bytes:
        """Do what a request asks for if its header is right (RFC 6887 §8.2)."""
        if request[0] != VERSION:
            raise _Failed(Result.UNSUPP_VERSION)
        if len(request) > LONGEST or len(request) % 4 or len(request) < _HEAD.size:
            raise _Failed(Result.MALFORMED_REQUEST)
        _, opcode, _, lifetime, client = _HEAD.unpack_from(request)
        if _host(client) != source.host:
            raise _Failed(Result.ADDRESS_MISMATCH)
        if opcode == _MAP:
            return self._map(request, source, lifetime, now)
        if opcode == _PEER:
            return self._peer(request, source, lifetime, now)
        if opcode != _ANNOUNCE:
            raise _Failed(Result.UNSUPP_OPCODE)
        _options(request[_HEAD.size :])
        return self.announcement(now)

    def announcement(self, now: float) -> bytes:
        """The answer to ANNOUNCE, and the news that the table was lost (RFC 6887 §14.1)."""
        return self._head(_ANNOUNCE, Result.SUCCESS, 0, now)

    def _map(self, request: bytes, source: Address, lifetime: int, now: float) -> bytes:
        """Make, renew or end a mapping (RFC 6887 §11)."""
        body = request[_HEAD.size :]
        if len(body) < _MAPPING.size:
            raise _Failed(Result.MALFORMED_REQUEST)
        nonce, number, internal_port, external_port, _ = _MAPPING.unpack_from(body)
        if number == 0 and internal_port:
            raise _Failed(Result.MALFORMED_REQUEST)
        options = _options(body[_MAPPING.size :])
        protocol = _PROTOCOLS.get(number)
        if protocol is None or internal_port == 0:
            raise _Failed(Result.UNSUPP_PROTOCOL)
        internal = Address(source.host, internal_port)
        if lifetime == 0:
            external, seconds = self._delete(protocol, internal, nonce, now), 0
        else:
            config = self._leases.config
            seconds = int(min(max(lifetime, config.shortest_lease), config.longest_lease))
            lease = self._open(protocol, internal, external_port, seconds, nonce, options, now)
            external = lease.external.port
        mapped = _MAPPING.pack(nonce, number, internal_port, external, _packed(self._leases.external_host()))
        return self._head(_MAP, Result.SUCCESS, seconds, now) + mapped + options.raw

    def _peer(self, request: bytes, source: Address, lifetime: int, now: float) -> bytes:
        """Keep a flow's mapping for longer than its traffic does (RFC 6887 §12); 0 asks for no more."""
        body = request[_HEAD.size :]
        if len(body) < _PEERING.size:
            raise _Failed(Result.MALFORMED_REQUEST)
        nonce, number, internal_port, _, _, remote_port, remote = _PEERING.unpack_from(body)
        if not internal_port or not remote_port:
            raise _Failed(Result.MALFORMED_REQUEST)
        options = _options(body[_PEERING.size :])
        if options.raw:
            raise _Failed(Result.UNSUPP_OPTION)
        if _PROTOCOLS.get(number) is not IpProtocol.UDP:
            raise _Failed(Result.UNSUPP_PROTOCOL)
        internal, peer = Address(source.host, internal_port), Address(_host(remote), remote_port)
        config = self._leases.config
        seconds = min(max(lifetime, config.shortest_lease), config.longest_lease) if lifetime else 0
        held = self._leases.hold(internal, peer, seconds, now)
        if isinstance(held, Refusal):
            raise _Failed(_RESULTS[held])
        external, left = held
        answer = _PEERING.pack(
            nonce, number, internal_port, external.port, _packed(external.host), remote_port, remote
        )
        return self._head(_PEER, Result.SUCCESS, int(left), now) + answer

    def _open(
        self,
        protocol: IpProtocol,
        internal: Address,
        wish: int,
        seconds: int,
        nonce: bytes,
        options: _Options,
        now: float,
    ) -> Lease:
        lease = self._leases.open(
            protocol,
            internal,
            wish,
            seconds,
            now,
            exact=options.prefer_failure,
            guests=options.guests,
            nonce=nonce,
        )
        if isinstance(lease, Refusal):
            raise _Failed(_RESULTS[lease])
        return lease

    def _delete(self, protocol: IpProtocol, internal: Address, nonce: bytes, now: float) -> int:
        """End a mapping if it was made with ``nonce``; the external port it had, 0 if there was none."""
        lease = self._leases.of(protocol, internal, now)
        if lease is None:
            return 0
        if lease.nonce != nonce:
            raise _Failed(Result.NOT_AUTHORIZED)
        self._leases.close(lease, now)
        return lease.external.port

    def _error(self, request: bytes, result: Result, now: float) -> bytes:
        """An error repeats what was asked (RFC 6887 §8.2), cut to what a message may have."""
        rest = request[_HEAD.size : LONGEST]
        rest += bytes(-len(rest) % 4)
        return self._head(request[1], result, ERROR_LIFETIME, now) + rest

    def _head(self, opcode: int, result: Result, lifetime: int, now: float) -> bytes:
        return _REPLY.pack(VERSION, _ANSWER | opcode, 0, result, lifetime, self._leases.epoch(now))


def _options(data: bytes) -> _Options:
    """Read the options after a request (RFC 6887 §7.3)."""
    prefer_failure, raw = False, b""
    guests: list[Guest] = []
    for code, value, whole in _split(data):
        match code:
            case Option.PREFER_FAILURE:
                if value:
                    raise _Failed(Result.MALFORMED_OPTION)
                prefer_failure = True
            case Option.FILTER:
                guests = _with_filter(guests, value)
            case _ if code >= _OPTIONAL:
                continue
            case _:
                raise _Failed(Result.UNSUPP_OPTION)
        raw += whole
    return _Options(prefer_failure, tuple(guests), raw)


def _split(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """(code, value, all of it with its padding) of every option."""
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            raise _Failed(Result.MALFORMED_OPTION)
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        end = at + 4 + length + -length % 4
        if end > len(data):
            raise _Failed(Result.MALFORMED_OPTION)
        yield data[at], data[at + 4 : at + 4 + length], data[at:end]
        at = end


def _with_filter(guests: list[Guest], value: bytes) -> list[Guest]:
    """Add a FILTER, or with prefix length 0 take all away (RFC 6887 §13.3)."""
    if len(value) != _FILTERING.size:
        raise _Failed(Result.MALFORMED_OPTION)
    length, port, packed = _FILTERING.unpack(value)
    if length == 0:
        return []
    if length > 128:
        raise _Failed(Result.MALFORMED_OPTION)
    if len(guests) >= FILTERS:
        raise _Failed(Result.EXCESSIVE_REMOTE_PEERS)
    host = _host(packed)
    if ":" in host:
        return [*guests, Guest(IPv6Network((host, length), strict=False), port)]
    if length < 96:
        raise _Failed(Result.MALFORMED_OPTION)
    return [*guests, Guest(IPv4Network((host, length - 96), strict=False), port)]


def _host(packed: bytes) -> str:
    """An address of a message: IPv4 ones are mapped (RFC 6887 §5)."""
    if packed[:12] == bytes(10) + b"\xff\xff":
        return str(ip_address(packed[12:]))
    return Address(str(ip_address(packed)), 0).host


def _packed(host: str) -> bytes:
    packed = ip_address(host).packed
    return packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed
