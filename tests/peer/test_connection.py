"""PeerConnection, two of them, on virtual time: what becomes of a meeting through every kind of NAT."""

import pytest

from conformance import CoreConformance
from natwalk.core import Address, LocalProtocolError, Path
from natwalk.ice import IceConfig, TransportPolicy
from natwalk.path import PathKind
from natwalk.peer import (
    CodeReady,
    Connected,
    Failure,
    NatSeen,
    PathBroken,
    PathChosen,
    PeerConfig,
    PeerConnection,
    ResumeToken,
    Role,
)
from natwalk.rendezvous import Code
from natwalk.secure import Identity
from natwalk.sim.internet import two_peers
from natwalk.sim.link import LinkConfig
from natwalk.sim.peer import PeerMeeting, SimPeer

BLOB = bytes(range(256)) * 400


def meet(
    a: str = "port-restricted", b: str = "port-restricted", seed: int = 1, **options: object
) -> PeerMeeting:
    return PeerMeeting(two_peers(a, b, seed=seed, **options))  # type: ignore[arg-type]


def deliver(meeting: PeerMeeting, sender: SimPeer, receiver: SimPeer, within: float = 30.0) -> None:
    """Send BLOB on a fresh stream and see that it arrives whole."""
    stream = sender.send(BLOB, fin=True)
    assert meeting.network.run_for(within, stop=lambda: stream in receiver.finished), "the stream did not end"
    assert bytes(receiver.received[stream]) == BLOB


@pytest.mark.parametrize(
    ("a", "b", "kind"),
    [
        ("none", "none", PathKind.DIRECT),
        ("port-restricted", "port-restricted", PathKind.DIRECT),
        ("full-cone", "symmetric", PathKind.DIRECT),
        ("none", "symmetric", PathKind.DIRECT),
        ("cgnat", "address-restricted", PathKind.DIRECT),
        ("symmetric", "symmetric", PathKind.RELAY),
        ("port-restricted", "symmetric", PathKind.RELAY),
    ],
)
def test_bytes_flow_both_ways_over_the_best_path(a: str, b: str, kind: PathKind) -> None:
    meeting = meet(a, b)
    assert meeting.connect()
    assert meeting.b is not None
    deliver(meeting, meeting.a, meeting.b)
    deliver(meeting, meeting.b, meeting.a)
    meeting.network.run_for(10.0)
    for peer in (meeting.a, meeting.b):
        assert peer.info is not None
        assert peer.info.kind is kind


def test_the_same_lan_is_reached_without_the_router() -> None:
    meeting = meet("port-restricted", "port-restricted", same_lan=True)
    assert meeting.connect()
    assert meeting.a.info is not None
    assert meeting.a.info.remote.host == "192.168.1.11"
    assert (meeting.a.info.local_type, meeting.a.info.remote_type) == ("host", "host")


def test_an_easy_pair_connects_in_a_few_round_trips() -> None:
    """Code known on both sides: nine round trips of 84 ms are more than meeting, path and QUIC need."""
    meeting = meet()
    b = meeting.accept()
    start = meeting.network.now
    assert meeting.connect()
    connected = b.at(Connected)
    assert connected is not None
    assert connected - start < 9 * 0.084


def test_both_sides_can_say_why_a_relay_is_needed() -> None:
    meeting = meet("symmetric", "symmetric")
    assert meeting.connect()
    assert meeting.b is not None
    for peer in (meeting.a, meeting.b):
        assert peer.info is not None
        assert "symmetric" in peer.info.reason
        seen = {(e.side, e.mapping) for e in peer.history if isinstance(e, NatSeen)}
        assert ("local", "endpoint-dependent") in seen
        assert ("remote", "endpoint-dependent") in seen


def test_without_any_path_both_sides_fail_with_the_reason() -> None:
    meeting = PeerMeeting(two_peers("udp-blocked", "none", seed=1), relay=False)
    assert not meeting.connect()
    meeting.network.run_for(30.0)
    for peer in (meeting.a, meeting.b):
        assert peer is not None
        assert peer.ended is not None
        assert peer.ended.failure in (Failure.NO_PATH, Failure.PEER_CLOSED)
    ended = meeting.a.ended
    assert ended is not None
    assert "UDP" in ended.reason


def test_a_direct_only_policy_never_uses_the_relay() -> None:
    internet = two_peers("symmetric", "symmetric", seed=3)
    config = IceConfig(ta=0.02, policy=TransportPolicy.DIRECT, patience=5.0, early_failure=5.0)
    meeting = PeerMeeting(internet, config)
    assert not meeting.connect()
    assert meeting.a.paths == []


