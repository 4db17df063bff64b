import pytest

from natwalk import path as way
from natwalk.core import Address, MalformedMessage
from natwalk.ice import Candidate, CandidateType, IceConfig, IceParameters
from natwalk.peer import CandidateSeen, NatSeen
from natwalk.peer.messages import CandidateLine, CandidatesEnd, Description, Farewell, Message, NatReport
from natwalk.peer.negotiation import incoming, outgoing

HOST = Address("192.0.2.1", 5000)
CANDIDATE = Candidate(
    foundation="1", priority=99, address=HOST, type=CandidateType.HOST, base=HOST, related=None
)


def manager() -> way.PathManager:
    core = way.PathManager(IceConfig(), controlling=True, random_bytes=lambda n: bytes(range(n)))
    core.start(0.0)
    return core


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (way.LocalDescription(3, IceParameters("abcd", "x" * 22)), Description(3, "abcd", "x" * 22)),
        (way.LocalCandidate(3, CANDIDATE), CandidateLine(3, CANDIDATE.to_sdp())),
        (way.LocalCandidatesEnd(3), CandidatesEnd(3)),
        (way.MappingKnown(way.MappingView.DEPENDENT), NatReport("endpoint-dependent")),
        (way.PathLost("x"), None),
        (way.SocketsWanted(0), None),
    ],
)
def test_what_the_path_asks_to_tell_is_told(event: way.PathEvent, message: Message | None) -> None:
    told = outgoing(event)
    assert (told[0] if told else None) == message


def test_candidates_and_mappings_are_shown_on_both_sides() -> None:
    local = outgoing(way.LocalCandidate(0, CANDIDATE))
    assert local is not None
    assert local[1] == CandidateSeen("local", "host", HOST, None)
    core = manager()
    assert incoming(CandidateLine(0, CANDIDATE.to_sdp()), core, 0.0) == CandidateSeen(
        "remote", "host", HOST, None
    )
    assert incoming(NatReport("no-nat"), core, 0.0) == NatSeen("remote", "no-nat")
    assert core.peer_mapping is way.MappingView.NO_NAT


def test_what_is_not_about_the_path_changes_nothing() -> None:
    assert incoming(Farewell("bye"), manager(), 0.0) is None


@pytest.mark.parametrize(
    "message",
    [
        Description(0, "", ""),
        Description(0, "a b/c", "x" * 22),
        Description(0, "abcd", "short"),
        CandidateLine(0, "no candidate\r\nat all"),
    ],
)
def test_nonsense_is_malformed_and_nothing_else(message: Message) -> None:
    with pytest.raises(MalformedMessage):
        incoming(message, manager(), 0.0)


def test_late_words_to_a_path_that_is_over_change_nothing() -> None:
    core = manager()
    core.close(1.0)
    for message in (
        Description(0, "abcd", "x" * 22),
        CandidateLine(0, CANDIDATE.to_sdp()),
        CandidatesEnd(0),
        Description(7, "abcd", "x" * 22),
    ):
        incoming(message, core, 2.0)
    while (event := core.poll_event()) is not None:
        assert event != way.SocketsWanted(7)
