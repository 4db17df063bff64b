"""``natwalk receive``: fetches what a one-time code offers, after asking."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click
from click.core import ParameterSource

from natwalk.cli.argv import hide_argument
from natwalk.cli.output import Output, count_text, size_text
from natwalk.cli.session import CONTEXT, Options, Session, common_options, reporting, run

if TYPE_CHECKING:
    from natwalk import Connection, PathPolicy, ResumeToken
    from natwalk.aio.transfer import Question, TransferResult
    from natwalk.transfer import Offer

_SHOWN_NAMES: Final = 10


@click.command(context_settings=CONTEXT)
@click.argument("code", required=False, envvar="NATWALK_CODE")
@click.option(
    "--output",
    "folder",
    type=click.Path(file_okay=False, readable=False),
    default=".",
    envvar="NATWALK_OUTPUT",
    metavar="DIR",
    help="Where the files go; made when missing. The current folder by default.",
)
@click.option("-y", "--yes", is_flag=True, help="Take what is offered without asking.")
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace files of the same name and merge folders. Without it new ones get a number.",
)
@common_options
@click.pass_context
def receive(
    ctx: click.Context,
    *,
    code: str | None,
    folder: str,
    yes: bool,
    overwrite: bool,
    server: str,
    path_policy: PathPolicy,
    timeout: float,
    as_json: bool,
    verbose: bool,
) -> None:
    """Receive files with the one-time CODE the sender tells you.

    CODE may also be in NATWALK_CODE, or typed when asked for (Tab completes its words). If either side is
    killed, the same command there goes on where it stopped, for a day. Nothing that exists is touched
    without --overwrite.
    """
    output = Output(as_json=as_json, verbose=verbose)
    if code and ctx.get_parameter_source("code") is ParameterSource.COMMANDLINE:
        hide_argument(code)
    with reporting(output):
        code = _read_code(code)
    receiving = _Receiving(
        Options(server, path_policy, timeout), output, code, folder, yes=yes, overwrite=overwrite
    )
    run(receiving.run(), output, "received")


def _read_code(given: str | None) -> str:
    from natwalk.cli.prompting import ask_code
    from natwalk.rendezvous import Code

    if given:
        return str(Code.parse(given))
    code = ask_code()
    if code is None:
        raise click.UsageError("no code: give it as an argument, in NATWALK_CODE, or type it when asked")
    return code


class _Receiving:
    def __init__(
        self, options: Options, output: Output, code: str, folder: str, *, yes: bool, overwrite: bool
    ) -> None:
        self._options = options
        self._output = output
        self._code = code
        self._folder = folder
        self._yes = yes
        self._overwrite = overwrite
        self._resume: ResumeToken | None = None

    async def run(self) -> TransferResult:
        from natwalk import ResumeToken
        from natwalk.transfer.storage import find_receive_state

        state = find_receive_state(self._folder, self._code, self._options.server, time.time())
        if state is not None:
            self._resume = ResumeToken(state.mailbox, state.secret)
            self._output.event("resuming")
            self._output.say("Going on with what has arrived before.")
        session = Session(
            self._options,
            self._output,
            "accept",
            self._transfer,
            code=self._code,
            resume=self._resume,
            on_token=self._note_token,
        )
        result = await session.run()
        for placed in result.placed:
            self._tell_placed(placed.name, placed.saved_as, placed.outcome.value)
        return result

    async def _transfer(self, connection: Connection) -> TransferResult:
        from natwalk.aio.transfer import receive_files
        from natwalk.transfer.storage import ResumeRecord

        stream = await connection.accept_stream()
        record = None
        if self._resume is not None:
            token = self._resume
            record = ResumeRecord(token.mailbox, token.secret, self._options.server, self._code, time.time())
        return await receive_files(
            stream,
            self._folder,
            consent=self._consent,
            overwrite=self._overwrite,
            resume=record,
            on_progress=self._output.progress,
        )

    def _note_token(self, token: ResumeToken) -> None:
        self._resume = token

    async def _consent(self, question: Question) -> bool:
        from natwalk.cli.prompting import ask_yes_no

        self._tell_offer(question)
        if self._yes:
            return True
        return await ask_yes_no("Receive this?")

    def _tell_offer(self, question: Question) -> None:
        from natwalk.transfer import shown

        offer = question.offer
        names = list(offer.top_names)
        self._output.event(
            "offer",
            files=offer.file_count,
            bytes=offer.size,
            names=names[:_SHOWN_NAMES],
            names_total=len(names),
            exists=list(question.conflicts[:_SHOWN_NAMES]),
        )
        self._output.say(f"offered: {count_text(offer.file_count, 'file')}, {size_text(offer.size)}")
        for name in names[:_SHOWN_NAMES]:
            self._output.say(f"  {shown(name)}{_described(offer, name)}")
        if len(names) > _SHOWN_NAMES:
            self._output.say(f"  and {len(names) - _SHOWN_NAMES} more")
        for name in question.conflicts[:_SHOWN_NAMES]:
            fate = "will be replaced" if self._overwrite else "exists and stays: the new one gets a number"
            self._output.say(f"  note: {shown(name)} {fate}")

    def _tell_placed(self, name: str, saved_as: str, outcome: str) -> None:
        from natwalk.transfer import shown

        self._output.event("saved", name=name, saved_as=saved_as, outcome=outcome)
        words = {
            "new": f"saved: {shown(saved_as)}",
            "renamed": f"saved: {shown(name)} as {shown(saved_as)}, because {shown(name)} exists",
            "replaced": f"saved: {shown(saved_as)}, replacing what was there",
            "unchanged": f"kept: {shown(saved_as)} is there already, and is the same",
        }
        self._output.say(words[outcome])


def _described(offer: Offer, name: str) -> str:
    """What kind of thing the top-level ``name`` of the offer is, for the list."""
    prefix = f"{name}/"
    inside = [entry for entry in offer.entries if entry.path.startswith(prefix) and entry.is_file]
    size = sum(entry.size for entry in offer.entries if entry.path == name or entry.path.startswith(prefix))
    if any(entry.path == name and entry.is_file for entry in offer.entries):
        return f"  {size_text(size)}"
    return f"/  {count_text(len(inside), 'file')}, {size_text(size)}"
