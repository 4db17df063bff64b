"""A natwalk server in this event loop, on free loopback ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from natwalk.core import IPAddress
from natwalk.server import load
from natwalk.server.log import Lines, ServerLog
from natwalk.server.run import Order, Ready, serve

RELAYING: Final[dict[str, Any]] = {
    "turn__relay_addresses": ["127.0.0.1"],
    "turn__peers__allow": ["127.0.0.0/8"],
}
"""Flags for a server whose relay serves this machine's own peers."""


class _Unwritten:
    """Takes lines that nobody reads."""

    def write(self, line: str) -> bool:
        return False


def loopback() -> list[IPAddress]:
    """What tests give ``natwalk.connect`` as ``addresses``: nothing leaves the machine."""
    return [ip_address("127.0.0.1")]


@asynccontextmanager
async def running(
    path: Path | None = None,
    *,
    lines: Lines | None = None,
    orders: asyncio.Queue[Order] | None = None,
    **flags: Any,
) -> AsyncIterator[Ready]:
    """Serve while the block runs; keyword ``a__b_c`` is the key ``a.b-c`` of natwalk.toml.

    ``lines`` gets what is logged; ``orders`` is for telling the server to reload or to drain.
    """
    given = {"server.listen": ["127.0.0.1"], "http.port": 0, "stun.port": 0}
    given |= {key.replace("__", ".").replace("_", "-"): value for key, value in flags.items()}
    stop = asyncio.Event()
    ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
    config = load(path, given)
    log = ServerLog(lines or _Unwritten(), config.log, config.secrets)
    task = asyncio.create_task(
        serve(
            config,
            stop,
            ready.set_result,
            log=log,
            orders=orders,
            load=lambda: load(path, given, generated=config.auth_secret if config.generated_secret else None),
        )
    )
    await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    try:
        yield ready.result()
    finally:
        stop.set()
        async with asyncio.timeout(10):
            await task
