"""Two ICE agents meet over a simulated internet: the smallest real connection there is.

Candidates travel as text over a channel between the peers, as they would through a rendezvous server; the
public host answers STUN and relays. What comes out is what a pair of NATs allows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from natwalk.core import Address, Path, Transport
from natwalk.ice import (
    Candidate,
    CandidateGathered,
    DataReceived,
    GatheringFinished,
    IceAgent,
    IceConfig,
    IceEvent,
    IceFailed,
    IceParameters,
    PairInfo,
    StreamReleased,
    StreamWanted,
    TurnServerAddress,
)
from natwalk.nat import Outcome
from natwalk.sim.channel import ChannelEnd
from natwalk.sim.clock import SimulationError
from natwalk.sim.driver import Driver, attach
from natwalk.sim.internet import SERVER, SERVER_IPV6, Internet, Site
from natwalk.sim.relay_streams import LOST, RelayStreams
from natwalk.sim.turn import attach_turn_server
from natwalk.turn import PeerPolicy, TurnConfig, TurnServer, TurnServerEvent

LISTENER = Address(SERVER, 3478)
LISTENER_IPV6 = Address(SERVER_IPV6, 3478)
PUBLIC_RANGES = ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
SIGNALLING_DELAY = 0.040
PORT = 40000
USER, PASSWORD = "peer", "simulated"


class IcePeer:
    """One agent on a peer's host, with its half of the signalling."""

    def __init__(
        self,
        internet: Internet,
        site: Site,
        end: ChannelEnd,
        agent: IceAgent,
        server: Driver[TurnServerEvent],
    ) -> None:
        self.agent = agent
        self.received: list[bytes] = []
        self.failure: IceFailed | None = None
        self.history: list[IceEvent] = []
        self._network = internet.network
        self._end = end
        locals_ = [Address(host, PORT) for host in site.host.addresses]
        self.driver: Driver[IceEvent] = attach(internet.network, agent, site.host, locals_, self._on_event)
        self._streams = RelayStreams(internet, site, self.driver, server, self._stream_lost)
        end.on_message = self._on_message
        end.on_made = partial(self._start, locals_)

    @property
    def selected(self) -> PairInfo | None:
        """The pair in use, None while there is none."""
        return self.agent.selected

    def send(self, data: bytes) -> None:
        """Send on the selected pair; raises LocalProtocolError when no pair is valid."""
        self.driver.do(self.agent.send, data)

    def _start(self, addresses: list[Address]) -> None:
        parameters = self.agent.local_parameters
        self._end.send(f"parameters {parameters.ufrag} {parameters.pwd}")
        for address in addresses:
            self.driver.do(self.agent.add_local_address, address)
        self.driver.do(self.agent.end_of_local_addresses)

    def _on_message(self, text: str) -> None:
        if self.failure is not None:
            return
        word, _, rest = text.partition(" ")
        match word:
            case "parameters":
                ufrag, pwd = rest.split(" ")
                self.driver.do(self.agent.set_remote_parameters, IceParameters(ufrag, pwd))
            case "candidate":
                self.driver.do(self.agent.add_remote_candidate, Candidate.from_sdp(rest))
            case "end":
                self.driver.do(self.agent.end_of_remote_candidates)
            case _:
                raise SimulationError(f"the peers do not say {word!r} to each other")

    def _on_event(self, event: IceEvent) -> None:
        self.history.append(event)
        match event:
            case CandidateGathered(candidate):
                self._end.send(f"candidate {candidate.to_sdp()}")
            case GatheringFinished():
                self._end.send("end")
            case DataReceived(data):
                self.received.append(data)
            case IceFailed():
                self.failure = event
            case StreamWanted(server):
                self._connect(server)
            case StreamReleased(path):
                self._streams.release(path)
            case _:
                pass

    def _connect(self, server: TurnServerAddress) -> None:
        do, agent = self.driver.do, self.agent
        self._streams.open(
            server,
            lambda local: do(agent.stream_opened, server, local),
            lambda reason: do(agent.stream_failed, server, reason),
        )

    def _stream_lost(self, path: Path) -> None:
        self.driver.do(self.agent.stream_closed, path, LOST)


@dataclass(frozen=True, slots=True)
class IceResult:
    """What a meeting came to; times are virtual seconds from the start, None for never."""

    outcome: Outcome
    connected_after: float | None
    """Until each side had a pair and heard data on it."""
    direct_after: float | None
    """Until both sides had selected a direct pair."""
    pair: PairInfo | None
    """What the first peer ended up on."""


