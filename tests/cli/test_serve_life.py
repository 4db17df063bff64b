"""``natwalk serve`` as a process that is told things: signals, floods, and what it lets out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from certificates import write_certificate
from natwalk.aio.turn import TurnAllocation
from natwalk.core import Address, ErrorResponse, Transport
from serve_process import COMMAND, LOOPBACK, environment, serving

BINDING = struct.pack("!HHI", 1, 0, 0x2112A442) + bytes(12)
USERS = '[turn]\nrelay-addresses = ["127.0.0.1"]\n[turn.users]\nalice = "correct horse"\n'


def address(uri: str) -> Address:
    return Address.parse(uri.partition(":")[2].partition("?")[0])


def config(folder: Path, text: str) -> str:
    path = folder / "natwalk.toml"
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


def ended(process: subprocess.Popen[str], seconds: float = 5) -> str:
    """What it said on stderr until it ended, within ``seconds``."""
    _, err = process.communicate(timeout=seconds + 10)
    return err


@contextlib.contextmanager
def storm(target: Address, context: ssl.SSLContext | None = None) -> Iterator[None]:
    """Connections one after the other, most of them in the middle of something."""
    over = threading.Event()

    def run() -> None:
        kept: list[socket.socket] = []
        while not over.is_set():
            try:
                sock = socket.create_connection(target, 1)
            except OSError:
                break
            if context is None:
                sock.send(BINDING[:7])
            else:
                sock.send(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a ClientHello
            kept.append(sock)
        for sock in kept:
            sock.close()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


class TestStopping:
    def test_during_a_storm_of_connections(self, tmp_path: Path) -> None:
        """FAULTS 161: SIGTERM in an accept storm and amid TLS handshakes ends it in five seconds with 0."""
        write_certificate(tmp_path)
        text = '[tls]\ncert = "cert.pem"\nkey = "key.pem"\n'
        with serving(*LOOPBACK, "--config", config(tmp_path, text)) as (process, ready):
            turn = ready["turn"]
            assert isinstance(turn, list)
            tcp = next(u for u in turn if u.endswith("=tcp"))
            tls = next(u for u in turn if u.startswith("turns:") and u.endswith("=tcp"))
            with storm(address(tcp)), storm(address(tls), ssl.create_default_context()):
                time.sleep(0.3)  # the storm is to be under way
                started = time.monotonic()
                process.send_signal(signal.SIGTERM)
                process.wait(15)
                took = time.monotonic() - started
            err = ended(process)
        assert process.returncode == 0
        assert took < 5
        assert "Traceback" not in err

    @pytest.mark.parametrize("numbers", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)])
    async def test_the_second_signal_waits_for_nobody(
        self, tmp_path: Path, numbers: tuple[signal.Signals, ...]
    ) -> None:
        """FAULTS 161: twice."""
        text = f"[server]\ndrain-seconds = 600\n{USERS}"
        with serving(*LOOPBACK, "--config", config(tmp_path, text)) as (process, ready):
            assert isinstance(ready["turn"], list)
            allocation = await TurnAllocation.allocate(
                address(ready["turn"][0]), "alice", "correct horse", transport=Transport.UDP
            )
            process.send_signal(numbers[0])
            with pytest.raises(ErrorResponse) as caught:
                async with asyncio.timeout(10):
                    while True:  # until the signal has arrived
                        other = await TurnAllocation.allocate(
                            address(ready["turn"][0]), "alice", "correct horse"
                        )
                        other.abort()
            assert caught.value.code in (486, 508)
            assert process.poll() is None
            process.send_signal(numbers[1])
            await asyncio.to_thread(process.wait, 5)
            allocation.abort()
            assert process.returncode == (130 if numbers[1] is signal.SIGINT else 0)

    async def test_sigusr1_drains_until_the_last_has_gone(self, tmp_path: Path) -> None:
        """FAULTS 150: health says draining, readiness 503, and it ends by itself with 0."""
        with serving(*LOOPBACK, "--config", config(tmp_path, USERS)) as (process, ready):
            assert isinstance(ready["turn"], list)
            allocation = await TurnAllocation.allocate(address(ready["turn"][0]), "alice", "correct horse")
            process.send_signal(signal.SIGUSR1)

            def status() -> tuple[str, int]:
                with urllib.request.urlopen(f"{ready['http']}/healthz", timeout=5) as answer:
                    health = json.load(answer)["status"]
                try:
                    with urllib.request.urlopen(f"{ready['http']}/readyz", timeout=5) as answer:
                        return health, answer.status
                except urllib.error.HTTPError as error:
                    with error:
                        return health, error.code

            async with asyncio.timeout(10):
                while await asyncio.to_thread(status) != ("draining", 503):
                    pass
            assert process.poll() is None
            await allocation.close()
            await asyncio.to_thread(process.wait, 5)
            assert process.returncode == 0


class TestStandardError:
    def test_one_that_is_closed_or_full_stops_nothing(self, tmp_path: Path) -> None:
        """FAULTS 54: no stderr, a full disk behind it, or a pipe nobody reads: the server serves."""
        read, write = os.pipe()
        with contextlib.suppress(BlockingIOError):
            os.set_blocking(write, False)
            while True:
                os.write(write, b"x" * 65536)
        os.set_blocking(write, True)
        full = os.open("/dev/full", os.O_WRONLY)
        for stderr in (full, write):
            process = subprocess.Popen(
                [*COMMAND, "--json", *LOOPBACK],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=environment(),
            )
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            for _ in range(3):
                with urllib.request.urlopen(f"{ready['http']}/healthz", timeout=5) as answer:
                    assert json.load(answer)["status"] == "ok"
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            process.stdout.close()
        for descriptor in (read, write, full):
            os.close(descriptor)

    def test_a_flood_of_bad_packets_leaves_a_line(self) -> None:
        """FAULTS 54: 100,000 bad packets leave a short log, and the server answers meanwhile."""
        with serving(*LOOPBACK) as (process, ready):
            assert isinstance(ready["stun"], list)
            target = address(ready["stun"][0])
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(10)
                sock.connect(target)
                for n in range(100_000):
                    sock.send(b"\xff" * (n % 50))
                    if n % 10_000 == 0:
                        sock.send(BINDING)
                        assert sock.recv(100)[:2] == b"\x01\x01"
            process.send_signal(signal.SIGTERM)
            err = ended(process)
        assert len(err) < 3000
        assert re.search(r"dropped  packets=\d{3,}", err)


async def test_no_secret_gets_out_in_a_whole_run(tmp_path: Path) -> None:
    """FAULTS 173: canaries as every kind of secret are in no log, metric, answer, error or ps."""
    canaries = {
        "turn.secret": "canary-shared-secret-1",
        "old.secret": "canary-shared-secret-2",
        "users": "bob:canary-password-3\n",
        "token": "canary-operators-token-4",
        "oauth.key": "Y2FuYXJ5LW9hdXRoLWtleQ==",
    }
    for name, text in canaries.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    text = """
