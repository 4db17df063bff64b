"""Queues messages for the peer and sends them through the mailbox in batches, once there is a key."""

from __future__ import annotations

from collections import deque
from typing import Final

from natwalk.peer.messages import MAX_BATCH, Message, decode_batch, encode_batch
from natwalk.rendezvous import SecureMailbox

MAX_QUEUED: Final = 512
"""Messages kept while there is no key; the oldest candidates matter most, so the newest is refused."""


class Signalling:
    """The two directions between messages and mailbox entries."""

    def __init__(self, mailbox: SecureMailbox) -> None:
        self._mailbox = mailbox
        self._queue: deque[Message] = deque()

    def queue(self, message: Message) -> None:
        """Send ``message`` with the next batch."""
        if len(self._queue) < MAX_QUEUED:
            self._queue.append(message)

    def flush(self, now: float) -> None:
        """Send what is queued, if the peer has proved the key and the mailbox takes more."""
        while self._queue and self._mailbox.established and self._mailbox.client.room > 0:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_BATCH))]
            self._mailbox.send(encode_batch(batch), now)

    def read(self, body: bytes) -> list[Message]:
        """The messages of one mailbox entry; raises MalformedMessage."""
        return decode_batch(body)
