"""What the two sides tell each other to find a path: between the path's events and mailbox messages.

Both directions are tables without state; whoever watches gets an event for what is worth seeing.
"""

from __future__ import annotations

from natwalk import path as way
from natwalk.core import MalformedMessage
from natwalk.ice import Candidate, IceParameters
from natwalk.peer import events as ev
from natwalk.peer.messages import CandidateLine, CandidatesEnd, Description, Message, NatReport


def outgoing(event: way.PathEvent) -> tuple[Message, ev.PeerEvent | None] | None:
    """The message for the peer that ``event`` asks for, with what to show; None when it asks for none."""
    match event:
        case way.LocalDescription(generation=generation, parameters=parameters):
            return Description(generation, parameters.ufrag, parameters.pwd), None
        case way.LocalCandidate(generation=generation, candidate=candidate):
            return CandidateLine(generation, candidate.to_sdp()), _seen("local", candidate)
        case way.LocalCandidatesEnd(generation=generation):
            return CandidatesEnd(generation), None
        case way.MappingKnown(view=view):
            return NatReport(view.value), ev.NatSeen("local", view.value)
        case _:
            return None


def incoming(message: Message, path: way.PathManager, now: float) -> ev.PeerEvent | None:
    """Tell ``path`` what the peer said; what to show of it, or None.

    Raises MalformedMessage when what the peer says makes no sense.
    """
    match message:
        case Description(generation=generation, ufrag=ufrag, pwd=pwd):
            path.set_remote_parameters(generation, _parameters(ufrag, pwd), now)
        case CandidateLine(generation=generation, line=line):
            candidate = Candidate.from_sdp(line)
            path.add_remote_candidate(generation, candidate, now)
            return _seen("remote", candidate)
        case CandidatesEnd(generation=generation):
            path.end_of_remote_candidates(generation, now)
        case NatReport(mapping=mapping):
            path.peer_mapping = way.MappingView(mapping)
            return ev.NatSeen("remote", mapping)
        case _:
            pass
    return None


def _parameters(ufrag: str, pwd: str) -> IceParameters:
    try:
        return IceParameters(ufrag, pwd)
    except ValueError as error:
        raise MalformedMessage(f"ICE credentials that are none: {error}") from error


def _seen(side: str, candidate: Candidate) -> ev.CandidateSeen:
    return ev.CandidateSeen(side, candidate.type.value, candidate.address, candidate.related)
