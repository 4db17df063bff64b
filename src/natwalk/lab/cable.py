"""A cable in user space: two TAP devices in two namespaces, with frames carried between them on conditions.

Run as a program in the namespace of one end (``python -m natwalk.lab.cable PID``); the other end is in the
namespace of process PID. The first line on standard input says what to make, each later one new conditions;
each is answered with a line. It ends with standard input, and with it both devices.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import sys
import time
from random import Random
from typing import Any, Final

from natwalk.lab.conditions import Conditions, Shaper
from natwalk.lab.tun import open_tap

LARGEST: Final = 65536
BATCH: Final = 64
_CLONE_NEWNET: Final = 0x4000_0000


def enter(pid: int) -> None:
    """Move this process into the network namespace of ``pid``; raises OSError (Python 3.12 has os.setns)."""
    handle = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(handle, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(handle)


class Cable:
    """Two shapers between two descriptors."""

    def __init__(self, near: int, far: int, order: dict[str, Any]) -> None:
        random = Random(order.get("seed"))  # noqa: S311 - a made-up network
        out, into = Conditions(**order["out"]), Conditions(**order["in"])
        self._ways = {
            near: (Shaper(out, random.random), far),
            far: (Shaper(into, random.random), near),
        }
        self._near, self._far = near, far

    def change(self, order: dict[str, Any]) -> None:
        """Have other conditions; raises ValueError or TypeError for wrong ones."""
        out, into = Conditions(**order["out"]), Conditions(**order["in"])
        self._ways[self._near][0].change(out)
        self._ways[self._far][0].change(into)

    def take(self, descriptor: int) -> None:
        """Read what an end sends."""
        shaper, _ = self._ways[descriptor]
        for _ in range(BATCH):
            try:
                frame = os.read(descriptor, LARGEST)
            except BlockingIOError:
                break
            shaper.send(frame, time.monotonic())

    def deliver(self) -> float | None:
        """Hand over what has arrived; seconds until the next frame does, or None."""
        now = time.monotonic()
        waits = []
        for shaper, target in self._ways.values():
            for frame in shaper.arrived(now):
                try:
                    os.write(target, frame)
                except OSError:  # that end is down, or its queue is full
                    shaper.lost += 1
            at = shaper.next_arrival()
            if at is not None:
                waits.append(max(at - now, 0.0))
        return min(waits, default=None)


def serve(cable: Cable, near: int, far: int) -> None:
    """Carry frames until standard input ends."""
    poll = select.epoll()
    orders = sys.stdin.fileno()
    for descriptor in (near, far, orders):
        poll.register(descriptor, select.EPOLLIN)
    pending = b""
    while True:
        for descriptor, _ in poll.poll(cable.deliver()):
            if descriptor != orders:
                cable.take(descriptor)
                continue
            data = os.read(orders, LARGEST)
            if not data:
                return
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                try:
                    cable.change(json.loads(line))
                    answer: dict[str, object] = {"ok": True}
                except (ValueError, TypeError) as error:
                    answer = {"error": str(error)}
                print(json.dumps(answer), flush=True)


def main() -> int:
    """Make the two ends and carry."""
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as orders:
        order = json.loads(orders.readline())
    try:
        near = open_tap(order["near"])
        enter(int(sys.argv[1]))
        far = open_tap(order["far"])
        cable = Cable(near, far, order)
    except (OSError, ValueError, TypeError) as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 1
    print(json.dumps({"ok": "ready"}), flush=True)
    serve(cable, near, far)
    return 0


if __name__ == "__main__":
    sys.exit(main())
