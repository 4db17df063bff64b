import pytest

from natwalk.core import Address
from natwalk.ice import Candidate, CandidateType, PairInfo, State, TransportPolicy
from natwalk.path.explain import MappingView, mapping_view, why_direct, why_not_direct

BASE = Address("192.168.1.2", 5000)
ONE, TWO = Address("203.0.113.10", 3478), Address("203.0.113.11", 3478)
PUBLIC, OTHER = Address("198.51.100.1", 6000), Address("198.51.100.1", 6001)


def pair(local: CandidateType, remote: CandidateType, reason: str = "") -> PairInfo:
    def candidate(kind: CandidateType) -> Candidate:
        return Candidate(foundation="1", priority=1, address=PUBLIC, type=kind, base=PUBLIC, related=None)

    return PairInfo(
        id=1, local=candidate(local), remote=candidate(remote), state=State.FAILED, nominated=False,
        selected=False, rtt=None, priority=1, reason=reason,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("mappings", "gathered", "view"),
    [
        ([], False, MappingView.UNKNOWN),
        ([], True, MappingView.UDP_SILENT),
        ([(BASE, ONE, PUBLIC)], True, MappingView.UNKNOWN),
        ([(BASE, ONE, PUBLIC), (BASE, TWO, PUBLIC)], True, MappingView.INDEPENDENT),
        ([(BASE, ONE, PUBLIC), (BASE, TWO, OTHER)], True, MappingView.DEPENDENT),
        ([(BASE, ONE, BASE), (BASE, TWO, BASE)], True, MappingView.NO_NAT),
    ],
)
def test_what_servers_saw_says_how_the_nat_maps(
    mappings: list[tuple[Address, Address, Address]], gathered: bool, view: MappingView
) -> None:
    """RFC 4787 §4.1: one server cannot tell, two can."""
    assert mapping_view(mappings, gathered=gathered) is view


@pytest.mark.parametrize(
    ("local", "remote", "words"),
    [
        (CandidateType.HOST, CandidateType.HOST, "own address"),
        (CandidateType.SERVER_REFLEXIVE, CandidateType.SERVER_REFLEXIVE, "hole punching"),
        (CandidateType.PEER_REFLEXIVE, CandidateType.HOST, "discovered"),
    ],
)
def test_a_direct_path_says_how_it_came_about(
    local: CandidateType, remote: CandidateType, words: str
) -> None:
    assert words in why_direct(pair(local, remote))


@pytest.mark.parametrize(
    ("policy", "here", "there", "words"),
    [
        (TransportPolicy.RELAY, MappingView.UNKNOWN, MappingView.UNKNOWN, "policy"),
        (TransportPolicy.ANY, MappingView.UDP_SILENT, MappingView.INDEPENDENT, "on this side"),
        (TransportPolicy.ANY, MappingView.INDEPENDENT, MappingView.UDP_SILENT, "on the peer's side"),
        (TransportPolicy.ANY, MappingView.DEPENDENT, MappingView.DEPENDENT, "both sides"),
        (TransportPolicy.ANY, MappingView.DEPENDENT, MappingView.INDEPENDENT, "this side's NAT gives"),
        (TransportPolicy.ANY, MappingView.INDEPENDENT, MappingView.DEPENDENT, "the peer's NAT gives"),
    ],
)
def test_a_relay_says_whose_nat_is_the_reason(
    policy: TransportPolicy, here: MappingView, there: MappingView, words: str
) -> None:
    assert words in why_not_direct([], policy, here, there)


def test_without_a_known_nat_the_failed_pairs_speak() -> None:
    host, relayed = CandidateType.HOST, CandidateType.RELAYED
    unknown = MappingView.UNKNOWN
    assert "neither side" in why_not_direct([pair(relayed, host)], TransportPolicy.ANY, unknown, unknown)
    pairs = [pair(host, host, "no answer"), pair(host, host, "no answer"), pair(host, host)]
    said = why_not_direct(pairs, TransportPolicy.ANY, unknown, unknown)
    assert "2 of 3" in said
    assert "no answer" in said
    assert "under way" in why_not_direct([pair(host, host)], TransportPolicy.ANY, unknown, unknown)
