from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natwalk.core import LocalProtocolError
from natwalk.rendezvous import (
    KeyEstablished,
    MailboxClosed,
    MailboxMessage,
    MailboxOpened,
    NameplateAllocated,
    PeerClosedMailbox,
    PeerRestarted,
    RendezvousFailed,
    WrongCode,
    WrongKey,
)
from natwalk.rendezvous.messages import (
    Ack,
    Add,
    Allocated,
    Delivered,
    FailureCode,
    Mood,
    Opened,
    decode_client,
    encode,
)
from rendezvous_wire import Wire

MAILBOX = "ab" * 16
SECRET = b"s" * 32


def of(kind: type, events: list[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def bodies(events: list[Any]) -> list[bytes]:
    return [event.body for event in of(MailboxMessage, events)]


def meet(wire: Any, password_b: bytes = b"7-amber-falcon") -> tuple[Any, Any]:
    a, b = wire.mailbox("A"), wire.mailbox("B", password_b)
    a.client.allocate(wire.now)
    wire.connect(a)
    wire.run()
    b.client.claim(a.client.nameplate, wire.now)
    wire.connect(b)
    return a, b


def alone(wire: Any, side: str) -> Any:
    """A mailbox whose server is the test."""
    box = wire.mailbox(side)
    box.client.allocate(wire.now) if side == "A" else box.client.claim(4, wire.now)
    box.connection_made(wire.now)
    if side == "A":
        box.receive_message(encode(Allocated(nameplate=4, mailbox=MAILBOX)), wire.now)
    box.receive_message(encode(Opened(mailbox=MAILBOX, epoch="")), wire.now)
    return box


def sent(box: Any) -> list[Add]:
    """What the mailbox has added since the last call."""
    out = []
    while (text := box.poll_message()) is not None:
        out.append(decode_client(text))
    return [message for message in out if isinstance(message, Add)]


def resume(wire: Any, side: str, secret: bytes = SECRET) -> tuple[Any, int]:
    box = wire.mailbox(side, secret, resume=True)
    box.client.open(MAILBOX, wire.now, slot=side)
    return box, wire.connect(box)


class TestCode:
    def test_two_sides_with_the_same_code_get_the_same_key_and_talk(self, wire: Any) -> None:
        a, b = meet(wire)
        a.send(b"queued before the other side came", wire.now)
        wire.run()
        ea, eb = wire.events(a), wire.events(b)
        assert of(KeyEstablished, ea) == of(KeyEstablished, eb) != []
        assert bodies(eb) == [b"queued before the other side came"]
        b.send(b"answer", wire.now)
        wire.run()
        assert bodies(wire.events(a)) == [b"answer"]
        assert a.derive("quic", 48) == b.derive("quic", 48) != a.derive("other", 48)
        assert len(a.derive("quic", 48)) == 48

    def test_the_password_may_come_after_the_mailbox_on_either_side(self, wire: Any) -> None:
        a, b = wire.mailbox("A", None), wire.mailbox("B", None)
        a.client.allocate(wire.now)
        wire.connect(a)
        wire.run()
        [allocated] = of(NameplateAllocated, wire.events(a))
        b.client.claim(allocated.nameplate, wire.now)
        wire.connect(b)
        wire.run()
        a.set_password(b"code", wire.now)
        wire.run()
        assert not a.established
        b.set_password(b"code", wire.now)
        wire.run()
        assert a.established
        assert b.established

    def test_a_wrong_code_burns_on_both_sides_at_once(self, wire: Any) -> None:
        a, b = meet(wire, b"7-amber-fern")
        wire.run()
        for box in (a, b):
            events = wire.events(box)
            assert len(of(WrongCode, events)) == 1
            assert not of(KeyEstablished, events)
            assert of(MailboxClosed, events)
            assert box.finished
        assert wire.server.mailboxes == 0

    def test_a_burned_code_cannot_be_tried_again(self, wire: Any) -> None:
        a, _ = meet(wire, b"7-amber-fern")
        nameplate = a.client.nameplate
        wire.run()
        again = wire.mailbox("B")
        again.client.claim(nameplate, wire.now)
        wire.connect(again)
        wire.run()
        [failed] = of(RendezvousFailed, wire.events(again))
        assert failed.code is FailureCode.CROWDED

    def test_one_who_is_away_learns_of_the_wrong_code_when_back(self, wire: Any) -> None:
        a = wire.mailbox("A")
        a.client.allocate(wire.now)
        conn = wire.connect(a)
        wire.run()
        wire.disconnect(conn)
        other = wire.client()
        other.claim(a.client.nameplate, wire.now)
        other.close(Mood.SCARY, wire.now)
        wire.connect(other)
        wire.run()
        assert of(MailboxClosed, wire.events(other))
        assert not of(WrongCode, wire.events(a))
        wire.connect(a)
        wire.run()
        assert of(WrongCode, wire.events(a)) == [WrongCode()]
        assert wire.server.mailboxes == 0

    def test_the_server_sees_neither_words_nor_messages(self, wire: Any) -> None:
        a, b = meet(wire)
        a.send(b"candidate 192.0.2.77", wire.now)
        wire.run()
        assert b.established
        text = "".join(wire.frames)
        for marker in ("amber", "falcon", "candidate", "192.0.2.77", "natwalk"):
            assert marker not in text

    @pytest.mark.parametrize("lost_after", range(26))
    def test_a_connection_lost_at_any_point_loses_and_repeats_nothing(
        self, make_wire: Callable[..., Any], lost_after: int
    ) -> None:
        wire = make_wire()
        a = wire.mailbox("A")
        a.client.allocate(wire.now)
        conn_a = wire.connect(a)
        moved = wire.run(frames=lost_after)
        if a.client.nameplate is None:
            wire.disconnect(conn_a)
            conn_a = wire.connect(a)
            wire.run()
        b = wire.mailbox("B")
        b.client.claim(a.client.nameplate, wire.now)
        conn_b = wire.connect(b)
        a.send(b"one", wire.now)
        b.send(b"eins", wire.now)
        wire.run(frames=max(0, lost_after - moved))
        wire.disconnect(conn_a)
        wire.disconnect(conn_b, tell_client=True)
        a.send(b"two", wire.now)
        wire.connect(a)
        wire.connect(b)
        wire.run()
        assert bodies(wire.events(b)) == [b"one", b"two"]
        assert bodies(wire.events(a)) == [b"eins"]

    def test_garbage_for_a_hello_burns(self, wire: Any) -> None:
        for garbage in (b"", b"x" * 49, b"\0" * 16 + b"B" + b"\xff" * 32, b"y" * 5000):
            a = wire.mailbox("A")
            a.client.allocate(wire.now)
            wire.connect(a)
            wire.run()
            other = wire.client()
            other.claim(a.client.nameplate, wire.now)
            other.add("hello-x", garbage, wire.now)
            wire.connect(other)
            wire.run()
            assert of(WrongCode, wire.events(a)) == [WrongCode()]
            assert of(PeerClosedMailbox, wire.events(other)) == [PeerClosedMailbox(Mood.SCARY)]

    def test_a_hello_reflected_by_the_server_burns(self, wire: Any) -> None:
        a = alone(wire, "A")
        [hello] = sent(a)
        a.receive_message(encode(Delivered(seq=1, phase=hello.phase, body=hello.body)), wire.now)
        assert of(WrongCode, wire.events(a))

    def test_sealed_messages_are_dropped_when_replayed_or_changed(self, wire: Any) -> None:
        a, b = meet(wire)
        b.send(b"first", wire.now)
        wire.run()
        assert bodies(wire.events(a)) == [b"first"]
        delivered = [f for f in wire.frames if '"message"' in f and "-1" in f][-1]
        changed = delivered.replace('"seq":', '"seq":9')
        a.receive_message(changed, wire.now)
        assert bodies(wire.events(a)) == []

    def test_a_server_that_is_slow_to_acknowledge_delays_the_key_and_loses_nothing(self, wire: Any) -> None:
        a, b = alone(wire, "A"), alone(wire, "B")
        [hello_a], [hello_b] = sent(a), sent(b)
        for n in range(198):
            a.client.add(f"filler-{n}", b"", wire.now)
        assert len(sent(a)) == 198
        b.receive_message(encode(Delivered(seq=1, phase=hello_a.phase, body=hello_a.body)), wire.now)
        [confirm_b] = sent(b)
        a.receive_message(encode(Delivered(seq=1, phase=hello_b.phase, body=hello_b.body)), wire.now)
        assert sent(a) == []
        a.receive_message(encode(Ack(phase="filler-0")), wire.now)
        [confirm_a] = sent(a)
        for box, add in ((a, confirm_b), (b, confirm_a)):
            box.receive_message(encode(Delivered(seq=2, phase=add.phase, body=add.body)), wire.now)
            assert box.established

    def test_messages_after_the_end_are_dropped(self, wire: Any) -> None:
        a, b = meet(wire, b"7-amber-fern")
        wire.run()
        a.receive_message(encode(Delivered(seq=99, phase="x-1", body=b"")), wire.now)
        wire.events(a)
        assert wire.events(a) == []
        a.handle_timeout(wire.now + 100)
        assert a.next_timeout() is None
        assert b.finished

    def test_misuse_raises(self, wire: Any) -> None:
        a = wire.mailbox("A")
        with pytest.raises(LocalProtocolError, match="no key"):
            a.derive("x")
        with pytest.raises(LocalProtocolError, match="at most"):
            a.send(b"x" * 32_768, wire.now)
        with pytest.raises(LocalProtocolError, match="before"):
            a.set_password(b"again", wire.now)
        for _ in range(64):
            a.send(b"x", wire.now)
        with pytest.raises(LocalProtocolError, match="wait for a key"):
            a.send(b"x", wire.now)

    @settings(max_examples=60, deadline=None)
    @given(phase=st.from_regex(r"[a-z0-9][a-z0-9.-]{0,63}", fullmatch=True), body=st.binary(max_size=300))
    def test_nothing_a_peer_sends_raises(self, phase: str, body: bytes) -> None:
        wire = Wire()
        a, b = meet(wire)
        wire.run()
        a.receive_message(encode(Delivered(seq=1000, phase=phase, body=body)), wire.now)
        wire.run()
        b.receive_message(encode(Delivered(seq=1000, phase="hello-0", body=body)), wire.now)
        wire.run()
        assert not of(MailboxMessage, wire.events(a))


class TestResume:
    def test_two_sides_meet_by_id_and_secret_in_any_order(self, make_wire: Callable[..., Any]) -> None:
        for order in ("AB", "BA"):
            wire = make_wire()
            first, _ = resume(wire, order[0])
            wire.run()
            second, _ = resume(wire, order[1])
            wire.run()
            assert of(KeyEstablished, wire.events(first)) == of(KeyEstablished, wire.events(second)) != []

    def test_a_restarted_peer_gets_a_fresh_key_and_the_other_is_told(self, wire: Any) -> None:
        a, _ = resume(wire, "A")
        b, conn = resume(wire, "B")
        wire.run()
        [before] = of(KeyEstablished, wire.events(a))
        wire.disconnect(conn)
        a.send(b"to the one that is gone", wire.now)
        wire.run()
        b2, _ = resume(wire, "B")
        wire.run()
        events = wire.events(a)
        assert [type(e) for e in events if isinstance(e, PeerRestarted | KeyEstablished)] == [
            PeerRestarted,
            KeyEstablished,
        ]
        assert of(KeyEstablished, events) != [before]
        a.send(b"welcome back", wire.now)
        b2.send(b"here I am", wire.now)
        wire.run()
        assert bodies(wire.events(b2)) == [b"welcome back"]
        assert bodies(wire.events(a)) == [b"here I am"]
        assert a.derive("x") == b2.derive("x") != b.derive("x")

    def test_restarts_on_both_sides_in_any_order_end_in_a_shared_key(self, wire: Any) -> None:
        boxes = {}
        conns = {}
        for step in ("A", "B", "B", "A", "AB", "B", "BA", "A"):
            for side in step:
                if side in conns:
                    wire.disconnect(conns[side])
            for side in step:
                boxes[side], conns[side] = resume(wire, side)
            wire.run()
            if len(boxes) == 2:
                assert boxes["A"].derive("x") == boxes["B"].derive("x"), step

    def test_a_side_killed_before_it_spoke_is_no_trap(self, wire: Any) -> None:
        """The first B takes A's hello out of the mailbox and dies before it has said anything."""
        a, _ = resume(wire, "A")
        wire.run()
        silent = wire.client()
        silent.open(MAILBOX, wire.now, slot="B")
        conn = wire.connect(silent)
        wire.run()
        wire.disconnect(conn)
        b, _ = resume(wire, "B")
        wire.run()
        assert a.established
        assert b.established

    def test_the_newer_of_two_on_one_side_wins_and_the_older_stops(self, wire: Any) -> None:
        a, _ = resume(wire, "A")
        old, _ = resume(wire, "B")
        wire.run()
        new, _ = resume(wire, "B")
        wire.run()
        [failed] = of(RendezvousFailed, wire.events(old))
        assert failed.code is FailureCode.REPLACED
        assert a.derive("x") == new.derive("x")

    def test_a_wrong_key_is_reported_and_changes_nothing(self, wire: Any) -> None:
        a, _ = resume(wire, "A")
        b, conn = resume(wire, "B")
        wire.run()
        key = a.derive("x")
        wire.events(a)
        wire.disconnect(conn)
        intruder, conn = resume(wire, "B", b"t" * 32)
        wire.run()
        assert of(WrongKey, wire.events(a)) == [WrongKey()]
        assert a.derive("x") == key
        assert not a.finished
        assert of(WrongKey, wire.events(intruder))
        wire.disconnect(conn)
        again, _ = resume(wire, "B")
        wire.run()
        assert a.derive("x") == again.derive("x")
        assert b.derive("x") == key

    def test_a_server_that_lost_everything_is_survived(self, make_wire: Callable[..., Any]) -> None:
        old, new = make_wire(seed=1), make_wire(seed=2)
        a, _ = resume(old, "A")
        b, _ = resume(old, "B")
        old.run()
        assert old.events(a)
        assert old.events(b)
        for box in (a, b):
            box.connection_lost(old.now)
            new.connect(box)
        new.run()
        ea, eb = new.events(a), new.events(b)
        assert of(MailboxOpened, ea) == [MailboxOpened(MAILBOX, renewed=True)]
        assert of(PeerRestarted, ea)
        assert of(KeyEstablished, ea) == of(KeyEstablished, eb) != []
        a.send(b"still here", new.now)
        new.run()
        assert bodies(new.events(b)) == [b"still here"]

    def test_a_weak_shared_secret_is_refused(self, wire: Any) -> None:
        with pytest.raises(LocalProtocolError, match="32"):
            resume(wire, "A", b"short")
        box = wire.mailbox("A", None, resume=True)
        with pytest.raises(LocalProtocolError, match="32"):
            box.set_password(b"x" * 31, wire.now)

    def test_a_peer_that_comes_back_a_hundred_times_fills_nothing(self, wire: Any) -> None:
        a, _ = resume(wire, "A")
        for number in range(100):
            _, conn = resume(wire, "B")
            wire.run()
            assert a.established
            if number < 99:
                wire.disconnect(conn)
            wire.advance(3.0)
        wire.run()
        assert wire.server.stored_bytes < 10_000
