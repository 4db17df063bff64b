"""The ICE agent: gathers candidates, checks pairs, chooses one, keeps it alive (RFC 8445).

This is the facade: it takes commands, datagrams and clock readings, gives each to the part that
understands it, and afterwards lets everything that follows happen (:meth:`IceAgent._settle`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from natwalk.core import (
    Address,
    Drops,
    IPAddress,
    LocalProtocolError,
    MalformedMessage,
    Outbox,
    Path,
    RandomBytes,
    Transmit,
    Transport,
    earliest,
)
from natwalk.ice import stats
from natwalk.ice.candidate import Candidate, NamedCandidate
from natwalk.ice.config import IceConfig, TurnServerAddress
from natwalk.ice.connectivity import Connectivity, Purpose
from natwalk.ice.events import IceEvent, StreamReleased
from natwalk.ice.gathering import Gatherer
from natwalk.ice.lifecycle import Lifecycle
from natwalk.ice.names import PeerNames
from natwalk.ice.pacing import Pacer
from natwalk.ice.pair import PairId, PairInfo
from natwalk.ice.pairing import Pairing
from natwalk.ice.parameters import IceParameters
from natwalk.ice.patience import verdict
from natwalk.ice.previous import Previous
from natwalk.ice.pump import Pump
from natwalk.ice.relays import RelayDown, Relayed, RelayRefuses, Relays, RelayUp
from natwalk.ice.session import Session
from natwalk.ice.sessions import Sessions
from natwalk.ice.stats import PairStats, pair_stats
from natwalk.stun import Message, MessageClass, Method, decode, is_stun

MAX_DATAGRAM: Final = 65_000


class IceAgent:
    """One side of one ICE session with one component, over any number of local sockets.

    The driver tells it of bound sockets with :meth:`add_local_address`, sends the candidates of the
    events to the peer, feeds in the peer's, and moves datagrams. Data is taken from every validated pair
    and may be sent on any of them. ``tie_breaker`` (64 bits) is random unless given. A lite agent is never
    controlling, whatever ``controlling`` says (RFC 8445 §6.1.1).
    """

    def __init__(
        self,
        config: IceConfig,
        *,
        controlling: bool,
        random_bytes: RandomBytes,
        tie_breaker: int | None = None,
    ) -> None:
        if tie_breaker is None:
            tie_breaker = int.from_bytes(random_bytes(8), "big")
        elif not 0 <= tie_breaker < 2**64:
            raise ValueError(f"tie_breaker {tie_breaker} does not fit 64 bits")
        local = IceParameters.generate(random_bytes)
        session = Session(config, random_bytes, controlling and not config.lite, tie_breaker, local)
        self._relays = Relays(session)
        self._gatherer = Gatherer(session, self._relays)
        self._names = PeerNames(session)
        self._pacer = Pacer(config.ta)
        self._begin(session, Pairing(session, self._gatherer.find))
        self._outbox: Outbox[Transmit] = Outbox(16_384)
        self._deadline: float | None = None
        self._stopped = False
        self._closed = False

    def _begin(self, session: Session, pairing: Pairing) -> None:
        self._session = session
        self._pairing = pairing
        self._pairs = pairing.checklist.pairs
        self._connectivity = Connectivity(session)
        self._life = Lifecycle(session, pairing, self._connectivity)
        self._sessions = Sessions(pairing, self._life)
        self._pump = Pump(session, self._pacer, self._gatherer, pairing, self._connectivity, self._life)
        self._remote_ended = False

    @property
    def drops(self) -> Drops:
        """Why datagrams and candidates were dropped."""
        return self._session.drops

    @property
    def local_parameters(self) -> IceParameters:
        """What the peer has to know to check us: send it before or with the candidates."""
        return self._session.local

    @property
    def described(self) -> bool:
        """Whether the peer's credentials are known, those of the latest restart."""
        return self._session.remote is not None

    @property
    def controlling(self) -> bool:
        """Whether this side nominates; a role conflict may change it (RFC 8445 §7.3.1.1)."""
        return self._session.controlling

    @property
    def local_candidates(self) -> tuple[Candidate, ...]:
        """The candidates gathered so far."""
        return tuple(self._gatherer.candidates)

    @property
    def pairs(self) -> tuple[PairInfo, ...]:
        """All pairs, best first; those that do not work say why in ``reason``.

        While an ICE restart is under way, those of before come last.
        """
        return tuple(self._sessions.info(pair) for pair in self._sessions.by_priority())

    @property
    def selected(self) -> PairInfo | None:
        """The selected pair, or None; after a restart the one of before until there is a new one."""
        pair = self._sessions.selected()
        return None if pair is None else self._sessions.info(pair)

    @property
    def current(self) -> PairInfo | None:
        """The pair :meth:`send` would use now: the selected one while it answers, else the best valid one."""
        pair = self._sessions.carrier()
        return None if pair is None else self._sessions.info(pair)

    def route(self, pair: PairId) -> Path | None:
        """The flow on which datagrams of ``pair`` leave and enter a socket of ours unchanged.

        None for a pair through a relay of ours. A driver that moves bulk data may use the flow directly,
        while the pair is valid, if it reports that by :meth:`note_sent` and :meth:`note_received`.
        """
        target = self._sessions.find(pair)
        if target is None or self._relays.is_relayed(target.base):
            return None
        return target.path

    def stats(self, now: float) -> tuple[PairStats, ...]:
        """The statistics of all pairs, best first."""
        return tuple(pair_stats(pair, now) for pair in self._sessions.by_priority())

    def note_sent(self, pair: PairId, now: float, datagrams: Sequence[bytes] = ()) -> None:
        """Data was sent on ``pair`` past this agent: silence after it makes the pair suspect.

        ``datagrams`` are for the statistics.
        """
        target = self._sessions.find(pair)
        if target is not None:
            stats.note_sent(target, datagrams, now)
        if target is not None and target.unanswered_since is None:
            target.unanswered_since = now
            self._deadline = earliest(self._deadline, now + self._session.config.suspect_silence)

    def note_received(self, path: Path, now: float, datagrams: Sequence[bytes] = ()) -> None:
        """Data came in on ``path`` past this agent; ``datagrams`` are for the statistics."""
        target = self._sessions.at(path)
        if target is not None:
            stats.note_received(target, datagrams, now)
            target.heard_at = now
            target.unanswered_since = None

    def add_local_address(self, address: Address, now: float) -> None:
        """Gather on a socket bound to ``address``; LocalProtocolError if it cannot be one."""
        self._require_running("add_local_address()")
        self._gatherer.add(address, now)
        self._settle(now)

    def end_of_local_addresses(self, now: float) -> None:
        """No more sockets will come: gathering can finish."""
        self._require_running("end_of_local_addresses()")
        self._gatherer.complete()
        self._settle(now)

    def set_remote_parameters(self, parameters: IceParameters, now: float, *, lite: bool = False) -> None:
        """Learn the peer's ufrag and password; checks start. ``lite`` tells that the peer is a lite agent.

        Then this side is controlling, whatever it was made (RFC 8445 §6.1.1). Raises LocalProtocolError if
        the parameters change, or when both sides are lite: nobody would check anything.
        """
        self._require_running("set_remote_parameters()")
        if self._session.remote == parameters:
            return
        if self._session.remote is not None:
            raise LocalProtocolError("the remote parameters are set already: restart() comes first")
        if lite and self._session.config.lite:
            raise LocalProtocolError("both sides are lite: nobody would send a check")
        self._session.remote = parameters
        if lite:
            self._session.controlling = True
        self._life.start(now)
        self._settle(now)

    def restart(self, now: float) -> None:
        """Begin anew with fresh credentials, on the same sockets and relays (RFC 8445 §9).

        All candidates are told again; the peer's new credentials and candidates have to follow, whoever of
        the two began. Pairs of before carry data until one of the new session is selected. Raises
        LocalProtocolError before the peer's first credentials, and after the end.
        """
        self._require_running("restart()")
        if self._session.remote is None:
            raise LocalProtocolError("restart() before anything has begun")
        previous = self._sessions.previous
        if previous is None or self._life.selection.pair is not None:
            if previous is not None:
                previous.close()
            previous = Previous(self._session, self._pairing, self._connectivity, self._life)
        else:  # the session that is given up has nothing yet: what carries data is still the one before
            self._connectivity.close()
        session = self._session.renewed()
        self._names.close()
        self._begin(session, self._pairing.renewed(session))
        self._sessions.previous = previous
        self._gatherer.renew(now)
        self._settle(now)

    def add_remote_candidate(self, candidate: Candidate | NamedCandidate, now: float) -> None:
        """Pair a candidate of the peer's; one that is refused is counted in ``drops``, with the reason.

        One that goes by a name is paired when the name is resolved: an event asks for that.
        """
        self._require_running("add_remote_candidate()")
        known = self._names.want(candidate, now) if isinstance(candidate, NamedCandidate) else candidate
        if known is not None:
            self._life.add_remote(known, now)
        self._settle(now)

    def name_resolved(self, name: str, ip: IPAddress | None, now: float) -> None:
        """A name that was wanted stands for ``ip``, one address of however many, or for nothing.

        After the time for it has passed an answer changes nothing, and is counted in ``drops``.
        """
        for candidate in self._names.resolved(name, ip):
            self._life.add_remote(candidate, now)
        self._settle(now)

    def stream_opened(self, server: TurnServerAddress, local: Address, now: float) -> None:
        """The connection that was wanted is there, from ``local``; its messages go by :meth:`receive`.

        Each has to be whole, with ``Path(local, server.address, server.transport)``, and so are the
        transmits. Raises LocalProtocolError when nobody wanted it. After the end it is released at once.
        """
        if self._stopped:
            self._session.events.put(StreamReleased(Path(local, server.address, server.transport)))
        else:
            self._relays.stream_opened(server, local, now)
        self._settle(now)

    def stream_failed(self, server: TurnServerAddress, reason: str, now: float) -> None:
        """The connection that was wanted is not to be had; ``reason`` is a short phrase for people."""
        self._relays.stream_failed(server, reason)
        self._settle(now)

    def stream_closed(self, path: Path, reason: str, now: float) -> None:
        """A connection has ended, and with it the relayed address that it was for."""
        self._relays.stream_closed(path, reason)
        self._settle(now)

    def end_of_remote_candidates(self, now: float) -> None:
        """The peer has no more candidates (RFC 8838 §14)."""
        self._require_running("end_of_remote_candidates()")
        self._remote_ended = True
        self._settle(now)

    def send(self, data: bytes, now: float, pair: PairId | None = None) -> None:
        """Send an application datagram on ``pair``, or on the selected pair, or else on the best valid one.

        Raises :class:`LocalProtocolError` when there is no such valid pair or ``data`` is too long.
        """
        target = self._sessions.carrier() if pair is None else self._sessions.find(pair)
        if target is None or not target.valid or self._stopped:
            raise LocalProtocolError(
                "send() without a valid pair" if pair is None else f"pair {pair} is not valid"
            )
        if len(data) > MAX_DATAGRAM:
            raise LocalProtocolError(f"{len(data)} bytes are more than a datagram holds")
        self._route(Transmit(data, target.path), now)
        stats.note_sent(target, (data,), now)
        if target.unanswered_since is None:
            target.unanswered_since = now
            self._deadline = earliest(self._deadline, now + self._session.config.suspect_silence)

    def probe(self, pair: PairId, size: int, now: float) -> None:
        """Send one check padded to ``size`` bytes of UDP payload on a valid pair; a ProbeResult follows.

        Sizes are rounded up to a multiple of 4. Raises LocalProtocolError for a pair that is not valid,
        for sizes smaller than a check or larger than a datagram, and in a lite agent.
        """
        if self._session.config.lite:
            raise LocalProtocolError("a lite agent sends no checks")
        target = self._pairing.checklist.get(pair)
        if target is None or not target.valid or self._stopped:
            raise LocalProtocolError(f"pair {pair} is not valid, or is of before a restart")
        self._connectivity.start(target, Purpose.PROBE, now, size=size)
        self._settle(now)

    def doubt(self, now: float) -> None:
        """Check every valid pair at once: something else says that the peer may be gone."""
        for pair in self._sessions.by_priority():
            if pair.valid:
                pair.unanswered_since = now - self._session.config.suspect_silence
        for life in () if self._stopped else self._sessions.lives:
            life.tick(now)
        self._settle(now)

    def close(self, now: float) -> None:
        """Stop, and give relayed addresses back: drain and run timers until ``next_timeout`` is None."""
        if not self._closed:
            self._closed = True
            self._stop()
            self._session.events.clear()
            self._relays.close(now)
            self._settle(now)

    def receive(self, datagram: bytes, path: Path, now: float) -> None:
        """Take one datagram; whatever is not authentic, or not from a validated pair, is dropped."""
        if self._relays.owns(datagram, path):
            self._relays.receive(datagram, path, now)
            self._settle_relays(now)
        elif path.transport is not Transport.UDP:
            self.drops.add("on a stream, and not of its allocation")
        else:
            self._incoming(datagram, path, now)

    def handle_timeout(self, now: float) -> None:
        """Do what is due: retransmit, renew, give up, start the next check."""
        self._relays.handle_timeout(now)
        if not self._stopped:
            self._gatherer.handle_timeout(now)
            self._names.handle_timeout(now)
            for outcome in self._connectivity.handle_timeout(now):
                self._life.outcome(outcome, now)
            self._life.tick(now)
            if (previous := self._sessions.previous) is not None:
                previous.handle_timeout(now)
        self._settle(now)

    def poll_transmit(self) -> Transmit | None:
        """The next datagram to send, or None."""
        return self._outbox.poll() or self._relays.poll_transmit() or self._gatherer.poll_transmit()

    def poll_event(self) -> IceEvent | None:
        """The next event, or None."""
        return self._session.events.poll()

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` is due, or None."""
        return earliest(self._deadline, self._relays.next_timeout())

    def _incoming(self, datagram: bytes, path: Path, now: float) -> None:
        """A datagram from the peer or a STUN server, at a socket or at a relayed address of ours."""
        if self._stopped:
            self.drops.add("after the end")
        elif is_stun(datagram):
            self._receive_stun(datagram, path, now)
            self._settle(now)
        elif (pair := self._sessions.at(path)) is not None:
            self._sessions.owner(pair).data(pair, datagram, now)
        else:
            self.drops.add("data from no pair")

    def _receive_stun(self, datagram: bytes, path: Path, now: float) -> None:
        try:
            message = decode(datagram)
        except MalformedMessage:
            self.drops.add("a malformed STUN message")
            return
        if message.method != Method.BINDING:
            self.drops.add("a STUN message that is no Binding")
        elif (previous := self._sessions.previous) is not None and previous.claims(message, now):
            previous.receive(message, path, now)
        elif message.message_class is MessageClass.REQUEST:
            self._receive_request(message, path, now)
        elif message.message_class is MessageClass.INDICATION:
            self.drops.add("a Binding indication, which asks for nothing")
        elif not self._gatherer.receive(message, path, now):
            outcome = self._connectivity.on_response(message, path, now)
            if outcome is not None:
                self._life.outcome(outcome, now)

    def _receive_request(self, message: Message, path: Path, now: float) -> None:
        reason = self._pairing.refusal(path)
        if reason is not None:
            self.drops.add(f"a check refused: {reason}")
            return
        heard = self._connectivity.on_request(message, path)
        if heard is not None:
            self._life.heard(heard, now)

    def _settle_relays(self, now: float) -> None:
        """Act on what the TURN clients report; data is the common case and needs nothing else."""
        settle = False
        for event in self._relays.events():
            match event:
                case Relayed(data, path):
                    self._incoming(data, path, now)
                    continue
                case RelayUp():
                    if not self._stopped:
                        self._gatherer.relay_up(event, now)
                case RelayDown(_, relayed, reason):
                    self._gatherer.relay_down(event, now)
                    if relayed is not None:
                        for life in self._sessions.lives:
                            life.relay_gone(relayed, reason, now)
                case RelayRefuses(relayed, peer, reason):
                    for life in self._sessions.lives:
                        life.relay_refuses(relayed, peer, reason, now)
            settle = True
        if settle:
            self._settle(now)

    def _settle(self, now: float) -> None:
        """Let everything follow from what just happened, then know when to wake up next."""
        self._settle_relays(now)
        if not self._stopped:
            while (candidate := self._gatherer.take()) is not None:
                self._pairing.add_local(candidate)
            self._life.remote_ended = self._remote_ended and not self._names.pending
            self._life.consider(now, gathered=self._gatherer.finished)
            self._follow_selection(now)
            self._pump.run(now)
            self._gatherer.conclude()
            self._judge(now)
            self._leave_previous(now)
        while (previous := self._sessions.previous) is not None and (out := previous.poll_transmit()):
            self._route(out, now)
        while (out := self._connectivity.poll_transmit()) is not None:
            self._route(out, now)
        self._deadline = None if self._stopped else self._next_deadline(now)

    def _follow_selection(self, now: float) -> None:
        """Let gathering know how it goes: mappings need no care when direct, and doubt when troubled."""
        selected = self._life.selection.pair
        if self._life.troubled:
            self._life.troubled = False
            self._gatherer.refresh(now)
        elif selected is not None and selected.valid and not selected.relayed:
            self._gatherer.settled()

    def _route(self, out: Transmit, now: float) -> None:
        """Send from one of our sockets, or through the relay whose address it is to come from."""
        if self._relays.is_relayed(out.path.local):
            self._relays.send(out.data, out.path, now)
        else:
            self._outbox.put(out)

    def _judge(self, now: float) -> None:
        """Give up when patience is over."""
        over_at = self._over_at()
        if over_at is None or over_at > now:
            return
        self._session.events.put(verdict(self.pairs))
        self._stop()

    def _over_at(self) -> float | None:
        """When to give up; never while pairs of before a restart still carry data."""
        previous = self._sessions.previous
        if previous is not None and previous.carries:
            return None
        return self._life.over_at(gathered=self._gatherer.finished)

    def _leave_previous(self, now: float) -> None:
        """Forget what was before the restart, a moment after the new session has selected a pair."""
        previous = self._sessions.previous
        if previous is not None and self._life.selection.pair is not None and previous.replaced(now):
            previous.close()
            self._sessions.previous = None

    def _stop(self) -> None:
        self._stopped = True
        self._sessions.previous = None
        self._gatherer.close()
        self._names.close()
        self._connectivity.close()

    def _next_deadline(self, now: float) -> float | None:
        return earliest(
            self._pump.next_start(now),
            self._gatherer.next_timeout(),
            self._names.next_timeout(),
            self._connectivity.next_timeout(),
            self._life.next_timeout(),
            self._over_at(),
            None if self._sessions.previous is None else self._sessions.previous.next_timeout(),
        )

    def _require_running(self, command: str) -> None:
        if self._stopped:
            raise LocalProtocolError(f"{command} on an agent that has ended")
