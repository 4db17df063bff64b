"""A mailbox: two sides, what each has not yet seen of the other, and how each left.

A side is known by a random token that only it and the server know; with it a client comes back after a
lost connection. A mailbox with a nameplate keeps its two tokens for life. In one opened by id a new
token takes over a slot: that is a side that was killed and started again, and what the old one left
unseen goes with it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from natwalk.rendezvous.messages import Delivered, Mood, Slot

_REMEMBERED_PHASES: Final = 512


class Kind(Enum):
    """How sides come to a mailbox."""

    NAMEPLATE = "nameplate"
    RESUME = "resume"


class Put(Enum):
    """What became of an added message."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    FULL = "full"


@dataclass(slots=True)
class Side:
    """One of the two sides: its token, its connection if any, and what waits for it."""

    token: str = ""
    conn: int | None = None
    closed: Mood | None = None
    inbox: deque[Delivered] = field(default_factory=deque)
    phases: OrderedDict[str, None] = field(default_factory=OrderedDict)


class Mailbox:
    """Two sides and their messages; ``owner`` is the source it counts against."""

    def __init__(self, mailbox_id: str, kind: Kind, epoch: str, owner: str) -> None:
        self.id, self.kind, self.epoch, self.owner = mailbox_id, kind, epoch, owner
        self.sides = {Slot.A: Side(), Slot.B: Side()}
        self.nameplate: int | None = None
        self.burned = False
        self.size = 0
        self._seq = 0

    def slot_of(self, token: str) -> Slot | None:
        """Which side has this token, or None."""
        return next((slot for slot, side in self.sides.items() if side.token == token), None)

    @property
    def connected(self) -> bool:
        """Whether any side has a connection."""
        return any(side.conn is not None for side in self.sides.values())

    @property
    def finished(self) -> bool:
        """Whether every side that ever came has closed it."""
        came = [side for side in self.sides.values() if side.token]
        return all(side.closed is not None for side in came)

    @property
    def waiting(self) -> int:
        """How many messages wait, for both sides together."""
        return sum(len(side.inbox) for side in self.sides.values())

    def take(self, slot: Slot, token: str) -> None:
        """Give ``slot`` to ``token``; a new token starts clean and the old one's unseen messages go."""
        side = self.sides[slot]
        if side.token == token:
            return
        if side.token:
            self._drop(slot.other, len(self.sides[slot.other].inbox))
            side.phases.clear()
        side.token, side.closed = token, None

    def put(self, slot: Slot, phase: str, body: bytes, *, messages: int, size: int) -> Put:
        """Store a message of ``slot`` for the other side, within the bounds given."""
        side, other = self.sides[slot], self.sides[slot.other]
        if phase in side.phases:
            return Put.DUPLICATE
        if self.waiting >= messages or self.size + len(body) > size:
            return Put.FULL
        side.phases[phase] = None
        while len(side.phases) > _REMEMBERED_PHASES:
            side.phases.popitem(last=False)
        self._seq += 1
        self.size += len(body)
        other.inbox.append(Delivered(seq=self._seq, phase=phase, body=body))
        return Put.STORED

    def seen(self, slot: Slot, seq: int) -> None:
        """Forget what waits for ``slot`` up to number ``seq``."""
        inbox = self.sides[slot].inbox
        self._drop(slot, sum(1 for message in inbox if message.seq <= seq))

    def burn(self) -> None:
        """A wrong guess was made: no message waits any more, for anyone."""
        self.burned = True
        for slot, side in self.sides.items():
            self._drop(slot, len(side.inbox))

    def _drop(self, slot: Slot, count: int) -> None:
        inbox = self.sides[slot].inbox
        for _ in range(count):
            self.size -= len(inbox.popleft().body)
