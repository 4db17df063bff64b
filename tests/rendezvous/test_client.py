from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natwalk.core import LocalProtocolError
from natwalk.rendezvous import (
    ClientState,
    FailureCode,
    MailboxClosed,
    MailboxOpened,
    Mood,
    NameplateAllocated,
    PeerMessage,
    RendezvousClient,
    RendezvousFailed,
)
from natwalk.rendezvous.client import ANSWER_TIMEOUT
from natwalk.rendezvous.messages import (
    MAX_BODY,
    MAX_MESSAGES,
    Ack,
    Allocated,
    Closed,
    Delivered,
    Opened,
    Refused,
    Reopen,
    decode_client,
    encode,
)
from rendezvous_wire import Wire

MAILBOX = "ef" * 16
EPOCH = "0123456789abcdef"


def sent(client: RendezvousClient) -> list[Any]:
    out = []
    while (text := client.poll_message()) is not None:
        out.append(decode_client(text))
    return out


def events(client: RendezvousClient) -> list[Any]:
    out = []
    while (event := client.poll_event()) is not None:
        out.append(event)
    return out


def joined(wire: Wire) -> RendezvousClient:
    client = wire.client()
    client.allocate(0.0)
    client.connection_made(0.0)
    client.receive_message(encode(Allocated(nameplate=4, mailbox=MAILBOX)), 0.0)
    client.receive_message(encode(Opened(mailbox=MAILBOX, epoch=EPOCH)), 0.0)
    assert events(client) == [NameplateAllocated(4, MAILBOX), MailboxOpened(MAILBOX)]
    sent(client)
    return client


def test_nothing_is_sent_before_there_is_a_connection(wire: Wire) -> None:
    client = wire.client()
    client.allocate(0.0)
    client.add("early", b"x", 0.0)
    assert sent(client) == []
    assert client.next_timeout() is None
    client.connection_made(5.0)
    assert [type(m).__name__ for m in sent(client)] == ["Allocate"]
    assert client.next_timeout() == 5.0 + ANSWER_TIMEOUT


def test_a_server_that_does_not_answer_is_given_up(wire: Wire) -> None:
    client = wire.client()
    client.claim(4, 0.0)
    client.connection_made(0.0)
    client.handle_timeout(ANSWER_TIMEOUT - 1)
    assert events(client) == []
    client.handle_timeout(ANSWER_TIMEOUT)
    [failed] = events(client)
    assert failed.code is FailureCode.NO_ANSWER
    assert client.finished
    assert client.next_timeout() is None


def test_coming_back_reopens_and_resends_what_was_not_acknowledged(wire: Wire) -> None:
    client = joined(wire)
    client.add("a", b"1", 0.0)
    client.add("b", b"2", 0.0)
    client.receive_message(encode(Ack(phase="a")), 0.0)
    client.receive_message(encode(Delivered(seq=7, phase="p", body=b"")), 0.0)
    client.connection_lost(1.0)
    client.connection_made(2.0)
    [reopen] = sent(client)
    assert isinstance(reopen, Reopen)
    assert (reopen.mailbox, reopen.after) == (MAILBOX, 7)
    client.receive_message(encode(Opened(mailbox=MAILBOX, epoch=EPOCH)), 2.0)
    assert [m.phase for m in sent(client)] == ["b"]
    assert client.next_timeout() is None


def test_messages_are_delivered_once(wire: Wire) -> None:
    client = joined(wire)
    for seq in (3, 3, 2, 5):
        client.receive_message(encode(Delivered(seq=seq, phase="p", body=bytes([seq]))), 0.0)
    assert [e.body for e in events(client)] == [b"\3", b"\5"]
    assert client.drops.counts["message seen before"] == 2


def test_refusals_come_with_words_of_our_own(wire: Wire) -> None:
    client = joined(wire)
    client.receive_message(encode(Refused(code="rate-limited", retry_after=12.4)), 0.0)
    [failed] = events(client)
    assert isinstance(failed, RendezvousFailed)
    assert failed.retry_after == 12.4
    assert "in 12 s" in failed.hint
    other = joined(wire)
    other.receive_message(encode(Refused(code="new-in-version-nine")), 0.0)
    assert events(other)[0].code is FailureCode.MISPLACED


