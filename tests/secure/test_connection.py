"""Two SecureConnections against each other on a virtual clock: handshake, streams, datagrams, the end."""

from __future__ import annotations

import logging
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qh3.quic.connection import QuicConnectionError

from conformance import CoreConformance
from natwalk.core import Drops, LocalProtocolError, Path, Transmit
from natwalk.secure import (
    BACKLOG_LIMIT,
    CloseCode,
    DatagramReceived,
    Identity,
    SecureClosed,
    SecureConnected,
    SecureConnection,
    SecureEvent,
    State,
    StreamData,
    StreamReset,
    StreamStopped,
)
from natwalk.secure.session import Session
from secure.pair import CLIENT_IDENTITY, SERVER_IDENTITY, Pair, make_client, make_server, seeded_bytes

PROPERTY = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def closed(events: list[SecureEvent]) -> SecureClosed:
    """The SecureClosed that must be the last event, and the only one of its kind."""
    ends = [event for event in events if isinstance(event, SecureClosed)]
    assert len(ends) == 1, events
    assert events[-1] is ends[0]
    return ends[0]


class OnAPath:
    """A SecureConnection as a Core: with the paths that it does not care about."""

    def __init__(self, connection: SecureConnection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self.drops: Drops = connection.drops
        self.handle_timeout = connection.handle_timeout
        self.next_timeout = connection.next_timeout
        self.poll_event = connection.poll_event

    def receive(self, datagram: bytes, path: Path, now: float) -> None:
        self._connection.receive(datagram, now)

    def poll_transmit(self) -> Transmit | None:
        data = self._connection.poll_datagram()
        return None if data is None else Transmit(data, self._path)


class TestClientConformance(CoreConformance):
    def make(self, now: float) -> OnAPath:
        client = make_client()
        client.start(now)
        return OnAPath(client, self.path(None))  # type: ignore[arg-type]


class TestServerConformance(CoreConformance):
    def make(self, now: float) -> OnAPath:
        server = make_server()
        server.start(now)
        return OnAPath(server, self.path(None))  # type: ignore[arg-type]


class TestConnectedConformance(CoreConformance):
    """A connection in the middle of a transfer, its peer gone silent."""

    def make(self, now: float) -> OnAPath:
        pair = Pair(now=now - 10).connect()
        stream = pair.client.open_stream()
        pair.client.send_stream(stream, bytes(100_000))
        pair.run(0.05)
        pair.client.handle_timeout(now)
        return OnAPath(pair.client, self.path(None))  # type: ignore[arg-type]


class TestHandshake:
    def test_connects_both_ways(self) -> None:
        pair = Pair().connect()
        assert pair.client_events == [SecureConnected()]
        assert pair.server_events == [SecureConnected()]
        assert pair.client.state is pair.server.state is State.CONNECTED

    def test_the_proof_costs_the_client_no_round_trip(self) -> None:
        """Bytes written before the handshake arrive 1.5 round trips after the first datagram left."""
        pair = Pair(delay=0.05).start()
        stream = pair.client.open_stream()
        pair.client.send_stream(stream, b"early", fin=True)
        started = pair.now
        pair.run_until(lambda: pair.finished(pair.server, stream))
        assert pair.now - started == pytest.approx(0.15, abs=0.005)
        assert pair.received(pair.server, stream) == b"early"
        pair.run_until(lambda: pair.client_events == [SecureConnected()])
        assert pair.now - started == pytest.approx(0.2, abs=0.005)

    def test_nothing_but_handshake_leaves_before_the_pin_is_checked(self) -> None:
        """A server with another certificate sees not one byte of application data."""
        pair = Pair(server=make_server(identity=Identity.generate())).start()
        pair.client.send_stream(pair.client.open_stream(), b"secret" * 100)
        pair.run(60)
        end = closed(pair.client_events)
        assert (end.code, end.by_peer) == (CloseCode.AUTHENTICATION_FAILED, False)
        assert "expected certificate" in end.reason
        # the peer is told nothing by the engine, and gives up by its own deadline
        assert closed(pair.server_events).code == CloseCode.HANDSHAKE_TIMEOUT
        assert all(data[0] & 0x80 for data in pair.sent[id(pair.client)])

    @pytest.mark.parametrize(
        "options",
        [
            {"auth_key": b"x" * 32},
            {"peer_fingerprint": b"x" * 32},
            {"peer_fingerprint": SERVER_IDENTITY.fingerprint},
        ],
    )
    def test_server_refuses_a_client_that_cannot_prove_itself(self, options: dict[str, Any]) -> None:
        """Wrong key or another client's certificate: closed on both sides, and nothing of it surfaces."""
        pair = Pair(server=make_server(**options)).start()
        pair.client.send_stream(pair.client.open_stream(), b"let me in", fin=True)
        pair.run(60)
        assert len(pair.server_events) == len(pair.client_events) == 1
        assert closed(pair.server_events).code == CloseCode.AUTHENTICATION_FAILED
        assert closed(pair.client_events).code == CloseCode.AUTHENTICATION_FAILED
        assert not closed(pair.server_events).by_peer
        assert closed(pair.client_events).by_peer

    def test_client_refuses_a_server_that_cannot_prove_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server that lets anyone in but does not know the key gets no further."""
        monkeypatch.setattr("natwalk.secure.login.verify_client", lambda *args: None)
        pair = Pair(server=make_server(auth_key=b"?" * 32)).start()
        pair.run(60)
        assert closed(pair.client_events).code == CloseCode.AUTHENTICATION_FAILED
        assert closed(pair.server_events).by_peer

    def test_handshake_deadline(self) -> None:
        """Each end gives up at its own deadline when the other is not there, and is quiet from then on."""
        pair = Pair(client=make_client(handshake_timeout=4.0), server=make_server(handshake_timeout=6.0))
        pair.fault = lambda rng, data, now: []
        started = pair.start().now
        pair.run_until(lambda: bool(pair.client_events))
        assert pair.now - started == pytest.approx(4.0)
        pair.run_until(lambda: bool(pair.server_events))
        assert pair.now - started == pytest.approx(6.0)
        pair.run(60)
        for end in (pair.client, pair.server):
            assert closed(pair.events[id(end)]).code == CloseCode.HANDSHAKE_TIMEOUT
            assert end.next_timeout() is None
        assert len(pair.sent[id(pair.client)]) < 20

    def test_server_data_waits_for_the_clients_proof(self) -> None:
        server = make_server()
        with pytest.raises(LocalProtocolError):
            server.open_stream()
        server.start(0.0)
        with pytest.raises(LocalProtocolError):
            server.open_stream()
        with pytest.raises(LocalProtocolError):
            server.send_stream(1, b"x")

    def test_start_only_once_and_sane_options(self) -> None:
        client = make_client()
        client.start(0.0)
        with pytest.raises(LocalProtocolError):
            client.start(0.0)
        for options in (
            {"auth_key": b"short"},
            {"peer_fingerprint": b""},
            {"max_datagram_size": 1199},
            {"max_datagram_size": 65528},
        ):
            with pytest.raises(LocalProtocolError):
                make_client(**options)

    @pytest.mark.parametrize("size", [1200, 1280, 1452, 9000, 60000])
    def test_datagram_sizes(self, size: int) -> None:
        """Nothing longer than max_datagram_size is ever sent."""
        client, server = make_client(max_datagram_size=size), make_server(max_datagram_size=size)
        pair = Pair(client, server).connect()
        stream = client.open_stream()
        client.send_stream(stream, bytes(500_000), fin=True)
        pair.flush(client)
        pair.run_until(lambda: pair.finished(server, stream))
        server.send_stream(stream, bytes(500_000), fin=True)
        pair.flush(server)
        pair.run_until(lambda: pair.finished(client, stream))
        longest = max(map(len, pair.sent[id(client)]))
        assert size - 50 <= longest <= size
        assert max(map(len, pair.sent[id(server)])) <= min(size, 1472)

    def test_probing_finds_more_but_not_through_a_narrow_path(self) -> None:
        for limit in (1300, 1500):
            pair = Pair(make_client(probe_datagram_size=True), make_server())
            pair.fault = lambda rng, data, now, limit=limit: [(0.0, data)] if len(data) <= limit else []  # type: ignore[misc]
            pair.connect()
            pair.run(3)
            stream = pair.client.open_stream()
            before = len(pair.sent[id(pair.client)])
            pair.client.send_stream(stream, bytes(300_000), fin=True)
            pair.flush(pair.client)
            pair.run_until(lambda pair=pair, stream=stream: pair.finished(pair.server, stream))  # type: ignore[misc]
            used = max(len(data) for data in pair.sent[id(pair.client)][before:])
            assert used <= limit
            assert limit == 1300 or used > 1400


class TestFirstDatagrams:
    """What a server meets before the client's Initial (RFC 9000 §5.2.2 and §14.1)."""

    def first_flight(self) -> list[bytes]:
        client = make_client()
        client.start(0.0)
        return client.datagrams(0.0)

    def test_garbage_of_every_kind_does_not_lock_the_client_out(self) -> None:
        rng = random.Random(5)
        initial = self.first_flight()[0]
        flipped = bytearray(initial)
        flipped[700] ^= 1
        garbage = [
            b"",
            b"\x40",
            rng.randbytes(1200),
            b"\xc0" + rng.randbytes(1300),
            b"\xc0\0\0\0\1" + rng.randbytes(1300),
            b"\xc0\0\0\0\1\x08" + rng.randbytes(1300),
            b"\xc0\0\0\0\1\x07" + rng.randbytes(1300),
            b"\xc0\0\0\0\1\x14" + rng.randbytes(3),
            b"\xc0\0\0\0\0\x08" + rng.randbytes(40),
            b"\xf0\0\0\0\1\x08" + rng.randbytes(400),
            b"\xe0\0\0\0\1\x08" + rng.randbytes(400),
            initial[:1199],
            bytes(flipped),
            b"\x40" + rng.randbytes(1200),
        ]
        pair = Pair()
        pair.server.start(pair.now)
        for data in garbage * 20:
            pair.server.receive(data, pair.now)
            assert pair.server.datagrams(pair.now) == []
        assert pair.server.drops.total == len(garbage) * 20
        assert len(pair.server.drops.counts) >= 6
        pair.client.start(pair.now)
        pair.flush(pair.client)
        pair.run_until(lambda: pair.server_events == pair.client_events == [SecureConnected()])

    def test_valid_initials_of_strangers_do_not_lock_the_client_out(self) -> None:
        """More half-open handshakes than the server keeps: the oldest goes, the client still gets in."""
        pair = Pair()
        pair.server.start(pair.now)
        for _ in range(10):
            for data in self.first_flight():
                pair.server.receive(data, pair.now)
        assert pair.server.drops.counts["too many handshakes at once"] >= 6
        pair.client.start(pair.now)
        pair.flush(pair.client)
        pair.run_until(lambda: pair.server_events == pair.client_events == [SecureConnected()])
        pair.run(100)
        assert pair.server.state is State.CONNECTED

    def test_stranger_that_finishes_tls_is_refused(self) -> None:
        """Who knows the server's fingerprint but not the key ends the connection, without a word of data."""
        stranger = make_client(identity=Identity.generate(), auth_key=b"?" * 32)
        pair = Pair(client=stranger).start()
        stranger.send_stream(stranger.open_stream(), b"hello")
        pair.run(20)
        assert [type(event) for event in pair.server_events] == [SecureClosed]
        assert closed(pair.server_events).code == CloseCode.AUTHENTICATION_FAILED

    def test_nothing_is_taken_before_start_or_after_the_end(self) -> None:
        server = make_server()
        server.receive(b"\xc0" * 1200, 0.0)
        assert server.drops.last == "not started"
        server.start(0.0)
        server.close()
        server.receive(b"\xc0" * 1200, 0.0)
        assert server.drops.last == "closed"
        assert server.poll_event() == SecureClosed(CloseCode.NORMAL, "", False)
        assert server.next_timeout() is None

    def test_a_server_limits_what_it_sends_to_an_unproven_address(self) -> None:
        """At most three times what came (RFC 9000 §8.1), also over all retransmissions."""
        server = make_server(handshake_timeout=9.0)
        server.start(0.0)
        flight = self.first_flight()
        server.receive_many(flight, 0.0)
        sent = server.datagrams(0.0)
        now = 0.0
        for _ in range(100):
            due = server.next_timeout()
            if due is None:
                break
            now = due
            server.handle_timeout(now)
            sent += server.datagrams(now)
        assert now == 9.0
        assert sum(map(len, sent)) <= 3 * sum(map(len, flight))


class TestFaults:
    """Loss, reordering, duplication and corruption never show in a stream (FAULTS 143)."""

    @PROPERTY
    @given(
        seed=st.integers(0, 1 << 32),
        loss=st.sampled_from([0.0, 0.05, 0.2]),
        size=st.integers(0, 200_000),
        datagram_size=st.sampled_from([1200, 1280, 9000]),
    )
    def test_streams_are_exact(self, seed: int, loss: float, size: int, datagram_size: int) -> None:
        def fault(rng: random.Random, data: bytes, now: float) -> list[tuple[float, bytes]]:
            copies = []
            for _ in range(2 if rng.random() < 0.1 else 1):
                if rng.random() < loss:
                    continue
                if rng.random() < 0.05:
                    at = rng.randrange(len(data))
                    data = data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
                copies.append((rng.random() * 0.2 if rng.random() < 0.2 else 0.0, data))
            if rng.random() < 0.05:
                copies.append((rng.random(), rng.randbytes(rng.randrange(1500))))
            return copies

        client = make_client(max_datagram_size=datagram_size, handshake_timeout=100.0)
        server = make_server(max_datagram_size=datagram_size, handshake_timeout=100.0)
        pair = Pair(client, server, fault=fault, seed=seed).start()
        content = random.Random(seed).randbytes(size)
        stream = client.open_stream()
        client.send_stream(stream, content, fin=True)
        pair.flush(client)
        pair.run_until(lambda: pair.finished(server, stream), seconds=600)
        assert pair.received(server, stream) == content
        server.send_stream(stream, content[::-1], fin=True)
        pair.flush(server)
        pair.run_until(lambda: pair.finished(client, stream), seconds=600)
        assert pair.received(client, stream) == content[::-1]

    def test_handshakes_on_a_bad_path_are_soon_done(self) -> None:
        """A fifth lost each way and a fifth late: never a failure, never the engine's long back-off."""

        def fault(rng: random.Random, data: bytes, now: float) -> list[tuple[float, bytes]]:
            late = rng.random() * 0.2 if rng.random() < 0.2 else 0.0
            return [] if rng.random() < 0.2 else [(late, data)]

        times = []
        for seed in range(60):
            pair = Pair(
                make_client(handshake_timeout=30.0),
                make_server(handshake_timeout=30.0),
                fault=fault,
                seed=seed,
            )
            started = pair.start().now
            pair.run_until(lambda pair=pair: pair.client_events and pair.server_events)  # type: ignore[misc]
            assert pair.client_events + pair.server_events == [SecureConnected()] * 2, seed
            times.append(pair.now - started)
        assert sorted(times)[30] < 1.5
        assert max(times) < 15

    def test_a_handshake_the_server_breaks_off_is_tried_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A transport error before the proof says nothing about the peer; early data is not lost."""
        pair = Pair().start()
        stream = pair.client.open_stream()
        pair.client.send_stream(stream, b"early", fin=True)
        completed = Session._handshake_completed
        broken = []

        def break_first(session: Session) -> None:
            completed(session)
            if session._early is None and not broken:
                session.engine._quic.close(0x0A, 0x06, "a mood of the engine")
                broken.append(session)

        monkeypatch.setattr(Session, "_handshake_completed", break_first)
        pair.run_until(lambda: pair.finished(pair.server, stream))
        assert len(broken) == 1
        pair.run_until(lambda: pair.client_events == [SecureConnected()])
        assert pair.received(pair.server, stream) == b"early"
        assert pair.now < 1001

    @PROPERTY
    @given(
        at=st.integers(0, 40),
        garbage=st.lists(st.binary(max_size=1500), max_size=8),
        mimic=st.booleans(),
        to_client=st.booleans(),
    )
    def test_garbage_at_any_time_changes_nothing(
        self, at: int, garbage: list[bytes], mimic: bool, to_client: bool
    ) -> None:
        """Also when it looks like this connection's packets: right ID, right type, wrong bytes."""
        pair = Pair().start()
        stream = pair.client.open_stream()
        pair.client.send_stream(stream, bytes(20_000), fin=True)
        for _ in range(at):
            pair.step()
        target = pair.client if to_client else pair.server
        heads = [data[: 1 + 8] for data in pair.sent[id(pair.other(target))] if not data[0] & 0x80]
        heads += [data[:30] for data in pair.sent[id(pair.other(target))] if data[0] & 0x80]
        for data in garbage:
            target.receive(heads[len(data) % len(heads)] + data if mimic and heads else data, pair.now)
            pair.flush(target)
        pair.run_until(lambda: pair.finished(pair.server, stream))
        assert pair.received(pair.server, stream) == bytes(20_000)
        assert not any(isinstance(event, SecureClosed) for event in pair.client_events + pair.server_events)

    def test_version_negotiation_and_retry_are_ignored(self) -> None:
        """Well-formed ones with the right IDs, as one on the path could make them (RFC 9000 §17.2)."""
        pair = Pair().start()
        initial = pair.sent[id(pair.client)][0]
        destination, source = initial[6:14], initial[15:23]
        negotiation = b"\xff\0\0\0\0\x08" + source + b"\x08" + destination + b"\x6b\x33\x43\xcf"
        retry = b"\xf0\0\0\0\1\x08" + source + b"\x08" + bytes(8) + b"token" + bytes(16)
        for data in (negotiation, retry):
            pair.client.receive(data, pair.now)
        assert sum(pair.client.drops.counts.values()) == 2
        pair.run_until(lambda: pair.server_events == pair.client_events == [SecureConnected()])

    def test_a_client_whose_finished_never_arrives_connects_by_another_attempt(self) -> None:
        """Also when its engine goes on with data only: what the server cannot read is no dead end."""
        blocked: list[bytes] = []

        def fault(rng: random.Random, data: bytes, now: float) -> list[tuple[float, bytes]]:
            # every Handshake packet of the first attempt that gets as far is lost
            if data[0] & 0xF0 == 0xE0 and data in pair.sent[id(pair.client)]:
                blocked.append(data[6:14])
                if data[6:14] == blocked[0]:
                    return []
            return [(0.0, data)]

        pair = Pair(fault=fault).start()
        stream = pair.client.open_stream()
        pair.client.send_stream(stream, b"early", fin=True)
        pair.run_until(lambda: pair.client_events == [SecureConnected()])
        assert blocked
        assert pair.now < 1003
        pair.run_until(lambda: pair.finished(pair.server, stream))
        assert pair.received(pair.server, stream) == b"early"

    def test_long_headers_of_other_connections_are_dropped(self) -> None:
        pair = Pair().connect()
        pair.client.receive(b"\xc0\0\0\0\1\x08" + bytes(1300), pair.now)
        assert pair.client.drops.last == "no connection for this datagram"

    @pytest.mark.parametrize("outage", [3.0, 20.0, 45.0])
    def test_an_outage_is_survived_and_left_at_once(self, outage: float) -> None:
        """Nothing passes in mid-transfer; bytes flow two round trips after path_changed."""
        pair = Pair().connect()
        stream = pair.client.open_stream()
        size = 3_000_000
        pair.client.send_stream(stream, bytes(size), fin=True)
        pair.flush(pair.client)
        pair.run(0.1)
        before = len(pair.received(pair.server, stream))
        assert before < size
        pair.fault = lambda rng, data, now: []
        pair.run(outage)
        stalled = len(pair.received(pair.server, stream))
        pair.fault = lambda rng, data, now: [(0.0, data)]
        for end in (pair.client, pair.server):
            end.path_changed(pair.now)
            pair.flush(end)
        pair.run(4 * pair.delay)
        assert len(pair.received(pair.server, stream)) > stalled
        pair.run_until(lambda: pair.finished(pair.server, stream))
        assert len(pair.received(pair.server, stream)) == size

    def test_idle_timeout_when_the_peer_is_gone(self) -> None:
        pair = Pair(client=make_client(idle_timeout=30.0, keepalive=5.0)).connect()
        pair.fault = lambda rng, data, now: []
        started = pair.now
        pair.run_until(lambda: isinstance(pair.client_events[-1], SecureClosed))
        assert closed(pair.client_events).code == CloseCode.IDLE_TIMEOUT
        assert not closed(pair.client_events).by_peer
        assert 25 < pair.now - started < 40
        pair.run(60)
        assert closed(pair.server_events).code == CloseCode.IDLE_TIMEOUT
        assert pair.client.next_timeout() is None

    def test_keepalive_holds_an_unused_connection(self) -> None:
        pair = Pair().connect()
        sent_before = len(pair.sent[id(pair.client)])
        pair.run(600)
        assert pair.client.state is pair.server.state is State.CONNECTED
        assert 40 <= len(pair.sent[id(pair.client)]) - sent_before <= 240
        assert pair.client.rtt == pytest.approx(0.04, abs=0.03)


class TestStreams:
    def test_big_transfer_fed_by_backlog(self) -> None:
        pair = Pair(make_client(max_datagram_size=9000), make_server(max_datagram_size=9000)).connect()
        size, block = 30_000_000, bytes(range(256)) * 1024
        stream, fed = pair.client.open_stream(), 0
        received = 0

        def count(end: SecureConnection, event: SecureEvent) -> None:
            nonlocal received
            if isinstance(event, StreamData):
                assert event.data[:1] == bytes([received % 256])
                received += len(event.data)
            pair.events[id(end)].clear()

        pair.on_event = count
        while received < size:
            while fed < size and pair.client.send_backlog(stream) < 1 << 20:
                part = block[: size - fed]
                fed += len(part)
                pair.client.send_stream(stream, part, fin=fed == size)
            pair.flush(pair.client)
            assert pair.step()
        assert received == size

    def test_backlog_is_bounded(self) -> None:
        pair = Pair().connect()
        stream = pair.client.open_stream()
        pair.client.send_stream(stream, bytes(BACKLOG_LIMIT))
        with pytest.raises(LocalProtocolError):
            pair.client.send_stream(stream, b"x")
        assert pair.client.send_backlog(stream) == BACKLOG_LIMIT

    def test_early_data_is_bounded_too(self) -> None:
        client = make_client()
        client.start(0.0)
        stream = client.open_stream()
        with pytest.raises(LocalProtocolError):
            client.send_stream(stream, bytes(BACKLOG_LIMIT + 1))

    def test_early_streams_keep_the_rules_of_streams(self) -> None:
        client = make_client()
        client.start(0.0)
        stream = client.open_stream()
        client.send_stream(stream, bytearray(b"abc"))
        client.send_stream(stream, memoryview(b"de"), fin=True)
        assert client.send_backlog(stream) == 5
        for call in (
            lambda: client.send_stream(stream, b"after the end"),
            lambda: client.send_stream(99, b"not open"),
            lambda: client.send_stream(0, b"control"),
            lambda: client.reset_stream(stream),
            lambda: client.stop_stream(stream),
        ):
            with pytest.raises(LocalProtocolError):
                call()

    def test_many_streams_both_ways_in_any_order(self) -> None:
        """More streams over time than the limit of simultaneous ones, opened early, on both sides."""
        pair = Pair().start()

        def answer(end: SecureConnection, event: SecureEvent) -> None:
            mine = {0: pair.client, 1: pair.server}
            if isinstance(event, StreamData) and event.fin and mine[event.stream_id & 1] is not end:
                end.send_stream(event.stream_id, b"answer to %d" % event.stream_id, fin=True)
                pair.flush(end)

        pair.on_event = answer
        opened = [pair.client.open_stream() for _ in range(pair.client.streams_available)]
        assert len(opened) == 15
        for stream in reversed(opened):
            pair.client.send_stream(stream, b"early %d" % stream, fin=True)
        for _ in range(600):
            pair.step()
        for end in (pair.client, pair.server):
            streams = opened if end is pair.client else []
            for _ in range(250):
                pair.run_until(lambda end=end: end.streams_available > 0)  # type: ignore[misc]
                streams.append(end.open_stream())
                end.send_stream(streams[-1], b"x", fin=True)
                pair.flush(end)
            pair.run_until(lambda end=end, streams=streams: all(pair.finished(end, s) for s in streams))  # type: ignore[misc]
            assert pair.received(end, streams[-1]) == b"answer to %d" % streams[-1]

    def test_stream_limit_is_an_error_of_the_caller(self) -> None:
        pair = Pair().connect()
        for _ in range(pair.server.streams_available):
            pair.server.open_stream()
        with pytest.raises(LocalProtocolError):
            pair.server.open_stream()

    def test_reset_and_stop(self) -> None:
        pair = Pair().connect()
        a, b = pair.client.open_stream(), pair.client.open_stream()
        for stream in (a, b):
            pair.client.send_stream(stream, b"begin")
        pair.flush(pair.client)
        pair.run(1)
        pair.client.reset_stream(a, 7)
        pair.server.stop_stream(b, 8)
        pair.flush(pair.client)
        pair.flush(pair.server)
        pair.run(1)
        assert StreamReset(a, 7) in pair.server_events
        assert StreamStopped(b, 8) in pair.client_events
        for stream in (a, b):
            with pytest.raises(LocalProtocolError):
                pair.client.send_stream(stream, b"more")
        assert pair.client.state is State.CONNECTED

    def test_an_engine_that_fails_for_good_ends_the_connection(self) -> None:
        """A passing failure to send is waited out, a lasting one is not."""
        pair = Pair().connect()
        assert pair.client._session is not None
        engine = pair.client._session.engine
        working = engine.datagrams
        outcomes = [QuicConnectionError(1, None, "packet builder capacity exhausted")] * 100

        def failing(now: float) -> list[bytes]:
            if outcomes:
                raise outcomes.pop()
            return working(now)

        engine.datagrams = failing  # type: ignore[method-assign]
        del outcomes[3:]
        for _ in range(4):
            pair.client.datagrams(pair.now)
        assert pair.client.state is State.CONNECTED
        outcomes += [QuicConnectionError(1, None, "packet builder capacity exhausted")] * 65
        for _ in range(66):
            pair.client.datagrams(pair.now)
        pair.flush(pair.client)
        assert closed(pair.client_events).code == CloseCode.TRANSPORT_ERROR

    def test_misuse_raises_and_harms_nothing(self) -> None:
        pair = Pair().connect()
        client = pair.client
        stream = client.open_stream()
        client.send_stream(stream, b"x", fin=True)
        for call in (
            lambda: client.send_stream(stream, b"after the end"),
            lambda: client.send_stream(0, b"control"),
            lambda: client.send_stream(1, b"unknown to us"),
            lambda: client.send_stream(3, b"the peer's one-way"),
            lambda: client.reset_stream(0),
            lambda: client.stop_stream(99_996),
            lambda: client.reset_stream(99_996),
            lambda: client.reset_stream(stream, -1),
            lambda: client.stop_stream(stream, 1 << 32),
            lambda: client.close(1 << 40),
            lambda: client.send_datagram(bytes(client.datagram_limit + 1)),
        ):
            with pytest.raises(LocalProtocolError):
                call()
        pair.flush(client)
        pair.run_until(lambda: pair.finished(pair.server, stream))
        assert pair.received(pair.server, stream) == b"x"

    def test_an_application_that_reads_nothing_ends_the_connection(self) -> None:
        """Bounded memory, whatever the peer sends."""
        pair = Pair(make_client(max_datagram_size=60000), make_server(max_datagram_size=60000), delay=0.001)
        pair.connect()
        stream = pair.client.open_stream()
        polled = pair.server.poll_event
        pair.server.poll_event = lambda: None  # type: ignore[method-assign]
        for _ in range(60_000):
            if pair.server.state is not State.CONNECTED or pair.client.state is not State.CONNECTED:
                break
            if pair.client.send_backlog(stream) < 4 << 20:
                pair.client.send_stream(stream, bytes(4 << 20))
            pair.flush(pair.client)
            pair.step()
        pair.server.poll_event = polled  # type: ignore[method-assign]
        pair.run(1)
        assert closed(pair.server_events).code == CloseCode.OVERFLOW
        assert closed(pair.client_events).code == CloseCode.OVERFLOW


class TestDatagrams:
    def test_arrive_whole_up_to_the_limit(self) -> None:
        pair = Pair().connect()
        for end in (pair.client, pair.server):
            for size in (0, 1, 500, end.datagram_limit):
                assert end.send_datagram(bytes([7]) * size)
                pair.flush(end)
                pair.run(0.2)
                assert pair.events[id(pair.other(end))][-1] == DatagramReceived(bytes([7]) * size)

    def test_queue_is_bounded_and_recovers(self) -> None:
        """Without a drain the newest are refused; after one they go again, also beside a busy stream."""
        pair = Pair().connect()
        stream = pair.client.open_stream()
        for _ in range(5):
            accepted = 0
            for _ in range(5000):
                accepted += pair.client.send_datagram(bytes(1000))
            assert 0 < accepted < 300
            pair.client.send_stream(stream, bytes(100_000))
            pair.flush(pair.client)
            pair.run(5)
        got = sum(isinstance(event, DatagramReceived) for event in pair.server_events)
        assert got > 5 * 200

    def test_not_before_connected(self) -> None:
        client = make_client()
        client.start(0.0)
        assert client.datagram_limit == 0
        with pytest.raises(LocalProtocolError):
            client.send_datagram(b"x")


class TestTheEnd:
    @pytest.mark.parametrize("who", ["client", "server"])
    def test_close_is_told_at_once(self, who: str, caplog: pytest.LogCaptureFixture) -> None:
        """One path delay later the peer knows, with the code and a reason that is safe to show."""
        pair = Pair().connect()
        end = getattr(pair, who)
        started = pair.now
        with caplog.at_level(logging.CRITICAL, "quic"):
            end.close(42, "done\x1b[2J\n" + "é" * 500)
            pair.flush(end)
            pair.run_until(lambda: isinstance(pair.events[id(pair.other(end))][-1], SecureClosed))
        assert pair.now - started == pytest.approx(pair.delay, abs=0.001)
        ours, theirs = closed(pair.events[id(end)]), closed(pair.events[id(pair.other(end))])
        assert (ours.code, ours.by_peer, theirs.code, theirs.by_peer) == (42, False, 42, True)
        assert theirs.reason == ours.reason
        assert theirs.reason.startswith("done?[2J??")
        assert len(theirs.reason) <= 200
        pair.run(10)
        for connection in (pair.client, pair.server):
            assert connection.state is State.CLOSED
            assert connection.next_timeout() is None
            connection.close(1, "again")
            assert connection.poll_event() is None
            with pytest.raises(LocalProtocolError):
                connection.open_stream()

    def test_data_before_the_close_is_delivered_first(self) -> None:
        pair = Pair().connect()
        stream = pair.client.open_stream()
        pair.client.send_stream(stream, b"last words", fin=True)
        pair.flush(pair.client)
        pair.client.close()
        pair.flush(pair.client)
        pair.run(2)
        assert pair.received(pair.server, stream) == b"last words"
        assert closed(pair.server_events).code == CloseCode.NORMAL

    def test_both_close_at_the_same_time(self) -> None:
        pair = Pair().connect()
        pair.client.close(1, "a")
        pair.server.close(2, "b")
        pair.flush(pair.client)
        pair.flush(pair.server)
        pair.run(10)
        assert closed(pair.client_events).code == 1
        assert closed(pair.server_events).code == 2
        assert pair.client.state is pair.server.state is State.CLOSED

    def test_a_lost_close_is_sent_again(self) -> None:
        pair = Pair().connect()
        stream = pair.server.open_stream()
        pair.client.close(3)
        pair.client.datagrams(pair.now)  # lost
        pair.server.send_stream(stream, b"anyone?")
        pair.flush(pair.server)
        pair.run(2)
        assert closed(pair.server_events).code == 3

    @pytest.mark.parametrize("steps", range(0, 12, 2))
    def test_close_during_the_handshake(self, steps: int) -> None:
        pair = Pair().start()
        for _ in range(steps):
            pair.step()
        pair.client.close(9, "changed my mind")
        pair.flush(pair.client)
        pair.run(60)
        assert closed(pair.client_events).code == 9
        assert isinstance(pair.server_events[-1], SecureClosed)
        assert pair.client.state is pair.server.state is State.CLOSED
        assert pair.client.next_timeout() is None

    def test_close_before_start(self) -> None:
        client = make_client()
        client.close()
        assert client.poll_event() == SecureClosed(CloseCode.NORMAL, "", False)
        assert client.state is State.CLOSED

    def test_no_secret_in_repr(self) -> None:
        pair = Pair().connect()
        assert "kkkk" not in repr(pair.client) + repr(vars(pair.client))
        assert "private" not in repr(CLIENT_IDENTITY).lower()


def test_randomness_is_the_callers() -> None:
    """The proof's nonce comes from random_bytes and nowhere else."""
    asked: list[int] = []

    def record(count: int) -> bytes:
        asked.append(count)
        return seeded_bytes(3)(count)

    make_client(random_bytes=record).start(0.0)
    assert asked == [32]
