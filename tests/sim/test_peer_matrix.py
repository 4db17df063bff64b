"""The matrix once more with whole peers: rendezvous, ICE, path and QUIC, a stream each way."""

from __future__ import annotations

from itertools import combinations_with_replacement

import pytest

from natwalk.nat import KINDS, Outcome
from natwalk.path import PathKind
from natwalk.sim import sequence
from natwalk.sim.expectation import outcome
from natwalk.sim.internet import Attachment, two_peers
from natwalk.sim.peer import PeerMeeting

KINDS_OF_PATH = {Outcome.DIRECT: PathKind.DIRECT, Outcome.RELAY: PathKind.RELAY}
SIX = [Attachment(ipv6=kind) for kind in ("home-ipv6", "symmetric", "udp-blocked")]
BOTH = [Attachment(ipv4=kind, ipv6="home-ipv6") for kind in ("symmetric", "udp-blocked")]


def meet(a: Attachment, b: Attachment, seed: int) -> None:
    internet = two_peers(a, b, seed=seed)
    network = internet.network
    meeting = PeerMeeting(internet)
    wanted, connected = outcome(a, b), meeting.connect()
    what = f"{a} x {b}: {meeting.a.ended}, seed {network.seed}"
    assert connected is (wanted is not Outcome.NONE), f"{what}\n{sequence(network.trace)}"
    if not connected:
        return
    assert meeting.b is not None
    there, back = meeting.a.send(b"to b" * 5000, fin=True), meeting.b.send(b"to a" * 5000, fin=True)
    network.run_for(15.0)
    assert bytes(meeting.b.received[there]) == b"to b" * 5000, what
    assert bytes(meeting.a.received[back]) == b"to a" * 5000, what
    for peer in (meeting.a, meeting.b):
        assert peer.info is not None
        assert peer.info.kind is KINDS_OF_PATH[wanted], f"{what}\n{sequence(network.trace)}"


@pytest.mark.parametrize(("a", "b"), list(combinations_with_replacement(KINDS, 2)))
def test_every_pair_of_kinds(a: str, b: str) -> None:
    meet(Attachment(ipv4=a), Attachment(ipv4=b), 1)


@pytest.mark.parametrize(("a", "b"), list(combinations_with_replacement([*SIX, *BOTH], 2)), ids=str)
def test_ipv6_and_both_versions(a: Attachment, b: Attachment) -> None:
    meet(a, b, 1)
