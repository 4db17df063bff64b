"""Routers: they know who is inside, send the rest outside, and ask their middlebox about what crosses."""

from __future__ import annotations

from collections.abc import Callable

from natwalk.core import Drops
from natwalk.nat import Dropped, DropReason, Middlebox, Packet, Side
from natwalk.nat.services import Gateway
from natwalk.sim.clock import Clock
from natwalk.sim.link import Pipe
from natwalk.sim.trace import Happening, Trace


class Router:
    """One router, with a NAT or a firewall in it or nothing. Make it by :meth:`Network.router`.

    Packets between two inside nodes never meet the middlebox, as on a LAN. Without an uplink it is the core
    of the internet: what is not inside has no route.
    """

    def __init__(self, name: str, clock: Clock, trace: Trace, box: Middlebox | None) -> None:
        self.name = name
        self.box = box
        self.drops = Drops()
        self.gateway: Gateway | None = None
        """Its mapping services; hosts on its LAN ask it by UDP."""
        self._clock = clock
        self._trace = trace
        self._routes: dict[str, Pipe] = {}
        self._blocked: Callable[[Packet], bool] | None = None
        self._uplink: Pipe | None = None

    def route(self, address: str, pipe: Pipe) -> None:
        """Send packets for ``address`` inwards along ``pipe``."""
        self._routes[address] = pipe

    def unroute(self, address: str) -> None:
        """Forget where ``address`` is."""
        self._routes.pop(address, None)

    @property
    def inside(self) -> tuple[str, ...]:
        """The addresses it reaches inwards."""
        return tuple(self._routes)

    def plug(self, address: str, uplink: Pipe) -> None:
        """Connect it outwards; its own ``address`` is its middlebox's business."""
        self._uplink = uplink

    def unplug(self, address: str) -> None:
        """Disconnect it outwards."""
        self._uplink = None

    def block(self, blocked: Callable[[Packet], bool] | None) -> None:
        """Drop every packet that ``blocked`` says so of, until told otherwise with None."""
        self._trace.add(self._clock.now, Happening.SCENARIO, self.name, 0, None, "filter changed")
        self._blocked = blocked

    def reboot(self) -> None:
        """Lose the state of the middlebox."""
        self._trace.add(self._clock.now, Happening.SCENARIO, self.name, 0, None, "reboot")
        if self.box is not None:
            self.box.reset(self._clock.now)
        if self.gateway is not None:
            self.gateway.reset(self._clock.now)

    def from_inside(self, packet: Packet, serial: int) -> None:
        """Forward a packet that came from an inside node."""
        if self._blocked is not None and self._blocked(packet):
            self._drop(packet, serial, "blocked")
        elif self.gateway is not None and self.gateway.wants(packet):
            for answer in self.gateway.receive(packet, self._clock.now):
                self._inwards(answer, serial)
        elif packet.destination.host in self._routes:
            forwarded = self._hop(packet, serial) if self.box is None else packet
            if forwarded is not None:
                self._inwards(forwarded, serial)
        elif self.box is not None:
            self._judge(packet, serial, Side.EXTERNAL)
        elif (forwarded := self._hop(packet, serial)) is not None:
            self._outwards(forwarded, serial)

    def receive(self, packet: Packet, serial: int) -> None:
        """Forward a packet that came from the uplink."""
        if self._blocked is not None and self._blocked(packet):
            self._drop(packet, serial, "blocked")
        elif self.box is not None:
            self._judge(packet, serial, Side.INTERNAL)
        elif (forwarded := self._hop(packet, serial)) is not None:
            self._inwards(forwarded, serial)

    def _judge(self, packet: Packet, serial: int, towards: Side) -> None:
        assert self.box is not None
        now = self._clock.now
        verdict = (self.box.outbound if towards is Side.EXTERNAL else self.box.inbound)(packet, now)
        if isinstance(verdict, Dropped):
            self._drop(packet, serial, verdict.reason.value)
            if verdict.answer is not None:
                self._answer(verdict.answer, serial, towards)
            elif (at := self.box.next_answer()) is not None:
                self._clock.call_at(at, self._held_answers, serial)
            return
        if self._trace.enabled and verdict.packet[:2] != packet[:2]:
            before = f"{packet.source} -> {packet.destination}"
            self._trace.add(now, Happening.TRANSLATE, self.name, serial, verdict.packet, before)
        if verdict.side is Side.EXTERNAL:
            self._outwards(verdict.packet, serial)
        else:
            self._inwards(verdict.packet, serial)

    def _answer(self, packet: Packet, serial: int, asked_from: Side) -> None:
        """Send what the box answers a packet with back to where that came from."""
        if asked_from is Side.EXTERNAL:
            self._inwards(packet, serial)
        else:
            self._outwards(packet, serial)

    def _held_answers(self, serial: int) -> None:
        assert self.box is not None
        for packet, side in self.box.answers(self._clock.now):
            self._answer(packet, serial, Side.EXTERNAL if side is Side.INTERNAL else Side.INTERNAL)

    def _hop(self, packet: Packet, serial: int) -> Packet | None:
        """The packet with one hop less to go; None, and dropped, when it had none left."""
        if packet.ttl > 1:
            return packet._replace(ttl=packet.ttl - 1)
        self._drop(packet, serial, DropReason.TTL_EXPIRED.value)
        return None

    def _inwards(self, packet: Packet, serial: int) -> None:
        pipe = self._routes.get(packet.destination.host)
        if pipe is None:
            self._drop(packet, serial, "no route")
        else:
            pipe.send(packet, serial)

    def _outwards(self, packet: Packet, serial: int) -> None:
        if self._uplink is None:
            self._drop(packet, serial, "no route")
        else:
            self._uplink.send(packet, serial)

    def _drop(self, packet: Packet, serial: int, why: str) -> None:
        self.drops.add(why)
        self._trace.add(self._clock.now, Happening.DROP, self.name, serial, packet, why)
