"""One pair of a population, run: real ICE agents, TURN server and path managers on virtual time.

The two tell each other their candidates as peers do, over their ways to the server. QUIC is left out: it
takes its randomness from the operating system, so that two runs would differ; ADR 0016 has the figures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from natwalk.core import Address, MalformedMessage, Transport
from natwalk.ice import CandidateType, IceConfig, TurnServerAddress
from natwalk.nat import PRESETS, Outcome
from natwalk.path import (
    LocalCandidate,
    NoPath,
    PathChanged,
    PathEvent,
    PathKind,
    PathManager,
    PathReady,
    Received,
    RelayLinkReleased,
    RelayLinkWanted,
    SocketsReleased,
    SocketsWanted,
)
from natwalk.peer.messages import decode_batch, encode_batch
from natwalk.peer.negotiation import incoming, outgoing
from natwalk.sim.channel import ChannelEnd
from natwalk.sim.clock import SimulationError
from natwalk.sim.driver import Driver
from natwalk.sim.host import Host
from natwalk.sim.ice import LISTENER, PASSWORD, USER, serve
from natwalk.sim.internet import LAN, Internet, Site, two_peers
from natwalk.sim.population import PairDraw, PeerDraw
from natwalk.sim.population_one_nat import behind_one_nat
from natwalk.sim.relay_streams import RelayLinks
from natwalk.sim.trace import Trace
from natwalk.turn import AllocationEnded, TurnServer, TurnServerEvent

PATIENCE: Final = 20.0
"""Seconds until a program says that there is no path: what ``natwalk.connect`` waits."""
HORIZON: Final = 12.0
"""Seconds a relayed pair is watched for a direct path, from the moment data could pass."""
RETRY: Final = 0.2
"""Seconds after which the application says again what nobody answered."""
HELLO: Final = b"\xc0" + b"natwalk" * 20
"""What the application sends: about what a QUIC packet with little in it has."""
ALTERNATE: Final = Address(LISTENER.host, 3479)
_SIX: Final = {"a": "2001:db8:a::10", "b": "2001:db8:b::10"}
_FIREWALL: Final = PRESETS["home-ipv6"]


@dataclass(frozen=True, slots=True)
class Means:
    """What the peers may use."""

    punching: bool = True
    """They learn their mapped addresses and tell each other."""
    ipv6: bool = True
    relay: bool = True
    relay_tcp: bool = True
    """They reach the relay by TCP where no UDP gets out."""


@dataclass(frozen=True, slots=True)
class PairResult:
    """What became of one pair; times are milliseconds from when both are at the server, None for never."""

    outcome: Outcome
    first_byte: int | None
    """Until the first byte of the application of one side had reached the other."""
    direct: int | None
    """Until both sides had a direct path in use."""
    packets: int
    """That the two peers sent."""
    relay_bytes: int
    """That the server relayed, of peers' data, checks included."""


class PathPeer:
    """One side: a path manager on a host, with its half of the signalling."""

    def __init__(
        self,
        internet: Internet,
        site: Site,
        end: ChannelEnd,
        config: IceConfig,
        server: Driver[TurnServerEvent],
        *,
        offers: bool,
        means: Means,
    ) -> None:
        self.host = host = site.host
        self.heard = 0
        self.first_heard: float | None = None
        self.direct = False
        self.ready = False
        self.failed = False
        self.on_change: Callable[[], None] = _ignore
        self._network = internet.network
        self._means = means
        self._end = end
        self._offers = offers
        self._sockets: dict[int, list[Address]] = {}
        self.core = PathManager(config, controlling=offers, random_bytes=host.random_bytes)
        self.driver: Driver[PathEvent] = Driver(internet.network, self.core, host, self._on_event)
        self._links = RelayLinks(internet, site, self.driver, server, self.core)
        self.driver.use(self.core)
        end.on_made = self._start
        end.on_message = self._on_message

    def say(self) -> None:
        """Send the application's datagram on the path in use."""
        self.driver.do(self.core.send, HELLO)

    def _start(self) -> None:
        self.driver.do(self.core.start)

    def _on_message(self, text: str) -> None:
        if self.failed:
            return
        for message in decode_batch(text.encode()):
            try:
                incoming(message, self.core, self._network.now)
            except MalformedMessage as error:
                raise SimulationError(f"a peer does not understand the other: {error}") from error
        self.driver.flush()

    def _on_event(self, event: PathEvent) -> None:
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
            case PathReady() | PathChanged():
                self.ready = True
                self.direct = event.info.kind is PathKind.DIRECT
                self.on_change()
            case NoPath():
                self.failed = True
            case Received():
                self.heard += 1
                if self.first_heard is None:
                    self.first_heard = self._network.now
                if not self._offers:
                    self.driver.do(self.core.send, HELLO)
            case LocalCandidate(candidate=candidate) if not self._tells(candidate.type):
                pass
            case _:
                if (out := outgoing(event)) is not None:
                    self._end.send(encode_batch([out[0]]).decode())

    def _tells(self, kind: CandidateType) -> bool:
        return self._means.punching or kind is not CandidateType.SERVER_REFLEXIVE

    def _bind(self, generation: int) -> None:
        bound = self._sockets.setdefault(generation, [])
        for host in self.host.addresses:
            address = self.driver.bind(0, host)
            bound.append(address)
            self.driver.do(self.core.add_local_address, generation, address)
        self.driver.do(self.core.end_of_local_addresses, generation)


