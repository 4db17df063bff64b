"""What the rest of the room relies on in qh3: each promise pinned, so that an upgrade cannot break it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from natwalk.core import LocalProtocolError
from natwalk.secure.engine import STREAM_REFUSALS, Engine, EngineSettings
from secure.pair import CLIENT_IDENTITY, SERVER_IDENTITY

SETTINGS = EngineSettings()


def connected() -> tuple[Engine, Engine]:
    client = Engine(SETTINGS, CLIENT_IDENTITY, pin=SERVER_IDENTITY.fingerprint)
    client.connect(0.0)
    flight = client.datagrams(0.0)
    server = Engine(SETTINGS, SERVER_IDENTITY, original_destination=flight[0][6:14])
    for _ in range(6):
        server.receive(flight, 0.0)
        client.receive(server.datagrams(0.0), 0.0)
        flight = client.datagrams(0.0)
    return client, server


def test_a_client_needs_a_pin() -> None:
    with pytest.raises(LocalProtocolError):
        Engine(SETTINGS, CLIENT_IDENTITY)


def test_the_pin_is_visible_after_the_handshake() -> None:
    client, _ = connected()
    assert client.peer_is_pinned()
    assert not Engine(SETTINGS, CLIENT_IDENTITY, pin=bytes(32)).peer_is_pinned()


def test_streams_are_refused_with_the_documented_exceptions() -> None:
    client, _ = connected()
    for call in (
        lambda: client.stop_stream(99_996, 0),
        lambda: client.reset_stream(99_996, 0),
        lambda: client.send_stream(1, b"x", False),
    ):
        with pytest.raises(STREAM_REFUSALS):
            call()


def test_finish_if_closed_tells_life_from_both_ends_of_it() -> None:
    """Alive: None. Closed by us: the last datagrams. Closed by the peer: none, and the event is there."""
    client, server = connected()
    assert client.finish_if_closed(0.0) is None
    server.close(5, "bye")
    last = server.finish_if_closed(0.0)
    assert last
    client.receive(last, 0.0)
    assert client.finish_if_closed(0.0) == []
    while (event := client.next_event()) is not None:
        final = event
    assert (final.error_code, final.frame_type, final.reason_phrase) == (5, None, "bye")
    assert client.timer() is None


def test_wire_bytes_never_raise() -> None:
    client, server = connected()
    for engine in (client, server):
        for data in (b"\x40", b"\x40" * 1500, b"\xc0\0\0\0\1", b"\xe0\0\0\0\1\x08" + bytes(100)):
            assert engine.receive([data], 0.0) is None or isinstance(engine.receive([data], 0.0), str)
        assert engine.finish_if_closed(0.0) is None


def test_an_error_of_the_engine_has_a_name() -> None:
    client, _ = connected()
    assert client.receive([object()], 0.0) == "TypeError"  # type: ignore[list-item]


def test_a_datagram_at_the_limit_fits_a_packet() -> None:
    for size in (1200, 1472, 9000):
        settings = EngineSettings(max_datagram_size=size)
        client = Engine(settings, CLIENT_IDENTITY, pin=SERVER_IDENTITY.fingerprint)
        assert client.datagram_limit == size - 64


def test_a_peers_close_prints_nothing() -> None:
    """qh3 warns through logging about every close; a program without logging must not see that."""
    script = (
        "from secure.test_engine import connected\n"
        "client, server = connected()\n"
        "server.close(1, 'noise')\n"
        "client.receive(server.datagrams(0.0), 0.0)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n" + script],
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert run.stdout == run.stderr == b""
