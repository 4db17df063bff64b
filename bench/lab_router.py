"""Packets through the lab's router in user space, beside the kernel's masquerade in the same run.

Run it with the environment natwalk is installed in: ``python -m bench lab_router``. A host floods a server
with UDP from many sockets; what arrives there is counted by the kernel.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from pathlib import Path

from natwalk.lab import Lab, Node, Router
from natwalk.lab.space import tool

SECONDS = 2.0
ROUNDS = 3
SMALL, LARGE = 100, 1400
WANTED = 20_000
WANTED_BITS = 200e6
QUIET = """
table ip quiet {
  chain input {
    type filter hook input priority 0;
    udp dport 9 drop
  }
}
"""
FLOOD = """
import socket, sys, time
size, seconds = int(sys.argv[1]), float(sys.argv[2])
sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(32)]
for each in sockets:
    each.connect(("203.0.113.10", 9))
data, end, sends = bytes(size), time.monotonic() + seconds, [each.send for each in sockets]
while time.monotonic() < end:
    for send in sends:
        try:
            send(data)
        except OSError:
            pass  # port unreachable, told by an ICMP error of the server
"""


def arrived(node: Node) -> tuple[int, int]:
    """Packets and bytes that came in at ``node`` so far."""
    (link,) = json.loads(node.run([tool("ip"), "-s", "-j", "link", "show", "eth0"]).stdout)
    return link["stats64"]["rx"]["packets"], link["stats64"]["rx"]["bytes"]


def processor(lab: Lab) -> float:
    """Seconds of a processor that the engine's process has had; 0 for the kernel's NAT, which has none."""
    router = lab.nat_a
    if isinstance(router, Router):
        return 0.0
    words = Path(f"/proc/{router.process_pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def rate(lab: Lab, size: int) -> tuple[float, float, float]:
    """Medians over some floods of UDP payloads of ``size`` bytes, of what arrives.

    Packets a second, bits a second, and how much of a processor the engine had meanwhile.
    """
    rounds = []
    for _ in range(ROUNDS):
        before, had = arrived(lab.server), processor(lab)
        lab.a.run([sys.executable, "-I", "-S", "-c", FLOOD, str(size), str(SECONDS)])
        after = arrived(lab.server)
        share = (processor(lab) - had) / SECONDS
        rounds.append(((after[0] - before[0]) / SECONDS, (after[1] - before[1]) * 8 / SECONDS, share))
    packets, bits, share = (statistics.median(column) for column in zip(*rounds, strict=True))
    return packets, bits, share


def main() -> None:
    figures = {}
    for name, kind, engine in (
        ("kernel, masquerade", "port-restricted", False),
        ("engine, port-restricted", "port-restricted", True),
        ("engine, linux", "linux", True),
        ("engine, cgnat in two layers", "cgnat", True),
    ):
        with Lab(kind, "none", engine=engine) as lab:
            lab.server.nft(QUIET)
            figures[name] = rate(lab, SMALL), rate(lab, LARGE)
    (packets, *_), (_, bits, _) = figures["kernel, masquerade"]
    for name, (small, large) in figures.items():
        rates = f"{small[0]:9,.0f} packets/s {large[1] / 1e6:7,.0f} Mbit/s"
        ratios = f"{small[0] / packets:5.2f} x packets, {large[1] / bits:5.2f} x bits of the kernel"
        print(f"{name:28} {rates}   {ratios}   {verdict(small, large)}")


def verdict(small: tuple[float, float, float], large: tuple[float, float, float]) -> str:
    """Whether it is what is wanted: as it was, or for a whole processor where others had most of it."""
    if small[0] >= WANTED and large[1] >= WANTED_BITS:
        return "ok"
    if not small[2] or not large[2]:
        return "no engine"
    packets, bits = small[0] / small[2], large[1] / large[2]
    whole = f"{packets:,.0f}/s, {bits / 1e6:,.0f} Mbit/s a processor, of which it had {small[2]:.0%}"
    good = packets >= WANTED and bits >= WANTED_BITS
    return f"{'ok' if good else 'TOO SLOW'}: {whole}"
