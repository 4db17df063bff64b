"""The data plane in Python: datagrams between clients and peers (RFC 8656 §11, §12).

Everything here runs once a packet: dictionary look-ups, one comparison with the clock, one Transmit.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from natwalk.core import Drops, Outbox, Path, RandomBytes, Transmit
from natwalk.stun import (
    DATA,
    DONT_FRAGMENT,
    XOR_PEER_ADDRESS,
    Message,
    Method,
    encode,
    indication,
)
from natwalk.turn.allocation import Allocation
from natwalk.turn.channel_data import HEADER_LENGTH, pack_header
from natwalk.turn.guard import PeerGuard
from natwalk.turn.table import AllocationTable

_HEADER: Final = Struct("!HH")
_MAX_TO_CLIENT: Final = 65_000


class DataPlane:
    """Forwards what allocations, permissions and channels allow; drops the rest with a reason."""

    def __init__(
        self,
        table: AllocationTable,
        guard: PeerGuard,
        transmits: Outbox[Transmit],
        drops: Drops,
        random_bytes: RandomBytes,
    ) -> None:
        self._by_client = table.by_client
        self._guard = guard
        self._transmits = transmits
        self._drops = drops
        self._random_bytes = random_bytes

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
        if channel is None or channel.expires <= now or allocation.expires <= now:
            self._drops.add("ChannelData on a channel that is not bound")
            return
        data = datagram[HEADER_LENGTH : HEADER_LENGTH + length]
        if len(data) != length:
            self._drops.add("ChannelData shorter than it states")
            return
        allocation.packets_to_peers += 1
        allocation.bytes_to_peers += length
        self._transmits.put(Transmit(data, channel.path))

    def from_send(self, message: Message, path: Path, now: float) -> None:
        """A Send indication from a client (RFC 8656 §11.2); never answered, whatever is wrong with it."""
        allocation = self._by_client.get(path)
        if allocation is None or allocation.expires <= now:
            self._drops.add("Send without an allocation")
            return
        peer, data = message.get(XOR_PEER_ADDRESS), message.get(DATA)
        if peer is None or data is None or message.unknown_required or DONT_FRAGMENT in message:
            self._drops.add("Send that is incomplete or asks for what is not supported")
        elif peer.version != allocation.relay.version or self._guard.check(peer) is not None:
            self._drops.add("Send to a peer that is refused")
        elif not allocation.permits(peer.host, now):
            self._drops.add("Send to a peer without permission")
        else:
            allocation.packets_to_peers += 1
            allocation.bytes_to_peers += len(data)
            self._transmits.put(Transmit(data, Path(allocation.relay, peer)))

    def from_peer(self, allocation: Allocation, datagram: bytes, path: Path, now: float) -> None:
        """A datagram that came to a relayed address (RFC 8656 §11.3, §12.7)."""
        if allocation.expires <= now:
            self._drops.add("from a peer after the allocation expired")
            return
        length = len(datagram)
        if length > _MAX_TO_CLIENT:
            self._drops.add("from a peer, too long to wrap")
            return
        peer = path.remote
        channel = allocation.by_peer.get(peer)
        if channel is not None and channel.until > now:
            data = pack_header(channel.number, length) + datagram
        elif not allocation.permits(peer.host, now):
            self._drops.add("from a peer without permission")
            return
        elif self._guard.check(peer) is not None:
            self._drops.add("from a peer that is refused")
            return
        else:
            attributes = ((XOR_PEER_ADDRESS, peer), (DATA, datagram))
            data = encode(indication(Method.DATA, self._random_bytes(12), *attributes))
        allocation.packets_from_peers += 1
        allocation.bytes_from_peers += length
        self._transmits.put(Transmit(data, allocation.path))
