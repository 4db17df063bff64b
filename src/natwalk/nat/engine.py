"""The NAT: RFC 4787, 5382 and 5508, as an object that judges packets and keeps no clock and no socket."""

from __future__ import annotations

from natwalk.core import Address, LocalProtocolError, RandomBytes
from natwalk.nat.config import NatConfig
from natwalk.nat.dimensions import Allocation, Hairpin, Mapping, Pooling
from natwalk.nat.flows import KEYS, FlowEngine
from natwalk.nat.packet import DropReason, IpProtocol, Packet, Side, Translation, Verdict
from natwalk.nat.poison import Poison
from natwalk.nat.ports import PortAllocator, PortBlocks, Refused
from natwalk.nat.table import Binding, Guest, Key

_EIM = KEYS[Mapping.ENDPOINT_INDEPENDENT]
_LOW_PORTS = (1, 1023)
_QUERY_IDS = (1, 65535)


class Nat(FlowEngine):
    """Translates between one internal realm and its external addresses (RFC 4787 §4 to §6).

    Feed it packets with the time in monotonic seconds, never earlier than the one before. Raises
    LocalProtocolError when ``config`` has no public address. ``internal_version`` is the IP version inside,
    if it is not that of the public addresses (NAT64).
    """

    def __init__(
        self, config: NatConfig, *, random_bytes: RandomBytes, internal_version: int | None = None
    ) -> None:
        if not config.public_addresses:
            raise LocalProtocolError("a NAT needs at least one public address: use NatConfig.at()")
        self._random_bytes = random_bytes
        self._settle(config)
        external_v6 = ":" in self._public[0]
        super().__init__(
            config,
            config.mapping,
            ours=self._public,
            hairpins=self._public,
            external_key=KEYS[config.mapping] if config.shares_ports else _EIM,
            internal_v6=external_v6 if internal_version is None else internal_version == 6,
            external_v6=external_v6,
        )
        self._poison = Poison(config.poison_timeout)
        self._poisonable = config.early_probe.poisons
        self._plain = not (self._poisonable or config.independent_ports or config.remap_after)
        self._pool: dict[tuple[IpProtocol, str, bool], PortAllocator] = {}
        self._blocks: dict[str, PortBlocks] = {}
        self._paired: dict[str, str] = {}
        self._forwards: dict[Key, Binding] = {}
        self._by_source: dict[Key, dict[Binding, None]] = {}

    def _settle(self, config: NatConfig) -> None:
        self.config = config
        self._public = tuple(Address(host, 0).host for host in config.public_addresses)

    @property
    def public_addresses(self) -> tuple[str, ...]:
        """Its external addresses, in canonical text."""
        return self._public

    def reset(self, now: float) -> None:
        """Lose every mapping and start allocation anew, as a reboot at ``now`` does."""
        super().reset(now)
        self._poison.clear()
        self._paired.clear()
        self._pool.clear()
        self._blocks.clear()
        self._forwards.clear()
        self._by_source.clear()

    def move(self, *public_addresses: str, now: float) -> None:
        """Get other external addresses, of the same IP version, at ``now``; every mapping is lost.

        Raises ValueError for none, or of the other version.
        """
        config = self.config.at(*public_addresses)
        if not public_addresses or (":" in public_addresses[0]) is not self._external_v6:
            raise ValueError(f"{public_addresses} cannot take the place of {self._public}")
        self._settle(config)
        self._ours = self._hairpins = self._public
        self.reset(now)

    # Mappings somebody asked for (RFC 6887 §11)

    def forward(
        self,
        protocol: IpProtocol,
        internal: Address,
        lifetime: float,
        now: float,
        *,
        external_port: int | None = None,
        exact: bool = False,
        guests: tuple[Guest, ...] = (),
    ) -> Address | DropReason:
        """Have everybody, or only ``guests``, reach ``internal`` for ``lifetime`` seconds from ``now``.

        Returns the external address: a mapping that ``internal`` has already is renewed and keeps its port;
        a new one gets ``external_port`` if that is free and else, if it need not be ``exact``, another.
        Packets out of ``internal`` go by it as well. DropReason when a limit is reached or no port is free.
        """
        self._expire(now)
        key = (protocol, internal)
        binding = self._forwards.get(key)
        if binding is not None:
            binding.guests = guests
            self._prolong(binding, now + lifetime)
            return binding.external
        refusal = self._room(internal.host)
        if refusal is not None:
            return refusal
        external = self._take(protocol, internal, external_port, exact)
        if external is None:
            return DropReason.NO_PORT
        binding = Binding(None, (protocol, external), protocol, internal, external, now, now + lifetime)
        binding.forward = True
        binding.guests = guests
        self._forwards[key] = binding
        self._table.add(binding)
        return external

    def forwarded(self, protocol: IpProtocol, internal: Address, now: float) -> tuple[Address, float] | None:
        """The external address of the forward to ``internal`` and the seconds it has left, or None."""
        self._expire(now)
        binding = self._forwards.get((protocol, internal))
        return None if binding is None else (binding.external, binding.expires_at - now)

    def unforward(self, protocol: IpProtocol, internal: Address, now: float) -> bool:
        """End the forward to ``internal``; False when there is none."""
        self._expire(now)
        binding = self._forwards.get((protocol, internal))
        self._evict(binding)
        return binding is not None

    def hold(
        self, internal: Address, remote: Address, lifetime: float, now: float
    ) -> tuple[Address, float] | DropReason:
        """Keep the UDP mapping from ``internal`` to ``remote`` for ``lifetime`` seconds, traffic or not.

        One is made if there is none, as by a packet (RFC 6887 §12). Returns the external address and the
        seconds it will live at least; DropReason when none can be made.
        """
        self._expire(now)
        binding = self._send(internal, remote, IpProtocol.UDP, None, now)
        if isinstance(binding, DropReason):
            return binding
        until = now + lifetime
        if binding.limit is not None:
            until = min(until, binding.limit)
        if self._filter is not None and not binding.forward:
            key = self._filter(remote)
            binding.peers[key] = max(binding.peers[key], until)
        if until > binding.expires_at and not binding.forward:
            self._table.touch(binding, until)
        return binding.external, binding.expires_at - now

    def _prolong(self, binding: Binding, expires_at: float) -> None:
        if expires_at >= binding.expires_at:
            self._table.touch(binding, expires_at)
        else:
            self._table.hasten(binding, expires_at)

    def _take(
        self, protocol: IpProtocol, internal: Address, wanted: int | None, exact: bool
    ) -> Address | None:
        """An external address for a forward that nobody else has, shared ports included.

        A port that flows of ``internal`` itself have already becomes the forward's, and rather than none.
        """
        others = {b.external for b in self._table if b.protocol is protocol and b.internal != internal}
        own = [b for b in self._table if b.protocol is protocol and b.internal == internal]
        for binding in own:
            mine = binding.external
            if mine not in others and (wanted is None or mine.port == wanted):
                for each in [b for b in own if b.external == mine]:
                    self._evict(each)
                return self._ports(protocol, mine.host, mine.port).take(mine.port)
        for host in self._hosts_for(internal.host):
            external = None
            if wanted is not None and Address(host, wanted) not in others:
                external = self._ports(protocol, host, wanted).take(wanted)
            if external is None and not exact:
                external = self._ports(protocol, host, internal.port).allocate(internal, others.__contains__)
            if external is not None:
                self._paired.setdefault(internal.host, host)
                return external
        return None

    # Finding and making mappings

    def _find(self, protocol: IpProtocol, internal: Address, remote: Address, now: float) -> Binding | None:
        if self._forwards and (forward := self._forwards.get((protocol, internal))) is not None:
            return forward
        if self._plain:
            return self._table.by_key.get(self._key(protocol, internal, remote))
        if self._poisonable:
            detour = self._table.by_key.get(_detour_key(protocol, internal, remote))
            if detour is not None:
                return detour
        binding = self._table.by_key.get(self._key_for(protocol, internal, remote))
        if binding is None or self._poison.holds(protocol, binding.external, remote, now):
            return None
        after = self.config.remap_after
        return None if after is not None and now >= binding.created + after else binding

    def _key_for(self, protocol: IpProtocol, internal: Address, remote: Address) -> Key:
        key_of = _EIM if internal.port in self.config.independent_ports else self._key
        return key_of(protocol, internal, remote)

    def _make(
        self, protocol: IpProtocol, internal: Address, remote: Address, now: float
    ) -> Binding | DropReason:
        if (refusal := self._room(internal.host)) is not None:
            return refusal
        external = self._allocate(protocol, internal, remote, now)
        if external is None:
            return DropReason.NO_PORT
        key = self._key_for(protocol, internal, remote)
        old = self._table.by_key.get(key)
        if old is not None and self._poison.holds(protocol, old.external, remote, now):
            key = _detour_key(protocol, internal, remote)
        elif old is not None:
            self._table.detach(old)
        external_key = self._external_key(protocol, external, remote)
        binding = Binding(key, external_key, protocol, internal, external, now, now)
        if self.config.absolute_timeout is not None and protocol is IpProtocol.UDP:
            binding.limit = now + self.config.absolute_timeout + self._spread()
        self._lifetime(binding, now)
        self._table.add(binding)
        if self.config.reuse_ports:
            self._by_source.setdefault((protocol, internal), {})[binding] = None
        return binding

    def _by_external(self, protocol: IpProtocol, external: Address, remote: Address) -> Binding | None:
        by_external = self._table.by_external
        binding = by_external.get(self._external_key(protocol, external, remote))
        if binding is None and self._forwards:
            binding = by_external.get((protocol, external))
        return binding

    def _allocate(
        self, protocol: IpProtocol, internal: Address, remote: Address, now: float
    ) -> Address | None:
        by_external = self._table.by_external

        def refused(external: Address) -> bool:
            return (
                self._external_key(protocol, external, remote) in by_external
                or (protocol, external) in by_external
                or self._poison.holds(protocol, external, remote, now)
            )

        for newest in reversed(self._by_source.get((protocol, internal), {})):
            if not refused(newest.external):
                return newest.external
            break
        if self.config.keep_contiguity and (taken := self._beside(protocol, internal, remote, refused)):
            return taken
        for host in self._hosts_for(internal.host):
            external = self._ports(protocol, host, internal.port).allocate(internal, refused)
            if external is not None:
                self._paired.setdefault(internal.host, host)
                return external
        return None

    def _beside(
        self, protocol: IpProtocol, internal: Address, remote: Address, refused: Refused
    ) -> Address | None:
        """The external port next to that of the internal neighbour (RFC 4787 §4.2.3), if it can be had."""
        neighbour = Address(internal.host, internal.port ^ 1)
        binding = self._table.by_key.get(self._key_for(protocol, neighbour, remote))
        if binding is None:
            return None
        wanted = binding.external.with_port(binding.external.port ^ 1)
        if refused(wanted):
            return None
        return self._ports(protocol, wanted.host, internal.port).take(wanted.port)

    def _ports(self, protocol: IpProtocol, host: str, internal_port: int) -> PortAllocator:
        config = self.config
        low = config.keep_range and internal_port < 1024 and protocol is not IpProtocol.ICMP
        key = (protocol, host, low)
        allocator = self._pool.get(key)
        if allocator is None:
            blocks = None
            ports = _LOW_PORTS if low else None
            if config.allocation is Allocation.BLOCK:
                blocks = self._blocks.get(host)
                if blocks is None:
                    blocks = self._blocks[host] = PortBlocks(config, self._random_bytes)
            elif protocol is IpProtocol.ICMP and config.allocation is Allocation.PRESERVE:
                ports = _QUERY_IDS
            allocator = PortAllocator(host, config, self._random_bytes, ports=ports, blocks=blocks)
            self._pool[key] = allocator
        return allocator

    def _hosts_for(self, subscriber: str) -> tuple[str, ...]:
        """The external addresses a new mapping of ``subscriber`` may get, in the order to try them."""
        if self.config.pooling is Pooling.PAIRED and (paired := self._paired.get(subscriber)) is not None:
            return (paired,)
        start = int.from_bytes(self._random_bytes(4), "big") % len(self._public) if self._public[1:] else 0
        return self._public[start:] + self._public[:start]

    def _spread(self) -> float:
        spread = self.config.absolute_spread
        return spread * int.from_bytes(self._random_bytes(4), "big") / (1 << 32) if spread else 0.0

    def _released(self, binding: Binding) -> None:
        protocol, (host, port) = binding.protocol, binding.external
        if (allocator := self._pool.get((protocol, host, False))) is not None:
            allocator.release(port)
        if (allocator := self._pool.get((protocol, host, True))) is not None:
            allocator.release(port)
        if binding.forward:
            del self._forwards[protocol, binding.internal]
        elif (siblings := self._by_source.get((protocol, binding.internal))) is not None:
            del siblings[binding]
            if not siblings:
                del self._by_source[protocol, binding.internal]
        subscriber = binding.internal.host
        if self._table.count(subscriber) == 0:
            self._paired.pop(subscriber, None)
            for blocks in self._blocks.values():
                blocks.release(subscriber)

    # Filtering

    def _probed(self, packet: Packet, now: float) -> None:
        if self._poisonable:
            self._poison.add(packet.protocol, packet.destination, packet.source, now)

    def _address(self, about: Packet) -> str:
        return self.config.router_address or self._public[0]

    # Hairpinning

    def _hairpin(self, packet: Packet, now: float) -> Verdict:
        """Turn a packet to a neighbour's external address around (RFC 4787 §6)."""
        source, destination, payload, protocol, ttl, tcp, icmp = packet
        if self.config.hairpin is Hairpin.NONE:
            return self._drop(DropReason.NO_HAIRPIN)
        sender = self._send(source, destination, protocol, tcp, now)
        if isinstance(sender, DropReason):
            return self._drop(sender)
        target = self._admit(sender.external, destination, protocol, tcp, now)
        if isinstance(target, DropReason):
            self._probed(packet._replace(source=sender.external), now)
            return self._drop(target)
        inside = self.config.hairpin is Hairpin.INTERNAL_SOURCE
        seen = source if inside else sender.external
        return Translation(
            Packet(seen, target.internal, payload, protocol, ttl - 1, tcp, icmp), Side.INTERNAL
        )


def _detour_key(protocol: IpProtocol, internal: Address, remote: Address) -> Key:
    """The key of a mapping made only because the regular one is poisoned towards ``remote``."""
    return (protocol, internal, remote, "detour")
