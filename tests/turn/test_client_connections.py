"""TCP allocations (RFC 6062) and allocations that move (RFC 8016), message by message."""

from __future__ import annotations

from typing import Any

import pytest

from client_script import KEY, LOCAL, RELAYED, Script
from conformance import CoreConformance, drain
from natwalk.core import Address, Core, LocalProtocolError, Path, Transport
from natwalk.stun import (
    CONNECTION_ID,
    LIFETIME,
    MOBILITY_TICKET,
    NONCE,
    REALM,
    XOR_PEER_ADDRESS,
    Method,
    decode,
    encode,
    error,
    indication,
    success,
)
from natwalk.turn import (
    AllocationFailed,
    AllocationLost,
    Closed,
    ConnectFailed,
    ConnectionBind,
    ConnectionBindFailed,
    ConnectionBound,
    Migrated,
    MigrationFailed,
    PeerConnected,
    PeerData,
    Stranded,
)
from natwalk.turn.client_connections import MAX_CONNECTING
from turn_world import LISTENER, PEER

SECOND = Path(LOCAL.with_port(40001), LISTENER, Transport.TCP)
MOVED = Address("192.0.2.200", 41000)


def tcp() -> Script:
    script = Script(transport=Transport.TCP, relay=Transport.TCP).allocated()
    script.said()
    return script


def bound(script: Script) -> tuple[ConnectionBind, Any]:
    core = script.client.bind_connection(77, SECOND, 0.0)
    [out], _ = drain(core)
    assert out.path == SECOND
    return core, decode(out.data)


class TestConnectionBindConformance(CoreConformance):
    """A ConnectionBind in flight."""

    def make(self, now: float) -> Core[Any]:
        return tcp().client.bind_connection(77, SECOND, now)

    def path(self, core: Core[Any]) -> Path:
        return SECOND


def test_connect_ends_in_a_connection_id() -> None:
    script = tcp()
    script.client.connect(PEER, 0.0)
    [request] = script.sent()
    assert (request.method, request.get(XOR_PEER_ADDRESS)) == (Method.CONNECT, PEER)
    with pytest.raises(LocalProtocolError, match="already connecting"):
        script.client.connect(PEER, 0.0)
    script.tell(success(request, (CONNECTION_ID, 77)))
    assert script.said() == [PeerConnected(PEER, 77)]
    script.client.connect(PEER, 0.0)


@pytest.mark.parametrize("code", [403, 446, 447])
def test_connect_that_fails_says_why(code: int) -> None:
    script = tcp()
    script.client.connect(PEER, 0.0)
    [request] = script.sent()
    script.tell(error(request, code, "no"))
    assert script.said() == [ConnectFailed(PEER, code, "no")]


def test_connect_answered_without_an_id_or_not_at_all_has_failed() -> None:
    script = tcp()
    script.client.connect(PEER, 0.0)
    [request] = script.sent()
    script.tell(success(request))
    script.client.connect(PEER, 0.0)
    script.sent()
    script.wait()
    assert [(e.code, bool(e.reason)) for e in script.said()] == [(None, True)] * 2


def test_connects_are_bounded() -> None:
    script = tcp()
    for n in range(MAX_CONNECTING):
        script.client.connect(PEER.with_port(1000 + n), 0.0)
    with pytest.raises(LocalProtocolError):
        script.client.connect(PEER, 0.0)


def test_incoming_connections_are_told_for_permitted_peers_only() -> None:
    script = tcp()
    attempt = indication(Method.CONNECTION_ATTEMPT, bytes(12), (XOR_PEER_ADDRESS, PEER), (CONNECTION_ID, 9))
    script.client.receive(encode(attempt), script.path, 0.0)
    assert script.said() == []
    script.client.create_permission([PEER.ip], 0.0)
    script.client.receive(encode(attempt), script.path, 0.0)
    incomplete = indication(Method.CONNECTION_ATTEMPT, bytes(12), (XOR_PEER_ADDRESS, PEER))
    script.client.receive(encode(incomplete), script.path, 0.0)
    assert script.said() == [PeerConnected(PEER, 9, incoming=True)]


