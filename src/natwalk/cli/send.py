"""``natwalk send``: offers files under a one-time code and stays until they have arrived."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING, Final

import click

from natwalk.cli.output import Output, count_text, size_text
from natwalk.cli.session import CONTEXT, Options, Session, common_options, reporting, run

if TYPE_CHECKING:
    from natwalk import Connection, PathPolicy, ResumeToken
    from natwalk.aio.transfer import TransferResult
    from natwalk.transfer.storage import SendState, SendStateFile, Source


@click.command(context_settings=CONTEXT)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(readable=False))
@common_options
@click.option("--new", "fresh", is_flag=True, help="Make a new code, even if an earlier run can go on.")
def send(
    *,
    paths: tuple[str, ...],
    server: str,
    path_policy: PathPolicy,
    timeout: float,
    as_json: bool,
    verbose: bool,
    fresh: bool,
) -> None:
    """Send files and folders to whoever has the one-time code.

    Prints the command for the other side and waits. If either side is killed, the same command there goes on
    where it stopped, for a day.
    """
    from natwalk.transfer.storage import SendStateFile

    output = Output(as_json=as_json, verbose=verbose)
    memory = _Memory(SendStateFile(paths, server), output)
    try:
        with reporting(output):
            memory.open(fresh=fresh)
            source = _scan(paths, memory.transfer_id, output)
        run(_Sending(Options(server, path_policy, timeout), output, source, memory).run(), output, "sent")
    finally:
        memory.close()


def _scan(paths: tuple[str, ...], transfer_id: str, output: Output) -> Source:
    from natwalk.transfer.storage import scan

    source = scan(paths, transfer_id)
    for notice in source.notices:
        output.event("notice", message=notice)
        output.say(f"note: {notice}")
    return source


class _Memory:
    """What lets a killed ``send`` go on: loaded at the start, kept from the first connection to the end."""

    def __init__(self, file: SendStateFile, output: Output) -> None:
        self._file = file
        self._output = output
        self._kept = False
        self.earlier: SendState | None = None
        self.transfer_id = ""

    def open(self, *, fresh: bool) -> None:
        """Look for an earlier run of the same command."""
        from natwalk.aio.transfer import new_transfer_id

        try:
            self._kept = self._file.acquire()
            reason = "the same command is running already"
        except OSError as error:
            reason = f"{error.filename}: {error.strerror}"
        if self._kept:
            self.earlier = None if fresh else self._file.load(time.time())
        else:
            self._output.say(f"note: if this is killed it cannot go on later ({reason})")
        self.transfer_id = self.earlier.transfer_id if self.earlier else new_transfer_id()

    def save(self, token: ResumeToken, server: str, code: str) -> None:
        """Remember the way back to the receiver."""
        from natwalk.transfer.storage import SendState

        if not self._kept:
            return
        state = SendState(self.transfer_id, token.mailbox, token.secret, server, code, time.time())
        try:
            self._file.save(state)
        except OSError as error:
            self._output.say(f"note: if this is killed it cannot go on later ({error.strerror})")

    def forget(self) -> None:
        """Nothing is left to go on with."""
        if self._kept:
            self._file.delete()

    def close(self) -> None:
        """Let the same command run elsewhere."""
        self._file.release()


_WORTH_RESUMING: Final = frozenset({"storage", "source", "integrity"})
"""Kinds of failure after which the same two commands can succeed; the others need a new agreement."""


class _Sending:
    def __init__(self, options: Options, output: Output, source: Source, memory: _Memory) -> None:
        self._options = options
        self._output = output
        self._source = source
        self._memory = memory
        self._code = ""

    async def run(self) -> TransferResult:
        from natwalk import ResumeToken
        from natwalk.transfer import TransferError

        resume = None
        earlier = self._memory.earlier
        if earlier is not None:
            resume = ResumeToken(earlier.mailbox, earlier.secret)
            self._tell_code(earlier.code, resumed=True)
        session = Session(
            self._options,
            self._output,
            "offer",
            self._transfer,
            resume=resume,
            on_code=self._tell_code,
            on_token=lambda token: self._memory.save(token, self._options.server, self._code),
        )
        try:
            result = await session.run()
        except TransferError as error:
            if error.kind.value not in _WORTH_RESUMING:
                self._memory.forget()
            raise
        self._memory.forget()
        return result

    async def _transfer(self, connection: Connection) -> TransferResult:
        from natwalk.aio.transfer import send_source

        stream = await connection.open_stream()
        return await send_source(stream, self._source, on_progress=self._output.progress)

    def _tell_code(self, code: str, resumed: bool = False) -> None:
        self._code = code
        command = f"natwalk receive {code} --server {shlex.quote(self._options.server)}"
        self._output.event("code", code=code, command=command, resumed=resumed)
        offer = self._source.offer
        what = f"{count_text(offer.file_count, 'file')}, {size_text(offer.size)}"
        if resumed:
            self._output.say(f"Going on with {what}. If the other side has stopped, run there again:")
        else:
            self._output.say(f"Sending {what}. On the other side run:")
        self._output.say(f"\n    {command}\n")
