"""Debian's coturn, started by the tests on the loopback interface."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from natwalk.core import Address
from natwalk.stun import Method, encode, request

USER, PASSWORD = "alice", "correct horse"  # a space in a password is what users have
REALM = "natwalk.test"


def relay_ports() -> tuple[int, int]:
    """A range of its own for each worker, outside of what the kernel gives to clients."""
    low = 20_000 + os.getpid() % 100 * 100
    return low, low + 99


def free_port(host: str = "127.0.0.1") -> int:
    """A port that is free for UDP and TCP a moment ago."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(50):
        with socket.socket(family, socket.SOCK_DGRAM) as udp, socket.socket(family) as tcp:
            udp.bind((host, 0))
            port = int(udp.getsockname()[1])
            with contextlib.suppress(OSError):
                tcp.bind((host, port))
                return port
    raise AssertionError("no port is free for both UDP and TCP")


async def answers_stun(server: Address) -> bool:
    """Whether a Binding request is answered within 100 ms."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if server.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(server)
        with contextlib.suppress(ConnectionRefusedError, TimeoutError):
            sock.send(encode(request(Method.BINDING, secrets.token_bytes(12))))
            async with asyncio.timeout(0.1):
                return bool(await loop.sock_recv(sock, 2048))
    await asyncio.sleep(0.02)  # a refused datagram comes back at once
    return False


@contextlib.asynccontextmanager
async def running_coturn(
    folder: Path,
    *options: str,
    host: str = "127.0.0.1",
    certificates: Path | None = None,
    users: bool = True,
) -> AsyncIterator[Address]:
    """A coturn with ``options`` (lines of its configuration); where it listens.

    ``certificates`` is a folder with ``cert.pem`` and ``key.pem``; TLS and DTLS are then spoken, too.
    """
    server = Address(host, free_port(host))
    config = _write_config(folder, server, options, certificates, users)
    process = await asyncio.create_subprocess_exec(
        "turnserver",
        "-c",
        str(config),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        for _ in range(100):
            assert process.returncode is None, (folder / "turn.log").read_text()
            if await answers_stun(server):
                break
        else:
            raise AssertionError("coturn does not answer: " + (folder / "turn.log").read_text())
        yield server
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _write_config(
    folder: Path, server: Address, options: Sequence[str], certificates: Path | None, users: bool
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    low, high = relay_ports()
    lines = [
        f"listening-ip={server.host}",
        f"listening-port={server.port}",
        f"min-port={low}",
        f"max-port={high}",
        f"realm={REALM}",
        "allow-loopback-peers",
        "fingerprint",
        "no-cli",
        "no-stdout-log",
        f"log-file={folder}/turn.log",
        "simple-log",
        "verbose",
        f"pidfile={folder}/turn.pid",
        f"userdb={folder}/turn.db",
        *options,
    ]
    if not any(option.startswith("relay-ip") for option in options):
        lines.append(f"relay-ip={server.host}")
    if users:
        lines += ["lt-cred-mech", f"user={USER}:{PASSWORD}"]
    if certificates is None:
        lines += ["no-tls", "no-dtls"]
    else:
        lines += [f"cert={certificates}/cert.pem", f"pkey={certificates}/key.pem"]
        lines.append(f"tls-listening-port={free_port(server.host)}")
    config = folder / "turnserver.conf"
    config.write_text("\n".join(lines) + "\n")
    return config
