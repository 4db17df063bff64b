"""Firewalls: they translate nothing, and let pass what their rules say, by state or without."""

from __future__ import annotations

from typing import Final

from natwalk.core import Address, Drops
from natwalk.nat.box_config import FirewallConfig
from natwalk.nat.config import FlowConfig
from natwalk.nat.dimensions import Mapping
from natwalk.nat.flows import KEYS, FlowEngine
from natwalk.nat.packet import (
    Dropped,
    DropReason,
    IcmpKind,
    IpProtocol,
    Packet,
    Side,
    Translation,
    Verdict,
    icmp_error,
    reset_to,
)
from natwalk.nat.portal import Portal
from natwalk.nat.table import Binding

_STUN_COOKIE: Final = bytes.fromhex("2112a442")  # RFC 8489 §5


class Firewall:
    """A middlebox without translation: what it refuses goes no further, the rest passes unchanged."""

    def __init__(self, config: FirewallConfig) -> None:
        self.config = config
        self.drops = Drops()
        self._flows: dict[int, _Flows] = {}
        self._portal = None if config.portal is None else Portal(config.portal)

    def outbound(self, packet: Packet, now: float) -> Verdict:
        """Judge a packet from inside."""
        refusal = self._refusal(packet, packet.destination.port)
        if refusal is None and self._portal is not None:
            admitted = self._portal.outbound(packet, now)
            if isinstance(admitted, DropReason):
                refusal = admitted
            else:
                packet = admitted
        if refusal is not None:
            return self._refuse(packet, refusal)
        return self._pass(packet, Side.EXTERNAL, now)

    def inbound(self, packet: Packet, now: float) -> Verdict:
        """Judge a packet from outside."""
        refusal = self._refusal(packet, packet.source.port)
        if refusal is not None:
            return self._drop(refusal)
        verdict = self._pass(packet, Side.INTERNAL, now)
        if self._portal is not None and isinstance(verdict, Translation):
            return verdict._replace(packet=self._portal.inbound(verdict.packet))
        return verdict

    def sign_in(self, host: str, now: float) -> None:
        """Have the captive portal let ``host`` through from ``now`` on; nothing without a portal."""
        if self._portal is not None:
            self._portal.sign_in(host, now)

    def reset(self, now: float) -> None:
        """Lose all flows; who signed in has to again."""
        for flows in self._flows.values():
            flows.reset(now)
        if self._portal is not None:
            self._portal.reset()

    def next_answer(self) -> float | None:
        """When the first answer that it held back is due."""
        times = [at for flows in self._flows.values() if (at := flows.next_answer()) is not None]
        return min(times, default=None)

    def answers(self, now: float) -> list[Translation]:
        """Answers to unsolicited SYNs that were held back until ``now``."""
        return [answer for flows in self._flows.values() for answer in flows.answers(now)]

    def _refusal(self, packet: Packet, remote_port: int) -> DropReason | None:
        """Which rule is against ``packet``, whatever the state."""
        config = self.config
        match packet.protocol:
            case IpProtocol.UDP:
                allowed, ports, blocked = config.udp, config.udp_ports, DropReason.UDP_BLOCKED
            case IpProtocol.TCP:
                allowed, ports, blocked = config.tcp, config.tcp_ports, DropReason.TCP_BLOCKED
            case IpProtocol.ICMP:
                allowed, ports, blocked = config.icmp, None, DropReason.ICMP_BLOCKED
        if not allowed:
            return blocked
        if ports is not None and remote_port not in ports:
            return DropReason.PORT_BLOCKED
        if config.max_packet is not None and packet.size > config.max_packet:
            return DropReason.TOO_LARGE
        if config.only_stun and packet.protocol is IpProtocol.UDP and packet.payload[4:8] != _STUN_COOKIE:
            return DropReason.SCRUBBED
        return None

    def _pass(self, packet: Packet, side: Side, now: float) -> Verdict:
        if self.config.flow is not None:
            flows = self._flows.get(packet.destination.version)
            if flows is None:
                flows = _Flows(self.config.flow, packet.destination.version, self.drops)
                self._flows[packet.destination.version] = flows
            return flows.outbound(packet, now) if side is Side.EXTERNAL else flows.inbound(packet, now)
        if packet.ttl <= 1:
            answer = icmp_error(IcmpKind.TIME_EXCEEDED, packet, packet.destination.host)
            return self._drop(DropReason.TTL_EXPIRED, answer)
        return Translation(packet._replace(ttl=packet.ttl - 1), side)

    def _refuse(self, packet: Packet, reason: DropReason) -> Dropped:
        """Drop a packet from inside, telling its sender if that is the custom here."""
        vanishes = reason in (DropReason.TOO_LARGE, DropReason.SCRUBBED)
        if not self.config.rejects or vanishes:
            return self._drop(reason)
        if packet.protocol is IpProtocol.TCP:
            return self._drop(reason, reset_to(packet))
        answer = icmp_error(IcmpKind.ADMIN_PROHIBITED, packet, packet.destination.host)
        return self._drop(reason, answer)

    def _drop(self, reason: DropReason, answer: Packet | None = None) -> Dropped:
        self.drops.add(reason.value)
        return Dropped(reason, answer)


class _Everything:
    """The addresses of a box that is on the way to all of them."""

    def __contains__(self, host: object) -> bool:
        return True


class _Flows(FlowEngine):
    """The state of a firewall for one IP version: flows that look outside as they do inside."""

    def __init__(self, config: FlowConfig, version: int, drops: Drops) -> None:
        super().__init__(
            config,
            Mapping.ENDPOINT_INDEPENDENT,
            ours=_Everything(),
            hairpins=(),
            external_key=KEYS[Mapping.ENDPOINT_INDEPENDENT],
            internal_v6=version == 6,
            external_v6=version == 6,
        )
        self.drops = drops

    def _find(self, protocol: IpProtocol, internal: Address, remote: Address, now: float) -> Binding | None:
        return self._table.by_key.get((protocol, internal))

    def _make(
        self, protocol: IpProtocol, internal: Address, remote: Address, now: float
    ) -> Binding | DropReason:
        if (refusal := self._room(internal.host)) is not None:
            return refusal
        key = (protocol, internal)
        binding = Binding(key, key, protocol, internal, internal, now, now)
        self._lifetime(binding, now)
        self._table.add(binding)
        return binding

    def _by_external(self, protocol: IpProtocol, external: Address, remote: Address) -> Binding | None:
        return self._table.by_external.get((protocol, external))

    def _hairpin(self, packet: Packet, now: float) -> Verdict:
        raise AssertionError("no address is the firewall's own")

    def _probed(self, packet: Packet, now: float) -> None:
        """Nothing: a port that is not translated cannot be moved."""

    def _released(self, binding: Binding) -> None:
        """Nothing: a flow had nothing but its own address."""

    def _outside_of(self, router: Address, binding: Binding) -> Address:
        return router