def test_a_relay_only_policy_stays_on_the_relay() -> None:
    config = IceConfig(ta=0.02, policy=TransportPolicy.RELAY, patience=10.0, early_failure=10.0)
    meeting = PeerMeeting(two_peers("none", "none", seed=3), config)
    assert meeting.connect()
    assert meeting.b is not None
    deliver(meeting, meeting.a, meeting.b)
    assert {info.kind for info in meeting.a.paths} == {PathKind.RELAY}
    assert "policy" in meeting.a.paths[0].reason


def test_a_wrong_code_burns_it_on_both_sides() -> None:
    meeting = meet()
    meeting.network.run_for(5.0, stop=lambda: meeting.a.code is not None)
    right = Code.parse(meeting.a.code or "")
    wrong = next(
        code
        for n in range(9)
        if (code := Code.generate(right.nameplate, lambda k, n=n: bytes([n]) * k)) != right  # type: ignore[misc]
    )
    b = meeting.accept(str(wrong))
    meeting.network.run_for(10.0)
    for peer in (meeting.a, b):
        assert peer.ended is not None
        assert peer.ended.failure is Failure.WRONG_CODE
    again = SimPeer(
        meeting.internet,
        meeting.internet.b,
        meeting.channels[1],
        meeting.ice,
        PeerConfig(Role.ACCEPT, code=right),
        meeting.server,
    )
    meeting.channels[1].restore()
    meeting.network.run_for(10.0)
    assert again.ended is not None
    assert again.ended.failure is Failure.CODE_NOT_FOUND


def test_a_code_nobody_waits_under_is_not_found() -> None:
    meeting = meet()
    b = meeting.accept(_code(77))
    meeting.network.run_for(10.0)
    assert b.ended is not None
    assert b.ended.failure is Failure.CODE_NOT_FOUND


def _code(nameplate: int) -> str:
    return str(Code.generate(nameplate, bytes))


@pytest.mark.parametrize("kinds", [("port-restricted", "port-restricted"), ("symmetric", "full-cone")])
def test_a_nat_that_forgets_everything_costs_no_byte(kinds: tuple[str, str]) -> None:
    meeting = meet(*kinds)
    assert meeting.connect()
    assert meeting.b is not None
    stream = meeting.a.send(BLOB)
    meeting.network.run_for(1.0)
    meeting.internet.a.routers[0].reboot()
    lost_at = meeting.network.now
    for _ in range(20):
        meeting.a.send(BLOB, stream)
        meeting.network.run_for(0.5)
    meeting.a.send(b"", stream, fin=True)
    assert meeting.network.run_for(60.0, stop=lambda: stream in meeting.b.finished)  # type: ignore[union-attr]
    assert bytes(meeting.b.received[stream]) == BLOB * 21
    assert meeting.network.now - lost_at < 40.0
    assert meeting.a.ended is None


def test_a_cut_direct_path_moves_to_the_relay_or_is_repaired_within_seconds() -> None:
    """Only the direct way is cut (the peers' packets to each other); the server stays reachable."""
    meeting = meet("none", "none")
    assert meeting.connect()
    b = meeting.b
    assert b is not None
    assert meeting.a.info is not None
    assert meeting.a.info.kind is PathKind.DIRECT
    block = {meeting.internet.a.public, meeting.internet.b.public}
    meeting.internet.core.block(lambda packet: {packet.source.host, packet.destination.host} == block)
    cut_at = meeting.network.now
    deliver(meeting, meeting.a, b, within=20.0)
    assert meeting.network.now - cut_at < 10.0
    assert meeting.a.info is not None
    assert meeting.a.info.kind is PathKind.RELAY


def test_a_killed_peer_is_noticed_and_the_token_brings_it_back() -> None:
    meeting = meet()
    assert meeting.connect()
    b = meeting.b
    assert b is not None
    token = meeting.a.resume
    assert token is not None
    assert token == b.resume
    b.kill()
    stream = meeting.a.send(BLOB)
    assert stream
    assert meeting.network.run_for(9.0, stop=lambda: meeting.a.ended is not None)
    assert meeting.a.ended is not None
    assert meeting.a.ended.failure is Failure.PEER_GONE
    meeting.channels[0].cut()
    meeting.a = meeting.offer(resume=token)
    b = meeting.accept(resume=token)
    for channel in meeting.channels:
        channel.restore()
    assert meeting.connect()
    deliver(meeting, meeting.a, b)


def test_a_resume_token_without_its_secret_opens_nothing() -> None:
    meeting = meet()
    assert meeting.connect()
    token = meeting.a.resume
    assert token is not None
    meeting.a.kill()
    assert meeting.b is not None
    meeting.b.kill()
    meeting.a = meeting.offer(resume=token)
    b = meeting.accept(resume=ResumeToken(token.mailbox, bytes(32)))
    for channel in meeting.channels:
        channel.restore()
    assert not meeting.connect(within=20.0)
    assert not meeting.a.connected
    assert not b.connected


