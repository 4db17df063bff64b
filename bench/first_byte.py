"""From pressing ``receive`` to the first byte on the receiver's disk, in the laboratory, on an easy pair.

Whole processes behind two port-restricted kernel NATs, magic-wormhole beside us on the same network in the
same run. wormhole connects inside NATs only through its transit relay, so it is given one on the server.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.bulk import files, make_file
from bench.processes import until
from natwalk.lab import Lab, Node

SIZE = 2_000_000
ROUNDS = 10
SCRIPTS = Path(sys.executable).parent
NATWALK = [sys.executable, "-m", "natwalk"]


class Cast:
    """Processes on lab nodes, ended by their own ids."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self._running: list[subprocess.Popen[bytes]] = []

    def start(
        self, node: Node, argv: Sequence[str], log: Path, cwd: Path | None = None
    ) -> subprocess.Popen[bytes]:
        with log.open("wb") as out:
            process = node.popen(
                argv,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=cwd or self.work,
                env={**os.environ, "XDG_STATE_HOME": str(self.work / "state")},
            )
        self._running.append(process)
        return process

    def end(self, *processes: subprocess.Popen[bytes]) -> None:
        for process in processes or tuple(self._running):
            if process.poll() is None:
                process.terminate()
            process.wait(10)


def first_byte(folder: Path, receiver: subprocess.Popen[bytes], started: float) -> float:
    def arrived() -> bool:
        return receiver.poll() is not None or any(file.stat().st_size for file in files(folder))

    return until(arrived, "first byte", timeout=30) - started


def natwalk_round(lab: Lab, cast: Cast, source: Path, folder: Path) -> float:
    server = f"http://{lab.server.address}:8478"
    log = cast.work / "send.log"
    sender = cast.start(lab.a, [*NATWALK, "send", str(source), "--server", server, "--json", "--new"], log)
    until(lambda: b'"code"' in log.read_bytes(), "code")
    code = str(json.loads(log.read_text().splitlines()[0])["code"])
    started = time.perf_counter()
    argv = [*NATWALK, "receive", code, "--server", server, "--output", str(folder), "--yes", "--json"]
    receiver = cast.start(lab.b, argv, cast.work / "receive.log")
    result = first_byte(folder, receiver, started)
    if receiver.wait(30) != 0:
        raise RuntimeError((cast.work / "receive.log").read_text()[-500:])
    cast.end(sender)
    return result


def wormhole_round(lab: Lab, cast: Cast, source: Path, folder: Path, code: str) -> float:
    base = [
        str(SCRIPTS / "wormhole"), "--relay-url", f"ws://{lab.server.address}:4000/v1",
        "--transit-helper", f"tcp:{lab.server.address}:4001",
    ]  # fmt: skip
    log = cast.work / "wormhole-send.log"
    sender = cast.start(
        lab.a, [*base, "send", "--hide-progress", "--no-qr", "--code", code, str(source)], log
    )
    until(lambda: b"wormhole receive" in log.read_bytes(), "code")
    started = time.perf_counter()
    argv = [*base, "receive", "--hide-progress", "--accept-file", code]
    receiver = cast.start(lab.b, argv, cast.work / "wormhole-receive.log", cwd=folder)
    result = first_byte(folder, receiver, started)
    if receiver.wait(30) != 0:
        raise RuntimeError((cast.work / "wormhole-receive.log").read_text()[-500:])
    cast.end(sender)
    return result


def servers(lab: Lab, cast: Cast) -> None:
    host = lab.server.address
    allow = [
        word
        for net in ("203.0.113.0/24", "198.51.100.0/24", "192.0.2.0/24")
        for word in ("--allow-peer", net)
    ]
    log = cast.work / "serve.log"
    serve = [*NATWALK, "serve", "--listen", host, "--relay-address", host, *allow, "--json"]
    cast.start(lab.server, serve, log)
    twist = str(SCRIPTS / "twist")
    mailbox = [twist, "wormhole-mailbox", "--port", f"tcp:4000:interface={host}", "--channel-db", ":memory:"]
    cast.start(lab.server, mailbox, cast.work / "mailbox.log")
    transit = [twist, "transitrelay", "--port", f"tcp:4001:interface={host}"]
    cast.start(lab.server, transit, cast.work / "transit.log")
    until(lambda: b'"ready"' in log.read_bytes(), "natwalk server")
    for name in ("mailbox.log", "transit.log"):
        until(lambda name=name: b"Starting reactor" in (cast.work / name).read_bytes(), name)  # type: ignore[misc]


def main() -> None:
    ours: list[float] = []
    theirs: list[float] = []
    with (
        tempfile.TemporaryDirectory(prefix="natwalk-bench-") as name,
        Lab("port-restricted", "port-restricted") as lab,
    ):
        work = Path(name)
        source = work / "file.bin"
        make_file(source, SIZE)
        cast = Cast(work)
        try:
            servers(lab, cast)
            for round_ in range(ROUNDS):
                for results, run in ((ours, "natwalk"), (theirs, "wormhole")):
                    folder = work / f"{run}-{round_}"
                    folder.mkdir()
                    if run == "natwalk":
                        results.append(natwalk_round(lab, cast, source, folder))
                    else:
                        results.append(wormhole_round(lab, cast, source, folder, f"{round_ + 3}-first-byte"))
        finally:
            cast.end()
    for label, results in (("natwalk", ours), ("magic-wormhole", theirs)):
        print(
            f"{label:15} median {statistics.median(results):.2f} s  "
            f"(min {min(results):.2f}, max {max(results):.2f}, {len(results)} rounds)"
        )
    ratio = statistics.median(ours) / statistics.median(theirs)
    print(f"ratio (ours / theirs) {ratio:.2f}  (goal: median under 1 s)")
