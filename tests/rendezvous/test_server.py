"""The server core against well-meaning and hostile clients (FAULTS 107, 108, 109, 120, 121)."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natwalk.core import Address
from natwalk.rendezvous import (
    FailureCode,
    MailboxClosed,
    MailboxOpened,
    Mood,
    NameplateAllocated,
    PeerClosedMailbox,
    PeerMessage,
    RendezvousFailed,
    RendezvousLimits,
    RendezvousServer,
)
from natwalk.rendezvous.messages import Add, Allocate, Claim, Close, Open, Reopen, Seen, Slot, encode
from rendezvous_wire import Wire

MAILBOX = "cd" * 16


def token(n: int) -> str:
    return f"{n:032x}"


class Raw:
    """Connections that speak frames directly."""

    def __init__(self, **limits: Any) -> None:
        self.server = RendezvousServer(RendezvousLimits(**limits), random_bytes=Random(3).randbytes)
        self.now = 50.0
        self.conns = 0

    def connect(self, host: str = "198.51.100.1") -> int:
        self.conns += 1
        self.server.connection_made(self.conns, Address(host, 1).ip, self.now)
        return self.conns

    def say(self, conn: int, message: Any) -> list[dict[str, Any]]:
        text = message if isinstance(message, str) else encode(message)
        self.server.receive_message(conn, text, self.now)
        return self.heard(conn)

    def heard(self, conn: int | None = None) -> list[dict[str, Any]]:
        out = []
        while (item := self.server.poll_message()) is not None:
            if conn is None or item[0] == conn:
                out.append(json.loads(item[1]))
        return out

    def closes(self) -> list[int]:
        out = []
        while (item := self.server.poll_close()) is not None:
            out.append(item[0])
            self.server.connection_lost(item[0], self.now)
        return out

    def ask(self, message: Any, host: str = "198.51.100.1") -> str:
        """One connection that says one thing and goes; the first answer's type or refusal code."""
        conn = self.connect(host)
        answer = self.say(conn, message)[0]
        self.closes()
        self.server.connection_lost(conn, self.now)
        return str(answer.get("code", answer["type"]))


def allocated(wire: Wire, host: str = "198.51.100.7") -> tuple[Any, int]:
    client = wire.client()
    client.allocate(wire.now)
    conn = wire.connect(client, host)
    wire.run()
    assert client.nameplate is not None
    return client, conn


def claimed(wire: Wire, nameplate: int, host: str = "203.0.113.9") -> tuple[Any, int]:
    client = wire.client()
    client.claim(nameplate, wire.now)
    conn = wire.connect(client, host)
    wire.run()
    return client, conn


def failure(wire: Wire, client: Any) -> FailureCode | None:
    return next((e.code for e in wire.events(client) if isinstance(e, RendezvousFailed)), None)


class TestMeeting:
    def test_two_sides_meet_and_messages_pass_in_order(self, wire: Wire) -> None:
        a, _ = allocated(wire)
        for n in range(5):
            a.add(f"p{n}", bytes([n]), wire.now)
        b, _ = claimed(wire, a.nameplate)
        b.add("x", b"hello", wire.now)
        wire.run()
        assert [e.body for e in wire.events(b) if isinstance(e, PeerMessage)] == [
            b"\0",
            b"\1",
            b"\2",
            b"\3",
            b"\4",
        ]
        events = wire.events(a)
        assert [type(e) for e in events] == [NameplateAllocated, MailboxOpened, PeerMessage]
        assert wire.server.stored_bytes == 0

    def test_a_third_side_is_refused_and_the_two_go_on(self, wire: Wire) -> None:
        a, _ = allocated(wire)
        b, _ = claimed(wire, a.nameplate)
        third, _ = claimed(wire, a.nameplate, "203.0.113.77")
        assert failure(wire, third) is FailureCode.CROWDED
        a.add("x", b"still private", wire.now)
        wire.run()
        assert [e.body for e in wire.events(b) if isinstance(e, PeerMessage)] == [b"still private"]

    def test_of_fifty_claims_at_once_exactly_one_succeeds(self, wire: Wire) -> None:
        a, _ = allocated(wire)
        clients = []
        for n in range(50):
            client = wire.client()
            client.claim(a.nameplate, wire.now)
            wire.connect(client, f"203.0.113.{n + 1}")
            clients.append(client)
        wire.run()
        outcomes = [failure(wire, client) for client in clients]
        assert outcomes.count(None) == 1
        assert outcomes.count(FailureCode.CROWDED) == 49

    def test_a_claimed_nameplate_rests_and_is_then_given_out_again(
        self, make_wire: Callable[..., Wire]
    ) -> None:
        wire = make_wire(RendezvousLimits(nameplate_rest=60.0))
        a, _ = allocated(wire)
        claimed(wire, a.nameplate)
        others = [allocated(wire, f"198.51.100.{n}")[0].nameplate for n in range(20, 28)]
        assert a.nameplate not in others
        assert sorted([a.nameplate, *others]) == list(range(1, 10))
        wire.advance(61.0)
        assert allocated(wire, "198.51.100.99")[0].nameplate == a.nameplate

    def test_a_number_nobody_has_is_not_found(self, wire: Wire) -> None:
        client, _ = claimed(wire, 5)
        assert failure(wire, client) is FailureCode.UNKNOWN_NAMEPLATE

    def test_mailbox_ids_and_nameplates_do_not_depend_on_any_secret(self, wire: Wire) -> None:
        ids = {allocated(wire, f"198.51.100.{n}")[0].mailbox for n in range(1, 20)}
        assert len(ids) == 19
        assert all(len(i) == 32 for i in ids)

    def test_there_is_no_listing(self) -> None:
        raw = Raw()
        assert raw.ask('{"type":"list"}') == "malformed"


