"""The agent as a core and as an API: the contract, commands, hostile input."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from conformance import CoreConformance, drain
from ice_world import TURN
from natwalk.core import Address, LocalProtocolError, Path
from natwalk.ice import (
    AddressFilter,
    Candidate,
    CandidateGathered,
    CandidateType,
    DataReceived,
    GatheringFinished,
    IceAgent,
    IceConfig,
    IceParameters,
    PairId,
    PairSelected,
    PairValidated,
    ProbeResult,
    State,
    TransportPolicy,
)
from natwalk.ice.checks import NOMINATION, build_check, build_error, build_success
from natwalk.stun import (
    ERROR_CODE,
    PRIORITY,
    USE_CANDIDATE,
    XOR_MAPPED_ADDRESS,
    Message,
    MessageClass,
    Method,
    check_integrity,
    decode,
    encode,
    indication,
    is_stun,
    request,
    short_term_key,
    success,
)

LOCAL = Address("192.0.2.10", 40000)
REMOTE = Address("198.51.100.20", 50000)
STUN = Address("203.0.113.5", 3478)
THEIRS = IceParameters("peer", "p" * 22)
NOW = 100.0


def candidate(address: Address = REMOTE, kind: CandidateType = CandidateType.HOST) -> Candidate:
    return Candidate(foundation="1", priority=2130706431, address=address, type=kind)


class Peer:
    """The far side of one agent, played by the test: knows the passwords, sends what it likes."""

    def __init__(self, agent: IceAgent) -> None:
        self.agent = agent
        self.ids = iter(range(1, 1 << 30))

    def check(self, **changes: Any) -> bytes:
        settings: dict[str, Any] = {
            "username": f"{self.agent.local_parameters.ufrag}:{THEIRS.ufrag}",
            "key": short_term_key(self.agent.local_parameters.pwd),
            "priority": 1694498815,
            "controlling": not self.agent.controlling,
            "tie_breaker": 5,
        }
        return build_check(next(self.ids).to_bytes(12, "big"), **(settings | changes))

    def send(self, data: bytes, now: float = NOW, source: Address = REMOTE, local: Address = LOCAL) -> None:
        self.agent.receive(data, Path(local, source), now)

    def sent(self, now: float = NOW) -> list[tuple[Message, Path]]:
        """What the agent has sent since the last call, STUN only."""
        transmits, self.events = drain(self.agent)
        return [(decode(out.data), out.path) for out in transmits if is_stun(out.data)]

    def answer(self, now: float = NOW, source: Address = REMOTE) -> list[Message]:
        """Answer every check the agent has sent to ``source``; the checks."""
        answered = []
        for message, path in self.sent(now):
            if message.message_class is MessageClass.REQUEST and path.remote == source:
                self.send(build_success(message, path.local, short_term_key(THEIRS.pwd)), now, source)
                answered.append(message)
        return answered


def make(
    config: IceConfig | None = None, *, controlling: bool = True, described: bool = True, seed: int = 1
) -> IceAgent:
    agent = IceAgent(
        config or IceConfig(),
        controlling=controlling,
        random_bytes=random.Random(seed).randbytes,
        tie_breaker=9,
    )
    agent.add_local_address(LOCAL, NOW)
    if described:
        agent.set_remote_parameters(THEIRS, NOW)
    return agent


def validated(*, controlling: bool = True, config: IceConfig | None = None) -> tuple[IceAgent, Peer]:
    """An agent one of whose pairs has just been validated, and nominated if it is controlling."""
    agent = make(config, controlling=controlling)
    peer = Peer(agent)
    agent.add_remote_candidate(candidate(), NOW)
    agent.end_of_remote_candidates(NOW)
    peer.answer()
    if controlling:
        peer.answer()
        assert agent.selected is not None
    else:
        peer.sent()
    assert [info.state for info in agent.pairs] == [State.SUCCEEDED]
    return agent, peer


def received(agent: IceAgent) -> list[bytes]:
    return [event.data for event in drain(agent)[1] if isinstance(event, DataReceived)]


def run(agent: IceAgent, until: float, each: Callable[[float], None] = lambda now: None) -> float:
    """Let time pass with nobody answering, unless ``each`` does."""
    now = NOW
    for _ in range(10_000):
        due = agent.next_timeout()
        if due is None or due > until:
            return until
        now = max(now, due)
        agent.handle_timeout(now)
        each(now)
    raise AssertionError("too many timeouts")


class TestIceAgentConformance(CoreConformance):
    def make(self, now: float) -> IceAgent:
        config = IceConfig(stun_servers=(STUN,), turn_servers=(TURN,))
        agent = IceAgent(config, controlling=True, random_bytes=random.Random(7).randbytes)
        agent.add_local_address(LOCAL, now)
        agent.add_local_address(Address("2001:db8::10", 40000), now)
        agent.end_of_local_addresses(now)
        agent.set_remote_parameters(THEIRS, now)
        for port in range(50_000, 50_010):
            agent.add_remote_candidate(candidate(REMOTE.with_port(port)), now)
        agent.end_of_remote_candidates(now)
        return agent

    def path(self, core: object) -> Path:
        return Path(LOCAL, REMOTE)


class TestConnectedAgentConformance(CoreConformance):
    def make(self, now: float) -> IceAgent:
        agent, _ = validated()
        agent.send(b"data", now)
        return agent

    def path(self, core: object) -> Path:
        return Path(LOCAL, REMOTE)

    def test_received_bytes_may_be_any_buffer_length(self) -> None:
        agent = self.make(100.0)
        for length in (0, 1, 19, 20, 1500, 65507):
            agent.receive(b"\x00" * length, Path(LOCAL, REMOTE), 100.0)
        _, events = drain(agent)
        assert [len(event.data) for event in events if isinstance(event, DataReceived)] == [
            0,
            1,
            19,
            20,
            1500,
            65507,
        ]

    def test_garbage_is_dropped_with_a_reason(self) -> None:
        """On a validated pair garbage is the application's data; elsewhere it is dropped."""
        agent = self.make(100.0)
        for garbage in (b"", b"\x00", b"\xff" * 20, b"\x80" * 1500):
            agent.receive(garbage, Path(LOCAL, REMOTE.with_port(9999)), 100.0)
        assert agent.drops.counts["data from no pair"] == 4


