"""Gathering: which servers are asked from where, what follows, when it ends."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import pairwise

import pytest

from conformance import drain
from ice_world import LISTENER, STUN_ONLY, TURN, WITH_RELAY, World, but
from natwalk.core import Address, Path
from natwalk.ice import (
    AddressFilter,
    CandidateGathered,
    CandidateType,
    GatheringFinished,
    GatheringProblem,
    IceAgent,
    IceConfig,
    IceEvent,
    MappingLearned,
    TransportPolicy,
    TurnServerAddress,
)
from natwalk.sim import Happening
from natwalk.stun import XOR_MAPPED_ADDRESS, Method, decode, encode, error, is_stun, success

LOCAL = Address("10.0.0.5", 40000)
STUN = Address("203.0.113.5", 3478)
STUN2 = Address("203.0.113.6", 3478)
STUN6 = Address("2001:db8::5", 3478)
MAPPED = Address("198.51.100.1", 61000)
NOW = 100.0


class Bench:
    """An agent whose servers are the test."""

    def __init__(self, config: IceConfig) -> None:
        self.agent = IceAgent(config, controlling=True, random_bytes=random.Random(4).randbytes)
        self.now = NOW
        self.sent: list[tuple[float, Path, bytes]] = []
        self.events: list[IceEvent] = []

    def add(self, *addresses: Address) -> None:
        for address in addresses:
            self.agent.add_local_address(address, self.now)
        self.drain()

    def end(self) -> None:
        self.agent.end_of_local_addresses(self.now)
        self.drain()

    def drain(self) -> None:
        transmits, events = drain(self.agent)
        self.sent += [(self.now, out.path, out.data) for out in transmits]
        self.events += events

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        for _ in range(10_000):
            due = self.agent.next_timeout()
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            self.agent.handle_timeout(self.now)
            self.drain()
        self.now = until

    def answer(self, mapped: Address, servers: Iterable[Address] = (STUN, STUN2)) -> None:
        """Answer every Binding request sent so far to ``servers``."""
        pending, self.sent = self.sent, []
        for _, path, data in pending:
            if path.remote in servers and is_stun(data):
                self.agent.receive(
                    encode(success(decode(data), (XOR_MAPPED_ADDRESS, mapped))), path, self.now
                )
        self.drain()

    def of(self, kind: type[IceEvent]) -> list[IceEvent]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def types(self) -> list[str]:
        return [candidate.type.value for candidate in self.agent.local_candidates]


def test_questions_are_paced() -> None:
    """RFC 8445 §14.2: one new transaction every Ta, over all addresses and servers."""
    bench = Bench(IceConfig(stun_servers=(STUN, STUN2)))
    bench.add(LOCAL, LOCAL.with_port(40001), LOCAL.with_port(40002))
    bench.run(0.49)
    times = [at for at, _, _ in bench.sent]
    assert len(times) == 6
    assert all(later - earlier >= 0.0499 for earlier, later in pairwise(times))


def test_servers_of_the_other_family_are_not_asked() -> None:
    bench = Bench(IceConfig(stun_servers=(STUN, STUN6)))
    bench.add(LOCAL, Address("2001:db8::77", 40000))
    bench.run(0.4)
    assert {(path.local.version, path.remote) for _, path, _ in bench.sent} == {(4, STUN), (6, STUN6)}


def test_a_loopback_address_asks_loopback_servers_only() -> None:
    here = Address("127.0.0.1", 3478)
    bench = Bench(IceConfig(stun_servers=(STUN, here)))
    bench.add(Address("127.0.0.1", 40000))
    bench.run(0.4)
    assert {path.remote for _, path, _ in bench.sent} == {here}


def test_a_server_reflexive_candidate_and_its_related_address() -> None:
    bench = Bench(IceConfig(stun_servers=(STUN,)))
    bench.add(LOCAL)
    bench.answer(MAPPED)
    _, srflx = bench.agent.local_candidates
    assert (srflx.type, srflx.address, srflx.base, srflx.related) == (
        CandidateType.SERVER_REFLEXIVE,
        MAPPED,
        LOCAL,
        LOCAL,
    )
    assert bench.of(MappingLearned) == [MappingLearned(LOCAL, STUN, MAPPED)]


def test_redundant_candidates_are_left_out() -> None:
    """RFC 8445 §5.1.3: no NAT, or two servers that see the same."""
    bench = Bench(IceConfig(stun_servers=(STUN, STUN2)))
    bench.add(LOCAL)
    bench.run(0.1)
    bench.answer(LOCAL, [STUN])
    assert bench.types == ["host"]
    other = Bench(IceConfig(stun_servers=(STUN, STUN2)))
    other.add(LOCAL)
    other.run(0.1)
    other.answer(MAPPED)
    assert other.types == ["host", "srflx"]
    assert len(other.of(MappingLearned)) == 2


@pytest.mark.parametrize("mapped", ["0.0.0.0:5", "224.0.0.1:5", "192.0.2.1:0"])
def test_an_impossible_mapped_address_makes_no_candidate(mapped: str) -> None:
    """FAULTS 94, said by a STUN server."""
    bench = Bench(IceConfig(stun_servers=(STUN,)))
    bench.add(LOCAL)
    bench.answer(Address.parse(mapped))
    assert bench.types == ["host"]
    assert bench.agent.drops.last == "a server reports an impossible mapped address"


def test_a_v4_mapped_answer_is_an_ipv4_address() -> None:
    bench = Bench(IceConfig(stun_servers=(STUN,)))
    bench.add(LOCAL)
    bench.answer(Address("::ffff:198.51.100.1", 61000))
    assert bench.agent.local_candidates[-1].address == MAPPED


def test_an_answer_from_elsewhere_is_not_the_server_s() -> None:
    """FAULTS 36."""
    bench = Bench(IceConfig(stun_servers=(STUN,)))
    bench.add(LOCAL)
    ((_, path, data),) = bench.sent
    spoofed = encode(success(decode(data), (XOR_MAPPED_ADDRESS, MAPPED)))
    bench.agent.receive(spoofed, Path(LOCAL, STUN2), NOW)
    assert bench.types == ["host"]
    assert path == Path(LOCAL, STUN)


def test_a_silent_server_is_reported_and_does_not_hold_up_the_end() -> None:
    bench = Bench(IceConfig(stun_servers=(STUN,), turn_servers=(TURN,), gathering_timeout=8.0))
    bench.add(LOCAL)
    bench.end()
    bench.run(20)
    problems = {event.server: event.reason for event in bench.events if isinstance(event, GatheringProblem)}
    assert problems == {STUN: "no answer", LISTENER: "no answer"}
    assert len(bench.of(GatheringFinished)) == 1


def test_a_refusing_server_is_reported_with_its_words() -> None:
    bench = Bench(IceConfig(stun_servers=(STUN,)))
    bench.add(LOCAL)
    ((_, path, data),) = bench.sent
    bench.agent.receive(encode(error(decode(data), 500, "Server Error")), path, NOW)
    bench.end()
    assert bench.of(GatheringProblem) == [GatheringProblem(STUN, "500 Server Error")]
    assert bench.of(GatheringFinished)


def test_an_answer_without_an_address_is_of_no_use() -> None:
    bench = Bench(IceConfig(stun_servers=(STUN,)))
    bench.add(LOCAL)
    ((_, path, data),) = bench.sent
    bench.agent.receive(encode(success(decode(data))), path, NOW)
    bench.end()
    assert bench.of(GatheringProblem) == [GatheringProblem(STUN, "no address in its answer")]


def test_a_server_that_answers_one_address_is_no_problem() -> None:
    bench = Bench(IceConfig(stun_servers=(STUN,), gathering_timeout=6.0))
    bench.add(LOCAL)
    bench.answer(MAPPED)
    bench.add(LOCAL.with_port(40001))
    bench.end()
    bench.run(10)
    assert bench.of(GatheringFinished)
    assert not bench.of(GatheringProblem)


def test_link_local_and_surplus_addresses_are_reported_and_left_alone() -> None:
    bench = Bench(IceConfig(max_local_addresses=2))
    bench.add(Address("fe80::1", 5), LOCAL, LOCAL.with_port(1), LOCAL.with_port(2))
    assert bench.types == ["host", "host"]
    reasons = [event.reason for event in bench.events if isinstance(event, GatheringProblem)]
    assert reasons == ["fe80::1 is link-local", "10.0.0.5 is one local address too many"]


def test_mappings_are_refreshed_and_a_new_one_is_a_new_candidate() -> None:
    """RFC 8445 §5.1.1.4."""
    bench = Bench(IceConfig(stun_servers=(STUN,)))
    bench.add(LOCAL)
    bench.answer(MAPPED)
    bench.run(15.1)
    assert len(bench.sent) == 1
    bench.answer(MAPPED.with_port(61001))
    assert [c.address.port for c in bench.agent.local_candidates] == [40000, 61000, 61001]


def test_ever_new_mappings_do_not_pile_up() -> None:
    bench = Bench(IceConfig(stun_servers=(STUN,)))
    bench.add(LOCAL)
    for number in range(200):
        bench.answer(MAPPED.with_port(20_000 + number))
        bench.run(15.1)
    assert len(bench.agent.local_candidates) == 65


def test_only_one_allocation_is_made_at_a_server() -> None:
    """The second local address would wait for the first one's answer, and needs none after it."""
    world = World(config=but(WITH_RELAY, relay_stagger=0.5))
    agent = world.a.agent
    world.a.driver.do(agent.add_local_address, world.a.sockets[0])
    second = world.a.driver.bind()
    world.a.driver.do(agent.add_local_address, second)
    world.a.driver.do(agent.end_of_local_addresses)
    world.run(5)
    assert [c.type.value for c in agent.local_candidates].count("relay") == 1
    assert len(world.a.of(GatheringFinished)) == 1


