"""The NAT: RFC 4787 for UDP, as an object that judges packets and keeps no clock and no socket."""

from __future__ import annotations

from natwalk.core import Address, Drops, LocalProtocolError, RandomBytes
from natwalk.nat.config import EarlyProbe, Filtering, Hairpin, Mapping, NatConfig, Pooling, WhenFull
from natwalk.nat.packet import Dropped, DropReason, Packet, Side, Translation, Verdict
from natwalk.nat.poison import Poison
from natwalk.nat.ports import PortAllocator
from natwalk.nat.table import Binding, BindingTable, Key


class Nat:
    """Translates between one internal realm and its external addresses (RFC 4787 §4 to §6).

    Feed it packets with the time in monotonic seconds, never earlier than the one before. ``drops`` counts
    the reasons of every packet that went no further. A mapping whose time has come is gone at that very
    instant. Raises LocalProtocolError when ``config`` has no public address.
    """

    def __init__(self, config: NatConfig, *, random_bytes: RandomBytes) -> None:
        if not config.public_addresses:
            raise LocalProtocolError("a NAT needs at least one public address: use NatConfig.at()")
        self.config = config
        self.drops = Drops()
        self._random_bytes = random_bytes
        self._public = tuple(Address(host, 0).host for host in config.public_addresses)
        self._version = Address(self._public[0], 0).version
        self._table = BindingTable()
        self._poison = Poison(config.poison_timeout)
        self._pool: dict[str, PortAllocator] = {}
        self._paired: dict[str, str] = {}
        self.reset(0.0)

    def outbound(self, packet: Packet, now: float) -> Verdict:
        """Translate a packet from inside, making or refreshing its mapping (RFC 4787 §4.1, §4.3).

        One to the NAT's own external address is hairpinned (RFC 4787 §6): it leaves on the internal side.
        """
        self._expire(now)
        source, destination, payload = packet
        if destination.version != self._version or source.version != self._version:
            return self._drop(DropReason.WRONG_FAMILY)
        hairpin = destination.host in self._public
        if hairpin and self.config.hairpin is Hairpin.NONE:
            return self._drop(DropReason.NO_HAIRPIN)
        binding = self._find_or_make(source, destination, now)
        if isinstance(binding, DropReason):
            return self._drop(binding)
        self._permit(binding, destination, now)
        self._refresh(binding, now)
        if hairpin:
            return self._hairpin(packet, binding, now)
        return Translation(Packet(binding.external, destination, payload), Side.EXTERNAL)

    def inbound(self, packet: Packet, now: float) -> Verdict:
        """Translate a packet from outside, if a mapping is there and its filter lets it in (RFC 4787 §5)."""
        self._expire(now)
        if packet.destination.host not in self._public:
            return self._drop(DropReason.NOT_OURS)
        binding = self._admit(packet.source, packet.destination, now)
        if isinstance(binding, DropReason):
            return self._drop(binding)
        return Translation(Packet(packet.source, binding.internal, packet.payload), Side.INTERNAL)

    def reset(self, now: float) -> None:
        """Lose every mapping and start allocation anew, as a reboot at ``now`` does."""
        self._table.clear()
        self._poison.clear()
        self._paired.clear()
        self._pool = {host: PortAllocator(host, self.config, self._random_bytes) for host in self._public}

    def next_expiry(self) -> float | None:
        """When the next mapping ends if nothing refreshes it; None when there is none."""
        return self._table.next_expiry()

    def external(self, internal: Address, remote: Address, now: float) -> Address | None:
        """How ``remote`` sees ``internal`` at ``now``, or None when there is no such mapping.

        Refreshes nothing.
        """
        self._expire(now)
        binding = self._find(internal, remote, now)
        return None if binding is None else binding.external

    def mappings(self, now: float) -> tuple[tuple[Address, Address], ...]:
        """(internal, external) of every mapping alive at ``now``, least recently used first."""
        self._expire(now)
        return tuple((binding.internal, binding.external) for binding in self._table)

    # Finding and making mappings

    def _key(self, internal: Address, remote: Address) -> Key:
        match self.config.mapping:
            case Mapping.ENDPOINT_INDEPENDENT:
                return (internal,)
            case Mapping.ADDRESS_DEPENDENT:
                return (internal, remote.host)
            case Mapping.ADDRESS_AND_PORT_DEPENDENT:
                return (internal, remote.host, remote.port)

    def _find(self, internal: Address, remote: Address, now: float) -> Binding | None:
        if self._poisonable and (detour := self._table.by_key(_detour_key(internal, remote))) is not None:
            return detour
        binding = self._table.by_key(self._key(internal, remote))
        if binding is not None and self._poison.holds(binding.external, remote, now):
            return None
        return binding

    def _find_or_make(self, internal: Address, remote: Address, now: float) -> Binding | DropReason:
        binding = self._find(internal, remote, now)
        if binding is not None:
            return binding
        if (refusal := self._make_room(internal.host)) is not None:
            return refusal
        external = self._allocate(internal, remote, now)
        if external is None:
            return DropReason.NO_PORT
        key = self._key(internal, remote)
        if self._table.by_key(key) is not None:
            key = _detour_key(internal, remote)
        binding = Binding(key, internal, external, now, self._deadline(now, now))
        self._table.add(binding)
        return binding

    def _allocate(self, internal: Address, remote: Address, now: float) -> Address | None:
        def refused(external: Address) -> bool:
            return self._poison.holds(external, remote, now)

        for host in self._hosts_for(internal.host):
            external = self._pool[host].allocate(internal.port, refused)
            if external is not None:
                self._paired.setdefault(internal.host, host)
                return external
        return None

    def _hosts_for(self, subscriber: str) -> tuple[str, ...]:
        """The external addresses a new mapping of ``subscriber`` may get, in the order to try them."""
        if self.config.pooling is Pooling.PAIRED and (paired := self._paired.get(subscriber)) is not None:
            return (paired,)
        start = int.from_bytes(self._random_bytes(4), "big") % len(self._public) if self._public[1:] else 0
        return self._public[start:] + self._public[:start]

    def _make_room(self, subscriber: str) -> DropReason | None:
        """Keep the limits with one more mapping of ``subscriber``, or say why it cannot be made."""
        share = self.config.max_mappings_per_subscriber
        evicts = self.config.when_full is WhenFull.EVICT_OLDEST
        if share is not None and self._table.count(subscriber) >= share:
            if not evicts:
                return DropReason.SUBSCRIBER_FULL
            self._evict(self._table.oldest(subscriber))
        if len(self._table) >= self.config.max_mappings:
            if not evicts:
                return DropReason.TABLE_FULL
            self._evict(self._table.oldest())
        return None

    def _evict(self, binding: Binding | None) -> None:
        if binding is not None:
            self._table.remove(binding)
            self._released(binding)

    # Timers

    def _deadline(self, created: float, now: float) -> float:
        idle = now + self.config.idle_timeout
        absolute = self.config.absolute_timeout
        return idle if absolute is None else min(idle, created + absolute)

    def _refresh(self, binding: Binding, now: float) -> None:
        self._table.touch(binding, self._deadline(binding.created, now))

    def _expire(self, now: float) -> None:
        for binding in self._table.expire(now):
            self._released(binding)

    def _released(self, binding: Binding) -> None:
        self._pool[binding.external.host].release(binding.external.port)
        if self._table.count(binding.internal.host) == 0:
            self._paired.pop(binding.internal.host, None)

    # Filtering

    def _filter_key(self, remote: Address) -> Address | str | None:
        match self.config.filtering:
            case Filtering.ENDPOINT_INDEPENDENT:
                return None
            case Filtering.ADDRESS_DEPENDENT:
                return remote.host
            case Filtering.ADDRESS_AND_PORT_DEPENDENT:
                return remote

    def _permit(self, binding: Binding, remote: Address, now: float) -> None:
        """Let ``remote`` in through ``binding`` for as long as a mapping lives idle."""
        key = self._filter_key(remote)
        if key is None:
            return
        peers = binding.peers
        peers.pop(key, None)
        if len(peers) >= self.config.max_peers_per_mapping:
            del peers[next(iter(peers))]
        peers[key] = now + self.config.idle_timeout

    def _admit(self, remote: Address, external: Address, now: float) -> Binding | DropReason:
        """The binding that takes a packet from ``remote`` to ``external``, refreshed if packets do that."""
        binding = self._table.by_external(external)
        if binding is None:
            return self._refuse(remote, external, DropReason.NO_MAPPING, now)
        key = self._filter_key(remote)
        if key is not None and binding.peers.get(key, now) <= now:
            return self._refuse(remote, external, DropReason.FILTERED, now)
        if self.config.inbound_refresh:
            self._permit(binding, remote, now)
            self._refresh(binding, now)
        return binding

    def _refuse(self, remote: Address, external: Address, reason: DropReason, now: float) -> DropReason:
        if self._poisonable:
            self._poison.add(external, remote, now)
        return reason

    @property
    def _poisonable(self) -> bool:
        return self.config.early_probe is EarlyProbe.POISONS

    # Hairpinning

    def _hairpin(self, packet: Packet, sender: Binding, now: float) -> Verdict:
        target = self._admit(sender.external, packet.destination, now)
        if isinstance(target, DropReason):
            return self._drop(target)
        inside = self.config.hairpin is Hairpin.INTERNAL_SOURCE
        source = packet.source if inside else sender.external
        return Translation(Packet(source, target.internal, packet.payload), Side.INTERNAL)

    def _drop(self, reason: DropReason) -> Dropped:
        self.drops.add(reason.value)
        return Dropped(reason)


def _detour_key(internal: Address, remote: Address) -> Key:
    """The key of a mapping made only because the regular one is poisoned towards ``remote``."""
    return (internal, remote, "detour")
