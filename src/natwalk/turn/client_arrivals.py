"""What a TURN server passes on from peers: data, ICMP errors, connections. Only permitted peers count."""

from __future__ import annotations

from natwalk.core import Address, Drops, MalformedMessage, Outbox, Transport
from natwalk.stun import CONNECTION_ID, DATA, ICMP, XOR_PEER_ADDRESS, Message, Method
from natwalk.turn.channel_data import decode_channel_data
from natwalk.turn.client_events import PeerConnected, PeerData, PeerUnreachable, TurnClientEvent
from natwalk.turn.client_peers import PeerTable


class Arrivals:
    """Turns what arrives unasked into events, or drops it."""

    def __init__(
        self, peers: PeerTable, events: Outbox[TurnClientEvent], drops: Drops, relay: Transport
    ) -> None:
        self._peers = peers
        self._events = events
        self._drops = drops
        self._relay = relay

    def receive_channel_data(self, datagram: bytes, now: float) -> None:
        """Take ChannelData: data on a channel that we have asked for."""
        try:
            channel, data = decode_channel_data(datagram)
        except MalformedMessage:
            self._drops.add("malformed ChannelData")
            return
        peer = self._peers.on_channel(channel, now)
        if peer is None:
            self._drops.add("ChannelData on a channel never bound")
        else:
            self._events.put(PeerData(data, peer))

    def receive_indication(self, message: Message, now: float) -> None:
        """Take an indication, whatever it is."""
        peer = message.get(XOR_PEER_ADDRESS)
        if message.method not in {Method.DATA, Method.CONNECTION_ATTEMPT}:
            self._drops.add("a STUN message a client does not take")
        elif peer is None or message.unknown_required:
            self._drops.add("a Data indication that is incomplete")
        elif message.method == Method.CONNECTION_ATTEMPT:
            self._receive_attempt(peer, message.get(CONNECTION_ID))
        elif (data := message.get(DATA)) is not None:
            if self._peers.on_data(peer, now):
                self._events.put(PeerData(data, peer))
            else:
                self._drops.add("data from a peer without permission")
        elif (error := message.get(ICMP)) is not None:  # RFC 8656 §11.6
            if self._peers.is_permitted(peer):
                self._events.put(PeerUnreachable(peer, error))
            else:
                self._drops.add("ICMP about a peer without permission")
        else:
            self._drops.add("a Data indication that is incomplete")

    def _receive_attempt(self, peer: Address, connection_id: int | None) -> None:
        if connection_id is None or self._relay is not Transport.TCP:
            self._drops.add("a ConnectionAttempt that has no sense")
        elif not self._peers.is_permitted(peer):
            self._drops.add("a connection from a peer without permission")
        else:
            self._events.put(PeerConnected(peer, connection_id, incoming=True))
