"""Two ICE agents on hosts of the simulator, behind NATs, with a STUN and TURN server between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from natwalk.core import Address, IPAddress, Path, Transport
from natwalk.ice import (
    Candidate,
    CandidateGathered,
    CandidateType,
    DataReceived,
    GatheringFinished,
    IceAgent,
    IceConfig,
    IceEvent,
    IceParameters,
    NamePublished,
    NameWanted,
    PairInfo,
    StreamReleased,
    StreamWanted,
    TurnServerAddress,
    read_candidate,
)
from natwalk.sim import Driver, LinkConfig, attach
from natwalk.sim.internet import SERVER, SERVER_ALTERNATE, Internet, Site, two_peers
from natwalk.sim.streams import Stream
from natwalk.sim.turn import attach_turn_server
from natwalk.stun import BindingServer
from natwalk.turn import PeerPolicy, TurnConfig, TurnServer

E = TypeVar("E")

LISTENER = Address(SERVER, 3478)
STREAM_DELAY = 0.02
STUN_ONLY = Address(SERVER_ALTERNATE, 3478)
TURN = TurnServerAddress(LISTENER, "user", "secret")
LAB = ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")
WITH_RELAY = IceConfig(stun_servers=(STUN_ONLY,), turn_servers=(TURN,))
NO_RELAY = IceConfig(stun_servers=(STUN_ONLY,))


class Peer:
    """One agent, its driver, and what it has reported."""

    def __init__(self, world: World, site: Site, name: str, config: IceConfig, *, controlling: bool) -> None:
        self.world = world
        self.name = name
        self.lite = config.lite
        self.host = site.host
        self.public = site.public
        self.streams: dict[Path, Stream] = {}
        self.agent = IceAgent(config, controlling=controlling, random_bytes=site.host.random_bytes)
        self.events: list[tuple[float, IceEvent]] = []
        self.other: Peer
        self.signalled: list[Candidate] = []
        self.driver: Driver[IceEvent] = attach(
            world.network, self.agent, site.host, [Address(site.host.address, 0)], self._on_event
        )

    def start(self) -> None:
        """Gather on every socket, and send parameters and candidates to the other side as they come."""
        self.gather()
        self.introduce()

    def gather(self) -> None:
        """Gather on every socket."""
        for address in self.sockets:
            self.driver.do(self.agent.add_local_address, address)
        self.driver.do(self.agent.end_of_local_addresses)

    def introduce(self) -> None:
        """Send our parameters to the other side."""
        told = partial(self.other.agent.set_remote_parameters, lite=self.lite)
        self.world.signal(self.other, told, self.agent.local_parameters)

    def restart(self) -> None:
        """Restart ICE, and tell the other side before any candidate."""
        self.agent.restart(self.world.network.now)
        self.world.signal(self.other, self.other._told_of_restart, self.agent.local_parameters)
        self.driver.flush()

    def _told_of_restart(self, parameters: IceParameters, now: float) -> None:
        if self.agent.described:
            self.agent.restart(now)
            self.world.signal(self.other, self.other._told_of_restart, self.agent.local_parameters)
        self.agent.set_remote_parameters(parameters, now)

    @property
    def sockets(self) -> list[Address]:
        return list(self.driver._sockets)

    def of(self, kind: type[E]) -> list[E]:
        return [event for _, event in self.events if isinstance(event, kind)]

    def when(self, kind: type[IceEvent]) -> float:
        """When the first event of ``kind`` came, in seconds since the start of the world."""
        return next(at for at, event in self.events if isinstance(event, kind)) - self.world.began

    @property
    def data(self) -> list[bytes]:
        return [event.data for event in self.of(DataReceived)]

    @property
    def selected(self) -> PairInfo | None:
        return self.agent.selected

    @property
    def route(self) -> Path | None:
        """The path the selected pair uses as its socket sees it."""
        info = self.agent.selected
        return None if info is None else Path(info.local.base, info.remote.address)

    def send(self, data: bytes) -> None:
        self.driver.do(self.agent.send, data)

    def _on_event(self, event: IceEvent) -> None:
        self.events.append((self.world.network.now, event))
        if not self.world.signalling:
            return
        match event:
            case CandidateGathered(candidate):
                self.signalled.append(candidate)
                copy = read_candidate(candidate.to_sdp())
                self.world.signal(self.other, self.other.agent.add_remote_candidate, copy)
            case NamePublished(name, ip):
                self.world.names[name] = ip
            case NameWanted(name):
                self.world.network.after(0.02, partial(self._resolve, name))
            case StreamWanted(server):
                self.world.network.after(2 * STREAM_DELAY, partial(self._connect, server))
            case StreamReleased(path):
                if path in self.streams:
                    self.streams.pop(path).cut()
            case GatheringFinished():
                self.world.signal(self.other, self.other.agent.end_of_remote_candidates)
            case _:
                pass

    def _connect(self, server: TurnServerAddress) -> None:
        """A TCP connection to the TURN server, which no NAT stops, unless the world says so."""
        world = self.world
        if world.refuses_streams or self.driver.closed:
            self.driver.do(self.agent.stream_failed, server, "connection refused")
            return
        world.ports += 1
        stream = Stream(
            world.network,
            self.driver,
            world.turn_driver,
            local=Address(self.host.address, world.ports),
            remote=server.address,
            seen=Address(self.public, world.ports),
            delay=STREAM_DELAY,
            transport=server.transport,
            on_lost=self._stream_lost,
        )
        self.streams[stream.here] = stream
        self.driver.do(self.agent.stream_opened, server, stream.here.local)

    def _stream_lost(self, path: Path) -> None:
        if path in self.streams:
            del self.streams[path]
            self.driver.do(self.agent.stream_closed, path, "the connection was reset")
        elif path.remote.host == self.public:
            self.world.turn_driver.do(self.world.turn.client_closed, path)

    def _resolve(self, name: str) -> None:
        """Whoever publishes a name is heard by everybody, as on one local network."""
        self.driver.do(self.agent.name_resolved, name, self.world.names.get(name))


class World:
    """Server and two peers; ``signal_delay`` is how long a candidate takes to the other side."""

    def __init__(
        self,
        nat_a: str = "none",
        nat_b: str = "none",
        *,
        seed: int = 1,
        config: IceConfig = WITH_RELAY,
        config_b: IceConfig | None = None,
        controlling: tuple[bool, bool] = (True, False),
        access: LinkConfig | None = None,
        same_lan: bool = False,
        signal_delay: float = 0.05,
    ) -> None:
        self.internet: Internet = two_peers(nat_a, nat_b, seed=seed, access=access, same_lan=same_lan)
        self.network = self.internet.network
        self.began = self.network.now
        self.signal_delay = signal_delay
        self.signalling = True
        self.names: dict[str, IPAddress] = {}
        self.refuses_streams = False
        self.ports = 20_000
        server = self.internet.server
        turn = TurnConfig(
            users={"user": "secret"},
            relay_addresses=(SERVER,),
            policy=PeerPolicy(allow=LAB),
            nonce_secret=b"n" * 32,
        )
        self.turn = TurnServer(turn, random_bytes=server.random_bytes)
        self.turn_driver = attach_turn_server(self.network, self.turn, server, [LISTENER])
        self.turn.add_listener(LISTENER, transport=Transport.TCP)
        self.turn.add_listener(LISTENER, transport=Transport.TLS)
        attach(self.network, BindingServer(), server, [STUN_ONLY])
        self.a = Peer(self, self.internet.a, "a", config, controlling=controlling[0])
        self.b = Peer(self, self.internet.b, "b", config_b or config, controlling=controlling[1])
        self.a.other, self.b.other = self.b, self.a

    def signal(self, to: Peer, command: Callable[..., None], *args: object) -> None:
        """Have the other side's agent be told something after the signalling delay."""

        def deliver() -> None:
            if not to.driver.closed and not to.agent._stopped:
                to.driver.do(command, *args)

        self.network.after(self.signal_delay, deliver)

    def start(self) -> None:
        self.a.start()
        self.b.start()

    def run(self, seconds: float, stop: Callable[[], bool] | None = None) -> bool:
        return self.network.run_for(seconds, stop=stop)

    def connected(self) -> bool:
        """True when both sides have selected the two ends of one pair."""
        return self.a.selected is not None and self.b.selected is not None

    def agreed(self) -> bool:
        """True when the selected pairs are the same flow, seen from its two ends."""
        a, b = self.a.selected, self.b.selected
        return (
            a is not None
            and b is not None
            and a.local.address == b.remote.address
            and b.local.address == a.remote.address
        )

    def connect(self, seconds: float = 60.0) -> float:
        """Start both and wait until both have selected; how many seconds that took."""
        self.start()
        assert self.run(seconds, self.connected), self.report()
        return self.network.now - self.began

    def exchange(self) -> None:
        """Data passes both ways on what is selected."""
        before = len(self.a.data), len(self.b.data)
        self.a.send(b"to b")
        self.b.send(b"to a")
        assert self.run(5, lambda: len(self.b.data) > before[1] and len(self.a.data) > before[0]), (
            self.report()
        )
        assert self.b.data[-1] == b"to b"
        assert self.a.data[-1] == b"to a"

    def report(self) -> str:
        lines = []
        for peer in (self.a, self.b):
            lines.append(f"{peer.name}: selected {peer.selected} drops {dict(peer.agent.drops.counts)}")
            for p in peer.agent.pairs:
                lines.append(f"  {p.local.to_sdp()} | {p.remote.to_sdp()} | {p.state.value} {p.reason}")
            lines += [f"  {at - self.began:8.3f} {event}" for at, event in peer.events]
        return "\n".join(lines)


def kind(info: PairInfo | None) -> str:
    """``direct`` or ``relay``."""
    assert info is not None
    return "relay" if info.relayed else "direct"


def types(info: PairInfo | None) -> tuple[CandidateType, CandidateType]:
    assert info is not None
    return info.local.type, info.remote.type


def but(config: IceConfig, **changes: Any) -> IceConfig:
    """``config`` with some fields changed."""
    return replace(config, **changes)