def test_commands_of_one_kind_of_allocation_are_refused_by_the_other() -> None:
    script, other = tcp(), Script().allocated()
    for command in (
        lambda: script.client.send(b"x", PEER, 0.0),
        lambda: script.client.bind_channel(PEER, 0.0),
        lambda: other.client.connect(PEER, 0.0),
        lambda: other.client.bind_connection(1, SECOND, 0.0),
    ):
        with pytest.raises(LocalProtocolError, match="allocation"):
            command()


def test_connection_is_bound_with_credentials_and_a_nonce_of_its_own() -> None:
    """A 438 on the second connection, whose nonce differs, does not disturb the first."""
    script = tcp()
    core, request = bound(script)
    assert (request.method, request.get(CONNECTION_ID)) == (Method.CONNECTION_BIND, 77)
    stale = error(request, 438, "", (REALM, "here"), (NONCE, b"second"))
    core.receive(encode(stale), SECOND, 0.0)
    [out], _ = drain(core)
    again = decode(out.data)
    assert again.get(NONCE) == b"second"
    core.receive(b"garbage", SECOND, 0.0)
    core.receive(encode(success(again), integrity_key=KEY), SECOND, 0.0)
    assert drain(core) == ([], [ConnectionBound()])
    assert core.next_timeout() is None
    script.client.connect(PEER, 0.0)
    assert script.sent()[0].get(NONCE) == b"n"


def test_connection_bind_that_is_refused_or_not_answered() -> None:
    core, request = bound(tcp())
    core.receive(encode(error(request, 400, "no"), integrity_key=KEY), SECOND, 0.0)
    assert drain(core)[1] == [ConnectionBindFailed(400, "no")]
    core, _ = bound(tcp())
    core.handle_timeout(39.5)
    [failed] = drain(core)[1]
    assert failed.code is None


@pytest.mark.parametrize("transport", [Transport.TCP, Transport.DTLS])
def test_end_of_the_connection_is_the_end_of_the_allocation(transport: Transport) -> None:
    script = Script(transport=transport).allocated()
    script.said()
    script.client.disconnected(Path(MOVED, LISTENER, transport), "other", 0.0)
    script.client.disconnected(script.path, "reset", 0.0)
    script.client.disconnected(script.path, "reset", 0.0)
    assert script.said() == [AllocationLost("reset")]
    script = Script(transport=transport)
    script.client.allocate(0.0)
    script.client.disconnected(script.path, "reset", 0.0)
    assert script.said() == [AllocationFailed(None, "reset")]
    script = Script(transport=transport).allocated()
    script.said()
    script.client.close(0.0)
    script.client.disconnected(script.path, "reset", 0.0)
    assert script.said() == [Closed()]


def mobile(transport: Transport = Transport.UDP) -> Script:
    script = Script(transport=transport, mobility=True).allocated((MOBILITY_TICKET, b"t1"))
    script.said()
    return script


def test_ticket_is_asked_for_with_an_empty_one() -> None:
    assert Script(mobility=True).signed_allocate().get(MOBILITY_TICKET) == b""
    assert mobile().client.mobile
    assert not Script().allocated((MOBILITY_TICKET, b"unasked")).client.mobile


def test_allocation_moves_with_everything_that_is_unanswered() -> None:
    """RFC 8016 §3.2: a Refresh with the ticket from the new socket; what waits is asked from there."""
    script = mobile()
    new = Path(MOVED, LISTENER)
    script.client.create_permission([PEER.ip], 0.0)
    [permission] = script.sent()
    script.client.migrate(MOVED, 1.0)
    with pytest.raises(LocalProtocolError, match="already moving"):
        script.client.migrate(MOVED, 1.0)
    [refresh] = script.sent()
    assert script.paths == [new]
    assert (refresh.method, refresh.get(MOBILITY_TICKET)) == (Method.REFRESH, b"t1")
    stale = error(refresh, 438, "", (REALM, "here"), (NONCE, b"fresh"))
    script.tell(stale, signed=False, path=new)
    [refresh] = script.sent()
    script.tell(success(refresh, (LIFETIME, 600), (MOBILITY_TICKET, b"t2")), path=new)
    [again] = script.sent()
    assert (again.method, script.paths) == (permission.method, [new])
    assert script.said() == [Migrated(new)]
    assert (script.client.path, script.client.relayed) == (new, RELAYED)
    script.tell(success(again), path=new)
    script.client.send(b"x", PEER, 2.0)
    script.sent()
    assert script.paths == [new]
    script.client.migrate(LOCAL, 3.0)
    assert script.sent()[0].get(MOBILITY_TICKET) == b"t2"


