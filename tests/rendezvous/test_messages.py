from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from natwalk.core import MalformedMessage
from natwalk.rendezvous import messages as m

hexes = st.text("0123456789abcdef", min_size=32, max_size=32)
phases = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,63}", fullmatch=True)
sequences = st.integers(0, 2**53)
client_messages = st.one_of(
    st.builds(m.Allocate, hexes),
    st.builds(m.Claim, st.integers(1, 999_999), hexes),
    st.builds(m.Open, hexes, st.sampled_from(m.Slot), hexes, sequences),
    st.builds(m.Reopen, hexes, hexes, sequences),
    st.builds(m.Add, phases, st.binary(max_size=300)),
    st.builds(m.Seen, sequences),
    st.builds(m.Close, st.sampled_from(m.Mood)),
)
server_messages = st.one_of(
    st.builds(m.Allocated, st.integers(1, 999_999), hexes),
    st.builds(m.Opened, hexes, st.just("0123456789abcdef")),
    st.builds(m.Delivered, sequences, phases, st.binary(max_size=300)),
    st.builds(m.Ack, phases),
    st.builds(m.PeerClosed, st.sampled_from(m.Mood)),
    st.builds(m.Closed),
    st.builds(m.Refused, st.sampled_from([c.value for c in m.FailureCode])),
)


@given(client_messages)
def test_client_messages_survive_the_wire(message: m.ClientMessage) -> None:
    assert m.decode_client(m.encode(message)) == message


@given(server_messages)
def test_server_messages_survive_the_wire(message: m.ServerMessage) -> None:
    assert m.decode_server(m.encode(message)) == message


def test_the_longest_message_fits_a_frame() -> None:
    longest = m.encode(m.Delivered(seq=2**53, phase="z" * 64, body=b"\xff" * m.MAX_BODY))
    assert len(longest) < m.MAX_FRAME
    assert m.decode_server(longest)


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "add", "phase": "x", "body": "A" * 4 * (m.MAX_BODY // 3 + 2)},
        {"type": "add", "phase": "x" * 65, "body": ""},
        {"type": "add", "phase": "x\n", "body": ""},
        {"type": "add", "phase": "../x", "body": ""},
        {"type": "add", "phase": "x", "body": "not base64!"},
        {"type": "add", "phase": "x"},
        {"type": "add", "phase": "x", "body": "", "more": 1},
        {"type": "claim", "nameplate": 0, "side": "0" * 32},
        {"type": "claim", "nameplate": 1_000_000, "side": "0" * 32},
        {"type": "claim", "nameplate": "7", "side": "0" * 32},
        {"type": "claim", "nameplate": 7, "side": "0" * 31},
        {"type": "claim", "nameplate": 7, "side": "0" * 32 + "\n"},
        {"type": "claim", "nameplate": 7, "side": "G" * 32},
        {"type": "open", "mailbox": "0" * 32, "slot": "C", "side": "0" * 32},
        {"type": "open", "mailbox": "../../etc", "slot": "A", "side": "0" * 32},
        {"type": "close", "mood": "furious"},
        {"type": "seen", "seq": -1},
        {"type": "seen", "seq": 2**60},
        {"type": "list"},
        {"type": "message", "seq": 1, "phase": "x", "body": ""},
        {},
        [],
        None,
    ],
)
def test_what_is_out_of_bounds_is_malformed(fields: object) -> None:
    with pytest.raises(MalformedMessage):
        m.decode_client(json.dumps(fields))


@example("[" * 60_000)
@example('{"type":"add","phase":' + "[" * 30_000)
@example('{"type":"seen","seq":' + "9" * 5000 + "}")
@example("\ud800")
@example("x" * (m.MAX_FRAME + 1))
@given(st.text(max_size=200) | st.recursive(st.none() | st.text(max_size=9), st.lists).map(json.dumps))
def test_any_text_is_a_message_or_malformed(text: str) -> None:
    for decode in (m.decode_client, m.decode_server):
        with pytest.raises(MalformedMessage):
            decode(text)


def test_every_failure_has_words_and_advice() -> None:
    assert set(m.FAILURES) == set(m.FailureCode)
    for message, hint in m.FAILURES.values():
        assert message
        assert hint
        assert message[0].islower()


def test_slots_are_opposite() -> None:
    assert m.Slot.A.other is m.Slot.B
    assert m.Slot.B.other is m.Slot.A