def test_closing_waits_for_the_server_but_not_for_ever(wire: Wire) -> None:
    client = joined(wire)
    client.close(Mood.HAPPY, 10.0)
    assert [type(m).__name__ for m in sent(client)] == ["Close"]
    assert not client.finished
    client.close(Mood.HAPPY, 10.0)
    client.connection_lost(11.0)
    client.connection_made(12.0)
    client.receive_message(encode(Opened(mailbox=MAILBOX, epoch=EPOCH)), 12.0)
    assert [type(m).__name__ for m in sent(client)] == ["Reopen", "Close"]
    client.handle_timeout(10.0 + ANSWER_TIMEOUT)
    assert events(client)[-1] == MailboxClosed()
    assert client.state is ClientState.CLOSED


@pytest.mark.parametrize("answer", [Closed(), Refused(code="gone")], ids=["closed", "gone"])
def test_a_close_that_the_server_answers_is_done(wire: Wire, answer: Any) -> None:
    client = joined(wire)
    client.close("lonely", 0.0)
    client.receive_message(encode(answer), 0.0)
    assert events(client) == [MailboxClosed()]
    client.receive_message(encode(answer), 0.0)
    assert client.drops.last == "frame after the end"


def test_closing_before_joining_is_done_at_once(wire: Wire) -> None:
    client = wire.client()
    client.close(Mood.LONELY, 0.0)
    assert events(client) == [MailboxClosed()]


def test_answers_that_were_not_asked_for_are_dropped(wire: Wire) -> None:
    client = joined(wire)
    client.receive_message(encode(Allocated(nameplate=9, mailbox=MAILBOX)), 0.0)
    client.receive_message(encode(Opened(mailbox="0" * 32, epoch=EPOCH)), 0.0)
    client.connection_lost(0.0)
    client.connection_made(0.0)
    client.receive_message(encode(Opened(mailbox="0" * 32, epoch=EPOCH)), 0.0)
    client.receive_message(encode(Delivered(seq=1, phase="x", body=b"")), 0.0)
    client.receive_message("{}", 0.0)
    assert events(client) == []
    assert client.drops.total == 5
    assert client.nameplate == 4


def test_a_client_joins_once_and_within_bounds(wire: Wire) -> None:
    client = wire.client()
    for wrong in (0, 1_000_000):
        with pytest.raises(LocalProtocolError, match="nameplate"):
            client.claim(wrong, 0.0)
    for mailbox in ("short", "G" * 32, "a" * 33):
        with pytest.raises(LocalProtocolError, match="hexadecimal"):
            client.open(mailbox, 0.0, slot="A")
    with pytest.raises(LocalProtocolError, match="state new"):
        client.add("x", b"", 0.0)
    client.open(MAILBOX, 0.0, slot="B")
    with pytest.raises(LocalProtocolError, match="one mailbox"):
        client.allocate(0.0)
    with pytest.raises(LocalProtocolError, match="at most"):
        client.add("x", b"x" * (MAX_BODY + 1), 0.0)
    for n in range(MAX_MESSAGES):
        client.add(f"p{n}", b"", 0.0)
    assert client.room == 0
    with pytest.raises(LocalProtocolError, match="wait for the server"):
        client.add("one-more", b"", 0.0)
    client = joined(wire)
    client.add("x", b"", 0.0)
    with pytest.raises(LocalProtocolError, match="before"):
        client.add("x", b"", 0.0)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=5))
def test_no_text_raises(texts: list[str]) -> None:
    client = joined(Wire())
    for text in texts:
        client.receive_message(text, 0.0)
    assert client.drops.total == len(texts)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_whatever_the_connections_do_every_message_arrives_once_and_in_order(data: Any) -> None:
    wire = Wire()
    a, b = wire.client(), wire.client()
    a.allocate(wire.now)
    conns = {0: wire.connect(a)}
    wire.run()
    b.claim(a.nameplate or 0, wire.now)
    conns[1] = wire.connect(b)
    for n in range(10):
        a.add(f"a{n}", bytes([n]), wire.now)
        b.add(f"b{n}", bytes([n]), wire.now)
        wire.run(frames=data.draw(st.integers(0, 12)))
        which = data.draw(st.sampled_from([None, 0, 1]))
        if which is not None:
            wire.disconnect(conns[which])
            conns[which] = wire.connect((a, b)[which])
    wire.run()
    for client in (a, b):
        got = [e.body[0] for e in wire.events(client) if isinstance(e, PeerMessage)]
        assert got == list(range(10))
    assert wire.server.stored_bytes == 0
