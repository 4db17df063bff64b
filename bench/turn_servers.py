"""The two TURN servers of the ``turn`` bench, each a process of its own with settings that match."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.processes import free_port, running, until
from natwalk.core import Address
from natwalk.stun import Method, encode, request

USER: Final = "bench"
PASSWORD: Final = "correct horse battery staple"
REALM: Final = "natwalk"
RELAY_PORTS: Final = {"natwalk": (20000, 31999), "coturn": (48000, 59999)}

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")

OURS = """\
[server]
listen = ["127.0.0.1"]
realm = "{realm}"
[stun]
port = {port}
tcp = false
[turn]
relay-addresses = ["127.0.0.1"]
relay-ports = "{low}-{high}"
[turn.users]
{user} = "{password}"
[turn.peers]
allow = ["127.0.0.0/8"]
[turn.limits]
allocations = 100000
allocations-per-user = 100000
new-peers-burst = 100000
[http]
port = 0
[log]
level = "error"
usage = false
"""

COTURN = """\
listening-ip=127.0.0.1
relay-ip=127.0.0.1
listening-port={port}
min-port={low}
max-port={high}
realm={realm}
lt-cred-mech
user={user}:{password}
stale-nonce=600
allow-loopback-peers
relay-threads=1
no-tls
no-dtls
no-tcp
no-tcp-relay
no-cli
no-software-attribute
no-rfc5780
no-stdout-log
log-file=/dev/null
simple-log
pidfile={folder}/turn.pid
userdb={folder}/turn.db
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: who it is, where it listens, and what the kernel counts for it."""

    name: str
    address: Address
    process: subprocess.Popen[bytes]

    def cpu(self) -> float:
        """Seconds of processor its threads have used so far, in user mode and in the kernel."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident(self) -> int:
        """Bytes of memory that are resident now."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * _PAGE


@contextlib.contextmanager
def natwalk(folder: Path) -> Iterator[Server]:
    """``natwalk serve`` with the Python plane and limits that 10,000 allocations of one user fit in."""
    argv = [str(Path(sys.executable).parent / "natwalk"), "serve", "--json"]
    with _started("natwalk", folder, OURS, [*argv, "--config"]) as server:
        yield server


@contextlib.contextmanager
def coturn(folder: Path) -> Iterator[Server]:
    """Debian's turnserver with one relay thread and neither TLS, logs nor quotas."""
    with _started("coturn", folder, COTURN, ["turnserver", "-c"]) as server:
        yield server


@contextlib.contextmanager
def _started(name: str, folder: Path, template: str, argv: list[str]) -> Iterator[Server]:
    home = folder / name
    home.mkdir(exist_ok=True)
    low, high = RELAY_PORTS[name]
    port = free_port(socket.SOCK_DGRAM)
    config = home / "server.conf"
    config.write_text(
        template.format(port=port, low=low, high=high, realm=REALM, user=USER, password=PASSWORD, folder=home)
    )
    config.chmod(0o600)
    with running([*argv, str(config)], cwd=home, log=home / "log") as process:
        server = Server(name, Address("127.0.0.1", port), process)
        until(lambda: _answers(server), f"answer of {name}, see {home / 'log'}", 20, every=0.05)
        yield server


def _answers(server: Server) -> bool:
    """Whether a Binding request is answered within 100 ms; RuntimeError when the process has ended."""
    if server.process.poll() is not None:
        raise RuntimeError(f"{server.name} ended with exit code {server.process.returncode}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.1)
        sock.connect(server.address)
        with contextlib.suppress(ConnectionRefusedError, TimeoutError):
            sock.send(encode(request(Method.BINDING, os.urandom(12))))
            return bool(sock.recv(2048))
    return False