class IceMeeting:
    """Two peers, a STUN and TURN server, and the channel they exchange candidates over."""

    def __init__(self, internet: Internet, config: IceConfig | None = None, *, relay: bool = True) -> None:
        self.internet = internet
        self.server = serve(internet)
        config = replace(
            config or IceConfig(),
            stun_servers=(LISTENER, LISTENER_IPV6),
            turn_servers=relays() if relay else (),
        )
        network = internet.network
        self.channel = network.channel(internet.a.host, internet.b.host, SIGNALLING_DELAY)
        sides = ((internet.a, self.channel.a, True), (internet.b, self.channel.b, False))
        self.a, self.b = (
            IcePeer(
                internet,
                site,
                end,
                IceAgent(config, controlling=controlling, random_bytes=site.host.random_bytes),
                self.server,
            )
            for site, end, controlling in sides
        )
        self._start = network.now

    @property
    def connected(self) -> bool:
        """Whether both sides have selected a pair."""
        return self.a.selected is not None and self.b.selected is not None

    @property
    def direct(self) -> bool:
        """Whether both sides have selected a pair without a relay."""
        pairs = (self.a.selected, self.b.selected)
        return all(pair is not None and not pair.relayed for pair in pairs)

    @property
    def failed(self) -> bool:
        """Whether both sides have given up."""
        return self.a.failure is not None and self.b.failure is not None

    def run(self, patience: float = 60.0, settle: float = 15.0) -> IceResult:
        """Connect, let the choice settle, and see that data passes both ways on what was chosen.

        Gives up after ``patience`` virtual seconds; waits ``settle`` seconds more for a direct pair when
        a relayed one came first. Raises SimulationError when data does not arrive on the chosen pair.
        """
        network = self.internet.network
        if not network.run_for(patience, stop=lambda: self.connected or self.failed) or self.failed:
            return IceResult(Outcome.NONE, None, None, None)
        self.exchange()
        connected_after = network.now - self._start
        direct_after = None
        if network.run_for(settle, stop=lambda: self.direct):
            direct_after = network.now - self._start
            self.exchange()
        outcome = Outcome.DIRECT if self.direct else Outcome.RELAY
        return IceResult(outcome, connected_after, direct_after, self.a.selected)

    def exchange(self, within: float = 5.0) -> None:
        """Send data both ways until both have heard; raises SimulationError when that takes too long."""
        network = self.internet.network
        marks = {peer: len(peer.received) for peer in (self.a, self.b)}
        deadline = network.now + within
        while network.now < deadline:
            for peer in (self.a, self.b):
                if peer.selected is not None:
                    peer.send(b"\xffhello")
            if network.run_for(0.2, stop=lambda: all(len(peer.received) > n for peer, n in marks.items())):
                return
        raise SimulationError(f"no data within {within} s on {self.a.selected} and {self.b.selected}")

    def close(self) -> None:
        """Both sides stop, and everything they owe the server is done."""
        for peer in (self.a, self.b):
            peer.driver.do(peer.agent.close)
        self.internet.network.run_for(40.0)
        for peer in (self.a, self.b):
            peer.driver.close()


def relays() -> tuple[TurnServerAddress, ...]:
    """The relay of :func:`serve` over both IP versions, by UDP and for where none gets out by TCP."""
    return tuple(
        TurnServerAddress(at, USER, PASSWORD, transport)
        for transport in (Transport.UDP, Transport.TCP)
        for at in (LISTENER, LISTENER_IPV6)
    )


def serve(internet: Internet, *listeners: Address) -> Driver[TurnServerEvent]:
    """Run STUN and TURN on the public host of ``internet``, open to its documentation addresses.

    It listens at ``listeners``, by default at its first address of each IP version.
    """
    config = TurnConfig(
        users={USER: PASSWORD},
        relay_addresses=(SERVER, SERVER_IPV6),
        policy=PeerPolicy(allow=PUBLIC_RANGES),
        nonce_secret=internet.server.random_bytes(32),
    )
    server = TurnServer(config, random_bytes=internet.server.random_bytes)
    return attach_turn_server(
        internet.network, server, internet.server, listeners or (LISTENER, LISTENER_IPV6)
    )
