"""The relay server: whom it serves, what it moves, and what nobody can make it do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from conformance import CoreConformance
from natwalk.core import Path
from natwalk.relay import (
    GoneReason,
    PacketReceived,
    PeerGone,
    RefusalCode,
    RelayClient,
    RelayLost,
    RelayServer,
    RelayServerConfig,
    Standing,
    frame,
)
from natwalk.relay.config import LARGEST_FRAME
from natwalk.relay.frames import FrameReader, FrameType
from natwalk.relay.queue import QUEUE_BYTES
from relay_world import SERVER, Host, World, identity, is_ready


class OneConnection:
    """A server as the conformance suite drives cores: one connection, whatever the path."""

    def __init__(self, server: RelayServer) -> None:
        self.server = server

    def __getattr__(self, name: str) -> Any:
        return getattr(self.server, name)

    def receive(self, datagram: bytes, path: Path, now: float) -> None:
        self.server.receive(1, datagram, now)
        while (event := self.server.poll_event()) is not None:
            self.server.connection_lost(event.number, now)


class TestConformance(CoreConformance):
    def make(self, now: float) -> Any:
        world = World()
        world.server.connection_made(1, "source", now)
        return OneConnection(world.server)


class TestBeforeTheProof(CoreConformance):
    """A client that says something else first."""

    def make(self, now: float) -> Any:
        world = World()
        world.client(7)
        world.server.connection_made(2, "source", now)
        return OneConnection(world.server)


def pair(**config: Any) -> tuple[World, Host, Host]:
    world = World(RelayServerConfig(**config))
    return world, *world.clients((1, 2))  # type: ignore[return-value]


class TestMoving:
    @pytest.mark.parametrize("cut", [False, True])
    def test_packets_get_to_the_key_they_are_for_and_name_the_sender(self, cut: bool) -> None:
        world = World(cut=cut)
        a, b, c = world.clients((1, 2, 3))
        for number in range(20):
            a.client.send(b"%d" % number, b.key, world.now)
            world.settle()
        b.client.send(b"x" * 65_536, a.key, world.now)
        world.settle()
        assert b.packets == [(a.key, b"%d" % number) for number in range(20)]
        assert a.packets == [(b.key, b"x" * 65_536)]
        assert c.packets == []
        assert world.server.stats.packets == 21

    def test_a_packet_may_be_empty(self) -> None:
        world, a, b = pair()
        a.client.send(b"", b.key, world.now)
        world.settle()
        assert b.packets == [(a.key, b"")]

    def test_a_key_that_is_not_here_is_told_of(self) -> None:
        world, a, _ = pair()
        a.client.send(b"x", identity(9).public, world.now)
        world.settle()
        assert a.of(PeerGone) == [PeerGone(identity(9).public, GoneReason.NOT_HERE)]
        assert world.server.stats.undeliverable == 1

    def test_whoever_talked_with_a_client_hears_that_it_is_gone(self) -> None:
        world = World()
        a, b, c = world.clients((1, 2, 3))
        a.client.send(b"x", b.key, world.now)
        world.settle()
        world.lose(a, told=False)
        assert b.of(PeerGone) == [PeerGone(a.key, GoneReason.DISCONNECTED)]
        assert c.of(PeerGone) == []


class TestSlowReaders:
    def test_the_oldest_packets_go_and_memory_stays_bounded(self) -> None:
        """FAULTS 63 and 112: a receiver that does not read loses its oldest packets, and nobody else any."""
        world = World()
        a, b, c = world.clients((1, 2, 3))
        assert b.number is not None
        world.server.pause(b.number, world.now)
        for number in range(1000):
            a.client.send(number.to_bytes(4, "big") + bytes(1196), b.key, world.now)
            a.client.send(number.to_bytes(4, "big"), c.key, world.now)
            world.settle()
        waiting = world.server._connections[b.number].queue
        assert waiting.queued <= QUEUE_BYTES
        world.server.resume(b.number)
        world.settle()
        numbers = [int.from_bytes(data[:4], "big") for _, data in b.packets]
        assert numbers == list(range(1000 - len(numbers), 1000))
        assert world.server.stats.dropped == 1000 - len(numbers)
        assert len(c.packets) == 1000

    def test_one_who_never_reads_is_closed(self) -> None:
        world, _, b = pair()
        assert b.number is not None
        world.server.pause(b.number, world.now)
        world.run(9)
        assert world.closed == []
        world.run(2)
        assert [event.reason for event in world.closed] == ["the client does not read"]

    def test_one_who_reads_again_is_not(self) -> None:
        world, _, b = pair()
        assert b.number is not None
        for _ in range(10):
            world.server.pause(b.number, world.now)
            world.run(9)
            world.server.resume(b.number)
            world.settle()
        assert world.closed == []

    def test_twenty_thousand_pings_wait_as_one_pong(self) -> None:
        """FAULTS 112: pongs are coalesced, one at most is queued."""
        world, a, _ = pair(rate=1e12)
        assert a.number is not None
        world.server.pause(a.number, world.now)
        pings = b"".join(frame(FrameType.PING, number.to_bytes(8, "big")) for number in range(1000))
        for _ in range(20):
            world.server.receive(a.number, pings, world.now)
        world.server.resume(a.number)
        out = world.server.poll_transmit()
        assert out == (a.number, frame(FrameType.PONG, (999).to_bytes(8, "big")))
        assert world.server.poll_transmit() is None


class TestRates:
    def test_a_client_over_its_rate_is_read_no_faster_and_loses_nothing(self) -> None:
        """FAULTS 118: back-pressure; what is sent at ten times the rate arrives whole, at the rate."""
        world, a, b = pair(rate=100_000, burst=100_000)
        assert a.number is not None
        wire = frame(FrameType.SEND, b.key, bytes(1000))
        begin, sent = world.now, 0
        while world.now < begin + 30:
            pause = world.server.receive(a.number, wire * 10, world.now)
            sent += 10
            world.settle()
            world.now += max(pause, 0.01)
        assert len(b.packets) == sent
        carried = sent * (len(wire) + 64)
        assert 0.95 * 100_000 * 30 <= carried <= 100_000 * 32

    def test_a_burst_below_one_frame_is_raised_to_one(self) -> None:
        """FAULTS 118: the largest frame passes whatever burst is configured, and the pause ends."""
        world, a, b = pair(rate=1000, burst=1)
        assert a.number is not None
        wire = frame(FrameType.SEND, b.key, bytes(65_536))
        pause = world.server.receive(a.number, wire, world.now)
        assert 0 < pause < LARGEST_FRAME / 1000 + 1
        world.settle()
        assert len(b.packets) == 1

    def test_a_changed_rate_counts_for_those_who_are_here(self) -> None:
        """FAULTS 118: a reload applies to live clients."""
        world, a, b = pair(rate=1e9)
        assert a.number is not None
        wire = frame(FrameType.SEND, b.key, bytes(60_000)) * 4
        assert world.server.receive(a.number, wire, world.now) == 0
        world.server.reconfigure(RelayServerConfig(rate=1000, burst=1), world.now)
        world.settle()
        assert world.server.receive(a.number, wire, world.now) > 100

    def test_notices_of_absent_peers_are_few(self) -> None:
        """FAULTS 119: 30,000 packets to absent keys bring three notices at once and one a second."""
        world, a, _ = pair(rate=1e12)
        assert a.number is not None
        wires = [frame(FrameType.SEND, number.to_bytes(32, "big"), b"x") for number in range(1000)]
        data = b"".join(wires)
        for _ in range(20):
            world.server.receive(a.number, data, world.now)
            world.settle()
        assert len(a.of(PeerGone)) == 3
        for _ in range(10):
            world.now += 1
            world.server.receive(a.number, data, world.now)
            world.settle()
        assert len(a.of(PeerGone)) == 13
        assert world.server.stats.undeliverable == 30_000

    def test_ten_thousand_leaving_at_once_cost_each_a_bounded_number_of_steps(self) -> None:
        """FAULTS 119: those who talked with everybody hear of three; one who leaves tells 64 at most."""
        world = World(RelayServerConfig(connections_per_source=20_000))
        hub = world.client(1)
        others = world.clients(range(2, 202))
        for each in others:
            each.client.send(b"x", hub.key, world.now)
        world.settle()
        hub.heard.clear()
        before = world.server.stats.notices
        for each in others:
            world.server.connection_lost(each.number or 0, world.now)
        world.settle()
        assert len(hub.of(PeerGone)) == 3
        assert world.server.stats.notices == before + 3
        assert len(world.server._connections[hub.number or 0].peers or ()) <= 64
        for each in others[:70]:
            world.client(5000 + others.index(each))


class TestDuplicates:
    def same(self, world: World, number: int) -> list[Host]:
        return [world.client(1) for _ in range(number)]

    def test_the_newest_gets_the_packets_and_the_old_one_is_told(self) -> None:
        """FAULTS 114: no packet comes twice."""
        world = World()
        sender = world.client(2)
        old, new = self.same(world, 2)
        sender.client.send(b"x", old.key, world.now)
        world.settle()
        assert old.of(Standing) == [Standing(False)]
        assert old.packets == []
        assert new.packets == [(sender.key, b"x")]
        assert new.of(Standing) == []

    def test_the_old_one_is_promoted_when_the_new_one_closes(self) -> None:
        """FAULTS 114: and its peers hear of no loss, as there is none."""
        world = World()
        sender = world.client(2)
        old, new = self.same(world, 2)
        sender.client.send(b"x", old.key, world.now)
        world.settle()
        new.client.close(world.now)
        world.settle()
        assert old.of(Standing) == [Standing(False), Standing(True)]
        sender.client.send(b"y", old.key, world.now)
        world.settle()
        assert old.packets == [(sender.key, b"y")]
        assert sender.of(PeerGone) == []

    def test_the_loss_of_the_old_one_changes_nothing(self) -> None:
        world = World()
        old, new = self.same(world, 2)
        world.lose(old, told=False)
        assert new.of(Standing) == []
        assert world.server.clients == 1

    def test_of_many_the_oldest_has_to_go_and_does_not_fight(self) -> None:
        """FAULTS 114: six clients with one key settle; who has no place waits half a minute."""
        world = World(RelayServerConfig(connections_per_key=4))
        hosts = self.same(world, 6)
        assert world.server.clients == 4
        lost = [event for host in hosts[:2] for event in host.of(RelayLost)]
        assert [event.code for event in lost] == [RefusalCode.SUPERSEDED] * 2
        dials = sum(len(host.dials) for host in hosts)
        world.run(300)
        assert sum(len(host.dials) for host in hosts) - dials <= 2 * 300 / 30 + 2


class TestWhoMayCome:
    def test_a_client_that_proves_nothing_has_ten_seconds(self) -> None:
        world = World()
        world.server.connection_made(1, "source", world.now)
        world.run(9.9)
        assert world.closed == []
        world.run(0.2)
        assert [event.reason for event in world.closed] == ["no key was proved in time"]

    def test_bytes_do_not_extend_them(self) -> None:
        """FAULTS 52: a byte now and then is no proof."""
        world = World()
        world.server.connection_made(1, "source", world.now)
        for byte in frame(FrameType.PROOF, bytes(129))[:20]:
            world.server.receive(1, bytes([byte]), world.now)
            world.run(0.6)
        assert [event.reason for event in world.closed] == ["no key was proved in time"]

    def test_the_client_of_another_channel_is_refused(self) -> None:
        """FAULTS 113: the two ends of one TLS connection see the same channel; a middleman's do not."""
        world = World()
        victim = world.client(1, binding=b"tls", start=False)
        victim.client.start(world.now)
        assert isinstance(victim.client.poll_event(), object)
        world.server.connection_made(1, "source", world.now, binding=b"the middleman's tls")
        out = world.server.poll_transmit()
        assert out is not None
        victim.client.connection_made(world.now, binding=b"tls")
        victim.client.receive(out[1], world.now)
        proof = victim.client.poll_transmit()
        assert proof is not None
        world.server.receive(1, proof, world.now)
        assert world.server.clients == 0
        assert world.server.stats.refused == {"proof": 1}

    def test_a_recorded_proof_is_good_once(self) -> None:
        """FAULTS 113: replayed in another connection it is refused, and nobody gets the key's packets."""
        world = World()
        recorded: list[bytes] = []
        a = world.client(1, start=False)
        original = a.client.poll_transmit
        a.client.poll_transmit = lambda: _record(recorded, original())  # type: ignore[method-assign]
        a.client.start(world.now)
        world.settle()
        assert is_ready(a)
        world.server.connection_made(77, "elsewhere", world.now)
        world.server.receive(77, recorded[0], world.now)
        assert world.server.clients == 1
        assert world.server.stats.refused == {"proof": 1}

    def test_keys_that_are_not_allowed_are_refused(self) -> None:
        world = World(RelayServerConfig(allow=frozenset({identity(1).public})))
        a, b = world.clients((1, 2))
        assert is_ready(a)
        assert [event.code for event in b.of(RelayLost)] == [RefusalCode.NOT_ALLOWED]

    def test_a_key_that_is_allowed_no_more_has_to_go(self) -> None:
        world, a, b = pair()
        world.server.reconfigure(RelayServerConfig(allow=frozenset({a.key})), world.now)
        world.settle()
        assert a.client.ready
        assert not b.client.ready

    def test_one_source_cannot_take_every_place(self) -> None:
        world = World(RelayServerConfig(connections=6, connections_per_source=4))
        for number in range(1, 6):
            world.server.connection_made(number, "greedy", world.now)
        world.server.connection_made(6, "other", world.now)
        world.server.connection_made(7, "third", world.now)
        reasons = [event.reason for event in _events(world.server)]
        assert reasons == ["too many connections from one source", "this relay has too many clients"]

    def test_frames_of_the_server_are_refused_from_a_client(self) -> None:
        for kind, size in ((FrameType.PACKET, 40), (FrameType.GONE, 33), (FrameType.RESTARTING, 8)):
            world, a, _ = pair()
            world.server.receive(a.number or 0, frame(kind, bytes(size)), world.now)
            assert world.server.stats.refused == {"malformed": 1}

    def test_silence_ends_a_client(self) -> None:
        world, a, b = pair()
        a.client.handle_timeout = lambda now: None  # type: ignore[method-assign]
        a.client.next_timeout = lambda: None  # type: ignore[method-assign]
        world.run(76)
        assert [event.reason for event in world.closed] == ["the client is silent"]
        assert b.client.ready