class PopulationPair:
    """A drawn pair, built and ready to run. ``trace`` keeps what happens, for a look at a single pair."""

    def __init__(self, draw: PairDraw, means: Means, *, trace: Trace | None = None) -> None:
        self.internet = _build(draw, means, Trace(0) if trace is None else trace)
        self.network = self.internet.network
        self.server = serve(self.internet, LISTENER, ALTERNATE)
        config = IceConfig(
            ta=0.02,
            patience=PATIENCE,
            early_failure=PATIENCE,
            stun_servers=(LISTENER, ALTERNATE) if means.punching else (),
            turn_servers=_relays(means),
        )
        delay = sum(site.access.outward.config.delay for site in (self.internet.a, self.internet.b))
        a, b = self.internet.a, self.internet.b
        channel = self.network.channel(a.host, b.host, delay)
        self.a = PathPeer(self.internet, a, channel.a, config, self.server, offers=True, means=means)
        self.b = PathPeer(self.internet, b, channel.b, config, self.server, offers=False, means=means)
        self.a.on_change = self._say
        self._said_again = self.network.alarm(self._say)
        self._answered = 0
        self._began = self.network.now + 2 * delay

    def run(self) -> PairResult:
        """Let the two meet until it is clear what they end up on."""
        network = self.network
        network.run_for(PATIENCE * 2, stop=lambda: self._settled_direct() or self._first() or self._failed())
        connected = not self._failed() and self._first()
        direct = None
        if connected and network.run_for(HORIZON, stop=self._settled_direct):
            direct = self._since(network.now)
        outcome = Outcome.NONE
        if connected:
            outcome = Outcome.RELAY if direct is None else Outcome.DIRECT
        heard = self.b.first_heard
        return PairResult(
            outcome,
            self._since(heard) if connected and heard is not None else None,
            direct,
            sum(pipe_sent(self.internet, peer.host) for peer in (self.a, self.b)),
            self._relayed(),
        )

    def _say(self) -> None:
        """The offering side talks as soon as it has a path, and again until it is answered."""
        if self.a.failed or not self.a.ready:
            return
        if self.a.heard == self._answered or self.a.direct:
            self.a.say()
            self._said_again.set(self.network.now + RETRY)
        self._answered = self.a.heard

    def _first(self) -> bool:
        return self.b.first_heard is not None

    def _failed(self) -> bool:
        return self.a.failed and self.b.failed

    def _settled_direct(self) -> bool:
        return self.a.direct and self.b.direct and self._first()

    def _since(self, at: float) -> int:
        return round((at - self._began) * 1000)

    def _relayed(self) -> int:
        core = self.server.core
        assert isinstance(core, TurnServer)
        ended = [event.counters for event in self.server.events if isinstance(event, AllocationEnded)]
        alive = [summary.counters for summary in core.summaries(self.network.now)]
        return sum(counters.bytes_to_peers + counters.bytes_from_peers for counters in (*ended, *alive))


def _relays(means: Means) -> tuple[TurnServerAddress, ...]:
    over = (Transport.UDP, *((Transport.TCP,) if means.relay_tcp else ())) if means.relay else ()
    return tuple(TurnServerAddress(LISTENER, USER, PASSWORD, transport) for transport in over)


def run_pair(draw: PairDraw, means: Means) -> PairResult:
    """Run one pair from nothing."""
    return PopulationPair(draw, means).run()


def pipe_sent(internet: Internet, host: Host) -> int:
    """Packets that ``host`` put on all of its links."""
    return sum(
        link.outward.sent for name, link in internet.network.links.items() if name.startswith(f"{host.name}-")
    )


def _build(draw: PairDraw, means: Means, trace: Trace) -> Internet:
    make = behind_one_nat if draw.one_nat and not draw.a.blocked else two_peers
    internet = make(draw.a.nat, draw.b.nat, seed=draw.seed, trace=trace)
    for site, peer in ((internet.a, draw.a), (internet.b, draw.b)):
        site.access.outward.config = site.access.inward.config = peer.access
        if peer.ipv6 and means.ipv6:
            _give_ipv6(internet, site.host, peer)
    return internet


def _give_ipv6(internet: Internet, host: Host, peer: PeerDraw) -> None:
    """A second way out, through a stateful firewall (RFC 6092), as slow as the first."""
    network, address = internet.network, _SIX[host.name]
    firewall = network.router(f"six-{host.name}", _FIREWALL.layers[0])
    network.connect(host, firewall, address, config=LAN)
    network.connect(firewall, internet.core, address, config=peer.access)


def _ignore() -> None:
    """Nothing waits for the path to change."""