# --- commands ----------------------------------------------------------------------------------------


def test_a_tie_breaker_has_64_bits() -> None:
    with pytest.raises(ValueError, match="64 bits"):
        IceAgent(IceConfig(), controlling=True, random_bytes=bytes, tie_breaker=2**64)


def test_gathering_host_candidates_needs_no_server() -> None:
    agent = make(described=False)
    agent.end_of_local_addresses(NOW)
    _, events = drain(agent)
    assert [type(event) for event in events] == [CandidateGathered, GatheringFinished]
    (host,) = agent.local_candidates
    assert (host.address, host.type, host.base) == (LOCAL, CandidateType.HOST, LOCAL)


@pytest.mark.parametrize(
    "address", [Address("0.0.0.0", 1000), Address("192.0.2.1", 0), Address("224.0.0.1", 1000), LOCAL]
)
def test_an_address_no_socket_is_bound_to_is_refused(address: Address) -> None:
    with pytest.raises(LocalProtocolError):
        make().add_local_address(address, NOW)


def test_addresses_after_the_end_of_addresses_are_refused() -> None:
    agent = make()
    agent.end_of_local_addresses(NOW)
    with pytest.raises(LocalProtocolError):
        agent.add_local_address(LOCAL.with_port(5), NOW)


def test_remote_parameters_may_be_repeated_but_not_changed() -> None:
    agent = make()
    agent.set_remote_parameters(THEIRS, NOW)
    with pytest.raises(LocalProtocolError, match="restart"):
        agent.set_remote_parameters(IceParameters("othr", "p" * 22), NOW)


