"""Files over one stream: the cores of :mod:`natwalk.transfer` with disks and threads around them.

Reading, hashing and writing happen in worker threads, a block ahead of or behind the network, so that the
event loop only moves bytes. Any stream with the three methods of :class:`ByteStream` will do.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from contextlib import suppress
from os import PathLike
from typing import Final

from natwalk import __version__
from natwalk.aio.disk import in_thread
from natwalk.aio.transfer_channel import ByteStream, Channel, Farewell, unexpected
from natwalk.aio.transfer_flow import (
    Consent,
    Incoming,
    Outgoing,
    ProgressCallback,
    Question,
    Tally,
    TransferResult,
)
from natwalk.transfer import OfferReceived, PlanReceived, Receiver, Sender, TransferInterrupted
from natwalk.transfer.storage import Destination, ResumeRecord, Source, SourceReader, scan

__all__ = [
    "ByteStream",
    "Consent",
    "ProgressCallback",
    "Question",
    "TransferResult",
    "accept_all",
    "new_transfer_id",
    "receive_files",
    "send_paths",
    "send_source",
]

SOFTWARE: Final = f"natwalk {__version__}"


async def accept_all(question: Question) -> bool:
    """A :data:`Consent` that agrees to everything."""
    return True


def new_transfer_id() -> str:
    """A fresh name for a transfer: 32 hexadecimal digits."""
    return secrets.token_hex(16)


async def send_paths(
    stream: ByteStream,
    paths: Iterable[str | PathLike[str]],
    *,
    transfer_id: str | None = None,
    on_progress: ProgressCallback | None = None,
) -> TransferResult:
    """Send files and folders; returns when the receiver has verified all of them.

    Raises what :func:`send_source` and :func:`natwalk.transfer.storage.scan` raise.
    """
    source = await asyncio.to_thread(scan, list(paths), transfer_id or new_transfer_id())
    return await send_source(stream, source, on_progress=on_progress)


async def send_source(
    stream: ByteStream, source: Source, *, on_progress: ProgressCallback | None = None
) -> TransferResult:
    """Send what was scanned; returns when the receiver has verified it.

    Raises :class:`TransferError` when either side gave up, :class:`TransferInterrupted` when the connection
    ended first: call again with the same source over the next one, and only what is missing is sent.
    """
    channel = Channel(stream, Sender(source.offer, software=SOFTWARE))
    tally = Tally(source.offer, on_progress)
    async with Farewell(channel):
        await channel.flush()
        event = await channel.next_event()
        if not isinstance(event, PlanReceived):
            raise unexpected(event)
        digest = await Outgoing(channel, SourceReader(source, event.plan), tally).send()
    return tally.result(digest)


async def receive_files(
    stream: ByteStream,
    output: str | PathLike[str],
    *,
    consent: Consent,
    overwrite: bool = False,
    resume: ResumeRecord | None = None,
    on_progress: ProgressCallback | None = None,
) -> TransferResult:
    """Receive into the folder ``output``; returns when everything is verified and in its place.

    ``consent`` is asked once for an offer; not again when the same offer comes back after an interruption.
    ``resume`` is kept beside the partial files, for :func:`natwalk.transfer.storage.find_receive_state`.
    What exists is never touched without ``overwrite``: new files get another name. Raises
    :class:`TransferError` when either side gave up, :class:`TransferInterrupted` when the connection ended
    first: call again over the next one.
    """
    channel = Channel(stream, Receiver(software=SOFTWARE))
    async with Farewell(channel):
        await channel.flush()
        event = await channel.next_event()
        if not isinstance(event, OfferReceived):
            raise unexpected(event)
        tally = Tally(event.offer, on_progress)
        destination = await in_thread(Destination.open, str(output), event.offer)
        try:
            incoming = Incoming(channel, destination, event.offer, tally)
            await incoming.agree(consent, str(output), resume)
            digest = await incoming.receive()
            placed = await in_thread(destination.place, overwrite)
        finally:
            destination.close()
        channel.core.complete()
        # Everything is in place: a connection that breaks now leaves only the sender in doubt.
        with suppress(TransferInterrupted):
            await channel.flush()
    return tally.result(digest, tuple(placed))
