"""What ``natwalk turn test`` finds out, against our own server and against what is none."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from certificates import write_certificate
from natwalk.aio.client_tls import ClientTls
from natwalk.aio.tls import ServerTls
from natwalk.aio.turn_server import TurnServerDriver
from natwalk.aio.turn_test import Check, EndpointReport, ServerReport, Step, _is_out_of_reach, examine
from natwalk.core import Address, Transport
from natwalk.stun.resolution import ServerEndpoint
from natwalk.turn import PasswordCredentials, PeerPolicy, TurnConfig, TurnLimits

ALICE = PasswordCredentials("alice", "correct horse")
LOOPBACK = Address("127.0.0.1", 0)


@asynccontextmanager
async def serving(**overrides: Any) -> AsyncIterator[TurnServerDriver]:
    settings: dict[str, Any] = {
        "users": {"alice": "correct horse"},
        "relay_addresses": ("127.0.0.1",),
        "port_range": (61001, 65535),
        "policy": PeerPolicy(allow=["127.0.0.0/8"]),
    }
    async with await TurnServerDriver.start(TurnConfig(**(settings | overrides)), [LOOPBACK]) as driver:
        yield driver


async def report(uri: str, **options: Any) -> EndpointReport:
    found = await examine(uri, ALICE, **({"seconds": 0.0, "within": 5.0} | options))
    [endpoint] = found.endpoints
    assert found.ok == endpoint.ok
    return endpoint


def failure(found: EndpointReport) -> Check:
    """The last check, which is the only one that failed."""
    *before, last = found.checks
    assert all(check.ok for check in before)
    assert not last.ok
    assert last.detail
    return last


async def test_every_step_of_a_server_that_works() -> None:
    heard: list[Step] = []
    async with serving() as driver:
        uri = f"turn:127.0.0.1:{driver.listeners[0].port}?transport=udp"
        found = await report(uri, seconds=0.1, on_check=lambda _, check: heard.append(check.step))
        assert driver.stats.allocations == 0
    assert found.ok
    assert [check.step for check in found.checks] == heard == [s for s in Step if s is not Step.CERTIFICATE]
    values = {check.step: check.value for check in found.checks}
    assert all(values[step] for step in (Step.REACH, Step.ROUND_TRIP, Step.THROUGHPUT))


async def test_tls_with_its_certificate(tmp_path: Path) -> None:
    write_certificate(tmp_path, days=5)
    async with serving() as driver:
        tls = ServerTls(tmp_path / "cert.pem", tmp_path / "key.pem")
        port = driver.add_listener(LOOPBACK, Transport.TLS, tls=tls).port
        uri = f"turns:localhost:{port}?transport=tcp"
        found = await report(uri, tls=ClientTls(ca_file=tmp_path / "cert.pem"))
        [certificate] = [check for check in found.checks if check.step is Step.CERTIFICATE]
        assert found.ok
        assert certificate.value == pytest.approx(5, abs=0.1)
        assert "soon" in certificate.hint
        untrusted = failure(await report(uri))
        assert (untrusted.step, "self-signed" in untrusted.detail) == (Step.CERTIFICATE, True)


async def test_expired_certificate(tmp_path: Path) -> None:
    write_certificate(tmp_path, days=-3)
    async with serving() as driver:
        tls = ServerTls(tmp_path / "cert.pem", tmp_path / "key.pem")
        uri = f"turns:localhost:{driver.add_listener(LOOPBACK, Transport.TLS, tls=tls).port}?transport=tcp"
        refused = failure(await report(uri, tls=ClientTls(ca_file=tmp_path / "cert.pem")))
        assert (refused.step, "expired" in refused.detail) == (Step.CERTIFICATE, True)
        ignored = failure(await report(uri, tls=ClientTls(verify=False)))
        assert (ignored.step, "expired 3 days ago") == (Step.CERTIFICATE, ignored.detail)


@pytest.mark.parametrize(
    ("overrides", "step", "word"),
    [
        ({"users": {"alice": "other"}}, Step.AUTHENTICATION, "401"),
        ({"limits": TurnLimits(allocations_per_user=1)}, Step.RELAY, "486"),
        ({"policy": PeerPolicy(deny=["127.0.0.0/8"])}, Step.PERMISSION, "403"),
    ],
)
async def test_what_is_wrong_is_named_with_a_hint(overrides: Any, step: Step, word: str) -> None:
    async with serving(**overrides) as driver:
        failed = failure(await report(f"turn:127.0.0.1:{driver.listeners[0].port}?transport=udp"))
        assert failed.step is step
        assert word in failed.detail
        assert failed.hint
        assert driver.stats.allocations == 0


async def test_nobody_there() -> None:
    with socket.socket() as closed, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        closed.bind(("127.0.0.1", 0))
        silent.bind(("127.0.0.1", 0))
        refused = await report(f"turn:127.0.0.1:{closed.getsockname()[1]}?transport=tcp")
        mute = await report(f"turn:127.0.0.1:{silent.getsockname()[1]}?transport=udp", within=0.1)
    for found, hint in ((refused, "TCP port"), (mute, "UDP port")):
        assert failure(found).step is Step.REACH
        assert hint in failure(found).hint


async def test_something_else_answers() -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        assert "check the port" in failure(await report(f"turn:127.0.0.1:{port}?transport=tcp")).hint


async def test_uri_that_leads_nowhere() -> None:
    found = await examine("turn:nowhere.invalid", ALICE)
    assert (found.ok, found.endpoints) == (False, ())
    assert "nowhere.invalid" in found.problem


def test_private_relay_of_a_public_server_is_out_of_reach() -> None:
    public, private = ip_address("8.8.8.8"), ip_address("10.0.0.1")
    assert _is_out_of_reach(private, public)
    assert not _is_out_of_reach(public, public)
    assert not _is_out_of_reach(private, private)


def test_browsers_need_one_address_to_work_and_no_dtls() -> None:
    good, bad = Check(Step.REACH, True, "answers"), Check(Step.REACH, False, "silent")

    def at(transport: Transport, check: Check) -> EndpointReport:
        return EndpointReport(ServerEndpoint(LOOPBACK, transport, "x"), (check,))

    assert ServerReport("turn:x", (at(Transport.UDP, bad), at(Transport.UDP, good))).ok
    assert ServerReport("turns:x", (at(Transport.DTLS, bad), at(Transport.TLS, good))).ok
    assert not ServerReport("turns:x", (at(Transport.DTLS, good), at(Transport.TLS, bad))).ok