[turn]
relay-addresses = ["127.0.0.1"]
auth-secret-file = "turn.secret"
auth-secret-files = ["old.secret"]
users-file = "users"
[[turn.oauth-keys]]
kid = "k"
key-file = "oauth.key"
[turn.users]
alice = "canary-password-5"
[admin]
token-file = "token"
[log]
level = "debug"
addresses = true
"""
    path = config(tmp_path, text)
    out: list[str] = []
    with serving(*LOOPBACK, "--config", path) as (process, ready):
        assert isinstance(ready["turn"], list)
        turn, http = address(ready["turn"][0]), str(ready["http"])
        out.append(json.dumps(ready))
        out.append(subprocess.run(["ps", "aux"], capture_output=True, text=True, check=True).stdout)  # noqa: ASYNC221

        def fetch(where: str, **headers: str) -> str:
            request = urllib.request.Request(http + where, headers=headers)
            try:
                with urllib.request.urlopen(request, timeout=5) as answer:
                    return str(answer.read().decode())
            except urllib.error.HTTPError as error:
                with error:
                    return str(error.headers) + error.read().decode()

        bearer = {"Authorization": f"Bearer {canaries['token']}"}
        for user, password in (("alice", "canary-password-5"), ("bob", "canary-password-3")):
            async with await TurnAllocation.allocate(turn, user, password):
                for where in ("/healthz", "/readyz", "/metrics", "/nothing", "/v1/admin/allocations"):
                    out.append(await asyncio.to_thread(fetch, where))
                out.append(await asyncio.to_thread(fetch, "/v1/admin/allocations", **bearer))
        with pytest.raises(ErrorResponse):
            await TurnAllocation.allocate(turn, "alice", "canary-password-3")
        for broken in (
            text.replace('"canary-password-5"', "5"),
            text.replace("[turn.users]", '[turn.users]\nbob = "canary-password-6"'),
            text.replace("canary-password-5", "canary"),
            text + "\ncanary-password-7 = \n",
        ):
            config(tmp_path, broken)
            process.send_signal(signal.SIGHUP)
            await asyncio.sleep(0.2)
        (tmp_path / "users").write_text("canary-password-3\n")
        config(tmp_path, text)
        process.send_signal(signal.SIGHUP)
        await asyncio.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        out.append(await asyncio.to_thread(ended, process))
    said = "\n".join(out)
    assert "usage" in said
    assert "reload refused" in said
    assert "canary-" not in said
    assert "Y2FuYXJ5" not in said
