"""Debian's Chromium, headless, through our TURN server: two peers of one page that may only use relays."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright

from natwalk.aio.turn_server import TurnServerDriver
from natwalk.core import Address
from natwalk.turn import AllocationEnded, PeerPolicy, TurnConfig, TurnServerEvent

CHROMIUM = shutil.which("chromium")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")

PAGE = (Path(__file__).parent / "relayed_pair.html").read_bytes()
PATIENCE_MS = 20_000
FLAGS = [
    "--no-sandbox",  # the suite runs as root in containers, where Chromium's sandbox does not start
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CONFIG = TurnConfig(
    realm="natwalk.test",
    users={"alice": "secret"},
    relay_addresses=("127.0.0.1",),
    policy=PeerPolicy(allow=["127.0.0.0/8"]),
)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one HTTP request with the page, whatever it asks for."""
    await reader.readuntil(b"\r\n\r\n")
    head = ("HTTP/1.1 200 OK", "Content-Type: text/html", f"Content-Length: {len(PAGE)}", "Connection: close")
    writer.write("\r\n".join((*head, "", "")).encode() + PAGE)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


@asynccontextmanager
async def opened(profile: Path, *flags: str) -> AsyncIterator[Page]:
    """The page in a new Chromium with these flags more and a profile of its own."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, async_playwright() as playwright:
        browser = await playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, headless=True, args=[*FLAGS, *flags]
        )
        async with browser:
            page = browser.pages[0]
            await page.goto(f"http://127.0.0.1:{port}/")
            yield page


async def meet(page: Page, uri: str) -> dict[str, Any]:
    """What the page says became of a connection through the server of ``uri``."""
    server = {"urls": [uri], "username": "alice", "credential": "secret"}
    outcome: dict[str, Any] = await page.evaluate(
        "([server, patience]) => relayedPair(server, patience)", [server, PATIENCE_MS]
    )
    return outcome


def check(outcome: dict[str, Any], protocol: str) -> None:
    sent = [index % 251 for index in range(1000)]
    assert outcome["opened"], outcome
    assert outcome["atCallee"] == sent
    assert outcome["atCaller"] == sent[::-1]
    assert set(outcome["relayProtocols"]) == {protocol}
    assert all(" typ relay " in candidate for candidate in outcome["candidates"])


async def test_a_data_channel_through_the_relay(tmp_path: Path) -> None:
    """The channel opens and bytes pass both ways, all of them through the server."""
    events: list[TurnServerEvent] = []
    driver = await TurnServerDriver.start(CONFIG, [Address("127.0.0.1", 0)], on_event=events.append)
    async with asyncio.timeout(60), driver as server, opened(tmp_path) as page:
        check(await meet(page, f"turn:127.0.0.1:{server.listeners[0].port}?transport=udp"), "udp")
    ended = [event for event in events if isinstance(event, AllocationEnded)]
    assert len(ended) >= 2
    assert sum(event.counters.bytes_to_peers for event in ended) >= 2000
