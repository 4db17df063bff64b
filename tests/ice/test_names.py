"""Candidates that go by names: what the peer is told, what we look up, and what that can be abused for."""

from __future__ import annotations

import random
import re
from ipaddress import IPv4Address, ip_address

import pytest

from conformance import drain
from ice_world import NO_RELAY, WITH_RELAY, World, but, kind
from natwalk.core import Address, MalformedMessage
from natwalk.ice import (
    Candidate,
    CandidateGathered,
    CandidateType,
    GatheringFinished,
    HostCandidates,
    IceAgent,
    IceConfig,
    IceParameters,
    NamedCandidate,
    NamePublished,
    NameWanted,
    TransportPolicy,
    read_candidate,
)
from natwalk.sim import Happening

LOCAL = Address("192.168.7.2", 40000)
THEIRS = IceParameters("peer", "p" * 22)
NAME = "1f4712db-ea17-4bcf-a596-105139dfd8bf.local"
LINE = f"candidate:1 1 udp 2130706431 {NAME} 50000 typ host"
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\.local")
NOW = 100.0
NAT = "port-restricted"
NAMED = IceConfig(hosts=HostCandidates.NAMED)


def make(config: IceConfig = NAMED, *addresses: Address, seed: int = 3) -> IceAgent:
    agent = IceAgent(config, controlling=True, random_bytes=random.Random(seed).randbytes)
    for address in addresses or (LOCAL,):
        agent.add_local_address(address, NOW)
    agent.end_of_local_addresses(NOW)
    agent.set_remote_parameters(THEIRS, NOW)
    return agent


def named(name: str = NAME, port: int = 50000) -> NamedCandidate:
    return NamedCandidate(foundation="1", priority=2130706431, name=name, port=port)


def events(agent: IceAgent, wanted: type) -> list[object]:
    return [event for event in drain(agent)[1] if isinstance(event, wanted)]


# --- what the peer is told ---------------------------------------------------------------------------


def test_private_addresses_go_by_random_names_and_public_ones_by_themselves() -> None:
    """FAULTS 78: one name for each address; nothing of the private ones is told."""
    private = [Address("192.168.7.2", 40000), Address("fd00::2", 40000), Address("100.64.0.2", 40000)]
    public = Address("2001:db8::2", 40000)
    agent = make(NAMED, *private, private[0].with_port(40001), public)
    seen = drain(agent)[1]
    offered = [event.candidate.to_sdp() for event in seen if isinstance(event, CandidateGathered)]
    assert len(offered) == 5
    assert not any(address.host in line for address in private for line in offered)
    assert public.host in offered[-1]
    names = [line.split(" ")[4] for line in offered[:4]]
    assert all(UUID4.fullmatch(name) for name in names)
    assert names[0] == names[3]
    assert len(set(names)) == 3
    told = [event for event in seen if isinstance(event, NamePublished)]
    assert {(event.name, event.ip) for event in told} == set(
        zip(names, [address.ip for address in private], strict=False)
    )
    assert [type(read_candidate(line)) for line in offered[:4]] == [NamedCandidate] * 4


def test_names_are_new_in_each_session() -> None:
    """FAULTS 78."""
    one, two = (events(make(seed=seed), NamePublished) for seed in (1, 2))
    assert one
    assert one != two


def test_no_related_address_is_told_beside_names() -> None:
    """FAULTS 78: 0.0.0.0 and port 9 stand for it, in the reflexive and the relayed candidate."""
    world = World("port-restricted", "port-restricted", config=but(WITH_RELAY, hosts=HostCandidates.NAMED))
    world.connect()
    world.exchange()
    lines = [event.candidate.to_sdp() for event in world.a.of(CandidateGathered)]
    assert {line.split(" typ ")[1].split(" ")[0] for line in lines} == {"host", "srflx", "relay"}
    assert all(line.endswith(" raddr 0.0.0.0 rport 9") for line in lines if "typ host" not in line)
    assert not any(world.internet.a.host.address in line for line in lines)


