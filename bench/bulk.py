"""300 MB over loopback by whole commands: ``natwalk send``/``receive`` beside magic-wormhole's.

Both write a temporary file and rename it when it is complete and verified. The rate is size over the time
from its first byte to its final name, seen from outside and the same for both, so neither start-up nor code
exchange counts; the time of the whole receiving command is printed beside it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.processes import free_port, listening, running, until

SIZE = 300_000_000
ROUNDS = 7
LOOK = 0.005
SCRIPTS = Path(sys.executable).parent


def make_file(path: Path, size: int) -> None:
    block = os.urandom(1 << 20)
    with path.open("wb") as out:
        while size > 0:
            out.write(block[:size])
            size -= len(block)


def partial_size(folder: Path) -> int:
    return sum(f.stat().st_size for f in files(folder))


def files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        try:
            if path.is_file() and not path.name.startswith("state.json"):
                yield path
        except FileNotFoundError:
            continue


def watch(receiver: subprocess.Popen[bytes], folder: Path, name: str, started: float) -> tuple[float, float]:
    """(seconds from the first byte to the final name, seconds of the whole command)."""

    def begun() -> bool:
        try:
            return receiver.poll() is not None or any(
                f.stat().st_blocks or f.stat().st_size for f in files(folder)
            )
        except FileNotFoundError:
            return True

    # A third busy process on two cores would measure the scheduler: look seldom, and at little.
    first = until(begun, "first byte", every=LOOK)
    final = str(folder / name)
    done = until(lambda: os.path.exists(final) or receiver.poll() is not None, "complete file", every=LOOK)
    receiver.wait(60)
    whole = time.perf_counter() - started
    if receiver.returncode != 0 or (folder / name).stat().st_size != SIZE:
        raise RuntimeError(f"the receiver failed with exit code {receiver.returncode}")
    return done - first, whole


def natwalk_round(source: Path, work: Path, server: str) -> tuple[float, float]:
    folder = work / "natwalk-out"
    folder.mkdir()
    natwalk = str(SCRIPTS / "natwalk")
    log = work / "natwalk-send.log"
    env = {"XDG_STATE_HOME": str(work / "state")}
    with running([natwalk, "send", str(source), "--server", server, "--json"], cwd=work, log=log, env=env):
        until(lambda: b'"code"' in log.read_bytes(), "code")
        event = next(
            json.loads(line)
            for line in log.read_text().splitlines()
            if '"event":"code"' in line.replace(" ", "")
        )
        started = time.perf_counter()
        argv = [
            natwalk,
            "receive",
            event["code"],
            "--server",
            server,
            "--output",
            str(folder),
            "--yes",
            "--json",
        ]
        with running(argv, cwd=work, log=work / "natwalk-receive.log", env=env) as receiver:
            result = watch(receiver, folder, source.name, started)
    (folder / source.name).unlink()
    folder.rmdir()
    os.sync()
    return result


def wormhole_round(source: Path, work: Path, relay: str, code: str) -> tuple[float, float]:
    folder = work / "wormhole-out"
    folder.mkdir()
    base = [str(SCRIPTS / "wormhole"), "--relay-url", relay, "--transit-helper", "tcp:127.0.0.1:1"]
    log = work / "wormhole-send.log"
    with running(
        [*base, "send", "--hide-progress", "--no-qr", "--code", code, str(source)], cwd=work, log=log
    ):
        until(lambda: b"wormhole receive" in log.read_bytes(), "code")
        started = time.perf_counter()
        argv = [*base, "receive", "--hide-progress", "--accept-file", code]
        with running(argv, cwd=folder, log=work / "wormhole-receive.log") as receiver:
            result = watch(receiver, folder, source.name, started)
    (folder / source.name).unlink()
    folder.rmdir()
    return result


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="natwalk-bench-") as name:
        work = Path(name)
        source = work / "bulk.bin"
        make_file(source, SIZE)
        http, stun, mailbox = free_port(), free_port(), free_port()
        serve = [
            str(SCRIPTS / "natwalk"),
            "serve",
            "--listen",
            "127.0.0.1",
            "--http-port",
            str(http),
            "--stun-port",
            str(stun),
            "--relay-address",
            "127.0.0.1",
            "--allow-peer",
            "127.0.0.0/8",
            "--json",
        ]
        twist = [
            str(SCRIPTS / "twist"),
            "wormhole-mailbox",
            "--port",
            f"tcp:{mailbox}:interface=127.0.0.1",
            "--channel-db",
            ":memory:",
        ]
        ours: list[tuple[float, float]] = []
        theirs: list[tuple[float, float]] = []
        with (
            running(serve, cwd=work, log=work / "serve.log"),
            running(twist, cwd=work, log=work / "mailbox.log"),
        ):
            until(lambda: listening(http), "natwalk server")
            until(lambda: listening(mailbox), "wormhole mailbox")
            for round_ in range(ROUNDS):
                os.sync()  # what earlier rounds wrote must not be written while these are timed
                ours.append(natwalk_round(source, work, f"http://127.0.0.1:{http}"))
                theirs.append(
                    wormhole_round(source, work, f"ws://127.0.0.1:{mailbox}/v1", f"{round_ + 3}-bulk-bench")
                )
        rate = {
            "natwalk": statistics.median(SIZE / 1e6 / transfer for transfer, _ in ours),
            "magic-wormhole": statistics.median(SIZE / 1e6 / transfer for transfer, _ in theirs),
        }
        whole = {
            "natwalk": statistics.median(total for _, total in ours),
            "magic-wormhole": statistics.median(total for _, total in theirs),
        }
        ratios = sorted(b[0] / a[0] for a, b in zip(ours, theirs, strict=True))
        for peer, value in rate.items():
            print(f"{peer:15} median {value:6.0f} MB/s   whole receiving command {whole[peer]:5.2f} s")
        print(
            f"ratio (ours / theirs), round by round: median {statistics.median(ratios):.2f}, "
            f"from {ratios[0]:.2f} to {ratios[-1]:.2f}  (goal: at least 1.20)"
        )