def test_closing_tells_the_peer_and_gives_everything_back() -> None:
    meeting = meet()
    assert meeting.connect()
    b = meeting.b
    assert b is not None
    meeting.a.driver.do(meeting.a.core.close, "done here")
    meeting.network.run_for(5.0)
    assert meeting.a.ended is not None
    assert meeting.a.ended.failure is None
    assert b.ended is not None
    assert b.ended.failure is Failure.PEER_CLOSED
    assert "done here" in b.ended.reason
    with pytest.raises(LocalProtocolError):
        b.core.open_stream()


@pytest.mark.parametrize("seed", range(4))
def test_bad_links_delay_and_lose_nothing(seed: int) -> None:
    access = LinkConfig(delay=0.05, jitter=0.02, loss=0.05, duplicate=0.02)
    meeting = PeerMeeting(two_peers("port-restricted", "full-cone", seed=seed, access=access))
    assert meeting.connect(), f"seed {seed}: {meeting.a.history[-3:]}"
    assert meeting.b is not None
    deliver(meeting, meeting.a, meeting.b, within=60.0)


def test_the_rendezvous_channel_may_break_and_come_back_during_the_meeting() -> None:
    meeting = meet()
    meeting.accept()
    meeting.network.run_for(0.1)
    meeting.channels[0].cut()
    meeting.network.run_for(1.0)
    meeting.channels[0].restore()
    assert meeting.connect()


def test_garbage_on_every_socket_changes_nothing() -> None:
    meeting = meet("none", "none")
    assert meeting.connect()
    b = meeting.b
    assert b is not None
    assert b.info is not None
    stranger = Address("203.0.113.10", 9999)
    for n in range(300):
        noise = bytes((n * 7 + k * 13) & 0xFF for k in range(n))
        b.core.receive(noise, Path(b.info.local, stranger), meeting.network.now)
        b.core.receive(noise, Path(b.info.local, b.info.remote), meeting.network.now)
        b.core.receive_message(noise.decode("latin-1"), meeting.network.now)
        b.driver.flush()
    deliver(meeting, meeting.a, b)


def test_what_is_read_after_the_end_needs_no_connection() -> None:
    """The application may read what arrived before the end; nobody is told any more."""
    meeting = meet()
    assert meeting.connect()
    b = meeting.b
    assert b is not None
    stream = meeting.a.send(BLOB * 30)
    meeting.network.run_for(2.0)
    meeting.a.driver.do(meeting.a.core.close, "gone")
    meeting.network.run_for(2.0)
    assert b.ended is not None
    assert not b.core.consumed(stream, len(b.received[stream]), meeting.network.now)


def test_a_stream_stopped_one_way_keeps_its_credit_the_other_way() -> None:
    meeting = meet()
    assert meeting.connect()
    b = meeting.b
    assert b is not None
    stream = meeting.a.send(b"x" * 10)
    meeting.network.run_for(1.0)
    b.send(b"y" * 10, stream)
    meeting.network.run_for(1.0)
    b.core.consumed(stream, 10, meeting.network.now)
    meeting.a.driver.do(meeting.a.core.stop_stream, stream, 7)
    meeting.network.run_for(1.0)
    assert b.core._credit._taken == {stream: 10}
    meeting.a.send(b"", stream, fin=True)
    meeting.network.run_for(1.0)
    assert len(b.core._credit) == 0, "both directions have ended"


def test_events_tell_the_story_in_order() -> None:
    meeting = meet()
    assert meeting.connect()
    kinds = [type(event) for event in meeting.a.history]
    order = [kinds.index(kind) for kind in (CodeReady, PathChosen, Connected)]
    assert order == sorted(order)
    assert PathBroken not in kinds


def test_commands_before_their_time_are_refused() -> None:
    core = PeerConnection(PeerConfig(Role.OFFER), identity=Identity.generate(), random_bytes=bytes)
    with pytest.raises(LocalProtocolError, match="not connected"):
        core.open_stream()
    with pytest.raises(LocalProtocolError, match="not configured"):
        core.add_local_address(0, Address("192.0.2.1", 5), 0.0)


class TestPeerConnectionConformance(CoreConformance):
    def make(self, now: float) -> PeerConnection:
        core = PeerConnection(
            PeerConfig(Role.OFFER), identity=Identity.generate(), random_bytes=lambda n: bytes(range(n))
        )
        core.start(now)
        core.configure_ice(IceConfig(stun_servers=(Address("198.51.100.20", 3478),)), now)
        core.add_local_address(0, Address("192.0.2.10", 40000), now)
        core.end_of_local_addresses(0, now)
        return core
