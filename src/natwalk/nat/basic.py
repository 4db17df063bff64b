"""NATs that translate addresses and leave ports alone, and one that renames both ends."""

from __future__ import annotations

from natwalk.core import Drops, RandomBytes
from natwalk.nat.box_config import BasicNatConfig, TwiceNatConfig
from natwalk.nat.engine import Nat
from natwalk.nat.packet import (
    Dropped,
    DropReason,
    IcmpKind,
    Packet,
    Side,
    Translation,
    Verdict,
    icmp_error,
)
from natwalk.nat.renaming import with_destination, with_source


class BasicNat:
    """One to one translation of addresses, static or out of a pool (RFC 3022 §2.1).

    Whoever sends to an external address in use gets in. A lent address is free again at the very instant its
    time has come.
    """

    def __init__(self, config: BasicNatConfig) -> None:
        self.config = config
        self.drops = Drops()
        self._outwards = dict(config.static)
        self._inwards = {external: internal for internal, external in config.static}
        self._leases: dict[str, float] = {}
        self._free = dict.fromkeys(config.pool)

    def outbound(self, packet: Packet, now: float) -> Verdict:
        """Translate the source, lending it an address if need be."""
        self._expire(now)
        if packet.ttl <= 1:
            return self._expired(packet)
        host = packet.source.host
        external = self._outwards.get(host)
        if external is None:
            if not self._free:
                return self._drop(DropReason.NO_ADDRESS)
            external = next(iter(self._free))
            del self._free[external]
            self._outwards[host], self._inwards[external] = external, host
            self._leases[host] = now
        self._refresh(host, now)
        renamed = with_source(packet, lambda each: external if each == host else each)
        return Translation(renamed._replace(ttl=packet.ttl - 1), Side.EXTERNAL)

    def inbound(self, packet: Packet, now: float) -> Verdict:
        """Translate the destination back; everybody gets in."""
        self._expire(now)
        external = packet.destination.host
        if external not in self._inwards:
            ours = external in self._free
            return self._drop(DropReason.NO_MAPPING if ours else DropReason.NOT_OURS)
        if packet.ttl <= 1:
            return self._expired(packet)
        host = self._inwards[external]
        self._refresh(host, now)
        renamed = with_destination(packet, lambda each: host if each == external else each)
        return Translation(renamed._replace(ttl=packet.ttl - 1), Side.INTERNAL)

    def reset(self, now: float) -> None:
        """Take back every address it lent."""
        for host in list(self._leases):
            self._return(host)

    def next_expiry(self) -> float | None:
        """When the next lent address is taken back; None when none is lent."""
        return next(iter(self._leases.values()), None)

    def next_answer(self) -> float | None:
        """None: it holds no answers back."""
        return None

    def answers(self, now: float) -> list[Translation]:
        """None ever."""
        return []

    def _refresh(self, host: str, now: float) -> None:
        # One timeout for all and re-entry at the end: the order of the dict is the order of expiry.
        if self._leases.pop(host, None) is not None:
            self._leases[host] = now + self.config.idle_timeout

    def _expire(self, now: float) -> None:
        while self._leases:
            host, expires_at = next(iter(self._leases.items()))
            if expires_at > now:
                break
            self._return(host)

    def _return(self, host: str) -> None:
        del self._leases[host]
        external = self._outwards.pop(host)
        del self._inwards[external]
        self._free[external] = None

    def _expired(self, packet: Packet) -> Dropped:
        answer = icmp_error(IcmpKind.TIME_EXCEEDED, packet, packet.destination.host)
        return self._drop(DropReason.TTL_EXPIRED, answer)

    def _drop(self, reason: DropReason, answer: Packet | None = None) -> Dropped:
        self.drops.add(reason.value)
        return Dropped(reason, answer)


class TwiceNat:
    """A NAT behind which remote hosts have other addresses than in front of it (RFC 2663 §4.3)."""

    def __init__(self, config: TwiceNatConfig, *, random_bytes: RandomBytes) -> None:
        self.config = config
        self.nat = Nat(config.nat, random_bytes=random_bytes)
        self._real = dict(config.aliases)
        self._alias = {real: alias for alias, real in config.aliases}

    @property
    def drops(self) -> Drops:
        """Why packets went no further."""
        return self.nat.drops

    def outbound(self, packet: Packet, now: float) -> Verdict:
        """Give the destination its real address, then translate the source."""
        verdict = self.nat.outbound(with_destination(packet, self._to_real), now)
        if isinstance(verdict, Translation) and verdict.side is Side.EXTERNAL:
            return verdict
        return self._seen_inside(verdict)

    def inbound(self, packet: Packet, now: float) -> Verdict:
        """Translate the destination, then call the source what inside calls it."""
        verdict = self.nat.inbound(packet, now)
        return self._seen_inside(verdict) if isinstance(verdict, Translation) else verdict

    def reset(self, now: float) -> None:
        """Lose every mapping; aliases stay."""
        self.nat.reset(now)

    def next_answer(self) -> float | None:
        """When the NAT has an answer that it held back."""
        return self.nat.next_answer()

    def answers(self, now: float) -> list[Translation]:
        """Answers that were held back until ``now``: all go outside."""
        return self.nat.answers(now)

    def _seen_inside(self, verdict: Verdict) -> Verdict:
        if isinstance(verdict, Translation):
            return verdict._replace(packet=with_source(verdict.packet, self._to_alias))
        if verdict.answer is None:
            return verdict
        return verdict._replace(answer=with_source(verdict.answer, self._to_alias))

    def _to_real(self, host: str) -> str:
        return self._real.get(host, host)

    def _to_alias(self, host: str) -> str:
        return self._alias.get(host, host)
