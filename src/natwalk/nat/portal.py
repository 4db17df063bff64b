"""The captive portal of a hotel: who has signed in, and where the others' web connections go."""

from __future__ import annotations

from typing import Final

from natwalk.core import Address
from natwalk.nat.box_config import PortalConfig
from natwalk.nat.packet import DropReason, IpProtocol, Packet

_HTTP: Final = 80


class Portal:
    """Lets hosts through that signed in; redirects to itself what others send to web servers."""

    LIMIT: Final = 1024
    """Redirected connections, and signed-in hosts, remembered at a time; the oldest gives way."""

    def __init__(self, config: PortalConfig) -> None:
        self.config = config
        self._until: dict[str, float] = {}
        self._meant: dict[Address, Address] = {}

    def sign_in(self, host: str, now: float) -> None:
        """Let ``host`` through from ``now`` on, for the portal's lifetime."""
        self._until.pop(host, None)
        if len(self._until) >= self.LIMIT:
            del self._until[next(iter(self._until))]
        self._until[host] = now + self.config.lifetime
        for source in [each for each in self._meant if each.host == host]:
            del self._meant[source]

    def outbound(self, packet: Packet, now: float) -> Packet | DropReason:
        """The packet that goes on, perhaps to the portal; DropReason when none does."""
        source, destination = packet.source, packet.destination
        if self._until.get(source.host, now) > now:
            return packet
        portal = self.config.portal
        if destination.host == portal.host:
            return packet
        match packet.protocol:
            case IpProtocol.UDP if destination.port in self.config.open_udp_ports:
                return packet
            case IpProtocol.TCP if destination.port == _HTTP:
                if source not in self._meant and len(self._meant) >= self.LIMIT:
                    del self._meant[next(iter(self._meant))]
                self._meant[source] = destination
                return packet._replace(destination=portal)
            case _:
                return DropReason.PORTAL

    def inbound(self, packet: Packet) -> Packet:
        """A reply of the portal looks as if it came from the server that was meant."""
        meant = self._meant.get(packet.destination)
        if meant is None or packet.source != self.config.portal:
            return packet
        return packet._replace(source=meant)

    def reset(self) -> None:
        """Forget who signed in."""
        self._until.clear()
        self._meant.clear()