def test_the_next_address_tries_when_the_first_gets_no_allocation() -> None:
    bench = Bench(IceConfig(turn_servers=(TURN,), relay_stagger=0.5))
    bench.add(LOCAL, LOCAL.with_port(40001))
    bench.run(0.4)
    assert {path.local.port for _, path, _ in bench.sent} == {40000}
    bench.run(0.3)
    assert {path.local.port for _, path, _ in bench.sent} == {40000, 40001}


def test_wrong_turn_credentials_are_a_problem_said_by_the_server() -> None:
    config = but(WITH_RELAY, turn_servers=(TurnServerAddress(LISTENER, "user", "wrong"),))
    world = World(config=config)
    world.a.gather()
    world.run(20)
    (problem,) = world.a.of(GatheringProblem)
    assert problem.server == LISTENER
    assert "401" in problem.reason
    assert world.a.of(GatheringFinished)


def test_relay_only_offers_no_address_and_sends_to_nobody_but_the_server() -> None:
    """FAULTS 87: no host or reflexive candidate, no related address, every packet goes to the TURN server."""
    config = but(WITH_RELAY, policy=TransportPolicy.RELAY)
    world = World("none", "none", config=config, config_b=WITH_RELAY)
    world.connect(60)
    world.exchange()
    world.run(60)
    offered = [event.candidate for event in world.a.of(CandidateGathered)]
    assert {candidate.type for candidate in offered} == {CandidateType.RELAYED}
    own = world.internet.a.host.address
    assert not any(own in candidate.to_sdp() for candidate in offered)
    sent = [
        record.packet
        for record in world.network.trace.records
        if record.what is Happening.SEND and record.place == "a" and record.packet is not None
    ]
    assert sent
    assert {packet.destination for packet in sent} == {LISTENER}
    assert STUN_ONLY not in {packet.destination for packet in sent}


