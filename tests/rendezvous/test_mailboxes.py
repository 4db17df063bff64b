from __future__ import annotations

from natwalk.rendezvous.mailboxes import Kind, Mailbox, Put
from natwalk.rendezvous.messages import Mood, Slot


def box() -> Mailbox:
    mailbox = Mailbox("id", Kind.RESUME, "epoch", "owner")
    mailbox.take(Slot.A, "a1")
    return mailbox


def put(mailbox: Mailbox, slot: Slot, phase: str, body: bytes = b"") -> Put:
    return mailbox.put(slot, phase, body, messages=5, size=100)


def waiting(mailbox: Mailbox, slot: Slot) -> list[str]:
    return [message.phase for message in mailbox.sides[slot].inbox]


def test_messages_wait_for_the_other_side_until_seen() -> None:
    mailbox = box()
    assert [put(mailbox, Slot.A, p) for p in "xyx"] == [Put.STORED, Put.STORED, Put.DUPLICATE]
    assert waiting(mailbox, Slot.B) == ["x", "y"]
    assert waiting(mailbox, Slot.A) == []
    mailbox.seen(Slot.B, 1)
    assert waiting(mailbox, Slot.B) == ["y"]
    assert put(mailbox, Slot.A, "x") is Put.DUPLICATE


def test_both_bounds_hold() -> None:
    mailbox = box()
    assert put(mailbox, Slot.A, "big", b"x" * 101) is Put.FULL
    assert [put(mailbox, Slot.A, str(n)) for n in range(6)][-1] is Put.FULL
    mailbox.seen(Slot.B, 99)
    assert put(mailbox, Slot.A, "again", b"x" * 100) is Put.STORED
    assert mailbox.size == 100
    assert put(mailbox, Slot.B, "other", b"x") is Put.FULL


def test_remembered_phases_are_bounded() -> None:
    mailbox = box()
    for n in range(2000):
        put(mailbox, Slot.A, f"p{n}")
        mailbox.seen(Slot.B, n + 1)
    assert len(mailbox.sides[Slot.A].phases) == 512


def test_a_new_token_starts_clean_and_takes_the_old_ones_messages_away() -> None:
    mailbox = box()
    mailbox.take(Slot.B, "b1")
    put(mailbox, Slot.B, "from b1", b"1234")
    put(mailbox, Slot.A, "to b")
    mailbox.take(Slot.B, "b1")
    assert waiting(mailbox, Slot.A) == ["from b1"]
    mailbox.take(Slot.B, "b2")
    assert waiting(mailbox, Slot.A) == []
    assert waiting(mailbox, Slot.B) == ["to b"]
    assert mailbox.size == 0
    assert put(mailbox, Slot.B, "from b1") is Put.STORED
    assert mailbox.slot_of("b2") is Slot.B
    assert mailbox.slot_of("b1") is None


def test_a_mailbox_is_finished_when_all_who_came_have_closed() -> None:
    mailbox = box()
    assert not mailbox.finished
    mailbox.sides[Slot.A].closed = Mood.HAPPY
    assert mailbox.finished
    mailbox.take(Slot.B, "b1")
    assert not mailbox.finished


def test_burning_leaves_nothing_to_read() -> None:
    mailbox = box()
    put(mailbox, Slot.A, "x", b"secret")
    mailbox.burn()
    assert mailbox.burned
    assert (mailbox.size, mailbox.waiting) == (0, 0)
