"""The NAT engine as a router in user space: packets from one TUN device through the engine to another.

Run as a program in the namespace of the router (``python -m natwalk.lab.tun_router``). The first line on
standard input is the plan, as JSON (:class:`~natwalk.lab.router_plan.RouterPlan`); ``ready`` answers it. Then
every line is an order and every answer a line. It ends with standard input.

The kernel forwards between the router's networks and the devices ``inside`` and ``outside``, and takes a hop
each time; the engine is the router, so the two hops of the kernel are given back.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import sys
import time
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any, Final

import msgspec

from natwalk.core import Address, Drops, MalformedMessage, RandomBytes
from natwalk.lab.behaviour import layer_of
from natwalk.lab.fast_path import FastPath, cacheable
from natwalk.lab.router_plan import INSIDE, OUTSIDE, BoxPlan, RouterPlan
from natwalk.lab.service_sockets import ServiceSockets
from natwalk.lab.tun import open_tun
from natwalk.nat import (
    Dropped,
    FirewallConfig,
    GatewayConfig,
    Layers,
    Middlebox,
    Nat,
    Packet,
    Side,
    Translation,
    make_box,
)
from natwalk.nat.fragments import Reassembler
from natwalk.nat.services import Gateway
from natwalk.nat.wire import Unsupported, decode, encode, rewrite

LARGEST: Final = 9216
"""Bytes of a packet as it comes from a device; the MTU of the devices is less."""
BATCH: Final = 256
"""Packets read from one side before the other gets its turn."""
_STRANGE: Final = "not an IP packet the engine knows"
_MAX_TTL: Final = 255
_CARRIER: Final = "100.64.127.{}"
"""Addresses between the layers of one router, which no wire carries."""


def build(plan: BoxPlan, random_bytes: RandomBytes) -> Middlebox:
    """The middlebox for ``plan``. Raises ValueError for a table that is wrong."""
    configs = [layer_of(table) for table in plan.layers]
    boxes = []
    for depth, config in enumerate(configs):
        outermost = all(isinstance(outer, FirewallConfig) for outer in configs[depth + 1 :])
        public = plan.public if outermost else [_CARRIER.format(2 + depth)]
        boxes.append(make_box(config, *public, random_bytes=random_bytes))
    return boxes[0] if len(boxes) == 1 else Layers(boxes)


def _gateway(plan: RouterPlan, boxes: dict[int, Middlebox]) -> Gateway | None:
    """The mapping services of ``plan``, on the innermost layer. Raises ValueError when that is no NAT."""
    if plan.services is None:
        return None
    box = boxes[plan.boxes[0].inside]
    innermost = box.boxes[0] if isinstance(box, Layers) else box
    if not isinstance(innermost, Nat):
        raise ValueError("mapping services need a NAT next to the LAN")  # noqa: TRY004 - a wrong plan
    return Gateway(msgspec.convert(plan.services, GatewayConfig), innermost, time.monotonic())


class UserRouter:
    """Moves packets between two descriptors through a middlebox for each IP version.

    ``drops`` counts packets that never reached a middlebox; those have their own counters.
    """

    def __init__(self, plan: RouterPlan, inside: int, outside: int) -> None:
        self.drops = Drops()
        self.counts: Counter[str] = Counter()
        self._inside, self._outside = inside, outside
        self._fragments = Reassembler()
        self._boxes: dict[Side, dict[int, Middlebox]] = {}
        self._short: FastPath | None = None
        self.gateway: Gateway | None = None
        """Its mapping services, if it has any."""
        self.change(plan)

    def change(self, plan: RouterPlan) -> None:
        """Behave as ``plan`` says from now on, with no memory of before. Raises ValueError."""
        random_bytes = secrets.token_bytes if plan.seed is None else Random(plan.seed).randbytes  # noqa: S311
        inner: dict[int, Middlebox] = {}
        outer: dict[int, Middlebox] = {}
        for each in plan.boxes:
            box = build(each, random_bytes)
            inner[each.inside] = box
            outer[Address(each.public[0], 0).version if each.public else each.inside] = box
        self._boxes = {Side.INTERNAL: inner, Side.EXTERNAL: outer}
        self.gateway = _gateway(plan, inner)
        self._short = FastPath() if cacheable(plan) else None

    def reset(self) -> None:
        """Lose all state."""
        now = time.monotonic()
        self.forget()
        for box in self._boxes[Side.INTERNAL].values():
            box.reset(now)
        if self.gateway is not None:
            self.gateway.reset(now)

    def from_inside(self) -> None:
        """Take a batch of packets of the hosts behind the NAT."""
        self._take(self._inside, Side.INTERNAL)

    def from_outside(self) -> None:
        """Take a batch of packets of the internet."""
        self._take(self._outside, Side.EXTERNAL)

    def held_answers(self) -> float | None:
        """Send answers that are due; seconds until the next one, or None."""
        now = time.monotonic()
        wait: float | None = None
        for box in self._boxes[Side.INTERNAL].values():
            for packet, side in box.answers(now):
                self._write(encode(_one_more_hop(packet)), side)
            at = box.next_answer()
            if at is not None and (wait is None or at - now < wait):
                wait = max(at - now, 0.001)
        return wait

    def fill(self, count: int, host: str) -> int:
        """Make ``count`` mappings of a made-up ``host`` inside; how many there was room for."""
        self.forget()
        box = self._boxes[Side.INTERNAL][Address(host, 0).version]
        now = time.monotonic()
        remote = "192.0.2.200" if ":" not in host else "2001:db8:ffff::200"
        made = 0
        for number in range(count):
            source = Address(host, 1024 + number % 64_000)
            to = Address(remote, 1 + number // 64_000)
            made += isinstance(box.outbound(Packet(source, to, b""), now), Translation)
        return made

    def statistics(self) -> dict[str, object]:
        """Packets forwarded and dropped, with reasons, and the mappings there are."""
        drops: Counter[str] = Counter(self.drops.counts)
        drops.update(self._fragments.drops.counts)
        mappings = 0
        for box in self._boxes[Side.INTERNAL].values():
            for part in box.boxes if isinstance(box, Layers) else (box,):
                drops.update(getattr(part, "drops", Drops()).counts)
                if hasattr(part, "mappings"):
                    mappings += len(part.mappings(time.monotonic()))
        return {"packets": dict(self.counts), "drops": dict(drops), "mappings": mappings}

    def _take(self, descriptor: int, side: Side) -> None:
        now = time.monotonic()
        short = self._short
        targets = {Side.INTERNAL: self._inside, Side.EXTERNAL: self._outside}
        taken = 0
        for _ in range(BATCH):
            try:
                data = os.read(descriptor, LARGEST)
            except BlockingIOError:
                break
            taken += 1
            known = None if short is None else short.take(data, side, now)
            if known is None:
                self._judge(data, side, now)
                continue
            try:
                os.write(targets[known[1]], known[0])
            except OSError as error:
                self._lost(error)
        self.counts["from inside" if side is Side.INTERNAL else "from outside"] += taken

    def _judge(self, data: bytes, side: Side, now: float) -> None:
        """Have the engine judge one packet."""
        try:
            before = decode(data)
        except Unsupported:
            whole = self._whole(data, now)
            if whole is None:
                return
            data, before = whole
        except MalformedMessage:
            self.drops.add(_STRANGE)
            return
        box = self._boxes[side].get(data[0] >> 4)
        if box is None:
            self.drops.add("IP version not routed here")
            return
        asked = before._replace(ttl=before.ttl + 1)
        verdict = box.outbound(asked, now) if side is Side.INTERNAL else box.inbound(asked, now)
        if isinstance(verdict, Dropped):
            self.forget()
            if verdict.answer is not None:
                self._write(encode(_one_more_hop(verdict.answer)), side)
            return
        translated = rewrite(data, before, _one_more_hop(verdict.packet))
        if self._short is not None:
            self._short.learn(data, side, translated, verdict.side, now)
        self._write(translated, verdict.side)

    def forget(self) -> None:
        """Ask the engine about everything anew: its mappings may have changed."""
        if self._short is not None:
            self._short.forget()

    def _whole(self, data: bytes, now: float) -> tuple[bytes, Packet] | None:
        """A packet and what is in it, once its last fragment is there."""
        try:
            whole = self._fragments.add(data, now)
            return None if whole is None else (whole, decode(whole))
        except MalformedMessage:
            self.drops.add(_STRANGE)
            return None

    def _write(self, data: bytes, side: Side) -> None:
        try:
            os.write(self._outside if side is Side.EXTERNAL else self._inside, data)
        except OSError as error:
            self._lost(error)

    def _lost(self, error: OSError) -> None:
        """Count a packet that a full queue, or an interface that is down, did not take."""
        self.drops.add(f"not sent: {error.strerror}")


def _one_more_hop(packet: Packet) -> Packet:
    return packet._replace(ttl=min(packet.ttl + 1, _MAX_TTL))


def obey(router: UserRouter, order: dict[str, Any]) -> object:
    """Carry out one order; what to answer. Raises ValueError for one that is wrong."""
    match order:
        case {"do": "reset"}:
            router.reset()
            return True
        case {"do": "change", "plan": plan}:
            router.change(msgspec.convert(plan, RouterPlan))
            return True
        case {"do": "fill", "count": int(count), "host": str(host)}:
            return router.fill(count, host)
        case {"do": "statistics"}:
            return router.statistics()
        case _:
            raise ValueError(f"no such order: {order}")


def answer_orders(router: UserRouter, lines: Sequence[bytes]) -> None:
    """Carry out the orders, one a line, and print the answers."""
    for line in lines:
        try:
            answer: dict[str, object] = {"ok": obey(router, json.loads(line))}
        except (ValueError, msgspec.ValidationError) as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


def serve(router: UserRouter, inside: int, outside: int) -> None:
    """Forward packets and carry out orders until standard input ends."""
    poll = select.epoll()
    orders = sys.stdin.fileno()
    for descriptor in (inside, outside, orders):
        poll.register(descriptor, select.EPOLLIN)
    pending = b""
    services: ServiceSockets | None = None
    while True:
        gateway = router.gateway
        waits = [router.held_answers()]
        if gateway is not None:
            services = services or ServiceSockets(gateway.config.address, gateway.config.http_port, poll)
            waits.append(services.announce(gateway))
        for descriptor, _ in poll.poll(min((wait for wait in waits if wait is not None), default=None)):
            if descriptor == inside:
                router.from_inside()
            elif descriptor == outside:
                router.from_outside()
            elif descriptor != orders:
                if services is not None and router.gateway is not None:
                    router.forget()
                    services.ready(descriptor, router.gateway)
            else:
                data = os.read(orders, LARGEST)
                if not data:
                    return
                *lines, pending = (pending + data).split(b"\n")
                answer_orders(router, lines)


def main() -> int:
    """Read the plan, make the devices, route."""
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as orders:
        line = orders.readline()  # unbuffered: what follows is for the loop
    try:
        inside, outside = open_tun(INSIDE), open_tun(OUTSIDE)
        router = UserRouter(msgspec.json.decode(line, type=RouterPlan), inside, outside)
    except (OSError, ValueError, msgspec.ValidationError) as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 1
    print(json.dumps({"ok": "ready"}), flush=True)
    serve(router, inside, outside)
    return 0


if __name__ == "__main__":
    sys.exit(main())