class TestEnding:
    def test_both_close_and_nothing_is_left(self, wire: Wire) -> None:
        a, _ = allocated(wire)
        b, _ = claimed(wire, a.nameplate)
        a.close(Mood.HAPPY, wire.now)
        wire.run()
        assert wire.events(a)[-1] == MailboxClosed()
        assert PeerClosedMailbox(Mood.HAPPY) in wire.events(b)
        b.close("happy", wire.now)
        wire.run()
        assert wire.server.mailboxes == 0
        assert wire.server.connections == 0

    def test_what_was_said_before_leaving_still_arrives(self, wire: Wire) -> None:
        a, _ = allocated(wire)
        b, conn = claimed(wire, a.nameplate)
        wire.disconnect(conn)
        a.add("last", b"words", wire.now)
        a.close(Mood.HAPPY, wire.now)
        wire.run()
        wire.connect(b)
        wire.run()
        events = wire.events(b)
        assert events[-2:] == [PeerMessage("last", b"words"), PeerClosedMailbox(Mood.HAPPY)]

    def test_an_allocator_that_leaves_takes_the_nameplate_along(self, wire: Wire) -> None:
        a, _ = allocated(wire)
        a.close(Mood.LONELY, wire.now)
        wire.run()
        late, _ = claimed(wire, a.nameplate)
        assert failure(wire, late) is FailureCode.UNKNOWN_NAMEPLATE
        assert wire.server.mailboxes == 0

    def test_a_nameplate_nobody_claims_expires_with_its_mailbox(self, wire: Wire) -> None:
        a, _ = allocated(wire)
        wire.advance(3599.0)
        assert wire.server.mailboxes == 1
        wire.advance(2.0)
        assert failure(wire, a) is FailureCode.EXPIRED
        late, _ = claimed(wire, a.nameplate)
        assert failure(wire, late) is FailureCode.EXPIRED
        wire.advance(61.0)
        assert wire.server.nameplates == 0

    def test_a_mailbox_nobody_is_connected_to_is_swept_after_eleven_minutes(self, wire: Wire) -> None:
        a, conn_a = allocated(wire)
        b, conn_b = claimed(wire, a.nameplate)
        wire.advance(7200.0)
        assert wire.server.mailboxes == 1, "connected sides keep it"
        wire.disconnect(conn_a)
        wire.advance(7200.0)
        assert wire.server.mailboxes == 1, "one connected side keeps it"
        wire.disconnect(conn_b)
        wire.advance(659.0)
        assert wire.server.mailboxes == 1
        wire.advance(2.0)
        assert wire.server.mailboxes == 0
        wire.connect(b)
        wire.run()
        assert failure(wire, b) is FailureCode.GONE

    def test_a_resume_mailbox_waits_a_day_with_nobody_and_longer_with_one_side(self, wire: Wire) -> None:
        client = wire.client()
        client.open(MAILBOX, wire.now, slot="A")
        conn = wire.connect(client)
        wire.run()
        wire.advance(7 * 86_400.0)
        assert wire.server.mailboxes == 1
        wire.disconnect(conn)
        wire.advance(86_399.0)
        assert wire.server.mailboxes == 1
        wire.advance(2.0)
        assert wire.server.mailboxes == 0

    def test_the_longest_idle_resume_mailbox_makes_room(self) -> None:
        raw = Raw(idle_resume_mailboxes=3, mailboxes_per_source=100)
        for n in range(5):
            assert raw.ask(Open(mailbox=token(n), slot=Slot.A, side=token(100 + n))) == "opened"
            raw.now += 10
        assert raw.server.mailboxes == 3
        assert raw.ask(Reopen(mailbox=token(0), side=token(100))) == "gone"
        assert raw.ask(Reopen(mailbox=token(4), side=token(104))) == "opened"

    def test_a_connection_that_asks_for_nothing_is_closed(self) -> None:
        raw = Raw()
        conn = raw.connect()
        raw.now += 31
        raw.server.handle_timeout(raw.now)
        assert raw.heard(conn)[0]["code"] == "idle"
        assert raw.closes() == [conn]
        assert raw.server.connections == 0
        assert raw.server.next_timeout() is None


