"""Gathering: every local address asks every server of its family (RFC 8445 §5.1.1)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Final

from natwalk.core import Address, LocalProtocolError, Path, Reach, Transmit, Transport, earliest, reach
from natwalk.ice.address_filter import is_public
from natwalk.ice.candidate import (
    Candidate,
    CandidateType,
    Foundations,
    candidate_priority,
    local_preference,
)
from natwalk.ice.config import HostCandidates, TransportPolicy, TurnServerAddress
from natwalk.ice.events import (
    CandidateGathered,
    GatheringFinished,
    GatheringProblem,
    MappingLearned,
    NamePublished,
)
from natwalk.ice.names import OwnNames
from natwalk.ice.pacing import gathering_rto
from natwalk.ice.relays import RelayDown, Relays, RelayUp, slot
from natwalk.ice.remote_filter import normal
from natwalk.ice.session import Session
from natwalk.stun import (
    ERROR_CODE,
    XOR_MAPPED_ADDRESS,
    Message,
    MessageClass,
    Method,
    Transactions,
    encode,
    request,
)

_RC: Final = 4  # a server that is alive answers one of four requests in 5.5 s, or comes too late to matter
_RM: Final = 4
_KEEPALIVE_RC: Final = 3
_MAX_REALLOCATIONS: Final = 4
_REALLOCATION_PAUSE: Final = 1.0  # seconds before the first, four times as long before each further one
_MAX_REFLEXIVE: Final = 64
_STREAM_ORDER: Final = 500  # relays over streams rank after every one over UDP
_UNUSABLE: Final = {Reach.UNSPECIFIED, Reach.MULTICAST}


@dataclass(slots=True)
class _Task:
    """One question to one server from one local address, not asked before ``not_before``."""

    path: Path
    turn: TurnServerAddress | None
    not_before: float


@dataclass(slots=True)
class _Server:
    """How a server is doing."""

    open: int = 0
    useful: bool = False
    reason: str = ""
    reported: bool = False


class Gatherer:
    """Finds local candidates and keeps their NAT mappings alive (RFC 8445 §5.1.1.4).

    Each TURN server gets one allocation a family: from the first local address, and from the next ones
    only while that brings nothing. Candidates appear in :attr:`candidates` and, as events, in the session.
    """

    def __init__(self, session: Session, relays: Relays) -> None:
        self.candidates: list[Candidate] = []
        self.bases: dict[Address, int] = {}
        self.finished = False
        self._session = session
        self._relays = relays
        self._fresh: deque[Candidate] = deque()
        self._tasks: list[_Task] = []
        self._servers: dict[Address, _Server] = {}
        self._foundations = Foundations()
        self._names = OwnNames(session.random_bytes)
        self._transactions: Transactions[bool] = Transactions()
        self._keepalives: dict[Path, float] = {}
        self._mappings: dict[Path, Address] = {}
        self._reallocations: dict[Path, int] = {}
        self._streams: set[Path] = set()
        self._deadline: float | None = None
        self._complete = False

    def add(self, address: Address, now: float) -> None:
        """Gather on a bound socket's ``address``.

        Raises :class:`LocalProtocolError` for an address no socket is bound to; one that is no use to a
        peer (link-local) or one too many is reported and left alone.
        """
        scope = reach(address.ip)
        if address.port == 0 or scope in _UNUSABLE or self._complete:
            raise LocalProtocolError(f"{address} is not the address of a bound socket, or comes too late")
        if address in self.bases:
            raise LocalProtocolError(f"{address} was added before")
        if scope is Reach.LINK_LOCAL:
            self._session.events.put(GatheringProblem(None, f"{address.host} is link-local"))
            return
        if reason := self._session.config.local_filter.refusal(address):
            self._session.events.put(GatheringProblem(None, f"{address.host} is not used: {reason}"))
            return
        if len(self.bases) >= self._session.config.max_local_addresses:
            self._session.events.put(GatheringProblem(None, f"{address.host} is one local address too many"))
            return
        self.bases[address] = len(self.bases)
        if self._session.config.policy is not TransportPolicy.RELAY:
            self._add_host(address)
        self._plan(address, now)

    def complete(self) -> None:
        """No more local addresses will come."""
        self._complete = True

    def settled(self) -> None:
        """A direct pair is in use: only mappings to TURN servers are still kept alive."""
        for path in list(self._keepalives):
            if self._relays.allocated(path) is None:
                del self._keepalives[path]

    def refresh(self, now: float) -> None:
        """Ask at once whether our mappings are still what they were."""
        for path in self._keepalives:
            self._keepalives[path] = now
        self._keep_alive(now)

    def renew(self, now: float) -> None:
        """Tell all candidates again, for an ICE restart, and ask whether their mappings still hold."""
        for candidate in self.candidates:
            self._session.events.put(CandidateGathered(candidate))
        if self.finished:
            self._session.events.put(GatheringFinished())
        for path in self._mappings:
            self._keepalives.setdefault(path, now)
        self.refresh(now)

    def find(self, address: Address, base: Address) -> Candidate | None:
        """The candidate of ours at ``address`` with that ``base``, or None."""
        return next((c for c in self.candidates if c.address == address and c.base == base), None)

    def take(self) -> Candidate | None:
        """The next candidate nobody has taken yet, or None."""
        return self._fresh.popleft() if self._fresh else None

    def ready(self, now: float) -> bool:
        """Whether a question may be asked at ``now``, the pacing aside."""
        return any(task.not_before <= now for task in self._tasks)

    def start_next(self, now: float) -> bool:
        """Ask one question; False when there was none to ask."""
        for task in list(self._tasks):
            if task.not_before > now:
                continue
            self._tasks.remove(task)
            if task.turn is not None and task.turn.transport is not Transport.UDP:
                self._relays.want(task.turn)
            elif task.turn is not None:
                self._relays.allocate(task.turn, task.path.local, now)
            else:
                self._ask(task.path, now, keepalive=False)
            return True
        return False

    def receive(self, message: Message, path: Path, now: float) -> bool:
        """Take a Binding response; False when it answers none of our questions."""
        pending = self._transactions.match(message, path)
        if pending is None:
            return False
        self._transactions.finish(message.transaction_id)
        mapped = message.get(XOR_MAPPED_ADDRESS)
        error = message.get(ERROR_CODE)
        if message.message_class is MessageClass.SUCCESS and mapped is not None:
            self._learned(path, normal(mapped), now)
            if not pending.context:
                self._closed(path.remote, useful=True)
        elif not pending.context:
            reason = f"{error.code} {error.reason}".rstrip() if error else "no address in its answer"
            self._closed(path.remote, useful=False, reason=reason)
        return True

    def relay_up(self, event: RelayUp, now: float) -> None:
        """A TURN server gave us an address: a relayed candidate, and a server-reflexive one with it."""
        path = event.path
        if path.transport is Transport.UDP:  # how a NAT maps a stream says nothing of datagrams
            if event.mapped is not None:
                self._learned(path, event.mapped, now)
            self._keepalives.setdefault(path, now + self._session.config.reflexive_keepalive)
        related = event.mapped or path.local
        self._offer(CandidateType.RELAYED, event.relayed, base=event.relayed, via=path, related=related)
        self._skip_relays(path)
        if (place := self._place(path)) in self._reallocations:
            self._reallocations[place] = 0
        self._closed(path.remote, useful=True)

    def relay_down(self, event: RelayDown, now: float) -> None:
        """An allocation failed or is gone; one that worked is made anew, a few times."""
        path = event.path
        if event.relayed is None:
            self._closed(path.remote, useful=False, reason=event.reason)
            if self._place(path) not in self._reallocations:
                return
        self.candidates = [known for known in self.candidates if known.address != event.relayed]
        place = self._place(path)
        tries = self._reallocations[place] = self._reallocations.get(place, 0) + 1
        turn = self._turn_server(path)
        if turn is not None and tries <= _MAX_REALLOCATIONS:
            self._servers[path.remote].open += 1
            self._tasks.append(_Task(place, turn, now + _REALLOCATION_PAUSE * 4 ** (tries - 1)))

    def handle_timeout(self, now: float) -> None:
        """Retransmit, give up, refresh mappings, and finish when there is nothing left to wait for."""
        for pending in self._transactions.handle_timeout(now):
            if not pending.context:
                self._closed(pending.path.remote, useful=False, reason="no answer")
        self._keep_alive(now)
        if self._deadline is not None and self._deadline <= now:
            self._give_up()
        self.conclude()

    def _keep_alive(self, now: float) -> None:
        for path, due in list(self._keepalives.items()):
            if due <= now:
                self._keepalives[path] = now + self._session.config.reflexive_keepalive
                self._ask(path, now, keepalive=True)

    def conclude(self) -> None:
        """Report what is known for good: servers that were no use, and the end of gathering."""
        self._report_problems()
        if self._complete and not self.finished and not any(s.open for s in self._servers.values()):
            self.finished = True
            self._deadline = None
            self._session.events.put(GatheringFinished())

    def poll_transmit(self) -> Transmit | None:
        """The next Binding request, or None."""
        return self._transactions.poll_transmit()

    def next_timeout(self) -> float | None:
        """When something but a paced question is due."""
        return earliest(
            self._transactions.next_timeout(), self._deadline, min(self._keepalives.values(), default=None)
        )

    def next_question(self) -> float | None:
        """When the next question may be asked, the pacing aside; None when none is left."""
        return min((task.not_before for task in self._tasks), default=None)

    def close(self) -> None:
        """Ask nothing more."""
        self._tasks.clear()
        self._transactions.clear()
        self._keepalives.clear()
        self._deadline = None

    def _plan(self, base: Address, now: float) -> None:
        """Put the questions for one local address on the list."""
        config = self._session.config
        if config.policy is not TransportPolicy.RELAY:
            for server in dict.fromkeys(config.stun_servers):
                if _reachable(base, server):
                    self._add_task(_Task(Path(base, server), None, now), now)
        if config.policy is not TransportPolicy.DIRECT:
            for turn in config.turn_servers:
                if turn.transport is not Transport.UDP:
                    self._plan_stream(base, turn, now)
                elif _reachable(base, turn.address) and not self._relay_exists(turn.address):
                    start = now + config.relay_stagger * self._relays_planned(turn.address)
                    self._add_task(_Task(Path(base, turn.address), turn, start), now)

    def _plan_stream(self, base: Address, turn: TurnServerAddress, now: float) -> None:
        """One connection a server, from wherever the system likes; later if servers over UDP go first."""
        place = slot(turn)
        if place in self._streams or not _reachable(base, turn.address):
            return
        self._streams.add(place)
        servers = self._session.config.turn_servers
        first = any(s.transport is Transport.UDP and _reachable(base, s.address) for s in servers)
        self._add_task(_Task(place, turn, now + (self._session.config.relay_stagger if first else 0.0)), now)

    def _turn_server(self, path: Path) -> TurnServerAddress | None:
        servers = self._session.config.turn_servers
        return next((s for s in servers if (s.address, s.transport) == path[1:]), None)

    def _place(self, path: Path) -> Path:
        """What outlives a lost allocation on ``path``: the path, or what stands for a stream's."""
        turn = self._turn_server(path)
        return path if turn is None or turn.transport is Transport.UDP else slot(turn)

    def _add_task(self, task: _Task, now: float) -> None:
        self._tasks.append(task)
        self._servers.setdefault(task.path.remote, _Server()).open += 1
        self._deadline = now + self._session.config.gathering_timeout

    def _relay_exists(self, server: Address) -> bool:
        return any(self._relays.allocated(Path(base, server)) is not None for base in self.bases)

    def _relays_planned(self, server: Address) -> int:
        queued = sum(
            task.turn is not None and task.turn.transport is Transport.UDP and task.path.remote == server
            for task in self._tasks
        )
        return queued + sum(self._relays.is_pending(Path(base, server)) for base in self.bases)

    def _skip_relays(self, path: Path) -> None:
        """Drop allocations of other addresses at the same server, and streams not begun: one is enough.

        One for each IP version: a relay joins peers of one.
        """
        version = path.remote.version
        for task in list(self._tasks):
            stream = task.path.transport is not Transport.UDP and task.path.remote.version == version
            if task.turn is not None and (stream or task.path.remote == path.remote):
                self._tasks.remove(task)
                self._closed(task.path.remote, useful=True)

    def _ask(self, path: Path, now: float, *, keepalive: bool) -> None:
        if len(self._transactions) >= self._transactions.limit:
            self._session.drops.add("too many Binding requests under way")
            return
        transaction_id = self._session.transaction_id()
        rto = gathering_rto(self._session.config.ta, len(self._transactions) + len(self._tasks))
        data = encode(request(Method.BINDING, transaction_id))
        rc, rm = (_KEEPALIVE_RC, _RM) if keepalive else (_RC, _RM)
        self._transactions.start(transaction_id, data, path, now, keepalive, rto=rto, rc=rc, rm=rm)

    def _learned(self, path: Path, mapped: Address, now: float) -> None:
        """How a server sees us: a candidate if it is news, a lost relay if it is another than before."""
        if reach(mapped.ip) in _UNUSABLE or mapped.port == 0:
            self._session.drops.add("a server reports an impossible mapped address")
            return
        before = self._mappings.get(path)
        self._mappings[path] = mapped
        if before != mapped:
            self._session.events.put(MappingLearned(path.local, path.remote, mapped))
        if self._session.config.policy is not TransportPolicy.RELAY:
            self._keepalives.setdefault(path, now + self._session.config.reflexive_keepalive)
            if mapped != path.local or is_public(mapped):
                self._offer(CandidateType.SERVER_REFLEXIVE, mapped, base=path.local, via=path)
        if before is not None and before != mapped:
            # the NAT has forgotten us; the server knows the allocation by the old mapping only
            self._relays.drop(path, "the NAT gave us another mapping")

    def _add_host(self, address: Address) -> None:
        """The candidate of a socket itself, told to the peer as far as policy allows."""
        hosts = self._session.config.hosts
        candidate = self._candidate(CandidateType.HOST, address, base=address)
        if hosts is HostCandidates.HIDDEN:
            self._fresh.append(candidate)  # checks leave from it, and nobody is told
            return
        if hosts is HostCandidates.NAMED and not is_public(address):
            name, new = self._names.name(address.ip)
            candidate = replace(candidate, name=name)
            if new:
                self._session.events.put(NamePublished(name, address.ip))
        self._tell(candidate)

    def _offer(
        self,
        kind: CandidateType,
        address: Address,
        *,
        base: Address,
        via: Path | None = None,
        related: Address | None = None,
    ) -> None:
        """Add a candidate unless it is redundant (RFC 8445 §5.1.3)."""
        if self.find(address, base) is not None:
            return
        self._tell(self._candidate(kind, address, base=base, via=via, related=related))
        self._forget_old_mappings()

    def _candidate(
        self,
        kind: CandidateType,
        address: Address,
        *,
        base: Address,
        via: Path | None = None,
        related: Address | None = None,
    ) -> Candidate:
        local = via.local if via is not None else base
        order = _STREAM_ORDER if via is not None and via.transport is not Transport.UDP else 0
        preference = local_preference(local.ip, self.bases.get(local, order))
        candidate = Candidate(
            foundation=self._foundations.name(kind, local, via.remote if via else None),
            priority=candidate_priority(kind, preference),
            address=address,
            type=kind,
            related=related or (base if kind is CandidateType.SERVER_REFLEXIVE else None),
            base=base,
        )
        config = self._session.config
        shown = config.policy is not TransportPolicy.RELAY and config.hosts is HostCandidates.SHOWN
        return candidate if shown or kind is CandidateType.HOST else candidate.without_related()

    def _tell(self, candidate: Candidate) -> None:
        """The candidate is ours and the peer's to know."""
        self.candidates.append(candidate)
        self._fresh.append(candidate)
        self._session.events.put(CandidateGathered(candidate))

    def _forget_old_mappings(self) -> None:
        """Keep the latest mappings only: a NAT may hand out ever new ones."""
        old = [c for c in self.candidates if c.type is CandidateType.SERVER_REFLEXIVE][:-_MAX_REFLEXIVE]
        self.candidates = [c for c in self.candidates if c not in old]

    def _closed(self, address: Address, *, useful: bool, reason: str = "") -> None:
        server = self._servers[address]
        server.open = max(0, server.open - 1)
        server.useful = server.useful or useful
        server.reason = reason or server.reason

    def _give_up(self) -> None:
        """Stop waiting for servers that are silent."""
        self._deadline = None
        self._tasks.clear()
        for server in self._servers.values():
            if server.open:
                server.open = 0
                server.reason = server.reason or "no answer"

    def _report_problems(self) -> None:
        for address, server in self._servers.items():
            if not (server.open or server.useful or server.reported):
                server.reported = True
                self._session.events.put(GatheringProblem(address, server.reason))


def _reachable(base: Address, server: Address) -> bool:
    """Whether ``server`` may be asked from ``base``: loopback reaches nothing but loopback."""
    if server.version != base.version:
        return False
    return reach(base.ip) is not Reach.LOOPBACK or reach(server.ip) is Reach.LOOPBACK
