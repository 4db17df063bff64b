"""EpollReaders with real sockets under a running loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from natwalk.aio.readers import EVENTS_PER_WAKE_UP, EpollReaders


class Pairs:
    """Socket pairs whose readable ends call back with their number."""

    def __init__(self) -> None:
        self.log: list[int | str] = []
        self.idle = asyncio.Event()
        self.readers = EpollReaders(asyncio.get_running_loop(), self._on_idle)
        self.ends: list[tuple[socket.socket, socket.socket]] = []

    def add(self) -> int:
        number = len(self.ends)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.ends.append((ours, theirs))
        self.readers.add_reader(ours.fileno(), lambda: self._read(number))
        return number

    def write(self, number: int) -> None:
        self.ends[number][1].send(b"x")

    async def wake_up(self) -> list[int | str]:
        """What is called until the next time that nothing else is."""
        self.log.clear()
        self.idle.clear()
        async with asyncio.timeout(5):
            await self.idle.wait()
        return self.log

    def _read(self, number: int) -> None:
        self.ends[number][0].recv(100)
        self.log.append(number)

    def _on_idle(self) -> None:
        self.log.append("idle")
        self.idle.set()


@pytest.fixture
async def pairs() -> AsyncIterator[Pairs]:
    found = Pairs()
    yield found
    found.readers.close()
    for end in _flat(found.ends):
        end.close()


def _flat(ends: list[tuple[socket.socket, socket.socket]]) -> Iterator[socket.socket]:
    for pair in ends:
        yield from pair


async def test_all_that_is_readable_is_called_before_the_common_work(pairs: Pairs) -> None:
    for _ in range(3):
        pairs.add()
    for number in (0, 2):
        pairs.write(number)
    log = await pairs.wake_up()
    assert sorted(map(str, log[:-1])) == ["0", "2"]
    assert log[-1] == "idle"


async def test_a_wake_up_is_bounded_and_nobody_is_forgotten(pairs: Pairs) -> None:
    count = EVENTS_PER_WAKE_UP + 10
    for _ in range(count):
        pairs.write(pairs.add())
    first = list(await pairs.wake_up())
    assert len(first) == EVENTS_PER_WAKE_UP + 1
    second = await pairs.wake_up()
    assert sorted(n for n in first + second if isinstance(n, int)) == list(range(count))


async def test_what_is_removed_is_not_called_even_in_the_same_wake_up(pairs: Pairs) -> None:
    """A callback that closes another socket, as the end of an allocation does."""
    numbers = [pairs.add(), pairs.add()]

    def remove_both() -> None:
        for number in numbers:
            pairs.readers.remove_reader(pairs.ends[number][0].fileno())
        pairs.log.append("removed")

    for number in numbers:
        pairs.readers.add_reader(pairs.ends[number][0].fileno(), remove_both)
        pairs.write(number)
    assert await pairs.wake_up() == ["removed", "idle"]
    assert len(pairs.readers) == 0
    assert not pairs.readers.remove_reader(pairs.ends[0][0].fileno())


async def test_an_exception_goes_to_the_loop_and_stops_nobody_else(pairs: Pairs) -> None:
    loop = asyncio.get_running_loop()
    caught: list[BaseException | None] = []
    loop.set_exception_handler(lambda _, context: caught.append(context.get("exception")))
    bad, good = pairs.add(), pairs.add()

    def fail() -> None:
        pairs.ends[bad][0].recv(100)
        raise RuntimeError("of a callback")

    pairs.readers.add_reader(pairs.ends[bad][0].fileno(), fail)
    pairs.write(bad)
    pairs.write(good)
    await pairs.wake_up()
    if good not in pairs.log:
        await pairs.wake_up()
    assert good in pairs.log
    assert [str(error) for error in caught] == ["of a callback"]


async def test_closing_twice_is_harmless(pairs: Pairs) -> None:
    pairs.add()
    pairs.readers.close()
    pairs.readers.close()
    assert len(pairs.readers) == 0