def test_relay_only_ignores_checks_to_its_own_sockets() -> None:
    """FAULTS 87: an answer would be a packet to the peer that no relay carried."""
    config = but(WITH_RELAY, policy=TransportPolicy.RELAY)
    world = World("none", "none", config=config, config_b=WITH_RELAY)
    world.connect(60)
    socket = world.a.sockets[0]
    probe = world.b.host.bind(lambda data, source: None)
    before = world.a.agent.drops.total
    request = next(
        record.packet.payload
        for record in world.network.trace.records
        if record.packet is not None
        and record.packet.source.host == world.internet.b.public
        and is_stun(record.packet.payload)
        and decode(record.packet.payload).method == Method.BINDING
    )
    probe.send(request, socket)
    world.run(1)
    assert world.a.agent.drops.total > before
    assert world.a.agent.drops.last == "a check refused: no candidate of ours is there"


def test_questions_under_way_are_bounded() -> None:
    """Many addresses times many servers, none of which answers."""
    servers = tuple(Address("203.0.113.5", 20_000 + number) for number in range(40))
    bench = Bench(IceConfig(stun_servers=servers, ta=0.005))
    bench.add(*(LOCAL.with_port(40_000 + number) for number in range(32)))
    bench.run(5.4)
    assert bench.agent.drops.counts["too many Binding requests under way"] > 0


def test_addresses_of_ours_that_are_filtered_are_reported_and_left_alone() -> None:
    """No candidate, no question to a server from there."""
    bench = Bench(
        IceConfig(
            stun_servers=(STUN, STUN6),
            local_filter=AddressFilter(
                deny=("10.9.0.0/16",), versions=frozenset({4}), ports=(40_000, 40_009)
            ),
        )
    )
    bench.add(LOCAL, Address("10.9.0.1", 40000), Address("2001:db8::1", 40000), LOCAL.with_port(41_000))
    bench.end()
    bench.run(1)
    problems = [event.reason for event in bench.events if isinstance(event, GatheringProblem)]
    assert problems == [
        "10.9.0.1 is not used: its network is filtered",
        "2001:db8::1 is not used: its IP version is filtered",
        "10.0.0.5 is not used: its port is filtered",
    ]
    assert {path.local for _, path, _ in bench.sent} == {LOCAL}
