"""Packets through the lab's router in user space, beside the kernel's masquerade in the same run.

Run it with the environment natwalk is installed in: ``python -m bench lab_router``. A host floods a server
with UDP from many sockets; what arrives there is counted by the kernel.
"""

from __future__ import annotations

import json
import statistics
import sys

from natwalk.lab import Lab, Node
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


def rate(lab: Lab, size: int) -> tuple[float, float]:
    """Median packets and bits a second that arrive of a flood of UDP payloads of ``size`` bytes."""
    rates = []
    for _ in range(ROUNDS):
        before = arrived(lab.server)
        lab.a.run([sys.executable, "-I", "-S", "-c", FLOOD, str(size), str(SECONDS)])
        after = arrived(lab.server)
        rates.append(
            ((after[0] - before[0]) / SECONDS, (after[1] - before[1]) * 8 / SECONDS),
        )
    return statistics.median(rate[0] for rate in rates), statistics.median(rate[1] for rate in rates)


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
            figures[name] = rate(lab, SMALL)[0], rate(lab, LARGE)[1]
    packets, bits = figures["kernel, masquerade"]
    for name, (mine, mine_bits) in figures.items():
        good = mine >= WANTED and mine_bits >= WANTED_BITS
        verdict = "ok" if good else f"TOO SLOW, {WANTED}/s and {WANTED_BITS / 1e6:.0f} Mbit/s wanted"
        ratios = f"{mine / packets:5.2f} x packets, {mine_bits / bits:5.2f} x bits of the kernel"
        print(f"{name:28} {mine:9,.0f} packets/s {mine_bits / 1e6:7,.0f} Mbit/s   {ratios}   {verdict}")
