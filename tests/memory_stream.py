"""Streams in memory, for tests: a bounded pipe each way, which can be cut after some bytes."""

from __future__ import annotations

import asyncio


class Pipe:
    """One direction; ``cut_after`` bytes the connection breaks on both sides."""

    def __init__(self, limit: int = 1 << 20) -> None:
        self.buffer = bytearray()
        self.limit = limit
        self.ended = False
        self.broken = False
        self.changed = asyncio.Condition()
        self.passed = 0
        self.cut_after: int | None = None


class MemoryStream:
    """One end of a bidirectional stream: reads from ``incoming``, writes to ``outgoing``."""

    def __init__(self, incoming: Pipe, outgoing: Pipe) -> None:
        self.incoming = incoming
        self.outgoing = outgoing

    async def read(self, n: int = 65536) -> bytes:
        pipe = self.incoming
        async with pipe.changed:
            await pipe.changed.wait_for(lambda: pipe.buffer or pipe.ended or pipe.broken)
            if not pipe.buffer and pipe.broken:
                raise ConnectionResetError("cut")
            data = bytes(pipe.buffer[:n])
            del pipe.buffer[:n]
            pipe.changed.notify_all()
            return data

    async def write(self, data: bytes | memoryview) -> None:
        pipe = self.outgoing
        async with pipe.changed:
            await pipe.changed.wait_for(lambda: len(pipe.buffer) < pipe.limit or pipe.broken)
            if pipe.broken:
                raise ConnectionResetError("cut")
            if pipe.cut_after is not None and pipe.passed + len(data) >= pipe.cut_after:
                data = data[: pipe.cut_after - pipe.passed]
                pipe.broken = True
            pipe.buffer += data
            pipe.passed += len(data)
            pipe.changed.notify_all()
        if pipe.broken:
            await break_pipe(self.incoming)
            raise ConnectionResetError("cut")

    async def finish(self) -> None:
        async with self.outgoing.changed:
            self.outgoing.ended = True
            self.outgoing.changed.notify_all()


async def break_pipe(pipe: Pipe) -> None:
    async with pipe.changed:
        pipe.broken = True
        pipe.changed.notify_all()


def stream_pair(limit: int = 1 << 20) -> tuple[MemoryStream, MemoryStream]:
    there, back = Pipe(limit), Pipe(limit)
    return MemoryStream(back, there), MemoryStream(there, back)