def test_sending_needs_a_valid_pair() -> None:
    agent = make()
    with pytest.raises(LocalProtocolError, match="without a valid pair"):
        agent.send(b"x", NOW)
    agent.add_remote_candidate(candidate(), NOW)
    with pytest.raises(LocalProtocolError, match="pair 1 is not valid"):
        agent.send(b"x", NOW, PairId(1))
    with pytest.raises(LocalProtocolError, match="pair 99"):
        agent.probe(PairId(99), 1200, NOW)


def test_a_datagram_has_a_largest_size() -> None:
    agent, _ = validated()
    with pytest.raises(LocalProtocolError, match="65001"):
        agent.send(bytes(65_001), NOW)


def test_a_closed_agent_takes_no_commands_and_wants_nothing() -> None:
    agent, peer = validated()
    agent.close(NOW)
    agent.close(NOW)
    peer.send(b"late")
    assert agent.drops.last == "after the end"
    assert agent.next_timeout() is None
    for command in (
        lambda: agent.add_remote_candidate(candidate(), NOW),
        lambda: agent.end_of_remote_candidates(NOW),
        lambda: agent.send(b"x", NOW),
    ):
        with pytest.raises(LocalProtocolError):
            command()


# --- checks and data ---------------------------------------------------------------------------------


def test_the_controlling_side_nominates_regularly() -> None:
    """RFC 8445 §8.1.1: first a check without USE-CANDIDATE, then one with it."""
    agent = make()
    peer = Peer(agent)
    agent.add_remote_candidate(candidate(), NOW)
    agent.end_of_remote_candidates(NOW)
    (first,) = peer.answer()
    assert USE_CANDIDATE not in first
    assert agent.selected is None
    (second,) = peer.answer()
    assert USE_CANDIDATE in second
    assert any(isinstance(event, PairValidated) for event in peer.events)
    peer.sent()
    assert any(isinstance(event, PairSelected) for event in peer.events)


def test_a_response_without_or_with_wrong_integrity_is_not_believed() -> None:
    """FAULTS 36: knowing the transaction ID and the address is not enough; the transaction goes on."""
    agent = make()
    peer = Peer(agent)
    agent.add_remote_candidate(candidate(), NOW)
    ((message, path),) = peer.sent()
    peer.send(encode(success(message, (XOR_MAPPED_ADDRESS, LOCAL)), fingerprint=True))
    peer.send(build_success(message, LOCAL, short_term_key("w" * 22)))
    peer.send(encode(success(message, (XOR_MAPPED_ADDRESS, LOCAL)), integrity_key=short_term_key(THEIRS.pwd)))
    assert agent.pairs[0].state is State.IN_PROGRESS
    assert agent.drops.counts["a response whose integrity does not verify"] == 2
    assert agent.drops.counts["a response without FINGERPRINT"] == 1
    peer.send(build_success(message, LOCAL, short_term_key(THEIRS.pwd)))
    assert agent.pairs[0].state is State.SUCCEEDED
    peer.send(build_success(message, LOCAL, short_term_key(THEIRS.pwd)))
    assert agent.drops.last == "a response to nothing we asked"
    assert path == Path(LOCAL, REMOTE)


def test_an_authentic_answer_from_another_address_fails_the_pair() -> None:
    """RFC 8445 §7.2.5.2.1; a forged one does not (FAULTS 36)."""
    agent = make()
    peer = Peer(agent)
    agent.add_remote_candidate(candidate(), NOW)
    ((message, _),) = peer.sent()
    elsewhere = REMOTE.with_port(50001)
    peer.send(build_success(message, LOCAL, short_term_key("w" * 22)), source=elsewhere)
    assert agent.pairs[0].state is State.IN_PROGRESS
    peer.send(build_success(message, LOCAL, short_term_key(THEIRS.pwd)), source=elsewhere)
    assert agent.pairs[0].state is State.FAILED
    assert agent.pairs[0].reason == "the answer came from another address"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"key": short_term_key("w" * 22)}, "a check whose integrity does not verify"),
        ({"username": "none:peer"}, "a check for another ufrag"),
    ],
)
def test_a_check_that_is_not_authentic_gets_silence_and_leaves_no_state(
    changes: dict[str, Any], reason: str
) -> None:
    """FAULTS 72. Deviates from RFC 8489 §9.1.3, which answers 401: nothing goes to unproved addresses."""
    agent = make()
    peer = Peer(agent)
    peer.sent()
    peer.send(peer.check(**changes))
    assert peer.sent() == []
    assert agent.pairs == ()
    assert agent.drops.last == reason


