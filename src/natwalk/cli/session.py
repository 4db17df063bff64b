"""What ``send`` and ``receive`` share: their options, one connection after another, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import click

from natwalk.cli.exit_codes import ExitCode, explain
from natwalk.cli.output import Output, count_text, duration_text, size_text

if TYPE_CHECKING:
    from natwalk import Connection, PathPolicy, ResumeToken
    from natwalk.aio.transfer import TransferResult

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_TIMEOUT: Final = 3600.0
"""Seconds to wait for the other side, at the start and after it was lost."""
RETRY_PAUSE: Final = 1.0
"""Seconds between two attempts to meet again."""
CONTEXT: Final[dict[str, Any]] = {
    "auto_envvar_prefix": "NATWALK",
    "help_option_names": ["-h", "--help"],
}


@dataclass(frozen=True, slots=True)
class Options:
    """What both commands are told."""

    server: str
    path_policy: PathPolicy
    timeout: float


def common_options(command: F) -> F:
    """Add the options that ``send`` and ``receive`` share."""
    for option in reversed(_COMMON):
        command = option(command)
    return command


_COMMON: Final = (
    click.option(
        "--server", required=True, metavar="URL", help="Server both sides meet at. [env: NATWALK_SERVER]"
    ),
    click.option(
        "--path-policy",
        type=click.Choice(["any", "direct", "relay"]),
        default="any",
        show_default=True,
        help="Which paths may carry the files.",
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=DEFAULT_TIMEOUT,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait for the other side, also after it was lost.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print events as JSON, one a line, on stdout."),
    click.option("-v", "--verbose", is_flag=True, help="Tell about candidates and checks too."),
)


@contextmanager
def reporting(output: Output) -> Iterator[None]:
    """Turn every error a person can meet into a sentence and an exit code; bugs keep their traceback."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit):
        raise
    except (Exception, KeyboardInterrupt) as error:
        explanation = explain(error)
        if explanation is None:
            raise
        output.failure(explanation)
        raise click.exceptions.Exit(explanation.code) from error
    finally:
        output.clear()


def run(work: Coroutine[Any, Any, TransferResult], output: Output, verb: str) -> None:
    """Run ``work`` to its end and report it; ``verb`` is ``sent`` or ``received``.

    Raises click's Exit with 1 when some files were left out.
    """
    with reporting(output):
        result = asyncio.run(work)
        report(result, output, verb)


def report(result: TransferResult, output: Output, verb: str) -> None:
    """Say what was moved; raise Exit when some files were left out."""
    from natwalk.transfer import shown

    output.event(
        "done",
        bytes=result.size,
        sha256=result.sha256,
        seconds=round(result.seconds, 4),
        moved=result.moved,
        resumed=result.resumed,
        files=result.files,
        saved=[placed.saved_as for placed in result.placed],
        omitted=[{"path": path, "reason": reason} for path, reason in result.omitted],
    )
    rate = result.moved / result.seconds if result.seconds else 0.0
    what = f"{count_text(result.files, 'file')}, {size_text(result.size)}"
    before = f"; {size_text(result.resumed)} had been there before" if result.resumed else ""
    took = f"in {duration_text(result.seconds)} ({size_text(rate)}/s{before})"
    output.say(f"{verb}: {what} ({result.size} bytes) {took}")
    output.say(f"sha256: {result.sha256}")
    for path, reason in result.omitted:
        output.say(f"not {verb}: {shown(path)}: {reason}")
    if result.omitted:
        count = count_text(len(result.omitted), "file")
        output.event("error", code=int(ExitCode.FAILED), name="failed", message=f"{count} left out", hint="")
        raise click.exceptions.Exit(ExitCode.FAILED)


class Session:
    """Connects, transfers, and after a loss waits for the other side and goes on."""

    def __init__(
        self,
        options: Options,
        output: Output,
        role: Literal["offer", "accept"],
        transfer: Callable[[Connection], Awaitable[TransferResult]],
        *,
        code: str | None = None,
        resume: ResumeToken | None = None,
        on_code: Callable[[str], None] | None = None,
        on_token: Callable[[ResumeToken], None] | None = None,
    ) -> None:
        from natwalk.cli.peer_output import PeerReporter

        self._options = options
        self._output = output
        self._role: Literal["offer", "accept"] = role
        self._transfer = transfer
        self._code = code
        self._resume = resume
        self._on_code = on_code
        self._on_token = on_token
        self._reporter = PeerReporter(output)
        self._other = "receiver" if role == "offer" else "sender"

    async def run(self) -> TransferResult:
        """The result, over as many connections as it takes. Raises what ends it for good."""
        from natwalk import ConnectionEnded
        from natwalk.transfer import TransferInterrupted

        while True:
            async with AsyncExitStack() as stack:
                connection = await self._meet(stack)
                try:
                    return await self._transfer(connection)
                except (TransferInterrupted, ConnectionEnded) as error:
                    reason = str(error)
            self._tell_waiting(reason)

    async def _meet(self, stack: AsyncExitStack) -> Connection:
        """A connection, entered into ``stack``: the first as it comes, later ones tried again and again."""
        from natwalk import ConnectionEnded, ServerUnavailable

        clock = asyncio.get_running_loop().time
        deadline = clock() + self._options.timeout
        while True:
            try:
                connection = await stack.enter_async_context(self._dial(max(0.0, deadline - clock())))
            except TimeoutError as error:
                waited = duration_text(self._options.timeout)
                raise TimeoutError(f"the {self._other} did not come within {waited}") from error
            except (ConnectionEnded, ServerUnavailable) as error:
                if self._resume is None or _is_final(error):
                    raise
                self._output.detail(f"not yet: {error}")
                await asyncio.sleep(RETRY_PAUSE)
                continue
            if connection.resume is not None:
                self._resume = connection.resume
                if self._on_token is not None:
                    self._on_token(connection.resume)
            return connection

    def _dial(self, timeout: float) -> AbstractAsyncContextManager[Connection]:
        import natwalk

        return natwalk.connect(
            None if self._resume else self._code,
            server=self._options.server,
            path_policy=self._options.path_policy,
            on_code=self._on_code,
            on_event=self._reporter.handle,
            resume=self._resume,
            role=self._role if self._resume else None,
            timeout=timeout,
        )

    def _tell_waiting(self, reason: str) -> None:
        self._output.event("waiting", reason=reason, seconds=self._options.timeout)
        self._output.say(f"interrupted: {reason}")
        self._output.say(
            f"Waiting for the {self._other} to come back; the same command there goes on. Ctrl-C ends this."
        )


def _is_final(error: Exception) -> bool:
    """True when trying again cannot help."""
    from natwalk import ConnectionEnded, Failure

    final = (Failure.WRONG_CODE, Failure.AUTHENTICATION, Failure.NO_PATH)
    return isinstance(error, ConnectionEnded) and error.failure in final