def test_hidden_hosts_offer_reflexive_and_relayed_candidates_only_and_connect() -> None:
    world = World("port-restricted", "port-restricted", config=but(WITH_RELAY, hosts=HostCandidates.HIDDEN))
    world.connect()
    world.exchange()
    offered = [event.candidate for event in world.a.of(CandidateGathered)]
    assert {candidate.type for candidate in offered} == {
        CandidateType.SERVER_REFLEXIVE,
        CandidateType.RELAYED,
    }
    assert not any(world.internet.a.host.address in candidate.to_sdp() for candidate in offered)
    assert world.run(20, lambda: kind(world.a.selected) == "direct")


def test_a_hidden_host_sends_nothing_to_private_addresses() -> None:
    """Neither checks nor answers: their source would be the address that is hidden."""
    hidden = but(WITH_RELAY, hosts=HostCandidates.HIDDEN)
    world = World(NAT, NAT, same_lan=True, config=hidden, config_b=WITH_RELAY)
    world.connect()
    world.exchange()
    world.run(10)
    own, neighbour = world.internet.a.host.address, world.internet.b.host.address
    sent = [
        record.packet
        for record in world.network.trace.records
        if record.what is Happening.SEND and record.place == "a" and record.packet is not None
    ]
    assert sent
    assert not any(packet.destination.host == neighbour for packet in sent)
    assert not any(own in event.candidate.to_sdp() for event in world.a.of(CandidateGathered))


def test_a_hidden_host_on_a_public_address_is_found_by_its_reflexive_candidate() -> None:
    world = World("none", "port-restricted", config=but(NO_RELAY, hosts=HostCandidates.HIDDEN))
    world.connect()
    world.exchange()
    (candidate,) = [event.candidate for event in world.a.of(CandidateGathered)]
    assert candidate.type is CandidateType.SERVER_REFLEXIVE


# --- the peer's names --------------------------------------------------------------------------------


def test_two_hosts_on_one_network_find_each_other_by_name() -> None:
    """Nothing but names is told, and the direct pair of the local network is what comes out."""
    world = World(NAT, NAT, same_lan=True, config=but(NO_RELAY, hosts=HostCandidates.NAMED))
    world.connect()
    world.exchange()
    assert world.a.route is not None
    assert world.a.route.remote.host == world.internet.b.host.address


def test_a_resolved_name_is_paired() -> None:
    agent = make()
    agent.add_remote_candidate(named(), NOW)
    agent.add_remote_candidate(named(port=50001), NOW)
    assert events(agent, NameWanted) == [NameWanted(NAME)]
    assert agent.pairs == ()
    agent.name_resolved(NAME, ip_address("192.168.7.9"), NOW)
    assert {pair.remote.address for pair in agent.pairs} == {
        Address("192.168.7.9", 50000),
        Address("192.168.7.9", 50001),
    }
    agent.add_remote_candidate(named(port=50002), NOW)
    assert len(agent.pairs) == 3, "a name that is known is not asked for again"
    assert events(agent, NameWanted) == []


def test_a_thousand_names_make_sixteen_look_ups() -> None:
    """FAULTS 79."""
    agent = make()
    for number in range(1000):
        agent.add_remote_candidate(named(f"n{number}.local"), NOW)
    assert len(events(agent, NameWanted)) == 16
    assert agent.drops.counts["remote candidate: too many names"] == 984
    for number in range(16):
        agent.name_resolved(f"n{number}.local", None, NOW)
    agent.add_remote_candidate(named("later.local"), NOW)
    assert events(agent, NameWanted) == [], "the bound is for the session, not for one moment"


def test_many_candidates_with_one_name_are_bounded() -> None:
    """FAULTS 79."""
    agent = make()
    for port in range(40_000, 40_100):
        agent.add_remote_candidate(named(port=port), NOW)
    agent.name_resolved(NAME, ip_address("192.168.7.9"), NOW)
    assert len(agent.pairs) == 4
    assert agent.drops.counts["remote candidate: too many with one name"] == 96