class TestLimits:
    def test_one_source_gets_30_allocations_a_minute_and_others_still_get_short_codes(self) -> None:
        raw = Raw(mailboxes_per_source=1000)
        got = [raw.ask(Allocate(side=token(n))) for n in range(999)]
        assert got.count("allocated") == 30
        assert set(got[30:]) == {"rate-limited"}
        conn = raw.connect("203.0.113.50")
        assert raw.say(conn, Allocate(side=token(5000)))[0]["nameplate"] <= 99
        raw.now += 2
        assert raw.ask(Allocate(side=token(6000))) == "allocated"

    def test_addresses_of_one_64_are_one_source_and_mapped_ones_are_ipv4(self) -> None:
        raw = Raw(allocations_per_minute=3)
        got = [raw.ask(Allocate(side=token(n)), f"2001:db8:5:6::{n:x}") for n in range(1, 9)]
        assert got.count("allocated") == 3
        got = [
            raw.ask(Allocate(side=token(100 + n)), "198.51.100.9" if n % 2 else "::ffff:198.51.100.9")
            for n in range(8)
        ]
        assert got.count("allocated") == 3

    def test_claims_are_limited_right_or_wrong_and_a_refusal_gives_none_back(self) -> None:
        raw = Raw()
        got = [raw.ask(Claim(nameplate=n, side=token(n))) for n in range(1, 33)]
        assert got == ["unknown-nameplate"] * 30 + ["rate-limited"] * 2
        conn = raw.connect()
        [refusal] = raw.say(conn, Claim(nameplate=1, side=token(1)))
        assert refusal["retry_after"] > 0
        assert raw.ask(Claim(nameplate=1, side=token(1)), "203.0.113.1") == "unknown-nameplate"

    def test_claiming_one_room_from_a_hundred_sources_lets_one_in(self) -> None:
        raw = Raw()
        conn = raw.connect()
        nameplate = raw.say(conn, Allocate(side=token(1)))[0]["nameplate"]
        got = [raw.ask(Claim(nameplate=nameplate, side=token(n)), f"203.0.113.{n}") for n in range(100, 200)]
        assert got == ["opened"] + ["crowded"] * 99

    def test_open_mailboxes_and_connections_of_a_source_are_bounded(self) -> None:
        raw = Raw(mailboxes_per_source=2, connections_per_source=5)
        assert [raw.ask(Allocate(side=token(n))) for n in range(3)] == ["allocated", "allocated", "too-many"]
        conns = [raw.connect("203.0.113.1") for _ in range(6)]
        assert [(m["code"]) for m in raw.heard()] == ["too-many"]
        assert raw.closes() == [conns[-1]]

    def test_the_server_as_a_whole_is_bounded(self) -> None:
        raw = Raw(mailboxes=3, connections=6)
        got = [raw.ask(Allocate(side=token(n)), f"203.0.113.{n}") for n in range(1, 6)]
        assert got == ["allocated"] * 3 + ["server-full"] * 2
        for n in range(8):
            raw.connect(f"198.51.100.{n + 1}")
        assert len(raw.heard()) == 2
        assert len(raw.closes()) == 2
        assert raw.server.connections == 6

    def test_opening_by_id_and_coming_back_are_limited_too(self) -> None:
        raw = Raw(reopens_per_minute=3, mailboxes_per_source=2)
        got = [raw.ask(Open(mailbox=token(n), slot=Slot.A, side=token(n))) for n in range(4)]
        assert got == ["opened", "opened", "too-many", "rate-limited"]
        assert raw.ask(Reopen(mailbox=token(0), side=token(0))) == "rate-limited"
        assert raw.ask(Allocate(side=token(9))) == "rate-limited"

    def test_running_out_of_nameplates_is_a_refusal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        raw = Raw()
        monkeypatch.setattr("natwalk.rendezvous.nameplates.MAX_NAMEPLATE", 9)
        got = [raw.ask(Allocate(side=token(n))) for n in range(10)]
        assert got == ["allocated"] * 9 + ["server-full"]
        assert raw.server.mailboxes == 9

    def test_memory_stays_flat_under_a_loop_of_allocations_and_releases(self) -> None:
        raw = Raw(allocations_per_minute=10**6, reopens_per_minute=10**6, mailboxes=50, sources=64)
        for n in range(3000):
            conn = raw.connect(f"198.51.{n % 250}.{n % 200}")
            raw.say(conn, Allocate(side=token(n)))
            raw.say(conn, Close(mood=Mood.LONELY))
            raw.closes()
        assert raw.server.mailboxes == 0
        assert raw.server.connections == 0
        assert raw.server.nameplates <= 50
        assert len(raw.server._rates) <= 64
        assert len(raw.server._allocators) == 0

    def test_a_mailbox_holds_so_many_messages_and_so_many_bytes(self) -> None:
        raw = Raw(messages_per_mailbox=3)
        conn = raw.connect()
        raw.say(conn, Open(mailbox=MAILBOX, slot=Slot.A, side=token(1)))
        got = [raw.say(conn, Add(phase=f"p{n}", body=b"")) for n in range(4)]
        assert got[3][0]["code"] == "mailbox-full"
        raw = Raw(bytes_per_mailbox=100)
        conn = raw.connect()
        raw.say(conn, Open(mailbox=MAILBOX, slot=Slot.A, side=token(1)))
        assert raw.say(conn, Add(phase="a", body=b"x" * 60))[0]["type"] == "ack"
        assert raw.say(conn, Add(phase="b", body=b"x" * 60))[0]["code"] == "mailbox-full"
        assert raw.server.stored_bytes == 60

    def test_all_mailboxes_together_hold_so_many_bytes_and_seen_ones_are_forgotten(self) -> None:
        raw = Raw(stored_bytes=100)
        conns = []
        for n in range(2):
            conns.append(raw.connect())
            raw.say(conns[n], Open(mailbox=token(n), slot=Slot.A, side=token(n)))
        assert raw.say(conns[0], Add(phase="a", body=b"x" * 80))[0]["type"] == "ack"
        reader = raw.connect()
        delivered = raw.say(reader, Open(mailbox=token(0), slot=Slot.B, side=token(9)))[1]
        raw.say(reader, Seen(seq=delivered["seq"]))
        assert raw.server.stored_bytes == 0
        assert raw.say(conns[1], Add(phase="a", body=b"x" * 80))[0]["type"] == "ack"
        assert raw.say(conns[0], Add(phase="b", body=b"x" * 80))[0]["code"] == "mailbox-full"

    def test_a_flood_of_small_frames_ends_the_connection(self) -> None:
        raw = Raw()
        conn = raw.connect()
        raw.say(conn, Open(mailbox=MAILBOX, slot=Slot.A, side=token(1)))
        refused = next(n for n in range(1000) if raw.say(conn, Seen(seq=n)))
        assert refused == 499
        assert raw.closes() == [conn]


