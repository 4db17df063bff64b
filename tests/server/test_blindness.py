"""What the server's process has in its memory and in its logs after two peers met through it (FAULTS 122)."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
from contextlib import suppress

from natwalk.aio.rendezvous import RendezvousDriver
from natwalk.rendezvous import Code, MailboxMessage, NameplateAllocated, RendezvousClient, SecureMailbox

COMMAND = [sys.executable, "-c", "from natwalk.cli.serve import serve; serve()"]
ARGUMENTS = ["--json", "--listen", "127.0.0.1", "--http-port", "0", "--stun-port", "0"]


def mailbox(side: str, password: bytes | None) -> SecureMailbox:
    client = RendezvousClient(random_bytes=secrets.token_bytes)
    return SecureMailbox(
        client, side=side, password=password, app_id="blind test", random_bytes=secrets.token_bytes
    )


async def meet(url: str, marker: bytes) -> Code:
    """Two sides meet with a code, and A sends ``marker`` to B; both stay until B has it."""
    a, b = mailbox("A", None), mailbox("B", None)
    met: asyncio.Future[Code] = asyncio.get_running_loop().create_future()
    codes: list[Code] = []
    now = asyncio.get_running_loop().time()

    def on_a() -> None:
        while (event := a.poll_event()) is not None:
            if isinstance(event, NameplateAllocated):
                codes.append(Code.generate(event.nameplate, secrets.token_bytes))
                a.set_password(codes[0].password, now)
                b.set_password(codes[0].password, now)
                b.client.claim(event.nameplate, now)
                a.send(marker, now)
                drive_a.flush()
                drive_b.flush()

    def on_b() -> None:
        while (event := b.poll_event()) is not None:
            if event == MailboxMessage(marker):
                met.set_result(codes[0])

    a.client.allocate(now)
    drive_a, drive_b = (
        RendezvousDriver(url, a, on_progress=on_a),
        RendezvousDriver(url, b, on_progress=on_b),
    )
    tasks = [asyncio.create_task(drive_b.run()), asyncio.create_task(drive_a.run())]
    try:
        async with asyncio.timeout(20):
            return await met
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def memory_of(pid: int) -> bytes:
    """Every writable page of a process."""
    found = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            span, access = line.split()[:2]
            if access.startswith("rw") and "[v" not in line:
                start, end = (int(part, 16) for part in span.split("-"))
                with suppress(OSError):  # a guard page
                    memory.seek(start)
                    found.append(memory.read(end - start))
    return b"".join(found)


def test_neither_codes_nor_messages_are_in_its_memory_or_its_logs() -> None:
    marker = secrets.token_hex(16).encode()
    process = subprocess.Popen(
        [*COMMAND, *ARGUMENTS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        url = ready.partition('"http":"')[2].partition('"')[0]
        code = asyncio.run(meet(url, marker))
        memory = memory_of(process.pid)
        assert b"v1/rendezvous" in memory, "the search finds what is there"
        for secret in (marker, "-".join(code.words).encode(), b"blind test"):
            assert secret not in memory
    finally:
        process.terminate()
        out, err = process.communicate(timeout=10)
    for word in (*code.words, marker.decode(), "candidate"):
        assert word not in out + err