def test_a_check_from_another_session_of_the_peer_is_dropped() -> None:
    """FAULTS 72: the peer's ufrag has changed since: a replay after its restart."""
    agent = make()
    peer = Peer(agent)
    peer.send(peer.check(username=f"{agent.local_parameters.ufrag}:oldd"))
    assert agent.drops.last == "a check from another ufrag"
    assert agent.pairs == ()


def test_a_recorded_check_is_nothing_to_a_new_agent() -> None:
    """FAULTS 72 and 82: credentials are fresh for each agent."""
    old, new = make(seed=1), make(seed=2)
    recorded = Peer(old).check()
    Peer(new).send(recorded)
    assert new.drops.last == "a check for another ufrag"


def test_an_authentic_check_makes_a_peer_reflexive_candidate_and_a_triggered_check() -> None:
    agent = make()
    peer = Peer(agent)
    peer.send(peer.check(priority=12345))
    replies = peer.sent()
    assert [message.message_class for message, _ in replies] == [MessageClass.SUCCESS, MessageClass.REQUEST]
    assert replies[0][0].get(XOR_MAPPED_ADDRESS) == REMOTE
    check_integrity(replies[0][0], short_term_key(agent.local_parameters.pwd))
    (pair,) = agent.pairs
    assert pair.remote.type is CandidateType.PEER_REFLEXIVE
    assert pair.remote.priority == 12345
    assert replies[1][0].get(PRIORITY) == 110 << 24 | agent.local_candidates[0].priority & 0xFFFFFF


@pytest.mark.parametrize(
    "source",
    [
        Address("127.0.0.1", 5000),
        LOCAL,
        Address("169.254.169.254", 5000),
        Address("224.0.0.1", 5000),
        Address("198.51.100.20", 19),
        Address("198.51.100.20", 0),
    ],
)
def test_a_check_from_an_address_no_peer_can_have_makes_no_candidate(source: Address) -> None:
    """FAULTS 69: signed by the peer or not."""
    agent = make()
    peer = Peer(agent)
    peer.send(peer.check(), source=source)
    assert agent.pairs == ()
    assert agent.drops.total == 1
    assert not [message for message, _ in peer.sent() if message.message_class is MessageClass.REQUEST]


def test_ten_thousand_signed_checks_from_distinct_ports_change_nothing_that_works() -> None:
    """FAULTS 70: bounded candidates, bounded pairs, the selected pair undisturbed."""
    agent, peer = validated()
    selected = agent.selected
    for number in range(10_000):
        peer.send(peer.check(), source=Address("203.0.113.99", 30_000 + number % 30_000))
        drain(agent)
    assert len(agent.pairs) <= 33
    assert agent.drops.counts["remote candidate: too many peer-reflexive candidates"] > 9_000
    assert agent.selected == selected
    agent.send(b"still here", NOW)
    transmits, _ = drain(agent)
    assert transmits[-1].path == Path(LOCAL, REMOTE)


def test_ten_thousand_checks_before_the_remote_parameters_are_bounded() -> None:
    """FAULTS 71: answered, remembered up to a bound, and acted on once the parameters are there."""
    agent = make(described=False)
    peer = Peer(agent)
    for number in range(10_000):
        peer.send(peer.check(), source=Address("203.0.113.99", 30_000 + number % 30_000))
        drain(agent)
    assert agent.drops.counts["too many early checks"] == 10_000 - 32
    assert agent.pairs == ()
    agent.set_remote_parameters(THEIRS, NOW)
    assert len(agent.pairs) == 24


