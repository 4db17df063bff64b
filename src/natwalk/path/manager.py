"""All ways to one peer: start on what works first, move to the best, notice death, repair.

A generation is one ICE session (RFC 8445 §9 calls the next one an ICE restart) with sockets of its own, so
that a repair never depends on mappings a NAT has forgotten. At most two live at a time: the one that carries
data and the one that is being tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum, auto
from typing import Final

from natwalk.core import (
    Address,
    Drops,
    LocalProtocolError,
    Outbox,
    Path,
    RandomBytes,
    Timers,
    Transmit,
    earliest,
)
from natwalk.ice import Candidate, IceConfig, IceParameters, PairInfo, TransportPolicy, TurnServerAddress
from natwalk.path import events as ev
from natwalk.path.bursts import Bursts
from natwalk.path.explain import MappingView, why_direct, why_not_direct
from natwalk.path.fragment import MARK, Fragmenter, Reassembler
from natwalk.path.generation import Generation
from natwalk.path.mtu import BASE_PLPMTU, same_machine

REPAIR_LIMIT: Final = 45.0
"""Seconds a lost path may take to come back before there is none."""
REPAIR_SILENCE: Final = 12.0
"""Seconds after which a peer that has not even answered through the server is taken to be gone."""
AWAY_SILENCE: Final = 3.0
"""The same for a peer whose connection to the server broke too."""
REPAIR_RETRY: Final = 8.0
"""Seconds one repair attempt gets before the next generation starts."""
SETTLE_LIMIT: Final = 0.25
"""Seconds the first path waits for its MTU at most."""
BURST: Final = 64
"""Datagrams of ICE and TURN handed to the driver in one go at most."""
RELAY_GRACE: Final = 0.06
"""Seconds a relay that works first leaves to a direct pair, whose larger datagrams QUIC would then keep."""
SETTLE_SLACK: Final = 0.005
"""Seconds answers to probes may lie apart."""
MAX_GENERATION: Final = 1 << 16
QUIC_FIXED_BIT: Final = 0x40
"""First byte from which a datagram can be neither STUN nor DTLS (RFC 9443 §3)."""


_MARK_BYTE: Final = bytes((MARK,))


class _Timer(Enum):
    SETTLE = auto()
    REPAIR_RETRY = auto()
    REPAIR_LIMIT = auto()
    REPAIR_SILENCE = auto()


class PathManager:
    """Every path to one peer, behind one ``send`` and one stream of events (a :class:`natwalk.core.Core`)."""

    def __init__(self, config: IceConfig, *, controlling: bool, random_bytes: RandomBytes) -> None:
        self._config = config
        self._controlling = controlling
        self._random_bytes = random_bytes
        self._events: Outbox[ev.PathEvent] = Outbox()
        self._bursts = Bursts()
        self._timers: Timers[_Timer] = Timers()
        self._current: Generation | None = None
        self._next: Generation | None = None
        self._fragmenter = Fragmenter()
        self._reassembler = Reassembler()
        self._ready = False
        self._away = False
        self._closed = False
        self._drops = Drops()
        self.info: ev.PathInfo | None = None
        self.peer_mapping = MappingView.UNKNOWN

    @property
    def drops(self) -> Drops:
        """Why datagrams were dropped, here and by ICE."""
        return Drops.sum([self._drops, *(gen.agent.drops for gen in self._generations())])

    # --- what the owner says -------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Begin generation 0."""
        if self._current is not None:
            raise LocalProtocolError("the path was started already")
        self._current = self._begin(0)

    def add_local_address(self, generation: int, address: Address, now: float) -> None:
        """A socket of ``generation`` is bound to ``address``."""
        if (gen := self._find(generation)) is not None:
            gen.agent.add_local_address(address, now)
            gen.locals.add(address)
            self._service(now)

    def end_of_local_addresses(self, generation: int, now: float) -> None:
        """All sockets of ``generation`` have been given."""
        if (gen := self._find(generation)) is not None:
            gen.agent.end_of_local_addresses(now)
            self._service(now)

    def relay_link_opened(
        self, generation: int, server: TurnServerAddress, local: Address, now: float
    ) -> None:
        """The connection to ``server`` that RelayLinkWanted asked for is there, from ``local``."""
        path = Path(local, server.address, server.transport)
        if (gen := self._find(generation)) is None:
            self._events.put(ev.RelayLinkReleased(path))
            return
        gen.link_opened(path)
        gen.agent.stream_opened(server, local, now)
        self._service(now)

    def relay_link_failed(self, generation: int, server: TurnServerAddress, reason: str, now: float) -> None:
        """That connection is not to be had; ``reason`` is a short phrase for people."""
        if (gen := self._find(generation)) is not None:
            gen.agent.stream_failed(server, reason, now)
            self._service(now)

    def relay_link_closed(self, path: Path, reason: str, now: float) -> None:
        """A connection has ended, and the relayed address with it."""
        for gen in self._generations():
            if path in gen.links:
                gen.links.discard(path)
                gen.agent.stream_closed(path, reason, now)
                self._service(now)
                return

    def set_remote_parameters(self, generation: int, parameters: IceParameters, now: float) -> None:
        """The peer's credentials for ``generation``; one newer than ours begins a repair here too."""
        newest = None if self._closed else self._next or self._current
        if newest is not None and newest.number < generation <= MAX_GENERATION:
            self._restart_as(generation)
        if (gen := self._find(generation)) is not None and not gen.described:
            gen.described = True
            self._away = False
            self._timers.cancel(_Timer.REPAIR_SILENCE)
            gen.agent.set_remote_parameters(parameters, now)
            self._service(now)

    def add_remote_candidate(self, generation: int, candidate: Candidate, now: float) -> None:
        """A candidate of the peer's; those of a generation that is over are ignored."""
        if (gen := self._find(generation)) is not None:
            gen.agent.add_remote_candidate(candidate, now)
            self._service(now)

    def end_of_remote_candidates(self, generation: int, now: float) -> None:
        """The peer has no more candidates in ``generation``."""
        if (gen := self._find(generation)) is not None:
            gen.agent.end_of_remote_candidates(now)
            self._service(now)

    def doubt(self, now: float, *, away: bool) -> None:
        """Check the paths at once: something outside says that the peer may be gone.

        ``away`` tells that it is not at the rendezvous server either, so that a repair has little hope
        until it says something there (:meth:`set_remote_parameters`).
        """
        self._away = away
        if self._current is not None and self._ready and not self._closed:
            self._current.agent.doubt(now)
            self._service(now)

    def send(self, datagram: bytes, now: float) -> None:
        """Send one datagram on the path in use; dropped, with a reason, while there is none."""
        self.send_many([datagram], now)

    def send_many(self, datagrams: list[bytes], now: float) -> None:
        """Send ``datagrams`` in order on the path in use."""
        gen = self._current
        if gen is None or gen.pair is None:
            self._drops.add("no path to send on")
            return
        mtu = gen.mtu
        if any(len(datagram) > mtu for datagram in datagrams):
            datagrams = self._cut(datagrams, mtu)
        if gen.route is None:
            gen.send(datagrams, now)
        else:
            self._bursts.put(gen.route, datagrams)
            gen.agent.note_sent(gen.pair.id, now, datagrams)

    def close(self, now: float) -> None:
        """Stop everything; TURN allocations are given back."""
        self._closed = True
        self._timers.clear()
        for gen in self._generations():
            gen.agent.close(now)
            self._events.put(ev.SocketsReleased(gen.number))

    # --- the contract of a core ------------------------------------------------------------------------

    def receive(self, datagram: bytes, path: Path, now: float) -> None:
        """Take a datagram: an application's from a validated pair, or a message of ICE or TURN."""
        for gen in self._generations():
            if path.local in gen.locals or path in gen.links:
                gen.agent.receive(datagram, path, now)
                if not self._drain(gen, now):
                    self._service(now)
                return
        self._drops.add("no generation has that socket")

    def admit(self, path: Path, batch: Sequence[bytes], now: float) -> bool:
        """Take the short way for bulk: True when all of ``batch`` is the application's as it stands.

        That is so when it came on a flow of a validated pair and nothing in it is a message of ICE or TURN
        or a piece of a datagram. Otherwise give each datagram to :meth:`receive`.
        """
        gen = self._current
        if gen is None or path not in gen.accepted:
            return False
        for datagram in batch:
            if not datagram or datagram[0] < QUIC_FIXED_BIT or datagram[0] == MARK:
                return False
        gen.agent.note_received(path, now, batch)
        return True

    def why_none(self) -> str:
        """Why there is no path, as far as it is known."""
        gen = self._next or self._current
        return "it was not started" if gen is None else self._explain_failure(gen)

    def handle_timeout(self, now: float) -> None:
        """Run what is due in every generation and here."""
        for gen in self._generations():
            gen.agent.handle_timeout(now)
        for timer in self._timers.due(now):
            self._on_timer(timer, now)
        self._service(now)

    def poll_transmit(self) -> Transmit | None:
        """The next datagram to send, or None."""
        if (transmit := self._bursts.poll_one()) is not None:
            return transmit
        for gen in self._generations():
            if (transmit := gen.agent.poll_transmit()) is not None:
                return transmit
        return None

    def poll_burst(self) -> tuple[Path, list[bytes]] | None:
        """The next datagrams to send, all on one path, or None."""
        if (burst := self._bursts.poll()) is not None:
            return burst
        for gen in self._generations():
            while len(self._bursts) < BURST and (transmit := gen.agent.poll_transmit()) is not None:
                self._bursts.put(transmit.path, [transmit.data])
        return self._bursts.poll()

    def poll_event(self) -> ev.PathEvent | None:
        """The next event, or None."""
        return self._events.poll()

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` is wanted, or None."""
        return earliest(
            self._timers.next_timeout(),
            *(gen.agent.next_timeout() for gen in self._generations()),
        )

    # --- inside ----------------------------------------------------------------------------------------

    def _generations(self) -> tuple[Generation, ...]:
        return tuple(gen for gen in (self._current, self._next) if gen is not None)

    def _find(self, number: int) -> Generation | None:
        """The generation called ``number`` while it may still be told something."""
        if self._closed:
            return None
        return next((g for g in self._generations() if g.number == number and g.failed is None), None)

    def _begin(self, number: int) -> Generation:
        gen = Generation(number, self._config, controlling=self._controlling, random_bytes=self._random_bytes)
        self._events.put(ev.LocalDescription(number, gen.agent.local_parameters))
        self._events.put(ev.SocketsWanted(number))
        return gen

    def _restart_as(self, number: int) -> None:
        if self._next is not None:
            self._events.put(ev.SocketsReleased(self._next.number))
        self._next = self._begin(number)

    def _cut(self, datagrams: list[bytes], mtu: int) -> list[bytes]:
        pieces: list[bytes] = []
        for datagram in datagrams:
            if len(datagram) <= mtu:
                pieces.append(datagram)
            else:
                pieces.extend(self._fragmenter.split(datagram, mtu))
        return pieces

    def _accept(self, datagram: bytes) -> None:
        if datagram[:1] != _MARK_BYTE:
            self._events.put(ev.Received(datagram))
        elif (whole := self._reassembler.add(datagram)) is not None:
            self._events.put(ev.Received(whole))

    def _service(self, now: float) -> None:
        """Take every agent's events until there are none, then see what they change."""
        for gen in self._generations():
            self._drain(gen, now)
            gen.refresh()
        self._promote(now)
        self._update(now)

    def _drain(self, gen: Generation, now: float) -> bool:
        """Take the events of one agent; True when there were some and all were application data."""
        data = news = False
        while (notice := gen.poll(now)) is not None:
            if isinstance(notice, ev.Received):
                data = True
                self._accept(notice.data)
            else:
                news = True
                self._events.put(notice)
        return data and not news

    def _promote(self, now: float) -> None:
        """Let the generation that is being tried take over once it has a pair to send on."""
        gen, old = self._next, self._current
        if gen is None or not gen.usable:
            return
        if old is not None:
            old.agent.close(now)
            while (transmit := old.agent.poll_transmit()) is not None:
                self._bursts.put(transmit.path, [transmit.data])
            self._events.put(ev.SocketsReleased(old.number))
        self._current, self._next = gen, None
        self._stop_repair()

    def _update(self, now: float) -> None:
        """Bring ``info`` and its events up to date with the pair in use."""
        gen = self._current
        if gen is None or self._closed:
            return
        if gen.pair is None or (self._ready and self._dead(gen)):
            self._without_path(gen, now)
            return
        if not self._ready:
            hasty = gen.pair.relayed and self._config.policy is not TransportPolicy.RELAY
            if gen.settled and not hasty:
                self._get_ready(gen)
            else:
                self._settle_by(now + (RELAY_GRACE if hasty else self._settling(gen)))
            return
        self._stop_repair()
        info = self._describe(gen, gen.pair)
        if info != self.info:
            visible = self.info is None or replace(info, rtt=self.info.rtt) != self.info
            self.info = info
            if visible:
                self._events.put(ev.PathChanged(info))

    def _dead(self, gen: Generation) -> bool:
        """Whether the pair in use no longer answers; a peer that is away too gets no second chance."""
        selected = gen.agent.selected if self._away else None
        return (gen.pair is not None and gen.pair.suspect) or (selected is not None and selected.suspect)

    def _settling(self, gen: Generation) -> float:
        """Seconds the first path still waits for its MTU.

        All probes leave with the validation: what passes is answered within about one round trip, and once
        one was answered, the rest are due.
        """
        rtt = None if gen.pair is None else gen.pair.rtt
        if gen.pair is not None and same_machine(gen.pair.local.base, gen.pair.remote.address):
            return SETTLE_LIMIT  # what loopback loses it loses at once: only a busy machine is slow here
        if gen.mtu > BASE_PLPMTU:
            return SETTLE_SLACK if rtt is None else SETTLE_SLACK + 0.1 * rtt
        return SETTLE_LIMIT if rtt is None else min(SETTLE_LIMIT, SETTLE_SLACK + 1.25 * rtt)

    def _settle_by(self, deadline: float) -> None:
        known = self._timers.get(_Timer.SETTLE)
        if known is None or deadline < known:
            self._timers.set(_Timer.SETTLE, deadline)

    def _get_ready(self, gen: Generation) -> None:
        if gen.pair is not None:
            self._timers.cancel(_Timer.SETTLE)
            self._ready = True
            self.info = self._describe(gen, gen.pair)
            self._events.put(ev.PathReady(self.info))

    def _describe(self, gen: Generation, pair: PairInfo) -> ev.PathInfo:
        reason = (
            why_not_direct(gen.agent.pairs, self._config.policy, gen.mapping, self.peer_mapping)
            if pair.relayed
            else why_direct(pair)
        )
        return ev.PathInfo(
            kind=ev.PathKind.RELAY if pair.relayed else ev.PathKind.DIRECT,
            local=pair.local.address,
            remote=pair.remote.address,
            local_type=pair.local.type.value,
            remote_type=pair.remote.type.value,
            rtt=pair.rtt,
            mtu=gen.mtu,
            reason=reason,
        )

    def _without_path(self, gen: Generation, now: float) -> None:
        if self.info is not None:
            self.info = None
            self._events.put(ev.PathLost(gen.trouble or "the path stopped answering"))
            self._timers.set(_Timer.REPAIR_LIMIT, now + REPAIR_LIMIT)
            silence = AWAY_SILENCE if self._away else REPAIR_SILENCE
            self._timers.set(_Timer.REPAIR_SILENCE, now + silence)
            self._repair(now)
        elif gen.failed is not None and not self._ready and self._next is None:
            self._give_up(self._explain_failure(gen))

    def _repair(self, now: float) -> None:
        newest = self._next or self._current
        if newest is not None and not self._closed:
            self._restart_as(newest.number + 1)
            self._timers.set(_Timer.REPAIR_RETRY, now + REPAIR_RETRY)

    def _stop_repair(self) -> None:
        for timer in (_Timer.REPAIR_RETRY, _Timer.REPAIR_LIMIT, _Timer.REPAIR_SILENCE):
            self._timers.cancel(timer)

    def _explain_failure(self, gen: Generation) -> str:
        why = why_not_direct(gen.agent.pairs, self._config.policy, gen.mapping, self.peer_mapping)
        return f"{why}; {gen.failed}" if gen.failed else why

    def _give_up(self, reason: str) -> None:
        self._closed = True
        self._timers.clear()
        self._events.put(ev.NoPath(reason))

    def _on_timer(self, timer: _Timer, now: float) -> None:
        gen = self._current
        match timer:
            case _Timer.SETTLE:
                if gen is not None and not self._ready:
                    self._get_ready(gen)
            case _Timer.REPAIR_RETRY:
                if self.info is None:
                    self._repair(now)
            case _Timer.REPAIR_SILENCE:
                if self.info is None:
                    self._give_up("the peer answers neither on the path nor through the server")
            case _Timer.REPAIR_LIMIT:
                if self.info is None:
                    self._give_up("the path was lost and could not be repaired")
