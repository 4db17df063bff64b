"""natwalk.connect over real sockets on loopback, with a real server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

import natwalk
from natwalk.path import PathKind
from natwalk.peer import Failure, PathChosen
from natwalk.server.run import Ready
from natwalk_server import RELAYING, loopback, running


@pytest.fixture
async def server() -> AsyncIterator[Ready]:
    async with running(**RELAYING) as ready:
        yield ready


@contextlib.asynccontextmanager
async def pair(url: str, **options: Any) -> AsyncIterator[tuple[natwalk.Connection, natwalk.Connection]]:
    """Both ends of one connection."""
    code: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with contextlib.AsyncExitStack() as stack:

        async def offer() -> natwalk.Connection:
            return await stack.enter_async_context(
                natwalk.connect(
                    server=url, on_code=code.set_result, addresses=loopback, timeout=30, **options
                )
            )

        async def accept() -> natwalk.Connection:
            return await stack.enter_async_context(
                natwalk.connect(await code, server=url, addresses=loopback, timeout=30, **options)
            )

        a, b = await asyncio.gather(offer(), accept())
        yield a, b


async def read_all(stream: natwalk.Stream) -> bytes:
    chunks = []
    while chunk := await stream.read():
        chunks.append(chunk)
    return b"".join(chunks)


async def test_streams_carry_bytes_both_ways(server: Ready) -> None:
    async with pair(server.http) as (a, b):
        stream = await a.open_stream()
        await stream.write(b"ping" * 1000)
        await stream.finish()
        other = await b.accept_stream()
        assert await read_all(other) == b"ping" * 1000
        await other.write(b"pong")
        await other.finish()
        assert await read_all(stream) == b"pong"


async def test_the_accepting_side_may_open_streams_too(server: Ready) -> None:
    async with pair(server.http) as (a, b):
        streams = [await b.open_stream() for _ in range(5)]
        for n, stream in enumerate(streams):
            await stream.write(bytes([n]) * 10)
            await stream.finish()
        received = [await read_all(await a.accept_stream()) for _ in streams]
        assert sorted(received) == [bytes([n]) * 10 for n in range(5)]


async def test_bulk_arrives_whole_with_back_pressure(server: Ready) -> None:
    data = bytes(range(256)) * 40_000
    async with pair(server.http) as (a, b):
        stream = await a.open_stream()

        async def write() -> None:
            await stream.write(data)
            await stream.finish()

        writing = asyncio.create_task(write())
        assert await read_all(await b.accept_stream()) == data
        await writing


async def test_a_reader_that_does_not_read_holds_the_writer_up_and_loses_nothing(server: Ready) -> None:
    data = bytes(range(256)) * 4096 * 40
    async with pair(server.http) as (a, b):
        stream, quick = await a.open_stream(), await a.open_stream()

        async def write() -> None:
            await stream.write(data)
            await stream.finish()

        writing = asyncio.create_task(write())
        other = await b.accept_stream()
        await asyncio.wait({writing}, timeout=0.5)
        assert not writing.done(), "40 MB went to a reader that does not read"
        await quick.write(b"not held up")
        assert await (await b.accept_stream()).read() == b"not held up"
        assert await read_all(other) == data
        await writing


async def test_streams_that_ended_are_forgotten(server: Ready) -> None:
    async with pair(server.http) as (a, b):
        for _ in range(20):
            stream = await a.open_stream()
            await stream.write(b"x")
            await stream.finish()
            other = await b.accept_stream()
            await other.finish()
            assert await read_all(other) == b"x"
            assert await read_all(stream) == b""
        assert (len(a._streams), len(b._streams)) == (0, 0)


async def test_the_path_on_one_machine_is_direct_and_wide(server: Ready) -> None:
    async with pair(server.http) as (a, b):
        for side in (a, b):
            assert side.path is not None
            assert side.path.kind is PathKind.DIRECT
            assert side.path.mtu > 9000
            assert side.path.reason


async def test_the_relay_policy_goes_through_the_relay(server: Ready) -> None:
    async with pair(server.http, path_policy="relay") as (a, b):
        assert a.path is not None
        assert a.path.kind is PathKind.RELAY
        stream = await a.open_stream()
        await stream.write(b"x" * 100_000)
        await stream.finish()
        assert len(await read_all(await b.accept_stream())) == 100_000


async def test_datagrams_pass_unreliably_but_do_pass(server: Ready) -> None:
    async with pair(server.http) as (a, b):
        assert await a.send_datagram(b"one")
        assert await asyncio.wait_for(b.receive_datagram(), 5) == b"one"


async def test_closing_ends_the_other_side_with_the_reason(server: Ready) -> None:
    async with pair(server.http) as (a, b):
        stream = await b.open_stream()
        await stream.write(b"x")
        await a.close("enough")
        with pytest.raises(natwalk.ConnectionEnded, match="enough") as caught:
            while True:
                await stream.read()
        assert caught.value.failure is Failure.PEER_CLOSED
        assert caught.value.hint
        with pytest.raises(natwalk.ConnectionEnded):
            await b.accept_stream()
        with pytest.raises(natwalk.ConnectionEnded):
            await b.receive_datagram()
        with pytest.raises(natwalk.ConnectionEnded):
            await b.open_stream()
        assert b.ended


async def test_a_reset_stream_raises_at_the_reader_and_harms_no_other(server: Ready) -> None:
    async with pair(server.http) as (a, b):
        doomed, fine = await a.open_stream(), await a.open_stream()
        await doomed.write(b"x")
        await fine.write(b"y")
        other_doomed, other_fine = await b.accept_stream(), await b.accept_stream()
        assert await other_doomed.read() == b"x"
        doomed.reset(7)
        with pytest.raises(natwalk.StreamEnded) as caught:
            await other_doomed.read()
        assert caught.value.code == 7
        await fine.finish()
        assert await read_all(other_fine) == b"y"


async def test_a_small_read_leaves_the_rest(server: Ready) -> None:
    async with pair(server.http) as (a, b):
        stream = await a.open_stream()
        await stream.write(b"abcdef")
        await stream.finish()
        other = await b.accept_stream()
        assert [await other.read(4), await other.read(4), await other.read(4)] == [b"abcd", b"ef", b""]


async def test_events_tell_of_the_path_until_the_end(server: Ready) -> None:
    seen: list[object] = []
    async with pair(server.http, on_event=seen.append) as (a, b):
        assert any(isinstance(event, PathChosen) for event in seen)
        await b.close()
        kinds = [type(event).__name__ async for event in a.events()]
        assert kinds[-1] == "Ended"


async def test_a_token_meets_again_without_a_code(server: Ready) -> None:
    async with pair(server.http) as (a, b):
        token = a.resume
        assert token is not None
        assert token == b.resume
        assert token.secret.hex() not in repr(token)
    async with contextlib.AsyncExitStack() as stack:
        a, b = await asyncio.gather(
            *(
                stack.enter_async_context(
                    natwalk.connect(
                        server=server.http, resume=token, role=role, addresses=loopback, timeout=30
                    )
                )
                for role in ("offer", "accept")
            )
        )
        stream = await a.open_stream()
        await stream.write(b"again")
        await stream.finish()
        assert await read_all(await b.accept_stream()) == b"again"


async def test_a_wrong_code_fails_both_sides_at_once(server: Ready) -> None:
    code: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def offer() -> None:
        async with natwalk.connect(server=server.http, on_code=code.set_result, addresses=loopback):
            raise AssertionError("connected to someone with a wrong code")

    offering = asyncio.create_task(offer())
    number, first, second = (await code).split("-")
    with pytest.raises(natwalk.ConnectionEnded) as caught:
        async with natwalk.connect(
            f"{number}-{_other(first, 0)}-{second}", server=server.http, addresses=loopback
        ):
            raise AssertionError("connected with a wrong code")
    assert caught.value.failure is Failure.WRONG_CODE
    with pytest.raises(natwalk.ConnectionEnded) as caught:
        await offering
    assert caught.value.failure is Failure.WRONG_CODE


def _other(word: str, position: int) -> str:
    from natwalk.rendezvous import complete_word

    return next(other for other in complete_word("", position) if other != word)


async def test_an_unused_code_is_not_found(server: Ready) -> None:
    with pytest.raises(natwalk.ConnectionEnded) as caught:
        async with natwalk.connect(
            f"99-{_other('', 0)}-{_other('', 1)}", server=server.http, addresses=loopback
        ):
            raise AssertionError("connected to nobody")
    assert caught.value.failure is Failure.CODE_NOT_FOUND


async def test_a_dead_server_is_said_to_be_dead(unused_tcp_port: int) -> None:
    with pytest.raises(natwalk.ServerUnavailable, match=str(unused_tcp_port)):
        async with natwalk.connect(server=f"http://127.0.0.1:{unused_tcp_port}", addresses=loopback):
            raise AssertionError("connected through nothing")


async def test_waiting_for_nobody_times_out(server: Ready) -> None:
    with pytest.raises(TimeoutError):
        async with natwalk.connect(server=server.http, addresses=loopback, timeout=0.3):
            raise AssertionError("connected to nobody")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"code": "no code at all !"}, natwalk.InvalidCode),
        ({"server": "ftp://example.org"}, natwalk.InvalidServerUrl),
        ({"path_policy": "teleport"}, ValueError),
        ({"resume": natwalk.ResumeToken("0" * 32, bytes(32))}, ValueError),
    ],
)
async def test_arguments_that_make_no_sense_are_refused_before_anything_is_sent(
    options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        async with natwalk.connect(**{"server": "http://127.0.0.1:9", "addresses": loopback, **options}):
            raise AssertionError("connected with arguments that make no sense")


async def test_cancelling_leaves_no_task_and_no_socket(server: Ready) -> None:
    before = asyncio.all_tasks()

    async def run() -> None:
        async with natwalk.connect(server=server.http, addresses=loopback):
            raise AssertionError("connected to nobody")

    for delay in (0.0, 0.001, 0.01, 0.05, 0.1):
        task = asyncio.create_task(run())
        await asyncio.wait({task}, timeout=delay)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert _clients(asyncio.all_tasks() - before) == set()


def _clients(tasks: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """Those of ``tasks`` that a client of ours started; the server's come and go as it likes."""
    return {task for task in tasks if "_Session" in repr(task) or "RendezvousDriver" in repr(task)}
