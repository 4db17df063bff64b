"""A real natwalk server on loopback, in the test's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from ipaddress import ip_address

from natwalk.core import IPAddress
from natwalk.server.config import load
from natwalk.server.run import Ready, serve

LOOPBACK_ONLY = {
    "server.listen": ["127.0.0.1"],
    "stun.port": 0,
    "http.port": 0,
    "turn.relay-addresses": ["127.0.0.1"],
    "turn.peers.allow": ["127.0.0.0/8"],
}


def loopback() -> list[IPAddress]:
    """What tests give ``natwalk.connect`` as ``addresses``: nothing leaves the machine."""
    return [ip_address("127.0.0.1")]


@contextlib.asynccontextmanager
async def running_server(**flags: str | int | list[str]) -> AsyncIterator[Ready]:
    """A server with the default configuration, on free ports of 127.0.0.1."""
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    config = load(None, {**LOOPBACK_ONLY, **flags})
    task = asyncio.create_task(serve(config, stop, ready.set_result))
    try:
        done, _ = await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED, timeout=20)
        if task in done:
            task.result()
        yield ready.result()
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)
