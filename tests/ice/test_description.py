"""Descriptions and candidates in SDP and JSON."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import Address, MalformedMessage
from natwalk.ice import (
    Candidate,
    CandidateType,
    IceDescription,
    IceParameters,
    NamedCandidate,
    candidate_from_json,
    candidate_to_json,
)

OURS = IceParameters("abcd", "p" * 22)
HOST = Candidate(foundation="1", priority=5, address=Address("192.0.2.1", 5000), type=CandidateType.HOST)
NAMED = NamedCandidate(foundation="2", priority=4, name="n.local", port=5001)
WHOLE = IceDescription(OURS, (HOST, NAMED), ("ice2", "trickle"), lite=True, complete=True)

FOREIGN = """v=0\r
o=- 1 1 IN IP4 0.0.0.0\r
s=-\r
a=ice-options:trickle renomination\r
m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r
c=IN IP4 0.0.0.0\r
a=candidate:1 1 udp 2113937151 1f4712db-ea17-4bcf-a596-105139dfd8bf.local 50000 typ host generation 0\r
a=candidate:2 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active\r
a=candidate:3 1 udp 1677729535 198.51.100.7 50001 typ srflx raddr 0.0.0.0 rport 0 generation 0\r
a=ice-ufrag:EsAw\r
a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r
a=ice-ufrag:evil\r
a=setup:actpass\r
"""


def test_a_description_is_written_as_the_rfc_says() -> None:
    assert WHOLE.to_sdp().split("\r\n") == [
        "a=ice-lite",
        "a=ice-ufrag:abcd",
        "a=ice-pwd:" + "p" * 22,
        "a=ice-options:ice2 trickle",
        "a=candidate:1 1 udp 5 192.0.2.1 5000 typ host",
        "a=candidate:2 1 udp 4 n.local 5001 typ host",
        "a=end-of-candidates",
        "",
    ]


def test_what_was_written_is_read() -> None:
    bare = IceDescription(OURS, options=())
    for description in (WHOLE, bare):
        assert IceDescription.from_sdp(description.to_sdp()) == description
        assert IceDescription.from_json(json.loads(json.dumps(description.to_json()))) == description


def test_what_a_browser_writes_is_read() -> None:
    """The first ufrag counts, and a candidate for TCP is left out and counted."""
    read = IceDescription.from_sdp(FOREIGN)
    assert read.parameters == IceParameters("EsAw", "P2uYro0UCOQ4zxjKXaWCBui1")
    assert [type(candidate) for candidate in read.candidates] == [NamedCandidate, Candidate]
    assert read.options == ("trickle", "renomination")
    assert (read.lite, read.complete, read.skipped) == (False, False, 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a=ice-ufrag:abcd\r\n",
        "a=ice-pwd:" + "p" * 22,
        "a=ice-ufrag:abc\r\na=ice-pwd:" + "p" * 22,
        "a=ice-ufrag:abcd\r\na=ice-pwd:short",
        WHOLE.to_sdp() + "a=x\r\n" * 20_000,
    ],
)
def test_what_is_no_description_is_malformed(text: str) -> None:
    """FAULTS 81 and 80."""
    with pytest.raises(MalformedMessage):
        IceDescription.from_sdp(text)


def test_an_option_cannot_bring_lines_of_its_own() -> None:
    """FAULTS 81: neither from JSON nor from the program."""
    evil = "x\r\na=candidate:9 1 udp 5 192.0.2.66 5000 typ host"
    assert IceDescription.from_json(WHOLE.to_json() | {"options": [evil, "ice2"]}).options == ("ice2",)
    with pytest.raises(ValueError, match="letters"):
        IceDescription(OURS, options=(evil,))


def test_no_error_quotes_the_password() -> None:
    with pytest.raises(MalformedMessage) as caught:
        IceDescription.from_sdp("a=ice-ufrag:abcd\r\na=ice-pwd:secret")
    assert "secret" not in str(caught.value)
    assert "p" * 22 not in repr(WHOLE)


def test_candidates_are_bounded() -> None:
    """FAULTS 81."""
    text = WHOLE.to_sdp() + f"a={HOST.to_sdp()}\r\n" * 1000
    read = IceDescription.from_sdp(text)
    assert len(read.candidates) == 256
    assert read.skipped == 1002 - 256


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"usernameFragment": 5, "password": "p" * 22},
        WHOLE.to_json() | {"candidates": "x"},
        WHOLE.to_json() | {"candidates": [5]},
        WHOLE.to_json() | {"candidates": ["x" * 70_000]},
        WHOLE.to_json() | {"options": {}},
    ],
)
def test_json_that_is_no_description_is_malformed(value: object) -> None:
    """FAULTS 81."""
    with pytest.raises(MalformedMessage):
        IceDescription.from_json(value)


@given(st.text(max_size=300))
def test_any_text_is_a_description_or_malformed(text: str) -> None:
    with suppress(MalformedMessage):
        IceDescription.from_sdp(text)


def test_candidates_travel_as_browsers_trickle_them() -> None:
    for candidate in (HOST, NAMED):
        value = json.loads(json.dumps(candidate_to_json(candidate, OURS)))
        assert value["usernameFragment"] == "abcd"
        assert candidate_from_json(value) == candidate
    assert candidate_from_json({"candidate": "", "sdpMid": "0"}) is None
    for wrong in (None, {}, {"candidate": 5}, {"candidate": "nonsense"}):
        with pytest.raises(MalformedMessage):
            candidate_from_json(wrong)