def test_an_early_check_is_answered_at_once_and_followed_up_later() -> None:
    """RFC 8445 §7.3: the peer must not have to wait for our signalling."""
    agent = make(described=False)
    peer = Peer(agent)
    peer.send(peer.check())
    ((answer, _),) = peer.sent()
    assert answer.message_class is MessageClass.SUCCESS
    agent.set_remote_parameters(THEIRS, NOW)
    assert [m.message_class for m, _ in peer.sent()] == [MessageClass.REQUEST]


def test_an_early_check_of_somebody_else_is_forgotten() -> None:
    agent = make(described=False)
    peer = Peer(agent)
    peer.send(peer.check(username=f"{agent.local_parameters.ufrag}:else"))
    agent.set_remote_parameters(THEIRS, NOW)
    assert agent.drops.last == "an early check from another ufrag"
    assert agent.pairs == ()


def test_data_is_taken_from_validated_pairs_only() -> None:
    """FAULTS 84 and 85: whatever it looks like, it never moves the remote address."""
    agent, peer = validated()
    peer.sent()
    peer.send(b"\x16\xfe\xfd hello")
    _, events = drain(agent)
    assert events == [DataReceived(b"\x16\xfe\xfd hello", PairId(1))]
    peer.send(b"\x16\xfe\xfd spray", source=REMOTE.with_port(50001))
    peer.send(b"\xc0 spray", source=Address("203.0.113.99", 50000))
    assert agent.drops.counts["data from no pair"] == 2
    agent.add_remote_candidate(candidate(REMOTE.with_port(50002)), NOW)
    peer.send(b"early", source=REMOTE.with_port(50002))
    assert agent.drops.counts["data from a pair that is not validated"] == 1
    assert received(agent) == []
    assert agent.selected is not None
    assert agent.selected.remote.address == REMOTE


def test_data_that_overtakes_the_validation_of_its_pair_is_delivered_after_it() -> None:
    """The peer validates half a round trip before us and may send at once."""
    agent = make(controlling=False)
    peer = Peer(agent)
    peer.send(peer.check())
    for number in range(40):
        peer.send(b"%d" % number)
    peer.answer()
    _, events = drain(agent)
    assert [event.data for event in events if isinstance(event, DataReceived)] == [
        b"%d" % n for n in range(32)
    ]
    assert agent.drops.counts["data from a pair that is not validated"] == 8


def test_stun_that_is_no_binding_is_dropped() -> None:
    agent, peer = validated()
    peer.send(encode(request(Method.ALLOCATE, bytes(12))))
    assert agent.drops.last == "a STUN message that is no Binding"
    peer.send(encode(indication(Method.BINDING, bytes(12))))
    assert agent.drops.last == "a Binding indication, which asks for nothing"
    broken = bytearray(peer.check())
    broken[-1] ^= 1
    peer.send(bytes(broken))
    assert agent.drops.last == "a malformed STUN message"


def test_checks_on_a_socket_that_is_not_ours_are_refused() -> None:
    agent = make()
    peer = Peer(agent)
    peer.send(peer.check(), local=LOCAL.with_port(1))
    assert agent.drops.last == "a check refused: no candidate of ours is there"


def test_an_authentic_request_that_is_no_check_is_answered_400() -> None:
    agent = make()
    peer = Peer(agent)
    peer.send(peer.check(priority=0))
    ((answer, _),) = peer.sent()
    error = answer.get(ERROR_CODE)
    assert error is not None
    assert error.code == 400
    check_integrity(answer, short_term_key(agent.local_parameters.pwd))


