"""The router as its LAN sees it: one object for the three mapping services, with packets and requests in.

It speaks to the LAN only: what comes from elsewhere is dropped and counted, whatever interface the driver
took it from.
"""

from __future__ import annotations

from typing import Final

from natwalk.core import Address, Drops, LocalProtocolError
from natwalk.nat.engine import Nat
from natwalk.nat.gateway_config import GatewayConfig, ServiceQuirk
from natwalk.nat.packet import IpProtocol, Packet
from natwalk.nat.services import description, nat_pmp, ssdp
from natwalk.nat.services.http import BadRequest, HttpRequest, response
from natwalk.nat.services.igd import InternetGateway
from natwalk.nat.services.leases import Lease, Leases
from natwalk.nat.services.nat_pmp import NatPmpServer
from natwalk.nat.services.pcp import PcpServer

ALL_HOSTS: Final = "224.0.0.1"
ANNOUNCEMENTS: Final = 10
"""How often news of a lost table are sent (RFC 6886 §3.2.1): at once, then after 0.25 s, 0.5 s and so on."""
_XML: Final = 'text/xml; charset="utf-8"'


class Gateway:
    """The mapping services of one router, on top of its ``nat``.

    Give it the UDP packets from the LAN that :meth:`wants` says are for it, and the bytes of HTTP connections
    to ``config.http_port``. It announces itself at the times of :meth:`next_timeout`. ``now`` is the clock of
    the NAT. Raises LocalProtocolError when ``config`` has no address.
    """

    def __init__(self, config: GatewayConfig, nat: Nat, now: float) -> None:
        if not config.address:
            raise LocalProtocolError("a gateway needs its address on the LAN: use GatewayConfig.at()")
        self.config = config
        self.drops = Drops()
        self._nat = nat
        self._leases = Leases(nat, config, now)
        self._nat_pmp = NatPmpServer(self._leases)
        self._pcp = PcpServer(self._leases)
        self._ssdp = ssdp.SsdpServer(config)
        self._igd = InternetGateway(self._leases)
        self._announced = 0
        self._announce_at: float | None = now

    # UDP

    def wants(self, packet: Packet) -> bool:
        """Whether ``packet``, from inside, is for the services and not to be forwarded."""
        host, port = packet.destination
        ours = host in (self.config.address, ssdp.GROUP) and port in (nat_pmp.PORT, ssdp.PORT)
        return packet.protocol is IpProtocol.UDP and ours

    def receive(self, packet: Packet, now: float) -> list[Packet]:
        """The answers to a packet from the LAN, to be sent back there."""
        source, destination, payload = packet[:3]
        if not self._leases.serves(source):
            self.drops.add("not from the LAN")
            return []
        if not self.wants(packet):
            self.drops.add("not for the gateway")
            return []
        if not self._leases.allows(source.host, now):
            self.drops.add("too many requests")
            return []
        if destination.port == ssdp.PORT:
            answers = self._ssdp.answers(payload, now) if self.config.upnp else []
        else:
            answers = self._mapping_answers(payload, source, now)
        if not answers:
            self.drops.add("no answer to that")
        return [self._packet(answer, source, destination.port) for answer in answers]

    def _mapping_answers(self, payload: bytes, source: Address, now: float) -> list[bytes]:
        """NAT-PMP and PCP share a port; the version tells them apart (RFC 6887 §9)."""
        nat_pmp_asked = payload[:1] == b"\0"
        if self.config.nat_pmp and (nat_pmp_asked or not self.config.pcp):
            answer = self._nat_pmp.answer(payload, source, now)
        elif self.config.pcp:
            answer = self._pcp.answer(payload, source, now)
        else:
            answer = None
        return [] if answer is None else [answer]

    def _packet(self, payload: bytes, to: Address, port: int) -> Packet:
        if ServiceQuirk.REPLY_FROM_OTHER_PORT in self.config.quirks:
            port += 10_000
        return Packet(Address(self.config.address, port), to, payload)

    # HTTP

    def http(self, request: bytes, source: Address, now: float) -> bytes | None:
        """The response to the bytes a connection brought so far; None while there is more to come.

        After a response the connection is to be closed.
        """
        if not self._leases.serves(source) or not self.config.upnp:
            self.drops.add("not from the LAN" if self.config.upnp else "no UPnP")
            return response(403)
        try:
            parsed = HttpRequest.parse(request)
        except BadRequest as bad:
            self.drops.add("bad HTTP request")
            return response(bad.status)
        if parsed is None:
            return None
        if not self._leases.allows(source.host, now):
            self.drops.add("too many requests")
            return response(429)
        return self._respond(parsed, source, now)

    def _respond(self, request: HttpRequest, source: Address, now: float) -> bytes:
        if request.headers.get("host") not in self._names():
            self.drops.add("another host's name")  # a name that was made to point here: DNS rebinding
            return response(403)
        match request.method, request.path:
            case "GET", description.ROOT:
                return response(200, description.root(self.config), content_type=_XML)
            case "GET", description.SERVICE:
                return response(200, description.service(self._igd.actions), content_type=_XML)
            case "POST", description.CONTROL:
                status, body = self._igd.control(request.body, source.host, now)
                return response(status, body, content_type=_XML)
            case "SUBSCRIBE" | "UNSUBSCRIBE", _:
                # Events are never sent, so that nobody can have them sent to others (CallStranger).
                self.drops.add("subscription")
                return response(412)
            case "GET" | "POST" | "HEAD", _:
                return response(404)
            case _:
                return response(405)

    def _names(self) -> tuple[str, ...]:
        address, port = self.config.address, self.config.http_port
        host = f"[{address}]" if ":" in address else address
        return (f"{host}:{port}", host) if port == 80 else (f"{host}:{port}",)

    # News

    def next_timeout(self) -> float | None:
        """When :meth:`announcements` has something to send; None when all was said."""
        return self._announce_at

    def announcements(self, now: float) -> list[Packet]:
        """What is multicast to the LAN by ``now``: that the router is up and its table empty."""
        if self._announce_at is None or now < self._announce_at:
            return []
        self._announced += 1
        more = self._announced < ANNOUNCEMENTS
        self._announce_at = now + 0.25 * 2 ** (self._announced - 1) if more else None
        news: list[Packet] = []
        source = Address(self.config.address, nat_pmp.PORT)
        everybody = Address(ALL_HOSTS, nat_pmp.ANNOUNCE_PORT)
        if self.config.nat_pmp:
            news.append(Packet(source, everybody, self._nat_pmp.announcement(now)))
        if self.config.pcp:
            news.append(Packet(source, everybody, self._pcp.announcement(now)))
        if self.config.upnp and self._announced == 1:
            group = Address(ssdp.GROUP, ssdp.PORT)
            news += [
                Packet(Address(self.config.address, ssdp.PORT), group, each)
                for each in self._ssdp.announcements()
            ]
        return news

    def reset(self, now: float) -> None:
        """Begin anew after the NAT was reset at ``now``: leases are lost, the epoch starts, news go out."""
        self._leases.reset(now)
        self._ssdp.rebooted()
        self._announced = 0
        self._announce_at = now

    def leases(self, now: float) -> tuple[Lease, ...]:
        """Every lease alive at ``now``."""
        return self._leases.all(now)
