"""Whole transfers over streams in memory: arbitrary trees, cut anywhere, resumed; and every bad ending."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
from collections.abc import Awaitable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_stream import break_pipe, stream_pair
from natwalk.aio import transfer_channel, transfer_flow
from natwalk.aio.errors import ConnectionEnded
from natwalk.aio.transfer import (
    Question,
    TransferResult,
    accept_all,
    new_transfer_id,
    receive_files,
    send_paths,
    send_source,
)
from natwalk.peer import Failure
from natwalk.transfer import FailureKind, FileData, Progress, TransferError, TransferInterrupted, wire
from natwalk.transfer import sender as sender_module
from natwalk.transfer.storage import Destination, Outcome, ResumeRecord, find_receive_state, scan
from natwalk.transfer.storage import destination as destination_module

ID = "f" * 32
RECORD = ResumeRecord("mailbox", b"s" * 32, "http://h", "7-a-b", 1000.0)


def tree_of(folder: Path) -> dict[str, bytes | None]:
    """Relative path to content, None for folders."""
    found: dict[str, bytes | None] = {}
    for path in sorted(folder.rglob("*")):
        found[str(path.relative_to(folder))] = path.read_bytes() if path.is_file() else None
    return found


async def both(
    sending: Awaitable[TransferResult], receiving: Awaitable[TransferResult]
) -> tuple[TransferResult | BaseException, TransferResult | BaseException]:
    async with asyncio.timeout(20):
        sent, received = await asyncio.gather(sending, receiving, return_exceptions=True)
    return sent, received


async def run(
    paths: list[Path], output: Path, cut: int | None = None, *, sides: str = "there", **options: Any
) -> tuple[Any, Any]:
    """One connection, which breaks after ``cut`` bytes one way."""
    near, far = stream_pair()
    if cut is not None:
        (near if sides == "there" else far).outgoing.cut_after = cut
    options = {"consent": accept_all, **options}
    return await both(send_paths(near, paths, transfer_id=ID), receive_files(far, output, **options))


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def make_tree(folder: Path, files: dict[tuple[str, ...], int], seed: int) -> None:
    for number, (parts, size) in enumerate(files.items()):
        path = folder.joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                continue
        except (FileExistsError, NotADirectoryError):
            continue  # a file stands where this path needs a folder
        path.write_bytes(
            bytes((seed + number + n * n) % 251 for n in range(min(size, 997))) * (size // 997 + 1)
        )


NAMES = st.text("abcé \u202e~-", min_size=1, max_size=6).filter(lambda n: n not in (".", ".."))
TREES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map(tuple), st.integers(0, 300_000), min_size=1, max_size=8
)


@given(TREES, st.lists(st.tuples(st.integers(1, 600_000), st.booleans()), max_size=4), st.integers(0, 250))
@settings(deadline=None, max_examples=40)
def test_any_tree_cut_anywhere_arrives_whole_and_nothing_is_sent_twice(
    files: dict[tuple[str, ...], int], cuts: list[tuple[int, bool]], seed: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        source, output = Path(name) / "tree", Path(name) / "out"
        source.mkdir()
        make_tree(source, files, seed)
        moved = 0
        for cut, there in [*cuts, (1 << 40, True)]:
            sent, received = asyncio.run(run([source], output, cut, sides="there" if there else "back"))
            part = output / "tree.natwalk-part" / "data"
            if not isinstance(received, BaseException):
                break  # all is in place, even when the cut kept the last word from the sender
            assert isinstance(received, TransferInterrupted), received
            assert isinstance(sent, TransferInterrupted), sent
            held = sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
            assert held >= moved
            moved = held
        assert tree_of(output / "tree") == tree_of(source)
        assert os.listdir(output) == ["tree"]
        total = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
        assert (received.size, received.resumed, received.moved) == (total, moved, total - moved)
        if not isinstance(sent, BaseException):
            assert (sent.sha256, sent.moved, sent.resumed) == (received.sha256, received.moved, moved)


async def test_a_single_file_has_its_own_hash_and_progress_is_reported(place: Path) -> None:
    data = os.urandom(3_000_000)
    (place / "f.bin").write_bytes(data)
    seen: list[Progress] = []
    near, far = stream_pair()
    sent, received = await both(
        send_paths(near, [place / "f.bin"], on_progress=seen.append),
        receive_files(far, place / "out", consent=accept_all, on_progress=seen.append),
    )
    assert isinstance(received, TransferResult)
    assert received.sha256 == sent.sha256 == hashlib.sha256(data).hexdigest()
    assert (seen[-1].done, seen[-1].total, seen[-1].files_done) == (3_000_000, 3_000_000, 1)
    assert received.placed[0].saved_as == "f.bin"
    assert received.seconds > 0


async def test_two_thousand_small_files_need_no_round_trip_each(place: Path) -> None:
    folder = place / "many"
    folder.mkdir()
    for n in range(2000):
        (folder / f"{n}").write_bytes(b"x")
    near, far = stream_pair()
    messages = 0
    real = near.read

    async def counted(n: int = 65536) -> bytes:
        nonlocal messages
        messages += 1
        return await real(n)

    near.read = counted  # type: ignore[method-assign]
    sent, _ = await both(send_paths(near, [folder]), receive_files(far, place / "out", consent=accept_all))
    assert sent.files == 2000
    assert messages < 10


async def test_consent_is_asked_once_with_what_matters(place: Path) -> None:
    (place / "f").write_bytes(b"x" * 500_000)
    (place / "out").mkdir()
    (place / "out" / "f").write_bytes(b"mine")
    asked: list[Question] = []

    async def consent(question: Question) -> bool:
        asked.append(question)
        return True

    _, received = await run([place / "f"], place / "out", 300_000, consent=consent, resume=RECORD)
    assert isinstance(received, TransferInterrupted)
    state = find_receive_state(str(place / "out"), "7-a-b", "http://h", 1001.0)
    assert state is not None
    assert state.mailbox == "mailbox"
    _, received = await run([place / "f"], place / "out", consent=consent, resume=RECORD)
    assert [(q.offer.size, q.conflicts) for q in asked] == [(500_000, ("f",))]
    assert received.placed[0].outcome is Outcome.RENAMED
    assert (place / "out" / "f").read_bytes() == b"mine"


async def test_a_changed_offer_is_asked_about_again(place: Path) -> None:
    (place / "f").write_bytes(b"x" * 500_000)
    asked: list[int] = []

    async def consent(question: Question) -> bool:
        asked.append(question.offer.size)
        return True

    await run([place / "f"], place / "out", 300_000, consent=consent)
    (place / "f").write_bytes(b"y" * 600_000)
    _, received = await run([place / "f"], place / "out", consent=consent)
    assert asked == [500_000, 600_000]
    assert received.resumed == 0
    assert (place / "out" / "f").read_bytes() == b"y" * 600_000


async def test_overwriting_takes_consent(place: Path) -> None:
    (place / "f").write_bytes(b"new")
    (place / "out").mkdir()
    (place / "out" / "f").write_bytes(b"old!")
    _, received = await run([place / "f"], place / "out", overwrite=True)
    assert received.placed[0].outcome is Outcome.REPLACED
    assert (place / "out" / "f").read_bytes() == b"new"


async def test_a_refusal_reaches_the_sender_and_leaves_nothing(place: Path) -> None:
    (place / "f").write_bytes(b"x")

    async def refuse(_: Question) -> bool:
        return False

    sent, received = await run([place / "f"], place / "out", consent=refuse)
    assert (sent.kind, sent.by_peer) == (FailureKind.REFUSED, True)
    assert (received.kind, received.by_peer) == (FailureKind.REFUSED, False)
    assert os.listdir(place / "out") == []


async def test_a_full_disk_is_told_to_the_sender_and_what_came_is_kept(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "f").write_bytes(os.urandom(6_000_000))
    room = 2_000_000
    real = os.write

    def tight(fd: int, buffers: Sequence[memoryview]) -> int:
        nonlocal room
        if room <= 0:
            raise OSError(28, "No space left on device")
        written = real(fd, b"".join(buffers)[:room])
        room -= written
        return written

    with monkeypatch.context() as patch:
        patch.setattr(destination_module.os, "writev", tight)
        near, far = stream_pair()
        sent, received = await both(
            send_source(near, scan([place / "f"], ID)), receive_files(far, place / "out", consent=accept_all)
        )
    assert (received.kind, received.by_peer) == (FailureKind.STORAGE, False)
    assert (sent.kind, sent.by_peer) == (FailureKind.STORAGE, True)
    assert "disk is full" in sent.message
    _, received = await run([place / "f"], place / "out")
    assert received.resumed == 2_000_000
    assert (place / "out/f").read_bytes() == (place / "f").read_bytes()


async def test_damage_on_the_way_is_found_and_told(place: Path) -> None:
    (place / "f").write_bytes(bytes(100_000))
    near, far = stream_pair()
    real = near.write

    async def damaging(data: bytes | memoryview) -> None:
        changed = bytearray(data)
        if len(changed) > 50_000:
            changed[50_000] ^= 1
        await real(bytes(changed))

    near.write = damaging  # type: ignore[method-assign]
    sent, received = await both(
        send_paths(near, [place / "f"]), receive_files(far, place / "out", consent=accept_all)
    )
    assert (sent.kind, received.kind) == (FailureKind.INTEGRITY, FailureKind.INTEGRITY)
    assert not (place / "out/f").exists()


async def test_a_file_that_vanished_is_omitted_on_both_sides_and_the_rest_arrives(place: Path) -> None:
    folder = place / "d"
    folder.mkdir()
    for name in "ab":
        (folder / name).write_bytes(b"data")
    source = scan([folder], ID)
    (folder / "a").unlink()
    near, far = stream_pair()
    sent, received = await both(
        send_source(near, source), receive_files(far, place / "out", consent=accept_all)
    )
    assert sent.omitted == received.omitted == (("d/a", "cannot be opened: No such file or directory"),)
    assert tree_of(place / "out") == {"d": None, "d/b": b"data"}


async def test_a_sender_gone_while_the_user_thinks_ends_the_question(place: Path) -> None:
    (place / "f").write_bytes(b"x")
    near, far = stream_pair()
    thinking = asyncio.Event()
    stopped = asyncio.Event()

    async def think(_: Question) -> bool:
        thinking.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return True

    receiving = asyncio.ensure_future(receive_files(far, place / "out", consent=think))
    sending = asyncio.ensure_future(send_paths(near, [place / "f"]))
    async with asyncio.timeout(10):
        await thinking.wait()
        sending.cancel()
        await break_pipe(near.outgoing)
        with pytest.raises(TransferInterrupted):
            await receiving
        await stopped.wait()


async def test_cancelling_closes_everything(place: Path) -> None:
    (place / "f").write_bytes(bytes(50_000_000))
    before = len(os.listdir("/proc/self/fd"))
    near, far = stream_pair()
    moving = asyncio.Event()
    jobs = [
        asyncio.ensure_future(send_paths(near, [place / "f"])),
        asyncio.ensure_future(
            receive_files(far, place / "out", consent=accept_all, on_progress=lambda _: moving.set())
        ),
    ]
    async with asyncio.timeout(10):
        await moving.wait()
        for job in jobs:
            job.cancel()
        results = await asyncio.gather(*jobs, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert len(os.listdir("/proc/self/fd")) <= before
    shutil.rmtree(place / "out")


class Scripted:
    """A stream whose other end says ``words``, the second and later ones once it was told ``gate``."""

    def __init__(
        self, *words: bytes, ends: bool = True, write_error: Exception | None = None, gate: bytes = b""
    ) -> None:
        self.gate = gate
        self.opened = asyncio.Event()
        self.said = 0
        self.words = list(words)
        self.ends = ends
        self.write_error = write_error
        self.written = b""

    async def read(self, n: int = 65536) -> bytes:
        if self.said and self.gate not in self.written:
            await self.opened.wait()
        self.said += 1
        if not self.words and not self.ends:
            await asyncio.Event().wait()
        return self.words.pop(0) if self.words else b""

    async def write(self, data: bytes | memoryview) -> None:
        if self.write_error is not None and len(self.written) > 0:
            raise self.write_error
        self.written += data
        if self.gate in self.written:
            self.opened.set()

    async def finish(self) -> None:
        if self.write_error is not None:
            raise self.write_error


HELLO = wire.encode(wire.Hello())


async def test_a_peer_that_says_nothing_sensible_fails_both_ways(place: Path) -> None:
    (place / "f").write_bytes(b"x")
    stream = Scripted(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(TransferError) as caught:
        await send_paths(stream, [place / "f"])
    assert caught.value.kind is FailureKind.PROTOCOL
    with pytest.raises(TransferError):
        await receive_files(Scripted(b"\xff" * 100), place / "out", consent=accept_all)


async def test_the_end_of_the_stream_is_an_interruption(place: Path) -> None:
    (place / "f").write_bytes(b"x")
    with pytest.raises(TransferInterrupted, match="went away"):
        await send_paths(Scripted(HELLO), [place / "f"])
    with pytest.raises(TransferInterrupted):
        await receive_files(Scripted(HELLO), place / "out", consent=accept_all)


async def test_the_peers_last_word_explains_a_broken_stream(place: Path) -> None:
    (place / "f").write_bytes(b"x")
    said = wire.encode(wire.PlanPart()) + wire.encode(wire.Fail("storage", "the receiver's disk is full"))
    stream = Scripted(HELLO, said, write_error=ConnectionEnded(Failure.PEER_CLOSED, "closed"))
    with pytest.raises(TransferError, match="disk is full"):
        await send_paths(stream, [place / "f"])


async def test_a_broken_stream_without_a_last_word_is_an_interruption(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer_flow, "ANSWER_WAIT", 0.01)
    (place / "f").write_bytes(b"x")
    stream = Scripted(HELLO, wire.encode(wire.PlanPart()), ends=False, write_error=OSError("gone"))
    with pytest.raises(TransferInterrupted, match="gone"):
        await send_paths(stream, [place / "f"])


async def test_a_goodbye_nobody_answers_is_not_waited_for_long(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer_channel, "FAREWELL", 0.01)
    (place / "f").write_bytes(b"x")
    stream = Scripted(wire.encode(wire.Hello(version=9)), ends=False)
    with pytest.raises(TransferError) as caught:
        await send_paths(stream, [place / "f"])
    assert caught.value.kind is FailureKind.VERSION
    assert b'"fail"' in stream.written


async def test_what_came_before_a_protocol_violation_is_kept(place: Path) -> None:
    offer = scan([_file(place / "f", b"abcdef")], ID).offer
    stream = Scripted(
        HELLO + wire.encode(wire.OfferHead(ID, 1)) + wire.encode(wire.OfferEntries(offer.entries)),
        wire.encode(wire.Begin(0)) + wire.data_header(3) + b"abc",
        wire.encode(wire.Begin(0)),
        gate=b'"plan"',
    )
    with pytest.raises(TransferError, match="inside another"):
        await receive_files(stream, place / "out", consent=accept_all)
    destination = Destination.open(str(place / "out"), offer)
    assert destination.check_held()
    assert destination.have[0].offset == 3
    destination.close()


async def test_the_network_waits_for_a_slow_disk(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer_flow, "MAX_BACKLOG", 100_000)
    (place / "f").write_bytes(os.urandom(5_000_000))
    _, received = await run([place / "f"], place / "out")
    assert (place / "out/f").read_bytes() == (place / "f").read_bytes()
    assert received.size == 5_000_000


async def test_going_on_tells_how_much_was_there_already(place: Path) -> None:
    (place / "f").write_bytes(os.urandom(2_000_000))
    await run([place / "f"], place / "out", 1_500_000)
    sent, received = await run([place / "f"], place / "out")
    assert sent.resumed == received.resumed > 1_000_000
    assert sent.moved == 2_000_000 - sent.resumed


async def test_the_offer_may_be_cancelled_while_files_are_checked(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "f").write_bytes(os.urandom(500_000))
    await run([place / "f"], place / "out", 300_000)
    offer = scan([place / "f"], ID).offer
    stream = Scripted(
        HELLO + wire.encode(wire.OfferHead(ID, 1)) + wire.encode(wire.OfferEntries(offer.entries)),
        wire.encode(wire.Fail("cancelled", "the user stopped it")),
    )
    answers = iter([False, False, True])
    monkeypatch.setattr(Destination, "check_held", lambda self: next(answers))
    with pytest.raises(TransferError, match="user stopped it"):
        await receive_files(stream, place / "out", consent=accept_all)


def test_transfer_ids_are_random() -> None:
    assert new_transfer_id() != new_transfer_id()
    assert len(new_transfer_id()) == 32


def _file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


async def test_a_slow_disk_bounds_what_is_under_way(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The receiver reads as fast as it can; the sender still waits for the disk, not only for the network."""
    window = 2 << 20
    monkeypatch.setattr(sender_module, "WINDOW", window)
    monkeypatch.setattr(transfer_flow, "MAX_BACKLOG", 1 << 40)
    (place / "f").write_bytes(os.urandom(12 << 20))
    near, far = stream_pair(limit=1 << 40)
    written = 0
    most = 0
    real = Destination.apply

    def watched(self: Destination, items: list[Any]) -> None:
        nonlocal written, most
        most = max(most, near.outgoing.passed - written)
        real(self, items)
        written += sum(len(item.data) for item in items if isinstance(item, FileData))

    monkeypatch.setattr(Destination, "apply", watched)
    sent, received = await both(
        send_paths(near, [place / "f"]), receive_files(far, place / "out", consent=accept_all)
    )
    assert sent.moved == received.moved == 12 << 20
    assert most <= window + 3 * wire.MAX_DATA
