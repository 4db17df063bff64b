"""All mailboxes of one server: what each source holds, what is stored in all, and when each ends."""

from __future__ import annotations

from collections import Counter, OrderedDict

from natwalk.core import Deadlines, RandomBytes
from natwalk.rendezvous.limits import RendezvousLimits
from natwalk.rendezvous.mailboxes import Kind, Mailbox, Put
from natwalk.rendezvous.messages import FailureCode, Slot


class MailboxStore:
    """Makes, finds, bounds and expires mailboxes."""

    def __init__(self, limits: RendezvousLimits, *, random_bytes: RandomBytes) -> None:
        self._limits = limits
        self._random_bytes = random_bytes
        self._mailboxes: dict[str, Mailbox] = {}
        self._owned: Counter[str] = Counter()
        self._idle: OrderedDict[str, None] = OrderedDict()
        self._deadlines: Deadlines[str] = Deadlines()
        self._ttl: dict[str, float] = {}
        self.stored = 0

    def create(self, kind: Kind, owner: str, now: float, mailbox_id: str = "") -> Mailbox | FailureCode:
        """A new mailbox, or why there may not be one; ids of nameplate mailboxes are drawn at random."""
        if self._owned[owner] >= self._limits.mailboxes_per_source:
            return FailureCode.TOO_MANY
        if len(self._mailboxes) >= self._limits.mailboxes:
            return FailureCode.SERVER_FULL
        mailbox = Mailbox(
            mailbox_id or self._random_bytes(16).hex(), kind, self._random_bytes(8).hex(), owner
        )
        self._mailboxes[mailbox.id] = mailbox
        self._owned[owner] += 1
        if kind is Kind.NAMEPLATE:
            self._ttl[mailbox.id] = now + self._limits.nameplate_ttl
        return mailbox

    def get(self, mailbox_id: str) -> Mailbox | None:
        """The mailbox with this id, or None."""
        return self._mailboxes.get(mailbox_id)

    def remove(self, mailbox: Mailbox) -> None:
        """Forget ``mailbox`` and all that is in it."""
        del self._mailboxes[mailbox.id]
        self.stored -= mailbox.size
        self._owned[mailbox.owner] -= 1
        if not self._owned[mailbox.owner]:
            del self._owned[mailbox.owner]
        self._deadlines.cancel(mailbox.id)
        self._idle.pop(mailbox.id, None)
        self._ttl.pop(mailbox.id, None)

    def claimed(self, mailbox: Mailbox, now: float) -> None:
        """Both sides have come: the wait for the second one is over."""
        self._ttl.pop(mailbox.id, None)
        self.reschedule(mailbox, now)

    def reschedule(self, mailbox: Mailbox, now: float) -> list[Mailbox]:
        """Set when ``mailbox`` ends, after its connections changed; returns idle ones that must make room."""
        ends = [self._ttl[mailbox.id]] if mailbox.id in self._ttl else []
        self._idle.pop(mailbox.id, None)
        if not mailbox.connected:
            resume = mailbox.kind is Kind.RESUME
            ends.append(now + (self._limits.resume_idle_timeout if resume else self._limits.idle_timeout))
            if resume:
                self._idle[mailbox.id] = None
        if ends:
            self._deadlines.set(mailbox.id, min(ends))
        else:
            self._deadlines.cancel(mailbox.id)
        excess = max(0, len(self._idle) - self._limits.idle_resume_mailboxes)
        return [self._mailboxes[mailbox_id] for mailbox_id in list(self._idle)[:excess]]

    def put(self, mailbox: Mailbox, slot: Slot, phase: str, body: bytes) -> Put:
        """Store a message, within the bounds of the mailbox and of the server."""
        room = min(
            self._limits.bytes_per_mailbox, mailbox.size + max(0, self._limits.stored_bytes - self.stored)
        )
        before = mailbox.size
        put = mailbox.put(slot, phase, body, messages=self._limits.messages_per_mailbox, size=room)
        self.stored += mailbox.size - before
        return put

    def seen(self, mailbox: Mailbox, slot: Slot, seq: int) -> None:
        """Forget what ``slot`` has seen."""
        before = mailbox.size
        mailbox.seen(slot, seq)
        self.stored += mailbox.size - before

    def take(self, mailbox: Mailbox, slot: Slot, token: str) -> None:
        """Give ``slot`` to ``token``."""
        before = mailbox.size
        mailbox.take(slot, token)
        self.stored += mailbox.size - before

    def burn(self, mailbox: Mailbox) -> None:
        """A wrong guess was made in ``mailbox``."""
        before = mailbox.size
        mailbox.burn()
        self.stored += mailbox.size - before

    def pop_due(self, now: float) -> Mailbox | None:
        """A mailbox whose time is over (still in the store, for :meth:`remove`), or None."""
        mailbox_id = self._deadlines.pop_due(now)
        return None if mailbox_id is None else self._mailboxes[mailbox_id]

    def next_timeout(self) -> float | None:
        """When the next mailbox ends, or None."""
        return self._deadlines.next_timeout()

    def __len__(self) -> int:
        return len(self._mailboxes)
