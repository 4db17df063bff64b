"""Writes what crosses an interface into a pcap file, which Wireshark and tcpdump read.

Run as a script (``python -I -S capture.py INTERFACE FILE``) in the namespace of the interface, never
imported; it says ``ready`` and ends with standard input.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
import time
from typing import BinaryIO

ETH_P_ALL = 3
MAGIC_NANOSECONDS = 0xA1B23C4D
SNAPLEN = 65535
LINKTYPE_ETHERNET = 1


def main() -> int:
    """Write until standard input ends."""
    interface, path = sys.argv[1:]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as sock:
        sock.bind((interface, ETH_P_ALL))
        sock.setblocking(False)
        with open(path, "wb") as file:
            file.write(struct.pack("=IHHiIII", MAGIC_NANOSECONDS, 2, 4, 0, 0, SNAPLEN, LINKTYPE_ETHERNET))
            file.flush()
            print("ready", flush=True)
            while True:
                ready, _, _ = select.select([sock, sys.stdin], [], [])
                if sock in ready:
                    _drain(sock, file)
                elif sys.stdin in ready:
                    return 0


def _drain(sock: socket.socket, file: BinaryIO) -> None:
    try:
        while True:
            frame = sock.recv(SNAPLEN)
            seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
            file.write(struct.pack("=IIII", seconds, nanoseconds, len(frame), len(frame)) + frame)
    except OSError:  # nothing more for now, or the interface is down
        file.flush()


if __name__ == "__main__":
    sys.exit(main())
