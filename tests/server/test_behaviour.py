"""Behaviour discovery at a server as its configuration makes it."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from loopback_ports import A1, A2, two_free_ports
from natwalk.aio.discovery import discover_behaviour
from natwalk.core import Address
from natwalk.server.errors import ConfigError
from natwalk.stun import OTHER_ADDRESS, RESPONSE_ORIGIN, Message, Method, decode, encode, request
from natwalk_server import running


def stun(uris: tuple[str, ...]) -> Address:
    """The address in the first ``stun:`` URI."""
    return Address.parse(uris[0].removeprefix("stun:"))


async def test_a_second_address_makes_it_take_part() -> None:
    async with running(stun__alternate_address=A2) as server, asyncio.timeout(20):
        found = await discover_behaviour(stun(server.stun))
    assert found.classic == "open internet"
    assert found.unknown == ()


async def test_without_one_it_does_not() -> None:
    async with running() as server, asyncio.timeout(20):
        found = await discover_behaviour(stun(server.stun))
    assert found.unknown == ("the server does not take part in behaviour discovery",)


async def test_behind_a_nat_it_names_its_public_addresses() -> None:
    """OTHER-ADDRESS and RESPONSE-ORIGIN are what clients see (RFC 5780 §7.3, §7.4)."""
    public = {A1: "192.0.2.1", A2: "192.0.2.2"}
    async with running(stun__alternate_address=A2, server__public_addresses=public) as server:
        assert stun(server.stun).host == "192.0.2.1"
        answer = await ask(Address(A1, stun(server.stun).port))
    origin, other = answer.get(RESPONSE_ORIGIN), answer.get(OTHER_ADDRESS)
    assert origin is not None
    assert other is not None
    assert (origin.host, other.host) == ("192.0.2.1", "192.0.2.2")


async def ask(server: Address) -> Message:
    """The answer to a Binding request."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind((A1, 0))
        await loop.sock_sendto(sock, encode(request(Method.BINDING, bytes(12))), server.sockname)
        async with asyncio.timeout(10):
            return decode(await loop.sock_recv(sock, 2048))


async def test_two_servers_can_be_partners(tmp_path: Path) -> None:
    secret = tmp_path / "partner.secret"
    secret.write_text("a secret of the two partners\n", encoding="utf-8")
    secret.chmod(0o600)
    options: dict[str, Any] = {"stun__partner_secret_file": str(secret)}
    first_options = {"server__listen": [A1], "stun__partner": A2}
    second_options = {"server__listen": [A2], "stun__partner": A1}
    port, alternate = two_free_ports()
    options |= {"stun__port": port, "stun__alternate_port": alternate}
    async with (
        running(**first_options, **options) as first,
        running(**second_options, **options) as second,
        asyncio.timeout(30),
    ):
        for server in (first, second):
            found = await discover_behaviour(stun(server.stun), local=Address(A1, 0), hairpin=False)
            assert found.classic == "open internet"
            assert found.unknown == ()


async def test_a_second_address_of_no_use_is_refused() -> None:
    with pytest.raises(ConfigError, match="behaviour discovery"):
        async with running(stun__alternate_address=A2, stun__alternate_port=0):
            pass
