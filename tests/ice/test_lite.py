"""ICE lite (RFC 8445 §2.5): a public host that only answers, and a full agent that does the rest."""

from __future__ import annotations

import random

import pytest

from ice_world import NO_RELAY, STUN_ONLY, TURN, World, but
from natwalk.core import Address, LocalProtocolError, Path
from natwalk.ice import (
    CandidateGathered,
    CandidateType,
    Disconnected,
    IceAgent,
    IceConfig,
    IceFailed,
    IceParameters,
    PairLost,
    PairSelected,
    PairValidated,
    TransportPolicy,
)
from natwalk.ice.checks import build_check
from natwalk.sim import Happening
from natwalk.stun import ERROR_CODE, MessageClass, decode, is_stun, short_term_key

LITE = IceConfig(lite=True)
LOCAL, REMOTE = Address("192.0.2.10", 40000), Address("198.51.100.20", 50000)
THEIRS = IceParameters("peer", "p" * 22)
NOW = 100.0


def world(nat: str = "port-restricted", *, controlling: tuple[bool, bool] = (True, False)) -> World:
    return World(nat, "none", config=NO_RELAY, config_b=LITE, controlling=controlling)


def sent_by(world: World, place: str) -> list[bytes]:
    return [
        record.packet.payload
        for record in world.network.trace.records
        if record.what is Happening.SEND and record.place == place and record.packet is not None
    ]


@pytest.mark.parametrize("nat", ["none", "port-restricted", "symmetric"])
def test_a_full_agent_connects_to_a_lite_one_that_sends_no_check(nat: str) -> None:
    """Whatever the NAT: the lite side is public, so it learns the peer from its checks."""
    one = world(nat)
    one.connect()
    one.exchange()
    one.run(60)
    one.exchange()
    assert one.agreed()
    requests = [
        data
        for data in sent_by(one, "b")
        if is_stun(data) and decode(data).message_class is MessageClass.REQUEST
    ]
    assert requests == []
    assert [event.candidate.type for event in one.b.of(CandidateGathered)] == [CandidateType.HOST]


@pytest.mark.parametrize("controlling", [(True, False), (False, False), (False, True), (True, True)])
def test_the_full_agent_is_controlling_whatever_either_was_made(controlling: tuple[bool, bool]) -> None:
    """RFC 8445 §6.1.1."""
    one = world(controlling=controlling)
    one.connect()
    assert one.a.agent.controlling
    assert not one.b.agent.controlling
    one.exchange()


def test_a_peer_that_falls_silent_is_lost() -> None:
    """Its checks stand for consent: thirty seconds without one and nothing is sent any more (FAULTS 75)."""
    one = world()
    one.connect()
    one.a.driver.close()
    one.run(29)
    one.b.send(b"still there?")
    one.run(15)
    (lost,) = one.b.of(PairLost)
    assert "30 s" in lost.reason
    assert one.b.of(Disconnected)
    with pytest.raises(LocalProtocolError):
        one.b.agent.send(b"x", one.network.now)


def test_the_lite_side_follows_when_its_peer_comes_back() -> None:
    """The link is down for longer than consent lasts, then the peer checks again."""
    one = world()
    one.connect()
    one.internet.core.block(lambda packet: True)
    one.run(35)
    assert one.b.of(Disconnected)
    one.internet.core.block(None)
    before = len(one.b.of(PairSelected))
    assert one.run(60, lambda: len(one.b.of(PairSelected)) > before), one.report()
    one.run(3)
    one.exchange()


def test_without_a_peer_the_lite_side_gives_up() -> None:
    one = world()
    one.b.gather()
    one.signal(one.b, one.b.agent.set_remote_parameters, one.a.agent.local_parameters)
    one.run(60)
    assert one.b.of(IceFailed)


def check(agent: IceAgent, **changes: object) -> bytes:
    settings: dict[str, object] = {
        "username": f"{agent.local_parameters.ufrag}:{THEIRS.ufrag}",
        "key": short_term_key(agent.local_parameters.pwd),
        "priority": 5,
        "controlling": True,
        "tie_breaker": 5,
    }
    return build_check(b"t" * 12, **(settings | changes))  # type: ignore[arg-type]


def lite() -> IceAgent:
    agent = IceAgent(LITE, controlling=False, random_bytes=random.Random(1).randbytes)
    agent.add_local_address(LOCAL, NOW)
    agent.set_remote_parameters(THEIRS, NOW)
    return agent


def events(agent: IceAgent) -> list[object]:
    found = []
    while (event := agent.poll_event()) is not None:
        found.append(event)
    return found


def test_a_pair_is_valid_when_it_is_nominated_and_not_before() -> None:
    """RFC 8445 §7.3.2."""
    agent = lite()
    agent.receive(check(agent), Path(LOCAL, REMOTE), NOW)
    assert agent.selected is None
    with pytest.raises(LocalProtocolError):
        agent.send(b"x", NOW)
    agent.receive(check(agent, use_candidate=True), Path(LOCAL, REMOTE), NOW)
    assert agent.selected is not None
    assert {type(event) for event in events(agent)} >= {PairValidated, PairSelected}
    agent.send(b"x", NOW)


def test_a_peer_that_claims_to_be_controlled_is_told_otherwise() -> None:
    """With any tie-breaker: a lite agent has no other role."""
    for tie_breaker in (0, 2**64 - 1):
        agent = lite()
        agent.receive(check(agent, controlling=False, tie_breaker=tie_breaker), Path(LOCAL, REMOTE), NOW)
        out = agent.poll_transmit()
        assert out is not None
        error = decode(out.data).get(ERROR_CODE)
        assert error is not None
        assert error.code == 487
        assert agent.pairs == ()
        assert not agent.controlling


def test_two_lite_agents_are_refused() -> None:
    agent = IceAgent(LITE, controlling=True, random_bytes=random.Random(1).randbytes)
    assert not agent.controlling
    with pytest.raises(LocalProtocolError, match="lite"):
        agent.set_remote_parameters(THEIRS, NOW, lite=True)


def test_a_lite_agent_probes_nothing() -> None:
    agent = lite()
    agent.receive(check(agent, use_candidate=True), Path(LOCAL, REMOTE), NOW)
    assert agent.selected is not None
    with pytest.raises(LocalProtocolError, match="lite"):
        agent.probe(agent.selected.id, 1200, NOW)
    agent.doubt(NOW)


@pytest.mark.parametrize(
    "changes",
    [{"stun_servers": (STUN_ONLY,)}, {"turn_servers": (TURN,)}, {"policy": TransportPolicy.RELAY}],
)
def test_a_lite_agent_has_no_servers(changes: dict[str, object]) -> None:
    """RFC 8445 §5.2: host candidates only."""
    with pytest.raises(ValueError, match="lite"):
        but(LITE, **changes)
