"""Meeting again after a loss: what is tried again, what is final, and how the end is told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import click
import pytest

import natwalk
from natwalk import ConnectionEnded, Failure, ResumeToken, ServerUnavailable
from natwalk.aio.transfer import TransferResult
from natwalk.cli import session as module
from natwalk.cli.output import Output
from natwalk.cli.session import Options, Session, report, reporting, run
from natwalk.transfer import FailureKind, TransferError, TransferInterrupted
from natwalk.transfer.storage import Outcome, Placed

TOKEN = ResumeToken("mailbox", b"secret")
RESULT = TransferResult(size=10, moved=6, resumed=4, files=1, sha256="ab" * 32, seconds=2.0)
OPTIONS = Options("http://server", "relay", 60.0)


class FakeConnection:
    resume = TOKEN


class World:
    """Replaces ``natwalk.connect``: each call takes the next outcome, an exception or a connection."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self.outcomes = list(outcomes)
        self.calls: list[tuple[str | None, dict[str, Any]]] = []

    @asynccontextmanager
    async def connect(self, code: str | None = None, **options: Any) -> AsyncIterator[FakeConnection]:
        self.calls.append((code, options))
        outcome = self.outcomes.pop(0)
        if outcome is not None:
            raise outcome
        yield FakeConnection()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_PAUSE", 0.0)


async def play(
    monkeypatch: pytest.MonkeyPatch, world: World, *transfers: Exception | None, **options: Any
) -> TransferResult:
    monkeypatch.setattr(natwalk, "connect", world.connect)
    outcomes = list(transfers)

    async def transfer(_: Any) -> TransferResult:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome
        return RESULT

    return await Session(OPTIONS, Output(), "accept", transfer, code="7-a-b", **options).run()


async def test_the_first_connection_uses_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(None)
    tokens: list[ResumeToken] = []
    assert await play(monkeypatch, world, None, on_token=tokens.append) is RESULT
    [(code, options)] = world.calls
    assert code == "7-a-b"
    assert (options["server"], options["path_policy"], options["resume"]) == ("http://server", "relay", None)
    assert 59 < options["timeout"] <= 60
    assert tokens == [TOKEN]


async def test_after_a_loss_both_meet_by_the_token_and_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = [TransferInterrupted("the cable"), ConnectionEnded(Failure.PEER_GONE, "gone")]
    world = World(None, None, ConnectionEnded(Failure.PEER_CLOSED, "x"), ServerUnavailable("down", ""), None)
    assert await play(monkeypatch, world, *losses, None) is RESULT
    assert [code for code, _ in world.calls] == ["7-a-b", None, None, None, None]
    assert [(o["resume"], o["role"]) for _, o in world.calls[1:]] == [(TOKEN, "accept")] * 4
    said = capsys.readouterr().err
    assert "interrupted: the cable" in said
    assert "Waiting for the sender to come back; the same command there goes on." in said


async def test_a_known_way_back_is_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(None)
    await play(monkeypatch, world, None, resume=TOKEN)
    assert (world.calls[0][0], world.calls[0][1]["resume"]) == (None, TOKEN)


@pytest.mark.parametrize(
    "error",
    [ConnectionEnded(Failure.CODE_NOT_FOUND, "x"), ServerUnavailable("down", ""), ConnectionEnded(None, "x")],
)
async def test_a_first_failure_is_final(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    with pytest.raises(type(error)):
        await play(monkeypatch, World(error))


@pytest.mark.parametrize("failure", [Failure.WRONG_CODE, Failure.AUTHENTICATION, Failure.NO_PATH])
async def test_what_cannot_get_better_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, failure: Failure
) -> None:
    with pytest.raises(ConnectionEnded):
        await play(monkeypatch, World(None, ConnectionEnded(failure, "x")), TransferInterrupted("lost"))


async def test_errors_of_the_transfer_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TransferError):
        await play(monkeypatch, World(None), TransferError(FailureKind.REFUSED, "no"))


async def test_nobody_coming_is_a_timeout_that_says_who(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TimeoutError, match="the sender did not come within 1 min 00 s"):
        await play(monkeypatch, World(TimeoutError()))


def test_the_end_is_told_to_people_and_programs(capsys: pytest.CaptureFixture[str]) -> None:
    report(RESULT, Output(), "received")
    assert capsys.readouterr().err == (
        "received: 1 file, 10 B (10 bytes) in 2.0 s (3 B/s; 4 B had been there before)\n"
        f"sha256: {'ab' * 32}\n"
    )
    placed = TransferResult(5, 5, 0, 1, "cd" * 32, 0.0, placed=(Placed("f", "f (1)", Outcome.RENAMED),))
    report(placed, Output(as_json=True), "received")
    done = json.loads(capsys.readouterr().out)
    assert (done["bytes"], done["sha256"], done["seconds"], done["saved"]) == (5, "cd" * 32, 0.0, ["f (1)"])


def test_files_left_out_fail_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    result = TransferResult(5, 5, 0, 1, "cd" * 32, 1.0, omitted=(("d/\x1bx", "changed while it was read"),))
    with pytest.raises(click.exceptions.Exit) as caught:
        report(result, Output(), "sent")
    assert caught.value.exit_code == 1
    assert "not sent: d/\\x1bx: changed while it was read" in capsys.readouterr().err


def test_errors_become_exit_codes_and_bugs_stay_loud(capsys: pytest.CaptureFixture[str]) -> None:
    async def fail(error: BaseException) -> TransferResult:
        raise error

    with pytest.raises(click.exceptions.Exit) as caught:
        run(fail(ConnectionEnded(Failure.NO_PATH, "no way")), Output(), "sent")
    assert caught.value.exit_code == 3
    assert "natwalk: no way" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):
        run(fail(ZeroDivisionError()), Output(), "sent")
    with pytest.raises(click.exceptions.Exit) as caught, reporting(Output()):
        raise KeyboardInterrupt
    assert caught.value.exit_code == 130
    with pytest.raises(click.UsageError), reporting(Output()):
        raise click.UsageError("what")
