"""Two whole peers meet over a simulated internet: mailbox, ICE, QUIC, streams, as users run them.

Everything but the network and the clock is what runs on real machines. QUIC's own randomness comes from the
operating system, so traces of encrypted packets differ in bytes, never in what follows from them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

from natwalk.core import Address
from natwalk.ice import IceConfig
from natwalk.path import PathInfo, RelayLinkReleased, RelayLinkWanted, SocketsReleased, SocketsWanted
from natwalk.peer import (
    CodeReady,
    Connected,
    Ended,
    PathChosen,
    PeerConfig,
    PeerConnection,
    PeerEvent,
    ResumeToken,
    Role,
)
from natwalk.rendezvous import Code, RendezvousLimits, RendezvousServer
from natwalk.secure import Identity, StreamData
from natwalk.sim.channel import Channel
from natwalk.sim.driver import Driver
from natwalk.sim.ice import LISTENER, LISTENER_IPV6, relays, serve
from natwalk.sim.internet import Internet, Site
from natwalk.sim.relay_streams import RelayLinks
from natwalk.sim.rendezvous import RendezvousHub
from natwalk.turn import TurnServerEvent

ALTERNATE = Address(LISTENER.host, 3479)


class SimPeer:
    """One PeerConnection on a host, with its channel to the rendezvous server."""

    def __init__(
        self,
        internet: Internet,
        site: Site,
        channel: Channel,
        ice: IceConfig,
        config: PeerConfig,
        server: Driver[TurnServerEvent],
    ) -> None:
        network = internet.network
        self.site = site
        self.channel = channel
        self.core = PeerConnection(config, identity=Identity.generate(), random_bytes=site.host.random_bytes)
        self.on_event: Callable[[PeerEvent], None] | None = None
        """Sees every event from now on, besides :attr:`history`."""
        self.history: list[PeerEvent] = []
        self.times: list[float] = []
        self.received: dict[int, bytearray] = defaultdict(bytearray)
        self.finished: set[int] = set()
        self._network = network
        self._sockets: dict[int, list[Address]] = {}
        self.driver: Driver[PeerEvent] = Driver(network, self.core, site.host, self._on_event)
        self._links = RelayLinks(internet, site, self.driver, server, self.core)
        self.driver.use(self.core)
        self.driver.listen(self.core, channel.a)
        self.driver.do(self.core.start)
        self.driver.do(self.core.configure_ice, ice)
        if channel.connected:
            self.driver.do(self.core.connection_made)

    @property
    def code(self) -> str | None:
        """The code this side was given to pass on."""
        return next((event.code for event in self.history if isinstance(event, CodeReady)), None)

    @property
    def connected(self) -> bool:
        """Whether streams may be used."""
        return self.core.connected and self.ended is None

    @property
    def ended(self) -> Ended | None:
        """How it ended, None while it has not."""
        return next((event for event in self.history if isinstance(event, Ended)), None)

    @property
    def info(self) -> PathInfo | None:
        """The path in use."""
        return self.core.info

    @property
    def paths(self) -> list[PathInfo]:
        """Every path that was in use, in order."""
        return [event.info for event in self.history if isinstance(event, PathChosen)]

    @property
    def resume(self) -> ResumeToken | None:
        """What lets this side come back."""
        return next((event.resume for event in self.history if isinstance(event, Connected)), None)

    def at(self, kind: type[PeerEvent]) -> float | None:
        """When the first event of ``kind`` came, in virtual seconds."""
        pairs = zip(self.history, self.times, strict=True)
        return next((at for event, at in pairs if isinstance(event, kind)), None)

    def send(self, data: bytes, stream_id: int | None = None, *, fin: bool = False) -> int:
        """Queue ``data`` on a stream, a new one unless given; returns its number."""
        number = self.core.open_stream() if stream_id is None else stream_id
        self.driver.do(self.core.send_stream, number, data, fin=fin)
        return number

    def kill(self) -> None:
        """Die as a killed process does: no goodbye, sockets closed, the channel cut."""
        self.driver.close()
        self.channel.cut()

    def _on_event(self, event: PeerEvent) -> None:
        self.history.append(event)
        self.times.append(self._network.now)
        if self.on_event is not None:
            self.on_event(event)
        match event:
            case SocketsWanted(generation=generation):
                self._bind(generation)
            case SocketsReleased(generation=generation):
                for address in self._sockets.pop(generation, ()):
                    self.driver.unbind(address)
            case RelayLinkWanted(generation=generation, server=server):
                self._links.connect(generation, server)
            case RelayLinkReleased(path=path):
                self._links.release(path)
            case StreamData(stream_id=stream_id, data=data, fin=fin):
                self.received[stream_id] += data
                if fin:
                    self.finished.add(stream_id)
            case _:
                pass

    def _bind(self, generation: int) -> None:
        bound = self._sockets.setdefault(generation, [])
        for host in self.site.host.addresses:
            address = self.driver.bind(0, str(host))
            bound.append(address)
            self.driver.do(self.core.add_local_address, generation, address)
        self.driver.do(self.core.end_of_local_addresses, generation)


class PeerMeeting:
    """A server and two peers: the offering one first, the other as soon as there is a code."""

    def __init__(
        self,
        internet: Internet,
        ice: IceConfig | None = None,
        *,
        limits: RendezvousLimits | None = None,
        relay: bool = True,
    ) -> None:
        self.internet = internet
        self.network = internet.network
        self.server = serve(internet, LISTENER, ALTERNATE, LISTENER_IPV6)
        self.ice = replace(
            ice or IceConfig(ta=0.02, patience=20.0, early_failure=20.0),
            stun_servers=(LISTENER, ALTERNATE, LISTENER_IPV6),
            turn_servers=relays() if relay else (),
        )
        rendezvous = RendezvousServer(limits or RendezvousLimits(), random_bytes=internet.server.random_bytes)
        self.hub = RendezvousHub(self.network, rendezvous)
        self.channels = internet.channels()
        for channel, site in zip(self.channels, (internet.a, internet.b), strict=True):
            self.hub.accept(channel.b, ip_address(site.public))
        self.network.run_for(2.0, stop=lambda: all(channel.connected for channel in self.channels))
        self.a = self.offer()
        self.b: SimPeer | None = None

    def offer(self, resume: ResumeToken | None = None) -> SimPeer:
        """Start the offering side."""
        config = PeerConfig(Role.OFFER, resume=resume)
        return SimPeer(self.internet, self.internet.a, self.channels[0], self.ice, config, self.server)

    def accept(self, code: str | None = None, resume: ResumeToken | None = None) -> SimPeer:
        """Start the accepting side, with the code it was told unless another is given."""
        if code is None and resume is None:
            self.network.run_for(5.0, stop=lambda: self.a.code is not None)
            code = self.a.code
        parsed = None if resume is not None or code is None else Code.parse(code)
        config = PeerConfig(Role.ACCEPT, code=parsed, resume=resume)
        self.b = SimPeer(self.internet, self.internet.b, self.channels[1], self.ice, config, self.server)
        return self.b

    def connect(self, within: float = 60.0) -> bool:
        """Bring both sides to a connection; False when one ended or time ran out first."""
        b = self.b or self.accept()
        self.network.run_for(
            within,
            stop=lambda: (
                (self.a.connected and b.connected) or self.a.ended is not None or b.ended is not None
            ),
        )
        return self.a.connected and b.connected
