"""The relay: what an idle client costs the server's process, and how many frames a second go through it.

``natwalk serve`` runs as a process of its own with TLS; the clients are cores on asyncio in this one.
"""

from __future__ import annotations

import asyncio
import json
import resource
import secrets
import ssl
import sys
import tempfile
import time
from pathlib import Path

from natwalk.aio.client_tls import ClientTls
from natwalk.aio.relay import RelayConnection
from natwalk.relay import (
    FrameReader,
    FrameType,
    PacketReceived,
    RelayClientEvent,
    RelayIdentity,
    RelayUpgrade,
)
from natwalk.relay.handshake import Challenge, prove

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from certificates import write_certificate

IDLE = 5000
AT_ONCE = 100
PACKET = 1200
SECONDS = 5.0


def rss(pid: int) -> int:
    """Resident bytes of a process."""
    text = Path(f"/proc/{pid}/statm").read_text(encoding="ascii")
    return int(text.split()[1]) * resource.getpagesize()


def cpu(pid: int) -> float:
    """Seconds of processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def idle_client(port: int, context: ssl.SSLContext | None) -> asyncio.StreamWriter:
    """A client that has proved a key and stays silent: it keeps nothing alive."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, limit=2048)
    upgrade = RelayUpgrade("127.0.0.1", port)
    writer.write(upgrade.start())
    while not upgrade.done:
        upgrade.receive(await reader.read(2048))
    tls = writer.get_extra_info("ssl_object")
    binding = b"" if tls is None else tls.get_channel_binding("tls-unique")
    frames, data = FrameReader(), upgrade.rest()
    while True:
        for kind, contents in frames.feed(data):
            if kind == FrameType.CHALLENGE:
                identity = RelayIdentity(secrets.token_bytes(32))
                proof, _ = prove(identity, Challenge.decode(contents), secrets.token_bytes(32), binding)
                writer.write(proof.encode())
            elif kind == FrameType.WELCOME:
                return writer
            else:
                raise RuntimeError(f"the relay says {kind:#x} {contents[:80]!r}")
        data = await reader.read(2048)
        if not data:
            raise RuntimeError("the relay hung up")


async def memory(pid: int, port: int, context: ssl.SSLContext | None) -> float:
    """Bytes of the server a client."""
    warm = [await idle_client(port, context) for _ in range(50)]
    await asyncio.sleep(1)
    before, writers = rss(pid), list(warm)
    for _ in range(0, IDLE, AT_ONCE):
        writers += await asyncio.gather(*(idle_client(port, context) for _ in range(AT_ONCE)))
    await asyncio.sleep(16)  # until what HTTP kept for its first seconds is gone
    growth = (rss(pid) - before) / IDLE
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(1)
    return growth


async def frames(pid: int, url: str, tls: ClientTls) -> tuple[float, float]:
    """Frames a second through the relay, and frames a second of the server's processor time."""
    arrived = 0
    wake = asyncio.Event()

    def on_b(event: RelayClientEvent) -> None:
        nonlocal arrived
        if isinstance(event, PacketReceived):
            arrived += 1
            wake.set()

    def ignore(event: RelayClientEvent) -> None:
        return

    a_key, b_key = (RelayIdentity(secrets.token_bytes(32)) for _ in range(2))
    async with (
        RelayConnection(url, a_key, on_event=ignore, tls=tls) as a,
        RelayConnection(url, b_key, on_event=on_b, tls=tls) as b,
    ):
        await a.wait_ready()
        await b.wait_ready()
        data, sent = bytes(PACKET), 0
        begin, used = time.perf_counter(), cpu(pid)
        while time.perf_counter() < begin + SECONDS:
            while sent - arrived < 128:  # a window, as a congestion-controlled sender has
                a.send(data, b_key.public)
                sent += 1
            wake.clear()
            await wake.wait()
        seconds, used = time.perf_counter() - begin, cpu(pid) - used
    return arrived / seconds, arrived / max(used, 0.01)


async def measure(folder: Path) -> None:
    """Start the server, measure, print."""
    files = write_certificate(folder)
    config = folder / "natwalk.toml"
    config.write_text(
        '[server]\nlisten = ["127.0.0.1"]\n[stun]\nport = 0\n[http]\nport = 0\n'
        '[tls]\ncert = "cert.pem"\nkey = "key.pem"\nport = 0\n'
        "[turn]\nrelay-addresses = ['127.0.0.1']\n"
        "[streams]\nconnections = 20000\nconnections-per-source = 20000\n"
        "[relay]\nconnections-per-source = 20000\nrate = 1000000000\nburst = 100000000\n"
    )
    command = "from natwalk.cli.serve import serve; serve()"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        command,
        "--json",
        "--config",
        str(config),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        ready = json.loads(await process.stdout.readline())
        shared = [u for u in ready["turn"] if u.startswith("turns:") and u.endswith("tcp")][-1]
        ports = {
            "tls.port": int(shared.partition("?")[0].rpartition(":")[2]),
            "http.port, HTTPS": int(ready["http"].rpartition(":")[2]),
        }
        context = ssl.create_default_context(cafile=files.cert)
        context.set_alpn_protocols(["http/1.1"])
        tls = ClientTls(files.cert, alpn=("http/1.1",))
        for name, port in ports.items():
            through, per_cpu = await frames(process.pid, f"https://127.0.0.1:{port}", tls)
            print(
                f"{name}: {through:,.0f} frames/s of {PACKET} bytes through it, "
                f"{per_cpu:,.0f} by second of the server's processor time",
                flush=True,
            )
        for name, port in ports.items():
            each = await memory(process.pid, port, context)
            print(f"{name}: {each / 1024:.1f} KiB a client, {IDLE:,} idle clients", flush=True)
    finally:
        process.terminate()
        await process.wait()


def main() -> None:
    """Run it with enough file descriptors for all clients."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(Path(folder)))