def test_a_silent_resolver_does_not_hold_ice_up() -> None:
    """FAULTS 79: three seconds, after which the candidate is given up and an answer changes nothing."""
    agent = make(IceConfig(patience=4.0, early_failure=0.5))
    agent.add_remote_candidate(named(), NOW)
    agent.end_of_remote_candidates(NOW)
    drain(agent)
    assert agent._life.remote_ended is False
    agent.handle_timeout(NOW + 3.0)
    assert agent.drops.last == "remote candidate: its name does not resolve"
    assert agent._life.remote_ended is True
    agent.name_resolved(NAME, ip_address("192.168.7.9"), NOW + 3.1)
    assert agent.pairs == ()


@pytest.mark.parametrize(
    ("ip", "pairs"),
    [
        ("127.0.0.1", 0),
        ("169.254.169.254", 0),
        ("224.0.0.1", 0),
        ("::1", 0),
        ("0.0.0.0", 0),
        ("192.168.7.2", 0),
        ("192.168.7.9", 1),
    ],
)
def test_what_a_name_stands_for_passes_the_same_filter_as_an_address(ip: str, pairs: int) -> None:
    """FAULTS 79 and 69: loopback, metadata, multicast, and our own socket."""
    agent = make()
    agent.add_remote_candidate(named(port=LOCAL.port), NOW)
    agent.name_resolved(NAME, ip_address(ip), NOW)
    assert len(agent.pairs) == pairs


def test_nothing_is_looked_up_under_the_relay_policy() -> None:
    """FAULTS 87 and 79: a question on the local network would say that we are there."""
    agent = make(IceConfig(policy=TransportPolicy.RELAY))
    agent.add_remote_candidate(named(), NOW)
    assert events(agent, NameWanted) == []
    assert agent.drops.last == "remote candidate: a name, and the policy is relay"


def test_an_answer_to_no_question_changes_nothing() -> None:
    agent = make()
    agent.name_resolved(NAME, ip_address("192.168.7.9"), NOW)
    assert agent.pairs == ()
    assert agent.drops.last == "a name resolved that nobody waits for"


# --- writing and reading -----------------------------------------------------------------------------


def test_a_named_candidate_is_read_and_written() -> None:
    candidate = read_candidate(LINE)
    assert candidate == named()
    assert isinstance(candidate, NamedCandidate)
    assert candidate.to_sdp() == LINE
    resolved = candidate.resolved(IPv4Address("192.168.7.9"))
    assert resolved.address == Address("192.168.7.9", 50000)
    assert read_candidate(resolved.to_sdp()) == resolved
    with pytest.raises(MalformedMessage, match="name"):
        Candidate.from_sdp(LINE)


@pytest.mark.parametrize(
    "line",
    [
        "candidate:1 1 udp 5 example.com 1 typ host",
        "candidate:1 1 udp 5 local 1 typ host",
        "candidate:1 1 udp 5 a.b.local 1 typ host",
        "candidate:1 1 udp 5 a_b.local 1 typ host",
        "candidate:1 1 udp 5 -a.local 1 typ host",
        f"candidate:1 1 udp 5 {'a' * 64}.local 1 typ host",
        "candidate:1 1 udp 5 a.local 65536 typ host",
        "candidate:1 1 udp 5 a.local 1 typ srflx raddr 0.0.0.0 rport 9",
    ],
)
def test_other_names_are_no_candidates(line: str) -> None:
    """FAULTS 79: a name outside ``.local`` is refused where it is read."""
    with pytest.raises(MalformedMessage):
        read_candidate(line)


def test_values_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\.local"):
        named("example.com")
    with pytest.raises(ValueError, match="port"):
        named(port=65536)
    with pytest.raises(ValueError, match=r"\.local"):
        Candidate(foundation="1", priority=5, address=LOCAL, type=CandidateType.HOST, name="x")


def test_gathering_with_names_ends() -> None:
    assert events(make(), GatheringFinished)
