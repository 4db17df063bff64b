"""Raw bulk over loopback: two processes, UdpSocket and SecureConnection, nothing else.

What this prints is the ceiling for file transfer on this machine, by datagram size, with and without the
kernel's segmentation offload. `python bench/bulk_secure.py --bytes 300000000 1280 1472 16000 60000`
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import secrets
import time
from multiprocessing.connection import Connection

from natwalk.aio.udp import UdpSocket
from natwalk.core import Address
from natwalk.secure import Identity, SecureClosed, SecureConnected, SecureConnection, StreamData

FEED_TO = 2 << 20
BLOCK = bytes(256 << 10)


class Shell:
    """Drives one connection over one socket."""

    def __init__(self, core: SecureConnection, args: argparse.Namespace, remote: Address | None) -> None:
        self.core = core
        self.args = args
        self.remote = remote
        self.loop = asyncio.get_running_loop()
        self.socket = UdpSocket.bind(Address("127.0.0.1", 0), self.on_datagrams)
        self.socket.gso &= args.gso
        if not args.gro:
            self.socket._sock.setsockopt(17, 104, 0)
            self.socket.gro = False
        self.timer: asyncio.TimerHandle | None = None
        self.armed = 0.0
        self.done = asyncio.Event()
        self.stream: int | None = None
        self.sent = self.received = self.wakeups = self.packets = self.packets_in = 0
        self.connected_at = 0.0

    def start(self) -> None:
        self.core.start(self.loop.time())
        self.flush()

    def on_datagrams(self, batch: list[tuple[bytes, Address]]) -> None:
        self.remote = batch[0][1]
        self.wakeups += 1
        self.packets_in += len(batch)
        self.core.receive_many([data for data, _ in batch], self.loop.time())
        self.flush()

    def on_timer(self) -> None:
        self.timer = None
        self.core.handle_timeout(max(self.armed, self.loop.time()))
        self.flush()

    def flush(self) -> None:
        while (event := self.core.poll_event()) is not None:
            match event:
                case SecureConnected():
                    self.connected_at = time.perf_counter()
                    if self.core.is_client != self.args.download:
                        self.stream = self.core.open_stream()
                case StreamData(data=data, fin=fin):
                    self.received += len(data)
                    if fin:
                        self.core.send_stream(event.stream_id, b"", True) if self.stream is None else None
                        self.done.set()
                case SecureClosed():
                    self.done.set()
        self.feed()
        now = self.loop.time()
        out = self.core.datagrams(now)
        self.packets += len(out)
        if self.remote is not None and out:
            self.socket.send_many(out, self.remote)
        due = self.core.next_timeout()
        if self.timer is not None and (due is None or due != self.armed):
            self.timer.cancel()
            self.timer = None
        if due is not None and self.timer is None:
            self.armed = due
            self.timer = self.loop.call_at(due, self.on_timer)

    def feed(self) -> None:
        if self.stream is None or self.sent >= self.args.bytes:
            return
        while self.sent < self.args.bytes and self.core.send_backlog(self.stream) < FEED_TO:
            part = BLOCK[: self.args.bytes - self.sent]
            self.sent += len(part)
            self.core.send_stream(self.stream, part, self.sent == self.args.bytes)


async def run_end(
    is_client: bool,
    args: argparse.Namespace,
    pipe: Connection,
    mine: Identity,
    peer: Identity,
    remote: Address | None,
) -> None:
    core = SecureConnection(
        is_client=is_client,
        identity=mine,
        peer_fingerprint=peer.fingerprint,
        auth_key=b"k" * 32,
        random_bytes=secrets.token_bytes,
        max_datagram_size=args.size,
    )
    shell = Shell(core, args, remote)
    pipe.send(shell.socket.local)
    shell.start()
    await shell.done.wait()
    seconds = time.perf_counter() - shell.connected_at
    report = {
        "role": "client" if is_client else "server",
        "seconds": round(seconds, 3),
        "sent": shell.sent,
        "received": shell.received,
        "wakeups": shell.wakeups,
        "packets_out": shell.packets,
        "packets_in": shell.packets_in,
        "cpu": round(time.process_time(), 2),
        "rtt": core.rtt,
        "drops": dict(shell.socket.drops.counts) | dict(core.drops.counts),
    }
    if shell.stream is None:
        await asyncio.sleep(0.2)
    pipe.send(report)


def child(
    is_client: bool, args: argparse.Namespace, pipe: Connection, mine: Identity, peer: Identity
) -> None:
    remote = pipe.recv()
    coroutine = run_end(is_client, args, pipe, mine, peer, remote)
    if args.profile == ("client" if is_client else "server"):
        import cProfile
        import pstats

        profile = cProfile.Profile()
        profile.runcall(asyncio.run, coroutine)
        pstats.Stats(profile).sort_stats("tottime").print_stats(18)
    else:
        asyncio.run(coroutine)


def measure(args: argparse.Namespace) -> dict[str, object]:
    context = multiprocessing.get_context("fork")
    client, server = Identity.generate(), Identity.generate()
    ends = []
    address = None
    for is_client, mine, peer in ((False, server, client), (True, client, server)):
        ours, theirs = context.Pipe()
        process = context.Process(target=child, args=(is_client, args, theirs, mine, peer))
        process.start()
        ours.send(address)
        address = ours.recv()
        ends.append((process, ours))
    reports = [pipe.recv() for _, pipe in ends]
    for process, _ in ends:
        process.join()
    seconds = max(report["seconds"] for report in reports)
    return {"MB/s": round(args.bytes / seconds / 1e6, 1), "ends": reports}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, default=[1280, 1472, 16000, 60000])
    parser.add_argument("--bytes", type=int, default=300_000_000)
    parser.add_argument("--no-gso", dest="gso", action="store_false")
    parser.add_argument("--no-gro", dest="gro", action="store_false")
    parser.add_argument("--download", action="store_true", help="the server sends")
    parser.add_argument("--profile", choices=["client", "server"])
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    for size in args.sizes:
        result = measure(argparse.Namespace(**{**vars(args), "size": size}))
        line = {"size": size, "gso": args.gso, "gro": args.gro, "MB/s": result["MB/s"]}
        print(json.dumps(line | ({"ends": result["ends"]} if args.verbose else {})), flush=True)


if __name__ == "__main__":
    main()
