"""What NATs and stateful firewalls share: flows, who is let in, timers, TCP state, ICMP errors, limits.

:class:`FlowEngine` judges packets and keeps no clock and no socket. :class:`~natwalk.nat.Nat` adds external
addresses and ports to it, a firewall what it blocks. A packet costs a few dictionary look-ups.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Hashable
from typing import Final, NamedTuple

from natwalk.core import Address, Drops
from natwalk.nat.config import FlowConfig
from natwalk.nat.dimensions import Filtering, Mapping, UnsolicitedSyn, WhenFull
from natwalk.nat.held import HeldAnswers
from natwalk.nat.packet import (
    ACK,
    RST,
    SYN,
    Dropped,
    DropReason,
    IcmpKind,
    IpProtocol,
    Packet,
    Segment,
    Side,
    Translation,
    Verdict,
    icmp_error,
    reset_to,
)
from natwalk.nat.table import Binding, BindingTable, Key
from natwalk.nat.tcp import TcpSession, TcpState, event_of

KeyOf = Callable[[IpProtocol, Address, Address], Key]

KEYS: Final[dict[Mapping, KeyOf]] = {
    Mapping.ENDPOINT_INDEPENDENT: lambda protocol, here, there: (protocol, here),
    Mapping.ADDRESS_DEPENDENT: lambda protocol, here, there: (protocol, here, there.host),
    Mapping.ADDRESS_AND_PORT_DEPENDENT: lambda protocol, here, there: (protocol, here, there),
}
"""What a mapping is found by: protocol, our transport address, and as much of the remote as it depends on."""

_FILTERS: Final[dict[Filtering, Callable[[Address], Hashable] | None]] = {
    Filtering.ENDPOINT_INDEPENDENT: None,
    Filtering.ADDRESS_DEPENDENT: lambda remote: remote.host,
    Filtering.ADDRESS_AND_PORT_DEPENDENT: lambda remote: remote,
}

_new = tuple.__new__


class Entry(NamedTuple):
    """One row of the table, for people and tests; ``expires_at`` in the clock of ``now``."""

    protocol: IpProtocol
    internal: Address
    external: Address
    expires_at: float


class FlowEngine(ABC):
    """Keeps flows and judges packets by them. Not used alone: a subclass says what a flow looks like outside.

    ``drops`` counts the reasons of every packet that went no further. A mapping whose time has come is gone
    at that very instant.
    """

    def __init__(
        self,
        config: FlowConfig,
        mapping: Mapping,
        *,
        ours: Container[str],
        hairpins: Container[str],
        external_key: KeyOf,
        internal_v6: bool,
        external_v6: bool,
    ) -> None:
        self._flow = config
        self.drops = Drops()
        self._ours = ours
        self._hairpins = hairpins
        self._key = KEYS[mapping]
        self._external_key = external_key
        self._internal_v6 = internal_v6
        self._external_v6 = external_v6
        self._filter = _FILTERS[config.filtering]
        self._max_packet = config.max_packet
        self._table = BindingTable(by_use=config.when_full is WhenFull.EVICT_OLDEST)
        self._held = HeldAnswers(config.syn_answer_delay)

    # What a subclass says

    @abstractmethod
    def _find(self, protocol: IpProtocol, internal: Address, remote: Address, now: float) -> Binding | None:
        """The mapping for packets from ``internal`` to ``remote``."""

    @abstractmethod
    def _make(
        self, protocol: IpProtocol, internal: Address, remote: Address, now: float
    ) -> Binding | DropReason:
        """A new one, in the table already, or why there is none."""

    @abstractmethod
    def _by_external(self, protocol: IpProtocol, external: Address, remote: Address) -> Binding | None:
        """The mapping for packets from ``remote`` to ``external``."""

    @abstractmethod
    def _hairpin(self, packet: Packet, now: float) -> Verdict:
        """Judge a packet from inside to one of our external addresses."""

    @abstractmethod
    def _probed(self, packet: Packet, now: float) -> None:
        """Note an inbound packet that nothing lets in."""

    @abstractmethod
    def _released(self, binding: Binding) -> None:
        """Take back what a binding had, now that it is gone."""

    # Judging

    def outbound(self, packet: Packet, now: float) -> Verdict:
        """Judge a packet from inside, making or refreshing its mapping (RFC 4787 §4.1, §4.3)."""
        heap = self._table.heap
        if heap and heap[0][0] <= now:
            self._expire(now)
        source, destination, payload, protocol, ttl, tcp, icmp = packet
        if ttl <= 1 or (self._max_packet is not None and packet.size > self._max_packet):
            return self._unfit(packet)
        if (":" in destination.host) is not self._external_v6 or (
            ":" in source.host
        ) is not self._internal_v6:
            return self._drop(DropReason.WRONG_FAMILY)
        if icmp is not None:
            if icmp.about is not None:
                return self._error_from_inside(packet, now)
            if icmp.kind is IcmpKind.ECHO_REPLY:
                return self._drop(DropReason.NO_MAPPING)  # only queries make mappings, and none came in
        if destination.host in self._hairpins:
            return self._hairpin(packet, now)
        binding = self._send(source, destination, protocol, tcp, now)
        if isinstance(binding, DropReason):
            return self._drop(binding)
        return Translation(
            _new(Packet, (binding.external, destination, payload, protocol, ttl - 1, tcp, icmp)),
            Side.EXTERNAL,
        )

    def inbound(self, packet: Packet, now: float) -> Verdict:
        """Judge a packet from outside: a mapping must be there and let it in (RFC 4787 §5)."""
        heap = self._table.heap
        if heap and heap[0][0] <= now:
            self._expire(now)
        source, destination, payload, protocol, ttl, tcp, icmp = packet
        if destination.host not in self._ours:
            return self._drop(DropReason.NOT_OURS)
        if ttl <= 1 or (self._max_packet is not None and packet.size > self._max_packet):
            return self._unfit(packet)
        if icmp is not None and icmp.about is not None:
            return self._error_from_outside(packet, now)
        binding = self._admit(source, destination, protocol, tcp, now)
        if isinstance(binding, DropReason):
            return self._refuse(packet, binding, now)
        return Translation(
            _new(Packet, (source, binding.internal, payload, protocol, ttl - 1, tcp, icmp)),
            Side.INTERNAL,
        )

    def reset(self, now: float) -> None:
        """Lose every mapping, as a reboot at ``now`` does."""
        self._table.clear()
        self._held.clear()

    def next_expiry(self) -> float | None:
        """When the next mapping ends if nothing refreshes it; None when there is none."""
        return self._table.next_expiry()

    def external(
        self, internal: Address, remote: Address, now: float, protocol: IpProtocol = IpProtocol.UDP
    ) -> Address | None:
        """How ``remote`` sees ``internal`` at ``now``, or None when there is no such mapping.

        Refreshes nothing.
        """
        self._expire(now)
        binding = self._find(protocol, internal, remote, now)
        return None if binding is None else binding.external

    def mappings(self, now: float) -> tuple[tuple[Address, Address], ...]:
        """(internal, external) of every mapping alive at ``now``, oldest first.

        That is the one not used for longest where a full table evicts it, else the one made first.
        """
        self._expire(now)
        return tuple((binding.internal, binding.external) for binding in self._table)

    def entries(self, now: float) -> tuple[Entry, ...]:
        """Every mapping alive at ``now``, in the order of :meth:`mappings`."""
        self._expire(now)
        return tuple(Entry(b.protocol, b.internal, b.external, b.expires_at) for b in self._table)

    # Flows

    def _send(
        self, source: Address, destination: Address, protocol: IpProtocol, tcp: Segment | None, now: float
    ) -> Binding | DropReason:
        """The mapping a packet from inside goes by, made if need be and refreshed."""
        binding = self._find(protocol, source, destination, now)
        if tcp is not None and (refusal := self._no_session(binding, destination, tcp, now)) is not None:
            return refusal
        if binding is None:
            made = self._make(protocol, source, destination, now)
            if isinstance(made, DropReason):
                return made
            binding = made
        if tcp is not None:
            self._follow(binding, destination, tcp, True, now)
        else:
            self._permit(binding, destination, now)
            self._refresh(binding, now)
        return binding

    def _admit(
        self, remote: Address, external: Address, protocol: IpProtocol, tcp: Segment | None, now: float
    ) -> Binding | DropReason:
        """The mapping that takes a packet from ``remote`` to ``external``, refreshed if packets do that."""
        binding = self._by_external(protocol, external, remote)
        if binding is None:
            return DropReason.NO_MAPPING
        if tcp is not None:
            refusal = self._admit_segment(binding, remote, tcp, now)
            return binding if refusal is None else refusal
        if binding.forward:
            return binding if binding.welcomes(remote) else DropReason.FILTERED
        key_of = self._filter
        if key_of is not None and binding.peers.get(key_of(remote), now) <= now:
            return DropReason.FILTERED
        flow = self._flow
        if flow.replied_timeout is not None and protocol is IpProtocol.UDP:
            binding.idle = flow.replied_timeout
        if flow.inbound_refresh:
            self._permit(binding, remote, now)
            self._refresh(binding, now)
        return binding

    def _room(self, subscriber: str) -> DropReason | None:
        """Keep the limits with one more mapping of ``subscriber``, or say why it cannot be made."""
        flow = self._flow
        share = flow.max_mappings_per_subscriber
        evicts = flow.when_full is WhenFull.EVICT_OLDEST
        if share is not None and self._table.count(subscriber) >= share:
            if not evicts:
                return DropReason.SUBSCRIBER_FULL
            self._evict(self._table.oldest(subscriber))
        if len(self._table) >= flow.max_mappings:
            if not evicts:
                return DropReason.TABLE_FULL
            self._evict(self._table.oldest())
        return None

    def _evict(self, binding: Binding | None) -> None:
        if binding is not None:
            self._table.remove(binding)
            self._released(binding)

    # Timers

    def _lifetime(self, binding: Binding, now: float) -> None:
        """Set the timers of a new binding; TCP's are those of its connections."""
        match binding.protocol:
            case IpProtocol.UDP:
                binding.idle = self._flow.idle_timeout
            case IpProtocol.ICMP:
                binding.idle = self._flow.icmp_timeout
            case IpProtocol.TCP:
                binding.idle = self._flow.tcp_transitory
        binding.expires_at = self._deadline(binding, now)

    def _deadline(self, binding: Binding, now: float) -> float:
        idle = now + binding.idle
        return idle if binding.limit is None or idle < binding.limit else binding.limit

    def _refresh(self, binding: Binding, now: float) -> None:
        """Note that ``binding`` was used; a forward has a time of its own."""
        deadline = binding.expires_at if binding.forward else self._deadline(binding, now)
        if deadline >= binding.expires_at:
            self._table.touch(binding, deadline)

    def _expire(self, now: float) -> None:
        for binding in self._table.expire(now):
            self._released(binding)

    # Filtering

    def _permit(self, binding: Binding, remote: Address, now: float) -> None:
        """Let ``remote`` in through ``binding`` for as long as a mapping lives idle."""
        if self._filter is None:
            return
        key = self._filter(remote)
        peers = binding.peers
        until = max(peers.pop(key, 0.0), now + binding.idle)  # later than that only if held: Nat.hold
        if len(peers) >= self._flow.max_peers_per_mapping:
            del peers[next(iter(peers))]
        peers[key] = until

    def _refuse(self, packet: Packet, reason: DropReason, now: float) -> Dropped:
        """Drop a packet from outside; the sender may hear of it."""
        self._probed(packet, now)
        flow = self._flow
        answer: Packet | None = None
        if packet.tcp is not None:
            if packet.tcp.flags & (SYN | ACK | RST) == SYN:
                return self._refuse_syn(packet, reason, now)
        elif flow.early_probe.answers and packet.protocol is IpProtocol.UDP:
            answer = icmp_error(IcmpKind.PORT_UNREACHABLE, packet, self._address(packet))
        return self._drop(reason, answer)

    def _refuse_syn(self, packet: Packet, reason: DropReason, now: float) -> Dropped:
        """Answer an unsolicited SYN now, later or never (RFC 5382 §4.3)."""
        answer = self._syn_answer(packet)
        if answer is not None and self._flow.syn_answer_delay:
            self._held.hold(packet, now)
            answer = None
        return self._drop(DropReason.UNSOLICITED_SYN if reason is DropReason.FILTERED else reason, answer)

    def _syn_answer(self, packet: Packet) -> Packet | None:
        match self._flow.unsolicited_syn:
            case UnsolicitedSyn.DROP:
                return None
            case UnsolicitedSyn.RST:
                return reset_to(packet)
            case UnsolicitedSyn.ICMP:
                return icmp_error(IcmpKind.PORT_UNREACHABLE, packet, self._address(packet))

    def next_answer(self) -> float | None:
        """When :meth:`answers` next has something to send; None when nothing is held back."""
        return self._held.next_due()

    def answers(self, now: float) -> list[Translation]:
        """Answers to unsolicited SYNs that were held back until ``now``."""
        answers = map(self._syn_answer, self._held.due(now))
        return [Translation(answer, Side.EXTERNAL) for answer in answers if answer is not None]

    # TCP

    def _no_session(
        self, binding: Binding | None, remote: Address, segment: Segment, now: float
    ) -> DropReason | None:
        """Why a segment from inside may not pass: it opens nothing and belongs to nothing."""
        session = None if binding is None else binding.sessions.get(remote)
        if session is not None and session.deadline > now:
            return None
        opens = segment.flags & (SYN | RST) == SYN or (
            self._flow.tcp_pickup and not segment.flags & (RST | SYN)
        )
        if not opens:
            return DropReason.NO_TCP_SESSION
        if binding is not None and not self._has_room(binding, now):
            return DropReason.TABLE_FULL
        return None

    def _admit_segment(
        self, binding: Binding, remote: Address, segment: Segment, now: float
    ) -> DropReason | None:
        """Why a segment from outside may not pass ``binding``; None and followed when it may."""
        session = binding.sessions.get(remote)
        syn_only = segment.flags & (SYN | ACK | RST) == SYN
        if session is not None and session.deadline > now:
            if session.state is TcpState.INTERNAL_SYN and syn_only and not self._flow.simultaneous_open:
                return DropReason.SIMULTANEOUS_OPEN
        elif not syn_only:
            return DropReason.NO_TCP_SESSION
        elif not self._welcomes(binding, remote, now):
            return DropReason.FILTERED
        elif not self._has_room(binding, now):
            return DropReason.TABLE_FULL
        self._follow(binding, remote, segment, False, now)
        return None

    def _welcomes(self, binding: Binding, remote: Address, now: float) -> bool:
        """Whether a new connection from ``remote`` may come in."""
        if binding.forward:
            return binding.welcomes(remote)
        match self._flow.filtering:
            case Filtering.ENDPOINT_INDEPENDENT:
                return True
            case Filtering.ADDRESS_DEPENDENT:
                live = (peer for peer, session in binding.sessions.items() if session.deadline > now)
                return any(peer.host == remote.host for peer in live)
            case Filtering.ADDRESS_AND_PORT_DEPENDENT:
                return False

    def _has_room(self, binding: Binding, now: float) -> bool:
        """Whether one more connection fits, once those that are over are forgotten."""
        if len(binding.sessions) < self._flow.max_peers_per_mapping:
            return True
        for remote in [r for r, session in binding.sessions.items() if session.deadline <= now]:
            del binding.sessions[remote]
        return len(binding.sessions) < self._flow.max_peers_per_mapping

    def _follow(self, binding: Binding, remote: Address, segment: Segment, inside: bool, now: float) -> None:
        """Move the connection's state; the mapping lives as long as the longest of its connections."""
        session = binding.sessions.get(remote)
        if session is None or session.deadline <= now:
            session = binding.sessions[remote] = TcpSession()
        before = session.deadline
        flow = self._flow
        session.step(event_of(segment), inside, flow.tcp_transitory, flow.tcp_established, now)
        if self._held and inside:
            self._held.forget(binding.external, remote)
        if binding.forward:
            self._refresh(binding, now)
            return
        if session.deadline >= binding.expires_at:
            self._table.touch(binding, session.deadline)
        elif before >= binding.expires_at or len(binding.sessions) == 1:
            latest = max(each.deadline for each in binding.sessions.values())
            if latest < binding.expires_at:
                self._table.hasten(binding, latest)

    # ICMP errors

    def _error_from_outside(self, packet: Packet, now: float) -> Verdict:
        """Translate an error about a packet that went out (RFC 5508 §4.2); it refreshes nothing."""
        icmp = packet.icmp
        assert icmp is not None
        assert icmp.about is not None
        about = icmp.about
        binding = self._by_external(about.protocol, about.source, about.destination)
        if binding is None:
            return self._drop(DropReason.NO_MAPPING)
        translated = packet._replace(
            destination=Address(binding.internal.host, 0),
            ttl=packet.ttl - 1,
            icmp=icmp._replace(about=about._replace(source=binding.internal)),
        )
        if self._flow.icmp_error_ends_mapping and not binding.forward:
            self._evict(binding)
        return Translation(translated, Side.INTERNAL)

    def _error_from_inside(self, packet: Packet, now: float) -> Verdict:
        """Translate an error about a packet that came in (RFC 5508 §4.2).

        Whatever router inside it comes from, outside it comes from the address the packet was sent to.
        """
        icmp = packet.icmp
        assert icmp is not None
        assert icmp.about is not None
        about = icmp.about
        binding = self._find(about.protocol, about.destination, about.source, now)
        if binding is None:
            return self._drop(DropReason.NO_MAPPING)
        translated = packet._replace(
            source=self._outside_of(packet.source, binding),
            ttl=packet.ttl - 1,
            icmp=icmp._replace(about=about._replace(destination=binding.external)),
        )
        if packet.destination.host in self._hairpins:
            return self._error_from_outside(translated._replace(ttl=packet.ttl), now)
        return Translation(translated, Side.EXTERNAL)

    def _outside_of(self, router: Address, binding: Binding) -> Address:
        """How the sender of an error from inside looks outside."""
        return Address(binding.external.host, 0)

    # Dropping

    def _unfit(self, packet: Packet) -> Dropped:
        if packet.ttl > 1:
            return self._drop(DropReason.TOO_LARGE)
        answer = icmp_error(IcmpKind.TIME_EXCEEDED, packet, self._address(packet))
        return self._drop(DropReason.TTL_EXPIRED, answer)

    def _address(self, about: Packet) -> str:
        """What an ICMP error of this box about a packet comes from."""
        return self._flow.router_address or about.destination.host

    def _drop(self, reason: DropReason, answer: Packet | None = None) -> Dropped:
        self.drops.add(reason.value)
        return Dropped(reason, answer)
