import asyncio
import threading

import pytest

from natwalk.aio.disk import LONG, THREADED_CALLS, Disk, in_thread, keep_freed_memory


class Clock:
    """Moves by what a call is said to take."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def thread_after(clock: Clock, seconds: float) -> int:
    clock.now += seconds
    return threading.get_ident()


async def test_quick_work_stays_on_the_loop() -> None:
    clock = Clock()
    disk = Disk(clock)
    for _ in range(10):
        assert await disk.run(thread_after, clock, LONG / 2) == threading.get_ident()
    assert disk.threaded == 0


async def test_after_a_long_call_the_next_ones_go_to_a_thread_and_then_come_back() -> None:
    clock = Clock()
    disk = Disk(clock)
    here = threading.get_ident()
    assert await disk.run(thread_after, clock, LONG * 2) == here
    for _ in range(THREADED_CALLS):
        assert await disk.run(thread_after, clock, 0.0) != here
    assert await disk.run(thread_after, clock, 0.0) == here


async def test_other_tasks_get_a_turn_between_quick_calls() -> None:
    disk = Disk(Clock())
    turns = []

    async def other() -> None:
        for n in range(3):
            turns.append(n)
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for _ in range(4):
        await disk.run(len, b"")
    assert turns == [0, 1, 2]
    await task


async def test_errors_pass_and_long_failures_count_too() -> None:
    clock = Clock()
    disk = Disk(clock)

    def fail() -> None:
        clock.now += LONG * 2
        raise OSError("disk on fire")

    for _ in range(2):
        with pytest.raises(OSError, match="on fire"):
            await disk.run(fail)
    assert disk.threaded == THREADED_CALLS - 1


async def test_a_cancelled_thread_is_waited_for() -> None:
    began, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        may_end.wait(10)
        ended.set()

    task = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(began.wait, 10)
    task.cancel()
    asyncio.get_running_loop().call_soon(may_end.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


def test_keeping_memory_is_harmless() -> None:
    keep_freed_memory()
