"""The relay client: it comes back, it does not hammer, and it believes nobody without proof."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance import CoreConformance
from natwalk.core import LocalProtocolError, Path, Transmit
from natwalk.relay import (
    PACKET_LIMIT,
    DisconnectWanted,
    GoneReason,
    PacketReceived,
    PeerGone,
    RefusalCode,
    RelayClient,
    RelayClientConfig,
    RelayLink,
    RelayLost,
    RelayReady,
    RelayRestarting,
    RelayServerConfig,
    frame,
)
from natwalk.relay.frames import FrameType
from natwalk.relay.handshake import Challenge, refusal
from natwalk.relay.queue import QUEUE_BYTES
from relay_world import SERVER, Host, World, identity, is_ready


class OverAPath:
    """A client as the conformance suite drives cores."""

    def __init__(self, client: RelayClient) -> None:
        self.client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def receive(self, datagram: bytes, path: Path, now: float) -> None:
        self.client.receive(datagram, now)

    def poll_transmit(self) -> Transmit | None:
        data = self.client.poll_transmit()
        return None if data is None else Transmit(data, self.path)

    path: Any = None


class TestConformance(CoreConformance):
    def make(self, now: float) -> Any:
        world = World()
        world.now = now
        return OverAPath(world.client(1).client)


class TestConformanceWhileConnecting(CoreConformance):
    def make(self, now: float) -> Any:
        world = World()
        client = world.client(1, start=False).client
        client.start(now)
        client.connection_made(now)
        return OverAPath(client)


def connected(config: RelayClientConfig | None = None, **server: Any) -> tuple[World, Host]:
    world = World(RelayServerConfig(**server))
    host = world.client(1, config)
    assert is_ready(host)
    return world, host


def test_a_client_is_a_relay_link() -> None:
    """What ``path/`` will see: ready, a limit, and send."""
    world, host = connected()
    link: RelayLink[bytes] = host.client
    assert link.ready
    assert link.packet_limit == PACKET_LIMIT
    assert link.send(b"x", SERVER.public, world.now)


def test_it_knows_the_key_that_the_server_proved() -> None:
    _, host = connected(RelayClientConfig(server_key=SERVER.public))
    assert host.of(RelayReady) == [RelayReady(SERVER.public)]
    assert host.client.server_key == SERVER.public


def test_a_server_with_another_key_is_not_even_told_ours() -> None:
    """FAULTS 147: a pinned key that does not fit is loud, and retried slowly."""
    world = World()
    host = world.client(1, RelayClientConfig(server_key=identity(5).public))
    [lost] = host.of(RelayLost)
    assert "another key" in lost.reason
    assert lost.retry_in == 30
    assert world.server.stats.refused == {}
    assert not host.client.ready


class TestSending:
    def test_nothing_is_sent_without_a_connection(self) -> None:
        client = RelayClient(identity(1), random_bytes=bytes)
        assert not client.send(b"x", identity(2).public, 0.0)
        assert client.drops.total == 1

    def test_what_is_too_long_is_the_callers_mistake(self) -> None:
        world, host = connected()
        with pytest.raises(LocalProtocolError):
            host.client.send(bytes(PACKET_LIMIT + 1), identity(2).public, world.now)
        with pytest.raises(LocalProtocolError):
            host.client.send(b"", b"short", world.now)

    def test_while_the_stream_takes_nothing_the_oldest_go(self) -> None:
        world, host = connected()
        other = world.client(2)
        host.client.pause()
        for number in range(1000):
            host.client.send(number.to_bytes(4, "big") + bytes(996), other.key, world.now)
        assert host.client._queue.queued <= QUEUE_BYTES
        host.client.resume()
        world.settle()
        numbers = [int.from_bytes(data[:4], "big") for _, data in other.packets]
        assert numbers == list(range(1000 - len(numbers), 1000))
        assert host.client.drops.counts["the relay takes too little"] == 1000 - len(numbers)


class TestKeepalive:
    def test_pings_are_spread_and_answered(self) -> None:
        world, host = connected()
        times: list[float] = []
        for _ in range(200):
            due = host.client.next_timeout()
            assert due is not None
            times.append(due - world.now)
            world.run(due - world.now)
        assert host.client.ready
        assert host.client.rtt == 0
        assert 15 <= min(times) < 17
        assert 23 < max(times) <= 25

    def test_a_server_that_hangs_up_sooner_is_pinged_sooner(self) -> None:
        world, host = connected(idle_timeout=9)
        world.run(60)
        assert host.client.ready
        assert len(host.dials) == 1

    def test_a_relay_that_does_not_answer_is_lost(self) -> None:
        """FAULTS 145: a black hole, no reset; noticed within a keepalive and five seconds."""
        world, host = connected()
        world._by_number.clear()
        number, host.number = host.number, None
        begin = world.now
        while not host.of(RelayLost):
            world.run(1)
        assert world.now - begin <= 25 + 5 + 1
        assert host.of(RelayLost)[0].reason == "the relay does not answer"
        assert number is not None

    def test_an_answer_to_no_ping_is_dropped(self) -> None:
        world, host = connected()
        host.client.receive(frame(FrameType.PONG, bytes(8)), world.now)
        assert host.client.drops.last == "an answer to no ping"

    def test_pings_of_the_server_are_answered(self) -> None:
        world, host = connected()
        for number in range(10):
            host.client.receive(frame(FrameType.PING, bytes([number] * 8)), world.now)
        assert host.client.poll_transmit() == frame(FrameType.PONG, bytes([9] * 8))


class TestComingBack:
    def test_delays_double_and_are_bounded(self) -> None:
        world = World()
        host = world.client(1, start=False)
        host.reachable = False
        host.client.start(world.now)
        world.settle()
        world.run(600)
        gaps = [b - a for a, b in zip(host.dials, host.dials[1:], strict=False)]
        assert gaps[0] <= 0.25
        assert all(gap <= 30 for gap in gaps)
        assert all(gap >= 15 for gap in gaps[8:])

    def test_it_comes_back_at_once_after_a_loss_and_then_slower(self) -> None:
        """A server that lets everybody in and falls over is not hammered."""
        world, host = connected()
        gaps = []
        for _ in range(8):
            lost_at = world.now
            world.lose(host)
            while not host.client.ready:
                world.run(0.5)
            gaps.append(host.dials[-1] - lost_at)
        assert gaps[0] <= 0.25
        assert gaps[-1] > 4

    def test_a_long_connection_forgives(self) -> None:
        world, host = connected()
        for _ in range(5):
            world.lose(host)
            world.run(40)
            assert host.client.ready
        assert all(event.retry_in <= 0.25 for event in host.of(RelayLost))

    @pytest.mark.parametrize(("in_ms", "for_ms"), [(2**32 - 1, 2**32 - 1), (0, 0), (5000, 20_000)])
    def test_what_a_server_says_about_its_restart_is_clamped(self, in_ms: int, for_ms: int) -> None:
        """FAULTS 152: a hostile relay cannot send us away for 49 days."""
        world, host = connected()
        hint = in_ms.to_bytes(4, "big") + for_ms.to_bytes(4, "big")
        host.client.receive(frame(FrameType.RESTARTING, hint), world.now)
        world.settle()
        [event] = host.of(RelayRestarting)
        assert event == RelayRestarting(min(in_ms / 1000, 60), min(for_ms / 1000, 60))
        world.lose(host)
        assert host.of(RelayLost)[0].retry_in == event.reconnect_in
        world.run(61)
        assert host.client.ready

    def test_after_close_it_stays_away(self) -> None:
        world, host = connected()
        host.client.close(world.now)
        host.client.close(world.now)
        world.settle()
        assert host.of(DisconnectWanted) == [DisconnectWanted("the client closed it")]
        world.run(100)
        assert len(host.dials) == 1
        assert host.client.next_timeout() is None
        host.client.start(world.now)
        world.settle()
        assert host.client.ready

    def test_a_handshake_that_hangs_is_given_up(self) -> None:
        world = World()
        host = world.client(1, start=False)
        host.client.start(world.now)
        host.client.poll_event()
        host.client.connection_made(world.now)
        world.run(10)
        assert [event.reason for event in host.of(RelayLost)] == ["the relay did not prove itself in time"]


class TestHostileServers:
    def begin(self) -> RelayClient:
        client = RelayClient(identity(1), random_bytes=lambda n: bytes(n))
        client.start(0.0)
        client.connection_made(0.0)
        while client.poll_event() is not None:
            pass
        return client

    def events(self, client: RelayClient) -> list[Any]:
        found = []
        while (event := client.poll_event()) is not None:
            found.append(event)
        return found

    @pytest.mark.parametrize(
        "said",
        [
            frame(FrameType.PACKET, bytes(40)),
            frame(FrameType.WELCOME, bytes(66)),
            frame(FrameType.CHALLENGE, bytes([1]) + bytes(64)),
            frame(FrameType.CHALLENGE, bytes([2]) + SERVER.public + bytes(32)),
            b"\x11\xff\xff\xff\xff",
            b"HTTP/1.1 200 OK\r\n\r\n" * 20,
        ],
    )
    def test_what_it_says_out_of_turn_ends_the_connection(self, said: bytes) -> None:
        client = self.begin()
        client.receive(said, 0.0)
        wanted, lost = self.events(client)
        assert isinstance(wanted, DisconnectWanted)
        assert isinstance(lost, RelayLost)
        client.receive(said, 0.0)
        assert self.events(client) == []

    def test_a_false_welcome_is_found_out(self) -> None:
        client = self.begin()
        client.receive(Challenge(SERVER.public, bytes(32)).encode(), 0.0)
        assert client.poll_transmit() is not None
        client.receive(frame(FrameType.WELCOME, bytes(66)), 0.0)
        _, lost = self.events(client)
        assert lost.retry_in == 30
        assert not client.ready

    def test_its_refusals_say_when_we_come_back(self) -> None:
        for code, lasting in ((RefusalCode.FULL, False), (RefusalCode.NOT_ALLOWED, True)):
            client = self.begin()
            client.receive(refusal(code, "no"), 0.0)
            _, lost = self.events(client)
            assert lost.code is code
            assert (lost.retry_in == 30) is lasting

    def test_packets_that_nobody_takes_do_not_pile_up(self) -> None:
        world, host = connected()
        wire = frame(FrameType.PACKET, SERVER.public, b"x") * 1000
        for _ in range(20):
            host.client.receive(wire, world.now)
        count = 0
        while host.client.poll_event() is not None:
            count += 1
        assert count == 4096
        assert host.client.drops.counts["events that nobody takes"] == 20_000 - 4096

    def test_a_reason_of_a_newer_version_is_read_as_not_here(self) -> None:
        world, host = connected()
        host.client.receive(frame(FrameType.GONE, SERVER.public, b"\x09more"), world.now)
        world.settle()
        assert host.of(PeerGone) == [PeerGone(SERVER.public, GoneReason.NOT_HERE)]

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.binary(max_size=120), max_size=6), st.integers(0, 3))
    def test_any_bytes_at_any_time_end_in_order(self, pieces: list[bytes], how_far: int) -> None:
        world = World()
        host = world.client(1, start=how_far > 0)
        for piece in pieces:
            host.client.receive(piece, world.now)
            world.settle()
        world.run(120)
        due = host.client.next_timeout()
        assert due is None or due > world.now
        assert not any(isinstance(event, PacketReceived) for event in host.heard) or how_far


def test_two_hosts_find_each_other_again_after_the_server_was_killed() -> None:
    """FAULTS 151: kill and start; both come back by themselves, and packets flow again."""
    world = World(cut=True)
    a, b = world.clients((1, 2))
    world.replace_server()
    world.run(1)
    assert a.client.ready
    assert b.client.ready
    a.client.send(b"again", b.key, world.now)
    world.settle()
    assert b.packets == [(a.key, b"again")]
