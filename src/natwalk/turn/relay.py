"""The data plane in Python: datagrams between clients and peers (RFC 8656 §11, §12).

Everything here runs once a packet: dictionary look-ups, one comparison with the clock, one Transmit.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from natwalk.core import Address, Drops, Outbox, Path, RandomBytes, Transmit, Transport
from natwalk.stun import (
    DATA,
    DONT_FRAGMENT,
    ICMP,
    XOR_PEER_ADDRESS,
    IcmpError,
    Message,
    Method,
    encode,
    indication,
)
from natwalk.turn.allocation import Relay
from natwalk.turn.bandwidth import Meter
from natwalk.turn.buckets import TokenBuckets
from natwalk.turn.channel_data import HEADER_LENGTH, pack_header
from natwalk.turn.guard import PeerGuard
from natwalk.turn.newpeers import NewPeers
from natwalk.turn.table import AllocationTable

ICMP_TYPES: Final = {4: frozenset({3, 11}), 6: frozenset({1, 2, 3})}
"""Types of ICMP errors that are passed on, by IP version (RFC 8656 §11.5)."""
ICMP_RATE: Final = 10.0
ICMP_BURST: Final = 20.0
"""ICMP errors a second that one relayed address passes on, and how many at once."""

_HEADER: Final = Struct("!HH")
_PADS: Final = (b"", b"\0", b"\0\0", b"\0\0\0")
_MAX_TO_CLIENT: Final = 65_000
_OVER_LIMIT: Final = "over a limit of bandwidth or bytes"


class DataPlane:
    """Forwards what allocations, permissions and channels allow; drops the rest with a reason.

    ``meter`` limits bytes; None, the usual case, costs a comparison a packet.
    """

    def __init__(
        self,
        table: AllocationTable,
        guard: PeerGuard,
        transmits: Outbox[Transmit],
        drops: Drops,
        random_bytes: RandomBytes,
        new_peers: NewPeers,
    ) -> None:
        self.meter: Meter | None = None
        self._new_peers = new_peers
        self._by_client = table.by_client
        self._by_relay = table.by_relay
        self._public = table.public
        self._translates = bool(table.public)
        self._guard = guard
        self._transmits = transmits
        self._drops = drops
        self._random_bytes = random_bytes
        self._icmp: TokenBuckets[Address] = TokenBuckets(ICMP_RATE, ICMP_BURST)

    def from_channel(self, datagram: bytes, path: Path, now: float) -> None:
        """ChannelData from a client to the peer its channel is bound to (RFC 8656 §12.6).

        A permission is not asked for: it is about what may come back.
        """
        allocation = self._by_client.get(path)
        if allocation is None or len(datagram) < HEADER_LENGTH:
            self._drops.add("ChannelData without an allocation")
            return
        number, length = _HEADER.unpack_from(datagram)
        channel = allocation.channels.get(number)
        if channel is None or channel.expires <= now or channel.relay.expires <= now:
            self._drops.add("ChannelData on a channel that is not bound")
            return
        data = datagram[HEADER_LENGTH : HEADER_LENGTH + length]
        if len(data) != length:
            self._drops.add("ChannelData shorter than it states")
            return
        if self.meter is not None and not self.meter.allow(allocation.granted.account, length, now):
            self._drops.add(_OVER_LIMIT)
            return
        allocation.packets_to_peers += 1
        allocation.bytes_to_peers += length
        self._transmits.put(Transmit(data, channel.path))

    def from_send(self, message: Message, path: Path, now: float) -> None:
        """A Send indication from a client (RFC 8656 §11.2); never answered, whatever is wrong with it."""
        allocation = self._by_client.get(path)
        if allocation is None:
            self._drops.add("Send without an allocation")
            return
        peer, data = message.get(XOR_PEER_ADDRESS), message.get(DATA)
        if peer is None or data is None or message.unknown_required:
            self._drops.add("Send that is incomplete or asks for what is not supported")
            return
        relay = allocation.relay_of(peer.version)
        if relay is None or relay.expires <= now or allocation.transport is not Transport.UDP:
            self._drops.add("Send without a relayed address for that peer")
        elif self._guard.check(peer) is not None:
            self._drops.add("Send to a peer that is refused")
        elif not allocation.permits(peer.host, now):
            self._drops.add("Send to a peer without permission")
        elif not self._new_peers.allow(allocation.granted.account, peer, now):
            self._drops.add("Send to one new peer too many")
        elif self.meter is not None and not self.meter.allow(allocation.granted.account, len(data), now):
            self._drops.add(_OVER_LIMIT)
        else:
            allocation.packets_to_peers += 1
            allocation.bytes_to_peers += len(data)
            whole = DONT_FRAGMENT in message
            if self._translates:
                peer = self._public.bound(peer)
            self._transmits.put(Transmit(data, Path(relay.address, peer), whole))

    def from_peer(self, relay: Relay, datagram: bytes, path: Path, now: float) -> None:
        """A datagram that came to a relayed address (RFC 8656 §11.3, §12.7)."""
        allocation = relay.allocation
        if relay.expires <= now or allocation.away:
            self._drops.add("from a peer when the allocation expired or its client is away")
            return
        length = len(datagram)
        if length > _MAX_TO_CLIENT:
            self._drops.add("from a peer, too long to wrap")
            return
        peer = path.remote
        channel = allocation.by_peer.get(peer)
        if channel is not None and channel.until > now:
            data = pack_header(channel.number, length) + datagram
            if allocation.padded and length & 3:
                data += _PADS[-length & 3]
        elif not allocation.permits(peer.host, now):
            known = self._public.advertised(peer)
            if known != peer:  # a relay of our own: permissions name it as clients know it
                self.from_peer(relay, datagram, Path(path.local, known), now)
            else:
                self._drops.add("from a peer without permission")
            return
        elif self._guard.check(peer) is not None:
            self._drops.add("from a peer that is refused")
            return
        else:
            attributes = ((XOR_PEER_ADDRESS, peer), (DATA, datagram))
            data = encode(indication(Method.DATA, self._random_bytes(12), *attributes))
        if self.meter is not None and not self.meter.allow(allocation.granted.account, length, now):
            self._drops.add(_OVER_LIMIT)
            return
        allocation.packets_from_peers += 1
        allocation.bytes_from_peers += length
        self._transmits.put(Transmit(data, allocation.path))

    def from_icmp(self, address: Address, peer: Address, error: IcmpError, now: float) -> None:
        """An ICMP error about a datagram from the relayed ``address`` to ``peer`` (RFC 8656 §11.5).

        The client hears of it in a Data indication while it has a permission for ``peer``, so often as
        ICMP_RATE allows: whoever forges such errors is not to have it flooded.
        """
        relay, peer = self._by_relay.get(address), self._public.advertised(peer)
        if relay is None or relay.expires <= now or relay.allocation.away:
            self._drops.add("an ICMP error for a relay that is not open")
        elif error.type not in ICMP_TYPES[address.version]:
            self._drops.add("an ICMP message that is no error about a route or size")
        elif not relay.allocation.permits(peer.host, now):
            self._drops.add("an ICMP error about a peer without permission")
        elif not self._icmp.take(address, now):
            self._drops.add("more ICMP errors than are passed on")
        else:
            attributes = ((XOR_PEER_ADDRESS, peer), (ICMP, error))
            message = indication(Method.DATA, self._random_bytes(12), *attributes)
            self._transmits.put(Transmit(encode(message), relay.allocation.path))