class TestTheEnd:
    def test_a_restart_spreads_its_clients(self) -> None:
        """FAULTS 152: all clients are back within 30 seconds, never a tenth of them in one second."""
        count = 200
        world = World(RelayServerConfig(connections_per_source=count, connections=count))
        hosts = world.clients(range(1, count + 1))
        world.server.restart(world.now)
        world.settle()
        begin = world.now
        world.replace_server(RelayServerConfig(connections_per_source=count, connections=count))
        world.run(30)
        back = sorted(host.dials[1] - begin for host in hosts)
        assert all(host.client.ready for host in hosts)
        assert all(len(host.dials) == 2 for host in hosts)
        peak = max(sum(second <= at < second + 1 for at in back) for second in range(30))
        assert peak <= count / 10

    def test_a_draining_server_serves_who_is_there_and_takes_nobody(self) -> None:
        world, a, b = pair()
        world.server.drain()
        late = world.client(3)
        assert [event.code for event in late.of(RelayLost)] == [RefusalCode.DRAINING]
        a.client.send(b"x", b.key, world.now)
        world.settle()
        assert b.packets == [(a.key, b"x")]

    def test_nothing_is_left_of_who_is_gone(self) -> None:
        world, a, b = pair()
        a.client.send(b"x", b.key, world.now)
        world.settle()
        for host in (a, b):
            host.client.close(world.now)
        world.settle()
        server = world.server
        assert (server.connections, server.clients, len(server._routes)) == (0, 0, 0)
        assert not server._sources
        assert server.next_timeout() is None

    def test_what_is_said_of_unknown_connections_is_harmless(self) -> None:
        world = World()
        world.server.connection_lost(5, world.now)
        world.server.pause(5, world.now)
        world.server.resume(5)
        assert world.server.receive(5, b"x", world.now) == 0
        assert world.server.drops.total == 1


