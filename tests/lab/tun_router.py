"""The NAT engine between two TUN devices: the smallest user-space router. Runs in a namespace of its own.

Prints "ready" when the devices ``inside`` and ``outside`` exist, forwards until its standard input ends, then
prints what it saw as JSON.
"""

import fcntl
import json
import os
import select
import struct
import sys
import time
from random import Random

from natwalk.core import MalformedMessage
from natwalk.nat import Allocation, Dropped, Nat, NatConfig, Side
from natwalk.nat.fragments import Reassembler, fragment
from natwalk.nat.wire import decode, encode, rewrite, verify

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
MTU = 1500


def tun(name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


def main() -> None:
    inside, outside = tun("inside"), tun("outside")
    config = NatConfig(
        public_addresses=(sys.argv[1],), allocation=Allocation.RANDOM, router_address=sys.argv[2]
    )
    nat = Nat(config, random_bytes=Random(1).randbytes)
    pieces = {inside: Reassembler(), outside: Reassembler()}
    seen = {"translated": 0, "wrong checksums": 0}
    print("ready", flush=True)
    while True:
        readable, _, _ = select.select([inside, outside, sys.stdin], [], [])
        if sys.stdin in readable:
            break
        for device in readable:
            now = time.monotonic()
            try:
                whole = pieces[device].add(os.read(device, 65535), now)
                packet = None if whole is None else decode(whole)
            except MalformedMessage:
                continue  # the kernel's own chatter: router solicitations, multicast reports
            if packet is None:
                continue
            verdict = nat.outbound(packet, now) if device == inside else nat.inbound(packet, now)
            if isinstance(verdict, Dropped):
                if verdict.answer is not None:
                    os.write(device, encode(verdict.answer))
                continue
            sent = rewrite(whole, packet, verdict.packet)
            seen["translated"] += 1
            seen["wrong checksums"] += not verify(sent)
            for piece in fragment(sent, MTU):
                os.write(outside if verdict.side is Side.EXTERNAL else inside, piece)
    print(json.dumps(seen | dict(nat.drops.counts)), flush=True)


main()