class TestRobustness:
    @pytest.mark.parametrize(
        "message",
        [Add(phase="x", body=b""), Seen(seq=1), Close(mood=Mood.HAPPY)],
        ids=lambda m: type(m).__name__,
    )
    def test_what_needs_a_mailbox_is_refused_without_one(self, message: Any) -> None:
        assert Raw().ask(message) == "misplaced"

    def test_one_connection_has_one_mailbox(self) -> None:
        raw = Raw()
        conn = raw.connect()
        raw.say(conn, Allocate(side=token(1)))
        assert raw.say(conn, Allocate(side=token(2)))[0]["code"] == "misplaced"

    def test_an_id_of_a_nameplate_mailbox_opens_nothing(self) -> None:
        raw = Raw()
        conn = raw.connect()
        mailbox = raw.say(conn, Allocate(side=token(1)))[0]["mailbox"]
        assert raw.ask(Open(mailbox=mailbox, slot=Slot.B, side=token(2))) == "crowded"
        assert raw.ask(Reopen(mailbox=mailbox, side=token(2))) == "gone"

    def test_asking_again_with_the_same_token_repeats_the_answer(self) -> None:
        """The answer was lost with the connection; the client does not know the mailbox yet."""
        raw = Raw()
        first = raw.say(raw.connect(), Allocate(side=token(1)))
        again = raw.say(raw.connect(), Allocate(side=token(1)))
        assert first == again
        nameplate = first[0]["nameplate"]
        assert raw.say(raw.connect(), Claim(nameplate=nameplate, side=token(2)))[0]["type"] == "opened"
        assert raw.say(raw.connect(), Claim(nameplate=nameplate, side=token(2)))[0]["type"] == "opened"
        assert raw.server.mailboxes == 1

    def test_a_newer_connection_of_a_side_supersedes_the_older(self) -> None:
        raw = Raw()
        old = raw.connect()
        mailbox = raw.say(old, Allocate(side=token(1)))[0]["mailbox"]
        new = raw.connect()
        assert raw.say(new, Reopen(mailbox=mailbox, side=token(1)))[0]["type"] == "opened"
        assert raw.closes() == [old]
        assert raw.say(new, Add(phase="x", body=b""))[0]["type"] == "ack"

    def test_a_phase_added_twice_is_stored_once(self) -> None:
        raw = Raw()
        conn = raw.connect()
        raw.say(conn, Open(mailbox=MAILBOX, slot=Slot.A, side=token(1)))
        assert raw.say(conn, Add(phase="x", body=b"1")) == raw.say(conn, Add(phase="x", body=b"2"))
        got = raw.say(raw.connect(), Open(mailbox=MAILBOX, slot=Slot.B, side=token(2)))
        assert [m.get("body") for m in got[1:]] == ["MQ=="]

    def test_early_and_repeated_timeouts_do_nothing_and_none_spins(self) -> None:
        raw = Raw()
        conn = raw.connect()
        raw.say(conn, Allocate(side=token(1)))
        raw.connect()
        due = raw.server.next_timeout()
        assert due == raw.now + 30
        raw.server.handle_timeout(raw.now + 1)
        assert raw.server.next_timeout() == due
        for _ in range(100):
            due = raw.server.next_timeout()
            if due is None:
                break
            raw.server.handle_timeout(due)
            following = raw.server.next_timeout()
            assert following is None or following > due
            raw.now = due
            raw.closes()
        assert raw.server.mailboxes == 0

    def test_frames_of_connections_that_are_gone_are_dropped(self) -> None:
        raw = Raw()
        assert raw.say(77, Seen(seq=1)) == []
        raw.server.connection_lost(77, raw.now)
        assert raw.server.drops.last == "frame of a closed connection"

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_no_sequence_of_frames_raises_or_leaks(self, data: Any) -> None:
        raw = Raw(mailboxes=5, messages_per_mailbox=5, idle_resume_mailboxes=2)
        tokens, boxes = st.integers(1, 4).map(token), st.integers(1, 3).map(token)
        message = st.one_of(
            st.builds(Allocate, tokens),
            st.builds(Claim, st.integers(1, 9), tokens),
            st.builds(Open, boxes, st.sampled_from(Slot), tokens, st.integers(0, 9)),
            st.builds(Reopen, boxes, tokens, st.integers(0, 9)),
            st.builds(Add, st.sampled_from("abcdefgh"), st.binary(max_size=9)),
            st.builds(Seen, st.integers(0, 20)),
            st.builds(Close, st.sampled_from(Mood)),
            st.text(max_size=20),
        )
        conns = [raw.connect()]
        for _ in range(data.draw(st.integers(1, 40))):
            action = data.draw(st.integers(0, 9))
            if action == 0 and len(conns) < 8:
                conns.append(raw.connect(f"203.0.113.{len(conns)}"))
            elif action == 1 and conns:
                raw.server.connection_lost(conns.pop(), raw.now)
            elif action == 2:
                raw.now += data.draw(st.sampled_from([1.0, 40.0, 700.0, 4000.0, 90_000.0]))
                raw.server.handle_timeout(raw.now)
            elif conns:
                raw.say(data.draw(st.sampled_from(conns)), data.draw(message))
            raw.heard()
            if action == 3:
                conns = [c for c in conns if c not in raw.closes()]
            server = raw.server
            boxes_now = server._store._mailboxes.values()
            assert server.mailboxes <= 5
            assert server.stored_bytes == sum(box.size for box in boxes_now)
            assert sum(box.waiting for box in boxes_now) <= 25
        for conn in conns:
            raw.server.connection_lost(conn, raw.now)
        raw.closes()
        raw.now += 200_000
        for _ in range(3):
            raw.server.handle_timeout(raw.now)
            raw.heard()
            raw.closes()
            raw.now += 200_000
        assert (server.mailboxes, server.nameplates, server.connections) == (0, 0, 0)
        assert server.stored_bytes == 0
        assert server.next_timeout() is None
        assert not server._allocators
        assert not server._per_source