# --- roles -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("controlling", [True, False])
@pytest.mark.parametrize("wins", [True, False])
def test_a_role_conflict_is_decided_by_the_tie_breaker(controlling: bool, wins: bool) -> None:
    """FAULTS 76 and RFC 8445 §7.3.1.1: the larger tie-breaker is controlling in the end."""
    agent = make(controlling=controlling)
    peer = Peer(agent)
    peer.send(peer.check(controlling=controlling, tie_breaker=8 if wins else 10))
    answer, _ = peer.sent()[0]
    assert agent.controlling is wins
    keeps = wins is controlling
    assert (answer.message_class is MessageClass.ERROR) is keeps
    error = answer.get(ERROR_CODE)
    assert (error.code if error else None) == (487 if keeps else None)


def test_a_487_changes_the_role_and_asks_again() -> None:
    agent = make()
    peer = Peer(agent)
    agent.add_remote_candidate(candidate(), NOW)
    ((message, path),) = peer.sent()
    peer.send(build_error(message, 487, "Role Conflict", short_term_key(THEIRS.pwd)))
    assert not agent.controlling
    agent.handle_timeout(NOW + 0.05)
    again = [m for m, _ in peer.sent() if m.message_class is MessageClass.REQUEST]
    assert len(again) == 1
    assert path.remote == REMOTE


def test_a_forged_487_changes_nothing() -> None:
    """FAULTS 76."""
    agent = make()
    peer = Peer(agent)
    agent.add_remote_candidate(candidate(), NOW)
    ((message, _),) = peer.sent()
    peer.send(build_error(message, 487, "Role Conflict", short_term_key("w" * 22)))
    assert agent.controlling
    assert agent.pairs[0].state is State.IN_PROGRESS


def test_any_other_error_fails_the_pair_with_its_words() -> None:
    agent = make()
    peer = Peer(agent)
    agent.add_remote_candidate(candidate(), NOW)
    ((message, _),) = peer.sent()
    peer.send(build_error(message, 400, "Bad Request", short_term_key(THEIRS.pwd)))
    assert agent.pairs[0].reason == "the peer answered 400 Bad Request"


# --- nomination by the peer --------------------------------------------------------------------------


def test_the_controlled_side_follows_the_latest_nomination() -> None:
    agent, peer = validated(controlling=False)
    other = REMOTE.with_port(50001)
    peer.send(peer.check(), source=other)
    agent.handle_timeout(NOW + 0.1)
    peer.answer(NOW + 0.1, other)
    assert sum(info.state is State.SUCCEEDED for info in agent.pairs) == 2
    first, second = peer.check(use_candidate=True), peer.check(use_candidate=True)
    peer.send(first)
    assert agent.selected is not None
    assert agent.selected.remote.address == REMOTE
    peer.send(second, source=other)
    assert agent.selected.remote.address == other
    peer.send(first)
    assert agent.selected.remote.address == other, "a retransmission of the older one does not count"


def test_an_older_nomination_that_comes_late_is_not_followed() -> None:
    """By the number in it: packets overtake each other, and each side would use another pair."""
    agent, peer = validated(controlling=False)
    other = REMOTE.with_port(50001)
    peer.send(peer.check(), source=other)
    agent.handle_timeout(NOW + 0.1)
    peer.answer(NOW + 0.1, other)
    peer.send(peer.check(use_candidate=True, nomination=2), source=other)
    peer.send(peer.check(use_candidate=True, nomination=1))
    assert agent.selected is not None
    assert agent.selected.remote.address == other
    assert agent.drops.last == "a nomination that a later one has overtaken"
    peer.send(peer.check(use_candidate=True, nomination=3))
    assert agent.selected.remote.address == REMOTE


def test_nominations_are_counted_and_confirmations_repeat_the_count() -> None:
    agent, peer = validated(controlling=True)
    counts = []

    def answer(now: float) -> None:
        for message in peer.answer(now):
            if USE_CANDIDATE in message:
                counts.append(message.get(NOMINATION))

    run(agent, NOW + 20, answer)
    assert len(counts) >= 3
    assert set(counts) == {bytes([0, 0, 0, 1])}


def test_a_nomination_before_our_own_check_succeeds_counts_then() -> None:
    """RFC 8445 §7.3.1.5."""
    agent = make(controlling=False)
    peer = Peer(agent)
    peer.send(peer.check(use_candidate=True))
    assert agent.selected is None
    peer.answer()
    assert agent.selected is not None


