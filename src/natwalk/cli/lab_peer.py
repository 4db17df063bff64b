"""One of the two programs of ``natwalk lab matrix``: connects, waits for the best path, says which it is.

``python -m natwalk.cli.lab_peer SERVER [CODE]``; it prints events, one JSON object a line, the last of which
is ``outcome``. Without a code it makes one.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Final

import natwalk
from natwalk.aio.connection import Connection
from natwalk.peer import PeerEvent, report

SETTLES: Final = 3.0
"""Seconds after which a relayed path is taken for the best one."""
_LOOK: Final = 0.02
_PATIENCE: Final = 9.0


def tell(event: str, **fields: object) -> None:
    """Print one event."""
    print(json.dumps({"event": event, **fields}), flush=True)


def on_event(event: PeerEvent) -> None:
    """Print what the connection goes through."""
    fields = report(event)
    if fields is not None:
        tell(str(fields.pop("event")), **fields)


async def best_path(connection: Connection) -> natwalk.PathInfo:
    """The path once it is direct, or the relayed one when nothing better came in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SETTLES
    while True:
        path = connection.path
        if path is not None and (path.kind is natwalk.PathKind.DIRECT or loop.time() > deadline):
            return path
        connection.raise_if_ended()
        await asyncio.sleep(_LOOK)


async def meet(server: str, code: str | None) -> tuple[str, str]:
    """The kind of path both sides end up on, and why; bytes have gone both ways over it."""
    async with natwalk.connect(
        code,
        server=server,
        timeout=_PATIENCE,
        on_code=lambda made: tell("code", code=made),
        on_event=on_event,
    ) as connection:
        path = await best_path(connection)
        stream = await (connection.open_stream() if code is None else connection.accept_stream())
        await stream.write(path.kind.value.encode())
        await stream.finish()
        other = b""
        while part := await stream.read():
            other += part
        if code is not None:
            async for _ in connection.events():
                pass  # until the other side closes
    return (
        path.kind.value if other.decode() == path.kind.value else f"{path.kind.value} and {other!r}",
        path.reason,
    )


def main() -> int:
    """Connect and say how it went."""
    server, *code = sys.argv[1:]
    try:
        kind, reason = asyncio.run(meet(server, code[0] if code else None))
    except (natwalk.ConnectionEnded, TimeoutError) as error:
        kind, reason = "none", str(error) or "nothing happened in time"
    tell("outcome", kind=kind, reason=reason)
    return 0


if __name__ == "__main__":
    sys.exit(main())
