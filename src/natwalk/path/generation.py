"""One ICE session with sockets of its own, and what the path keeps beside it: MTUs and mappings."""

from __future__ import annotations

from natwalk import ice
from natwalk.core import Address, Path, RandomBytes
from natwalk.path import events as ev
from natwalk.path.explain import MappingView, mapping_view
from natwalk.path.mtu import BASE_PLPMTU, MtuSearch


class Generation:
    """An :class:`natwalk.ice.IceAgent` and what is learned from its events."""

    def __init__(
        self, number: int, config: ice.IceConfig, *, controlling: bool, random_bytes: RandomBytes
    ) -> None:
        self.number = number
        self.agent = ice.IceAgent(config, controlling=controlling, random_bytes=random_bytes)
        self.described = False
        """The peer's credentials are known."""
        self.locals: set[Address] = set()
        self.links: set[Path] = set()
        """Connections to TURN servers that are open, for when UDP does not get there."""
        self.accepted: dict[Path, ice.PairId] = {}
        """Flows of validated pairs on our own sockets: application data on them needs no further look."""
        self.pair: ice.PairInfo | None = None
        """The pair in use."""
        self.route: Path | None = None
        """Where datagrams for :attr:`pair` go, when no relay of ours has to wrap them."""
        self.failed: str | None = None
        self.trouble: str | None = None
        self._mtu: dict[ice.PairId, MtuSearch] = {}
        self._mappings: dict[tuple[Address, Address], Address] = {}
        self._gathered = False
        self._report_mapping = False

    @property
    def mapping(self) -> MappingView:
        """What gathering showed of our NAT's mapping behaviour.

        A connection to a relay is made only when no server has answered over UDP for a while.
        """
        return mapping_view(
            ((base, server, mapped) for (base, server), mapped in self._mappings.items()),
            gathered=self._gathered or bool(self.links),
        )

    @property
    def usable(self) -> bool:
        """True when a pair that answers can carry data."""
        return self.pair is not None and not self.pair.suspect

    @property
    def mtu(self) -> int:
        """Largest datagram, in bytes, known to pass on the pair in use."""
        search = None if self.pair is None else self._mtu.get(self.pair.id)
        return BASE_PLPMTU if search is None else search.mtu

    @property
    def settled(self) -> bool:
        """True when the MTU search on the pair in use awaits nothing."""
        search = None if self.pair is None else self._mtu.get(self.pair.id)
        return search is None or search.settled

    def link_opened(self, path: Path) -> None:
        """A connection to a TURN server is there."""
        self.links.add(path)
        self._report_mapping = True

    def send(self, datagrams: list[bytes], now: float) -> None:
        """Send through the agent, for pairs that have no :attr:`route`."""
        if self.pair is not None:
            for datagram in datagrams:
                self.agent.send(datagram, now, self.pair.id)

    def refresh(self) -> None:
        """Look which pair the agent would use now."""
        current = self.agent.current
        if current != self.pair:
            self.pair = current
            self.route = None if current is None else self.agent.route(current.id)

    def poll(self, now: float) -> ev.PathEvent | None:
        """The agent's next event as the path's, or None when there is none."""
        if self._report_mapping:
            self._report_mapping = False
            return ev.MappingKnown(self.mapping)
        while (event := self.agent.poll_event()) is not None:
            notice = self._translate(event, now)
            if notice is not None:
                return notice
        return None

    def _translate(self, event: ice.IceEvent, now: float) -> ev.PathEvent | None:
        match event:
            case ice.DataReceived(data=data):
                return ev.Received(data)
            case ice.CandidateGathered(candidate=candidate):
                return ev.LocalCandidate(self.number, candidate)
            case ice.GatheringFinished():
                self._gathered = self._report_mapping = True
                return ev.LocalCandidatesEnd(self.number)
            case ice.GatheringProblem(server=server, reason=reason):
                return ev.GatheringTrouble(server, reason)
            case ice.MappingLearned(base=base, server=server, mapped=mapped):
                self._mappings[base, server] = mapped
                self._report_mapping = self._gathered
            case ice.PairValidated(info=info):
                self._validated(info, now)
                return ev.CheckResult(info, ok=True)
            case ice.PairFailed(info=info):
                return ev.CheckResult(info, ok=False)
            case ice.PairLost(info=info, reason=reason):
                self.trouble = reason
                self._lost(info)
            case ice.ProbeResult(pair_id=pair, size=size, ok=ok):
                if pair in self._mtu:
                    self._mtu[pair].record(size, ok)
            case ice.Disconnected(reason=reason):
                self.trouble = reason
            case ice.IceFailed(reason=reason):
                self.failed = reason
            case ice.StreamWanted(server=server):
                return ev.RelayLinkWanted(self.number, server)
            case ice.StreamReleased(path=path):
                self.links.discard(path)
                return ev.RelayLinkReleased(path)
            case ice.PairSelected():
                pass
        return None

    def _validated(self, info: ice.PairInfo, now: float) -> None:
        route = self.agent.route(info.id)
        if route is not None:
            self.accepted[route] = info.id
        search = MtuSearch(info.local.base, info.remote.address, relayed=info.relayed)
        self._mtu[info.id] = search
        for size in search.sizes:
            self.agent.probe(info.id, size, now)

    def _lost(self, info: ice.PairInfo) -> None:
        self._mtu.pop(info.id, None)
        self.accepted = {route: pair for route, pair in self.accepted.items() if pair != info.id}