def test_data_count_on_both_sockets_meanwhile() -> None:
    script = mobile()
    script.client.bind_channel(PEER, 0.0)
    [bind] = script.sent()
    script.tell(success(bind))
    script.client.migrate(MOVED, 0.0)
    script.said()
    for path in (script.path, Path(MOVED, LISTENER)):
        assert script.client.owns(b"\x40\x00\x00\x01x", path)
        script.client.receive(b"\x40\x00\x00\x01x", path, 0.0)
    script.client.receive(b"\x40\x00\x00\x01x", Path(MOVED.with_port(9), LISTENER), 0.0)
    assert script.said() == [PeerData(b"x", PEER)] * 2


def test_move_that_fails_leaves_the_allocation_where_it_was() -> None:
    script = mobile()
    new = Path(MOVED, LISTENER)
    script.client.migrate(MOVED, 0.0)
    [refresh] = script.sent()
    script.tell(error(refresh, 437, "Mismatch"), path=new)
    assert script.said() == [MigrationFailed(new, 437, "Mismatch")]
    assert (script.client.path, script.client.relayed) == (script.path, RELAYED)
    script.client.migrate(MOVED, 0.0)
    script.sent()
    script.client.disconnected(new, "reset", 0.0)
    assert script.said() == [MigrationFailed(new, None, "reset")]


def test_old_connection_may_end_before_the_move_is_confirmed() -> None:
    for success_follows in (True, False):
        script = mobile(Transport.DTLS)
        new = script.path._replace(local=MOVED)
        script.client.migrate(MOVED, 0.0)
        [refresh] = script.sent()
        script.client.disconnected(script.path, "closed", 0.0)
        assert script.said() == []
        answer = success(refresh, (LIFETIME, 600)) if success_follows else error(refresh, 437)
        script.tell(answer, path=new)
        expected: list[type] = [Migrated] if success_follows else [MigrationFailed, Stranded]
        assert [type(event) for event in script.said()] == expected


def test_mobile_allocation_outlives_its_connection() -> None:
    """It asks to be moved; moved, all is well; given up, or with its lifetime over, it is lost."""
    script = mobile(Transport.TCP)
    new = script.path._replace(local=MOVED)
    script.client.disconnected(script.path, "reset", 0.0)
    assert script.said() == [Stranded(script.path, "reset")]
    script.client.migrate(MOVED, 0.0)
    [refresh] = script.sent()
    script.tell(success(refresh, (LIFETIME, 600)), path=new)
    assert script.said() == [Migrated(new)]
    script.client.disconnected(new, "again", 1.0)
    script.client.disconnected(new, "given up", 1.0)
    assert script.said() == [Stranded(new, "again"), AllocationLost("given up")]


def test_stranded_allocation_is_closed_at_once_and_lost_at_its_end() -> None:
    script = mobile(Transport.TCP)
    script.client.disconnected(script.path, "reset", 0.0)
    script.said()
    script.client.close(0.0)
    assert script.said() == [Closed()]
    script = mobile(Transport.TCP)
    script.client.disconnected(script.path, "reset", 0.0)
    script.client.handle_timeout(600.0)
    assert [type(event) for event in script.said()][-1] is AllocationLost


def test_nobody_moves_without_a_ticket() -> None:
    with pytest.raises(LocalProtocolError, match="ticket"):
        Script().allocated().client.migrate(MOVED, 0.0)


def test_server_that_forbids_mobility_is_asked_without() -> None:
    script = Script(mobility=True)
    script.tell(error(script.signed_allocate(), 405, "Mobility Forbidden"))
    [again] = script.sent()
    assert MOBILITY_TICKET not in again
    script.tell(error(again, 405, "Mobility Forbidden"))
    assert [event.code for event in script.said()] == [405]
