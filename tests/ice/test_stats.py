"""Statistics under the W3C's names, counted by two agents in the simulator."""

from __future__ import annotations

from ice_world import NO_RELAY, World, but
from natwalk.ice import PairStats, State

W3C = {
    "id",
    "timestamp",
    "type",
    "localCandidateId",
    "remoteCandidateId",
    "state",
    "nominated",
    "packetsSent",
    "packetsReceived",
    "bytesSent",
    "bytesReceived",
    "lastPacketSentTimestamp",
    "lastPacketReceivedTimestamp",
    "totalRoundTripTime",
    "currentRoundTripTime",
    "requestsReceived",
    "requestsSent",
    "responsesReceived",
    "responsesSent",
    "consentRequestsSent",
}
"""Members of RTCIceCandidatePairStats and of RTCStats above it, those that mean something here."""


def selected(world: World) -> tuple[PairStats, PairStats]:
    found = []
    for peer in (world.a, world.b):
        assert peer.selected is not None
        name = f"pair-{peer.selected.id}"
        found.append(next(s for s in peer.agent.stats(world.network.now) if s.id == name))
    return found[0], found[1]


def test_what_passes_is_counted_on_both_sides() -> None:
    world = World("port-restricted", "none", config=NO_RELAY)
    world.connect()
    for size in (1, 10, 100):
        world.a.send(b"x" * size)
    world.run(31)
    ours, theirs = selected(world)
    assert (ours.packets_sent, ours.bytes_sent) == (3, 111)
    assert (theirs.packets_received, theirs.bytes_received) == (3, 111)
    assert (ours.packets_received, theirs.packets_sent) == (0, 0)
    assert ours.last_packet_received_timestamp is None
    assert ours.last_packet_sent_timestamp is not None
    assert theirs.last_packet_received_timestamp is not None
    assert theirs.last_packet_received_timestamp > ours.last_packet_sent_timestamp
    assert 5 <= ours.consent_requests_sent <= 9
    assert ours.state is State.SUCCEEDED
    assert ours.nominated


def test_checks_and_round_trips_add_up() -> None:
    world = World("none", "none", config=NO_RELAY)
    world.connect()
    world.run(30)
    ours, theirs = selected(world)
    assert theirs.requests_received == theirs.responses_sent
    asked = ours.requests_sent + ours.consent_requests_sent
    assert ours.responses_received == asked == theirs.requests_received
    assert ours.current_round_trip_time is not None
    mean = ours.total_round_trip_time / ours.responses_received
    assert abs(mean - ours.current_round_trip_time) < 0.01


def test_the_names_are_those_of_the_w3c() -> None:
    world = World("none", "none", config=NO_RELAY)
    world.connect()
    world.exchange()
    stats, _ = selected(world)
    written = stats.to_json()
    assert set(written) == W3C
    assert written["type"] == "candidate-pair"
    assert written["state"] == "succeeded"
    assert written["timestamp"] == stats.timestamp * 1000


def test_a_failed_pair_says_why() -> None:
    """What is not known is left out, and the reason is there."""
    world = World("udp-blocked", "none", config=but(NO_RELAY, check_rc=1, check_rm=2, check_retries=0))
    world.start()
    world.run(30)
    failed = [stats for stats in world.a.agent.stats(world.network.now) if stats.state is State.FAILED]
    assert failed
    written = failed[0].to_json()
    assert written["reason"] == failed[0].reason != ""
    assert "currentRoundTripTime" not in written


def test_data_past_the_agent_is_counted_when_it_is_reported() -> None:
    world = World("none", "none", config=NO_RELAY)
    world.connect()
    agent, now = world.a.agent, world.network.now
    assert agent.selected is not None
    path = agent.route(agent.selected.id)
    assert path is not None
    agent.note_sent(agent.selected.id, now, [b"12", b"345"])
    agent.note_received(path, now, [b"1"])
    ours, _ = selected(world)
    assert (ours.packets_sent, ours.bytes_sent) == (2, 5)
    assert (ours.packets_received, ours.bytes_received) == (1, 1)
