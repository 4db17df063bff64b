"""Debian's Chromium, headless, through our TURN server: two peers of one page that may only use relays."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.async_api import Page, async_playwright

from certificates import write_certificate
from natwalk.aio.tls import ServerTls
from natwalk.aio.turn_server import TurnServerDriver
from natwalk.core import Address, Transport
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


async def meet(page: Page, uri: str, *, patience_ms: int = PATIENCE_MS) -> dict[str, Any]:
    """What the page says became of a connection through the server of ``uri``."""
    server = {"urls": [uri], "username": "alice", "credential": "secret"}
    outcome: dict[str, Any] = await page.evaluate(
        "([server, patience]) => relayedPair(server, patience)", [server, patience_ms]
    )
    return outcome


def check(outcome: dict[str, Any], protocol: str) -> None:
    sent = [index % 251 for index in range(1000)]
    assert outcome["opened"], outcome
    assert outcome["atCallee"] == sent
    assert outcome["atCaller"] == sent[::-1]
    assert set(outcome["relayProtocols"]) == {protocol}
    assert all(" typ relay " in candidate for candidate in outcome["candidates"])


def check_relayed(events: list[TurnServerEvent], transport: Transport) -> None:
    """All that was sent passed the server, from clients on ``transport``."""
    ended = [event for event in events if isinstance(event, AllocationEnded)]
    assert len(ended) >= 2
    assert {event.transport for event in ended} == {transport}
    assert sum(event.counters.bytes_to_peers for event in ended) >= 2000


def spki_pin(cert: Path) -> str:
    """The hash of the public key in ``cert`` by which Chromium is told to trust it."""
    key = x509.load_pem_x509_certificate(cert.read_bytes()).public_key()
    encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(encoded).digest()).decode()


async def test_a_data_channel_through_the_relay(tmp_path: Path) -> None:
    """UDP: the channel opens and bytes pass both ways, all of them through the server."""
    events: list[TurnServerEvent] = []
    driver = await TurnServerDriver.start(CONFIG, [Address("127.0.0.1", 0)], on_event=events.append)
    async with asyncio.timeout(60), driver as server, opened(tmp_path) as page:
        check(await meet(page, f"turn:127.0.0.1:{server.listeners[0].port}?transport=udp"), "udp")
    check_relayed(events, Transport.UDP)


async def test_tcp_to_the_server(tmp_path: Path) -> None:
    """``turn:…?transport=tcp``, where UDP is blocked."""
    events: list[TurnServerEvent] = []
    driver = await TurnServerDriver.start(CONFIG, [], on_event=events.append)
    async with asyncio.timeout(60), driver as server, opened(tmp_path) as page:
        port = server.add_listener(Address("127.0.0.1", 0), Transport.TCP).port
        check(await meet(page, f"turn:127.0.0.1:{port}?transport=tcp"), "tcp")
    check_relayed(events, Transport.TCP)


async def test_tls_to_the_server(tmp_path: Path) -> None:
    """``turns:``, with a certificate made for this test, which Chromium trusts by the hash of its key."""
    events: list[TurnServerEvent] = []
    files = write_certificate(tmp_path)
    tls = ServerTls(files.cert, files.key)
    trust = f"--ignore-certificate-errors-spki-list={spki_pin(files.cert)}"
    driver = await TurnServerDriver.start(CONFIG, [], on_event=events.append)
    async with asyncio.timeout(60), driver as server, opened(tmp_path / "profile", trust) as page:
        port = server.add_listener(Address("127.0.0.1", 0), Transport.TLS, tls=tls).port
        check(await meet(page, f"turns:127.0.0.1:{port}?transport=tcp"), "tls")
    check_relayed(events, Transport.TLS)


async def test_an_untrusted_certificate_is_refused(tmp_path: Path) -> None:
    """Chromium does check: without the hash of the key there is no relay and so no connection."""
    files = write_certificate(tmp_path)
    tls = ServerTls(files.cert, files.key)
    driver = await TurnServerDriver.start(CONFIG, [])
    async with asyncio.timeout(60), driver as server, opened(tmp_path / "profile") as page:
        port = server.add_listener(Address("127.0.0.1", 0), Transport.TLS, tls=tls).port
        outcome = await meet(page, f"turns:127.0.0.1:{port}?transport=tcp", patience_ms=3000)
        assert not outcome["opened"]
        assert outcome["candidates"] == []
        assert server.stats.allocations == 0