def test_use_candidate_from_a_controlled_peer_means_nothing() -> None:
    agent, peer = validated(controlling=True)
    other = REMOTE.with_port(50001)
    peer.send(peer.check(use_candidate=True), source=other)
    assert agent.selected is not None
    assert agent.selected.remote.address == REMOTE


# --- probes ------------------------------------------------------------------------------------------


def test_a_probe_is_a_padded_check_whose_answer_is_reported() -> None:
    agent, peer = validated()
    agent.probe(PairId(1), 1399, NOW)
    transmits, _ = drain(agent)
    (probe,) = transmits
    assert len(probe.data) == 1400
    peer.send(build_success(decode(probe.data), LOCAL, short_term_key(THEIRS.pwd)), NOW + 0.03)
    _, events = drain(agent)
    assert events == [ProbeResult(PairId(1), 1399, ok=True, rtt=pytest.approx(0.03))]


def test_a_probe_without_an_answer_is_reported_too_and_the_pair_lives_on() -> None:
    agent, peer = validated()
    agent.probe(PairId(1), 9000, NOW)
    drain(agent)
    results: list[ProbeResult] = []

    def collect(now: float) -> None:
        peer.answer(now)
        results.extend(event for event in peer.events if isinstance(event, ProbeResult))

    run(agent, NOW + 3, collect)
    assert results == [ProbeResult(PairId(1), 9000, ok=False, rtt=None)]
    assert agent.pairs[0].state is State.SUCCEEDED


def test_a_peer_that_does_not_understand_the_padding_has_received_it() -> None:
    """RFC 8489 §6.3.1: 420 for a comprehension-required attribute it does not know."""
    agent, peer = validated()
    agent.probe(PairId(1), 1400, NOW)
    transmits, _ = drain(agent)
    message = decode(transmits[0].data)
    peer.send(build_error(message, 420, "Unknown Attribute", short_term_key(THEIRS.pwd)), NOW + 0.01)
    _, events = drain(agent)
    assert [event.ok for event in events if isinstance(event, ProbeResult)] == [True]


def test_probes_of_the_peer_are_answered_with_small_responses() -> None:
    agent, peer = validated()
    peer.send(peer.check(size=1400))
    transmits, _ = drain(agent)
    assert [len(out.data) < 120 for out in transmits] == [True]


# --- policy ------------------------------------------------------------------------------------------


def test_the_direct_policy_gathers_no_relay_and_takes_none() -> None:
    agent = make(IceConfig(turn_servers=(TURN,), policy=TransportPolicy.DIRECT))
    agent.end_of_local_addresses(NOW)
    agent.add_remote_candidate(candidate(REMOTE, CandidateType.RELAYED), NOW)
    transmits, events = drain(agent)
    assert transmits == []
    assert any(isinstance(event, GatheringFinished) for event in events)
    assert agent.pairs == ()
    assert agent.drops.last == "remote candidate: relayed, and the policy is direct"


def test_the_direct_policy_drops_a_pair_that_turns_out_to_be_relayed() -> None:
    """The peer's relay may be heard of by its checks before it is signalled."""
    agent = make(IceConfig(policy=TransportPolicy.DIRECT))
    peer = Peer(agent)
    peer.send(peer.check())
    peer.answer()
    assert agent.pairs[0].state is State.SUCCEEDED
    agent.add_remote_candidate(candidate(REMOTE, CandidateType.RELAYED), NOW)
    assert agent.pairs == ()
    with pytest.raises(LocalProtocolError):
        agent.send(b"x", NOW)


def test_loopback_pairs_with_loopback_only() -> None:
    """FAULTS 69: a remote loopback candidate makes us send nothing, unless we are on loopback too."""
    agent = make()
    agent.add_remote_candidate(candidate(Address("127.0.0.1", 50000)), NOW)
    assert agent.pairs == ()
    agent.add_local_address(Address("127.0.0.1", 40000), NOW)
    (pair,) = agent.pairs
    assert (pair.local.address.host, pair.remote.address.host) == ("127.0.0.1", "127.0.0.1")


