"""Peers that reach the relay by TCP only, over a line that comes and goes."""

from __future__ import annotations

import pytest

from natwalk.ice import IceConfig, TransportPolicy
from natwalk.nat import FirewallConfig, KindSpec, NatConfig, Outcome
from natwalk.sim.ice import IceMeeting
from natwalk.sim.internet import two_peers
from natwalk.sim.peer import PeerMeeting

CLOSED = KindSpec("closed", "", (FirewallConfig(udp=False, tcp=False),))
BEHIND_A_NAT = KindSpec("blocked, behind a NAT", "", (NatConfig(), FirewallConfig(udp=False)))


@pytest.mark.parametrize("kind", ["udp-blocked", BEHIND_A_NAT])
@pytest.mark.parametrize("other", ["none", "symmetric", "udp-blocked"])
def test_where_udp_is_blocked_the_relay_is_reached_by_tcp(kind: str | KindSpec, other: str) -> None:
    meeting = IceMeeting(two_peers(kind, other, seed=1))
    result = meeting.run()
    assert result.outcome is Outcome.RELAY
    assert result.connected_after is not None
    assert result.connected_after < 12.0


def test_what_lets_no_connection_out_has_no_relay() -> None:
    meeting = IceMeeting(two_peers(CLOSED, "none", seed=1), IceConfig(patience=15.0, early_failure=15.0))
    assert meeting.run().outcome is Outcome.NONE


def test_whole_peers_connect_within_three_seconds_and_lose_nothing_in_a_cut() -> None:
    meeting = PeerMeeting(two_peers("udp-blocked", "port-restricted", seed=1))
    assert meeting.connect(3.0)
    assert meeting.a.info is not None
    assert meeting.a.info.local_type == "relay"
    assert "UDP seems to be blocked" in meeting.a.info.reason
    meeting.internet.a.access.down()
    meeting.network.run_for(3.0)
    meeting.internet.a.access.up()
    number = meeting.a.send(bytes(range(256)) * 1000, fin=True)
    b = meeting.b
    assert b is not None
    meeting.network.run_for(30.0, stop=lambda: number in b.finished)
    assert b.received[number] == bytes(range(256)) * 1000


def test_a_relay_that_is_not_wanted_is_not_connected_to() -> None:
    config = IceConfig(policy=TransportPolicy.DIRECT, patience=10.0, early_failure=10.0)
    meeting = IceMeeting(two_peers("udp-blocked", "none", seed=1), config)
    assert meeting.run().outcome is Outcome.NONE
