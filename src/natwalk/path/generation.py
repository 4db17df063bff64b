"""One ICE session with sockets of its own: its pairs, their MTUs, and which of them carries data."""

from __future__ import annotations

from typing import Final

from natwalk import ice
from natwalk.core import Address, Path, RandomBytes
from natwalk.path import events as ev
from natwalk.path.explain import MappingView, is_relayed, mapping_view
from natwalk.path.mtu import BASE_PLPMTU, MtuSearch

_ASK_SIZE: Final = 0
"""A check without padding."""


class Generation:
    """An :class:`natwalk.ice.IceAgent` and what the path keeps beside it."""

    def __init__(
        self, number: int, config: ice.IceConfig, *, controlling: bool, random_bytes: RandomBytes
    ) -> None:
        self.number = number
        self.agent = ice.IceAgent(config, controlling=controlling, random_bytes=random_bytes)
        self.described = False
        """The peer's credentials are known."""
        self.locals: set[Address] = set()
        self.accepted: set[Path] = set()
        """Flows of validated direct pairs: application data from them needs no further look."""
        self.routes: dict[ice.PairId, Path] = {}
        """Pairs whose datagrams leave a socket as they are."""
        self.pair: ice.PairInfo | None = None
        """The pair in use."""
        self.failed: str | None = None
        self.trouble: str | None = None
        self._alive = False
        self._valid: dict[ice.PairId, ice.PairInfo] = {}
        self._selected: ice.PairId | None = None
        self._dead: set[ice.PairId] = set()
        self._mtu: dict[ice.PairId, MtuSearch] = {}
        self._mappings: dict[tuple[Address, Address], Address] = {}
        self._answered = False
        self._gathered = False
        self._report_mapping = False

    @property
    def mapping(self) -> MappingView:
        """What gathering showed of our NAT's mapping behaviour."""
        if not self._gathered and not self._mappings:
            return MappingView.UNKNOWN
        return mapping_view(
            ((base, server, mapped) for (base, server), mapped in self._mappings.items()),
            answered=self._answered,
        )

    def mtu(self, pair: ice.PairId) -> int:
        """Largest datagram, in bytes, known to pass on ``pair``."""
        search = self._mtu.get(pair)
        return BASE_PLPMTU if search is None else search.mtu

    def settled(self, pair: ice.PairId) -> bool:
        """True when the MTU search on ``pair`` awaits nothing."""
        search = self._mtu.get(pair)
        return search is None or search.settled

    @staticmethod
    def is_relayed(pair: ice.PairInfo) -> bool:
        """True when a relay carries what ``pair`` sends."""
        return is_relayed(pair)

    def ask(self, now: float) -> None:
        """Send a check on the pair in use; any answer shows that it lives."""
        if self.pair is not None:
            self.agent.probe(self.pair.id, _ASK_SIZE, now)

    def take_sign_of_life(self) -> bool:
        """True once after a check was answered."""
        alive, self._alive = self._alive, False
        return alive

    def declare_dead(self, pair: ice.PairId) -> None:
        """Stop using ``pair`` until a check on it succeeds again."""
        self._dead.add(pair)
        self.trouble = "the path stopped answering"
        self._choose()

    def poll(self, now: float) -> ev.PathEvent | bytes | None:
        """The agent's next event as the path's, application data as bytes, None when there is none."""
        if self._report_mapping:
            self._report_mapping = False
            return ev.MappingKnown(self.mapping)
        while (event := self.agent.poll_event()) is not None:
            notice = self._translate(event, now)
            if notice is not None:
                return notice
        return None

    def _translate(self, event: ice.IceEvent, now: float) -> ev.PathEvent | bytes | None:
        match event:
            case ice.DataReceived(data=data):
                return data
            case ice.CandidateGathered(candidate=candidate):
                return ev.LocalCandidate(self.number, candidate)
            case ice.GatheringFinished():
                self._gathered = True
                self._report_mapping = True
                return ev.LocalCandidatesEnd(self.number)
            case ice.GatheringProblem(server=server, reason=reason):
                return ev.GatheringTrouble(server, reason)
            case ice.MappingLearned(base=base, server=server, mapped=mapped):
                self._answered = True
                self._mappings[base, server] = mapped
            case ice.PairValidated(info=info):
                self._validate(info, now)
                return ev.CheckResult(info, ok=True)
            case ice.PairFailed(info=info):
                self._drop(info)
                return ev.CheckResult(info, ok=False)
            case ice.PairLost(info=info, reason=reason):
                self.trouble = reason
                self._drop(info)
            case ice.PairSelected(info=info):
                self._validate(info, now)
                self._selected = info.id
                self._choose()
            case ice.ProbeResult(pair_id=pair, size=size, ok=ok):
                self._probed(pair, size, ok=ok)
            case ice.Disconnected(reason=reason):
                self.trouble = reason
                self._valid.clear()
                self._choose()
            case ice.IceFailed(reason=reason):
                self.failed = reason
        return None

    def _validate(self, info: ice.PairInfo, now: float) -> None:
        fresh = info.id not in self._valid
        self._valid[info.id] = info
        self._dead.discard(info.id)
        if info.local.type is not ice.CandidateType.RELAYED:
            route = Path(info.local.base, info.remote.address)
            self.routes[info.id] = route
            self.accepted.add(route)
        if fresh:
            search = MtuSearch(info.local.base, relayed=is_relayed(info))
            self._mtu[info.id] = search
            for size in search.sizes:
                self.agent.probe(info.id, size, now)
        self._choose()

    def _drop(self, info: ice.PairInfo) -> None:
        self._valid.pop(info.id, None)
        self._mtu.pop(info.id, None)
        route = self.routes.pop(info.id, None)
        if route is not None and route not in self.routes.values():
            self.accepted.discard(route)
        self._choose()

    def _probed(self, pair: ice.PairId, size: int, *, ok: bool) -> None:
        if ok:
            self._alive = True
            self._dead.discard(pair)
        if size != _ASK_SIZE and pair in self._mtu:
            self._mtu[pair].record(size, ok)
        self._choose()

    def _choose(self) -> None:
        """Use the nominated pair; before there is one, and when it is dead, the best validated one."""
        usable = {key: info for key, info in self._valid.items() if key not in self._dead}
        if self._selected in usable:
            self.pair = usable[self._selected]
        else:
            self.pair = max(
                usable.values(), key=lambda info: (not is_relayed(info), info.priority), default=None
            )