@pytest.mark.parametrize(
    "wrong", [{"connections": 0}, {"rate": 0}, {"idle_timeout": 0}, {"notices_per_second": 0.0}]
)
def test_a_configuration_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="relay"):
        RelayServerConfig(**wrong)


def test_the_cost_of_a_packet_does_not_grow_with_the_number_of_clients() -> None:
    """FAULTS 171: steps are counted, not seconds."""
    world = World(RelayServerConfig(connections_per_source=10_000))
    a, b = world.clients((1, 2))
    few = _steps(world, a, b)
    world.clients(range(3, 103))
    assert _steps(world, a, b) <= few + 2


def test_the_server_is_not_told_what_is_in_packets() -> None:
    """FAULTS 122: nothing it keeps, shows or counts has a byte of a packet or a key."""
    world, a, b = pair()
    a.client.send(b"plaintext-marker", b.key, world.now)
    world.settle()
    shown = (
        repr(world.server.stats) + repr(world.server.drops.counts) + repr(PacketReceived(a.key, b"marker"))
    )
    assert "marker" not in shown
    assert a.key.hex() not in repr(world.server.stats) + repr(world.server.drops.counts)


def _steps(world: World, a: Host, b: Host) -> int:
    import sys

    count = 0

    def trace(frame_: Any, event: str, arg: Any) -> None:
        nonlocal count
        count += event == "call"

    wire = frame(FrameType.SEND, b.key, b"x")
    assert a.number is not None
    before = sys.getprofile()
    sys.setprofile(trace)
    try:
        world.server.receive(a.number, wire, world.now)
        world.server.poll_transmit()
    finally:
        sys.setprofile(before)
    world.settle()
    return count


def _record(into: list[bytes], data: bytes | None) -> bytes | None:
    if data is not None:
        into.append(data)
    return data


def _events(server: RelayServer) -> Iterator[Any]:
    while (event := server.poll_event()) is not None:
        yield event


def test_a_client_speaks_of_another_version() -> None:
    world = World()
    world.server.connection_made(1, "source", world.now)
    world.server.receive(1, frame(FrameType.PROOF, b"\2" + bytes(128)), world.now)
    assert world.server.stats.refused == {"version": 1}
    out = world.server.poll_transmit()
    assert out is not None
    kinds = [kind for kind, _ in FrameReader().feed(out[1])]
    assert kinds == [FrameType.REFUSED]
    assert isinstance(RelayClient(SERVER, random_bytes=bytes).identity.public, bytes)