def test_our_own_address_is_no_remote_candidate() -> None:
    """FAULTS 69."""
    agent = make()
    agent.add_remote_candidate(candidate(LOCAL), NOW)
    assert agent.pairs == ()


# --- what a path above the agent uses ----------------------------------------------------------------


def test_bulk_data_may_pass_the_agent_by_if_it_is_told() -> None:
    """The flow is handed out, and silence after what was sent on it still makes the agent ask."""
    agent, peer = validated()
    peer.sent()
    assert agent.current is not None
    pair = agent.current.id
    assert agent.route(pair) == Path(LOCAL, REMOTE)
    assert agent.route(PairId(99)) is None
    agent.note_sent(pair, NOW)
    agent.note_sent(PairId(99), NOW)
    agent.note_received(Path(LOCAL, REMOTE.with_port(1)), NOW)
    assert agent.next_timeout() == NOW + 2.0
    agent.note_received(Path(LOCAL, REMOTE), NOW + 1.0)
    agent.handle_timeout(NOW + 2.0)
    assert peer.sent() == []
    agent.note_sent(pair, NOW + 2.0)
    agent.handle_timeout(NOW + 4.0)
    assert len(peer.sent()) == 1


def test_an_agent_without_a_valid_pair_has_no_current_one() -> None:
    assert make().current is None


def test_an_unanswered_question_brings_the_consent_check_forward() -> None:
    """A probe without padding asks whether the peer is there."""
    agent, peer = validated()
    agent.probe(PairId(1), 0, NOW)
    assert len(peer.sent()) == 1
    asked: list[float] = []

    def note(now: float) -> None:
        asked.extend([now] * len(peer.sent()))

    run(agent, NOW + 1.5, note)
    assert len(asked) == 1
    assert asked[0] - NOW < 1.2


def test_a_selected_pair_that_turns_out_to_be_relayed_is_reported_again() -> None:
    """The peer's check through its relay may overtake the signalling of that relay."""
    agent = make()
    peer = Peer(agent)
    agent.end_of_local_addresses(NOW)
    agent.end_of_remote_candidates(NOW)
    peer.send(peer.check())
    peer.answer()
    peer.answer()
    assert agent.selected is not None
    assert not agent.selected.relayed
    peer.sent()
    agent.add_remote_candidate(candidate(REMOTE, CandidateType.RELAYED), NOW)
    peer.sent()
    assert [event.info.relayed for event in peer.events if isinstance(event, PairSelected)] == [True]


def test_data_held_for_one_pair_stays_held_when_another_is_validated() -> None:
    agent = make(controlling=False)
    peer = Peer(agent)
    other = REMOTE.with_port(50001)
    peer.send(peer.check())
    peer.send(peer.check(), source=other)
    peer.send(b"first")
    peer.send(b"second", source=other)
    agent.handle_timeout(NOW + 0.05)
    pending = [
        (message, path) for message, path in peer.sent() if message.message_class is MessageClass.REQUEST
    ]
    by_source = {path.remote: message for message, path in pending}
    assert set(by_source) == {REMOTE, other}
    peer.send(build_success(by_source[other], LOCAL, short_term_key(THEIRS.pwd)), source=other)
    assert received(agent) == [b"second"]
    peer.send(build_success(by_source[REMOTE], LOCAL, short_term_key(THEIRS.pwd)))
    assert received(agent) == [b"first"]


def test_a_check_from_a_filtered_address_is_not_answered() -> None:
    """FAULTS 69: however well it is signed."""
    agent = make(IceConfig(remote_filter=AddressFilter(deny=("198.51.100.0/24",))))
    peer = Peer(agent)
    peer.sent()
    peer.send(peer.check())
    assert peer.sent() == []
    assert agent.pairs == ()
    assert agent.drops.last == "a check refused: its network is filtered"
