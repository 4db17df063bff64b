"""Behaviour discovery over loopback sockets, at a server with 127.0.0.1 and 127.0.0.2, or two partners."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from loopback_ports import A1, A2, two_free_ports
from natwalk.aio.discovery import discover_behaviour, discover_lifetime
from natwalk.aio.turn_server import TurnServerDriver
from natwalk.core import Address
from natwalk.stun import Behaviour, Dependence, Step
from natwalk.stun.lifetime import LifetimeTried, MappingLifetime
from natwalk.turn import TurnConfig


@asynccontextmanager
async def serving(*behaviours: Behaviour) -> AsyncIterator[None]:
    """A server for each of ``behaviours``."""
    async with AsyncExitStack() as stack:
        for behaviour in behaviours:
            driver = await TurnServerDriver.start(TurnConfig(), behaviour.local_addresses)
            await stack.enter_async_context(driver)
            driver.core.set_behaviour(behaviour)
        yield


async def test_loopback_is_the_open_internet() -> None:
    first, second = two_free_ports()
    steps: list[Step] = []
    async with serving(Behaviour(Address(A1, first), Address(A2, second))), asyncio.timeout(20):
        found = await discover_behaviour(Address(A1, first), on_step=steps.append)
    assert found.classic == "open internet"
    assert found.mapped == found.local
    assert found.local.host == A1
    assert found.mapping is found.filtering is Dependence.ENDPOINT_INDEPENDENT
    assert found.unknown == ()
    assert len(steps) >= 2


async def test_two_partners_are_as_good_as_one_server_with_two_addresses() -> None:
    first, second = two_free_ports()
    secret = b"a secret of the two partners"
    partners = [
        Behaviour(Address(A1, first), Address(A2, second), partner_secret=secret),
        Behaviour(Address(A2, first), Address(A1, second), partner_secret=secret),
    ]
    for mine in partners:
        async with serving(*partners), asyncio.timeout(20):
            found = await discover_behaviour(mine.primary, local=Address(A1, 0), hairpin=False)
        assert found.classic == "open internet"
        assert found.unknown == ()


async def test_a_plain_server_tells_the_mapped_address_only() -> None:
    driver = await TurnServerDriver.start(TurnConfig(), [Address(A1, 0)])
    async with driver, asyncio.timeout(20):
        found = await discover_behaviour(driver.listeners[0])
    assert found.mapped == found.local
    assert found.filtering is None
    assert found.unknown == ("the server does not take part in behaviour discovery",)


async def test_a_cancelled_discovery_leaves_nothing_open() -> None:
    """Warnings are errors: a socket or a timer left behind would fail the test."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((A1, 0))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await discover_behaviour(Address(*silent.getsockname()))


async def test_a_mapping_that_no_nat_makes_outlives_everything() -> None:
    first, second = two_free_ports()
    tried: list[LifetimeTried] = []
    async with serving(Behaviour(Address(A1, first), Address(A2, second))), asyncio.timeout(20):
        found = await discover_lifetime(Address(A1, first), longest=0.2, resolution=0.1, on_try=tried.append)
    assert found == MappingLifetime(0.2)
    assert tried == [LifetimeTried(0.2, True)]


async def test_a_plain_server_does_not_tell_lifetimes() -> None:
    driver = await TurnServerDriver.start(TurnConfig(), [Address(A1, 0)])
    async with driver, asyncio.timeout(20):
        found = await discover_lifetime(driver.listeners[0], longest=0.2, resolution=0.1)
    assert found == MappingLifetime(unknown="the server answers 420")
