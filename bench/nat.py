"""The NAT engine: packets a second, alone and with their bytes, and memory; what a user-space router needs.

Run it with the environment natwalk is installed in: ``python -m bench nat``.
"""

from __future__ import annotations

import random
import statistics
import time
import tracemalloc
from collections.abc import Callable
from functools import partial

from natwalk.core import Address
from natwalk.nat import Allocation, Mapping, Nat, NatConfig, Packet, Translation, make_box, preset
from natwalk.nat.wire import decode, encode, rewrite

ROUNDS = 7
FLOWS = 500
REPEATS = 10
SIZE = 1200
WANTED = 20_000
PUBLIC = "198.51.100.1"
SERVER = Address("203.0.113.9", 3478)
CONFIGS = {
    "endpoint-independent": NatConfig(),
    "symmetric": NatConfig(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=Allocation.RANDOM),
    "linux": preset("linux").layers[0],
}


def rate(run: Callable[[], None], packets: int) -> float:
    """Median packets a second of several rounds."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return packets / statistics.median(times)


def traffic(nat: Nat) -> tuple[list[Packet], list[Packet]]:
    """Packets of many flows from inside, and their answers."""
    inside = [
        Packet(Address(f"10.0.{n // 250}.{n % 250 + 1}", 5000 + n), SERVER, bytes(SIZE)) for n in range(FLOWS)
    ]
    answers = []
    for packet in inside:
        verdict = nat.outbound(packet, 0.0)
        assert isinstance(verdict, Translation)
        answers.append(Packet(SERVER, verdict.packet.source, bytes(SIZE)))
    return inside, answers


def translate(nat: Nat, inside: list[Packet], answers: list[Packet]) -> None:
    for _ in range(REPEATS):
        for packet, answer in zip(inside, answers, strict=True):
            nat.outbound(packet, 1.0)
            nat.inbound(answer, 1.0)


def route(nat: Nat, inside: list[bytes], answers: list[bytes]) -> None:
    for _ in range(REPEATS):
        for data, answer in zip(inside, answers, strict=True):
            packet = decode(data)
            verdict = nat.outbound(packet, 1.0)
            rewrite(data, packet, verdict.packet)
            packet = decode(answer)
            verdict = nat.inbound(packet, 1.0)
            rewrite(answer, packet, verdict.packet)


def memory() -> tuple[float, float]:
    """Bytes of an idle NAT, and of one mapping."""
    config = NatConfig(public_addresses=(PUBLIC,))
    tracemalloc.start()
    nats = [Nat(config, random_bytes=random.randbytes) for _ in range(1000)]
    idle = tracemalloc.get_traced_memory()[0] / len(nats)
    before = tracemalloc.get_traced_memory()[0]
    for port in range(2000, 12_000):
        nats[0].outbound(Packet(Address("10.0.0.1", port), SERVER, b""), 0.0)
    mapping = (tracemalloc.get_traced_memory()[0] - before) / 10_000
    tracemalloc.stop()
    return idle, mapping


def main() -> None:
    packets = 2 * FLOWS * REPEATS
    for name, config in CONFIGS.items():
        nat = make_box(config, PUBLIC, random_bytes=random.Random(1).randbytes)
        inside, answers = traffic(nat)
        engine = rate(partial(translate, nat, inside, answers), packets)
        raw = [encode(packet) for packet in inside], [encode(packet) for packet in answers]
        routed = rate(partial(route, nat, *raw), packets)
        verdict = "ok" if routed >= WANTED else f"TOO SLOW, {WANTED} wanted"
        bits = routed * (SIZE + 28) * 8 / 1e6
        with_bytes = f"with bytes {routed:8,.0f}/s, {bits:5,.0f} Mbit/s"
        print(f"{name:20}  engine {engine:8,.0f}/s   {with_bytes}   {verdict}")
    idle, mapping = memory()
    print(f"an idle NAT has {idle:,.0f} bytes, a mapping {mapping:,.0f}")
