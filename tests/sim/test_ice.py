"""The meeting itself; what pairs of NATs make of it is in test_ice_matrix.py and test_ice_scenarios.py."""

from __future__ import annotations

import pytest

from natwalk.ice import IceConfig, TransportPolicy
from natwalk.nat import Outcome
from natwalk.sim import SimulationError
from natwalk.sim.ice import IceMeeting
from natwalk.sim.internet import two_peers


def test_a_result_says_when_and_over_what() -> None:
    meeting = IceMeeting(two_peers("symmetric", "none", seed=1))
    result = meeting.run()
    assert result.outcome is Outcome.DIRECT
    assert result.pair == meeting.a.selected
    assert result.connected_after is not None
    assert result.direct_after is not None
    assert 0 < result.connected_after <= result.direct_after < 2


def test_without_a_relay_a_hard_pair_has_no_outcome() -> None:
    meeting = IceMeeting(two_peers("symmetric", "symmetric", seed=1), relay=False)
    result = meeting.run()
    assert result.outcome is Outcome.NONE
    assert result.connected_after is None
    assert meeting.failed
    assert meeting.a.failure is not None
    assert meeting.a.failure.detail


def test_a_configuration_is_passed_on() -> None:
    meeting = IceMeeting(two_peers("none", "none", seed=1), IceConfig(policy=TransportPolicy.RELAY))
    assert meeting.run().outcome is Outcome.RELAY


def test_data_that_does_not_arrive_is_an_error() -> None:
    internet = two_peers("none", "none", seed=1)
    meeting = IceMeeting(internet)
    meeting.run()
    internet.a.access.down()
    with pytest.raises(SimulationError, match="no data within"):
        meeting.exchange()


def test_peers_talk_their_own_small_language_only() -> None:
    meeting = IceMeeting(two_peers("none", "none", seed=1))
    meeting.internet.network.run_for(1)
    meeting.channel.a.send("gibberish")
    with pytest.raises(SimulationError, match="'gibberish'"):
        meeting.internet.network.run_for(1)


def test_who_gave_up_listens_no_more() -> None:
    meeting = IceMeeting(two_peers("udp-blocked", "udp-blocked", seed=1), relay=False)
    meeting.run()
    assert meeting.failed
    meeting.channel.a.send("gibberish")
    meeting.internet.network.run_for(1)
    assert not meeting.connected
