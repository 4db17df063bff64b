"""The server's trial engines, beyond what the tests of the whole connection show."""

from __future__ import annotations

from natwalk.core import Drops
from natwalk.secure.accept import TRIALS, Acceptor
from natwalk.secure.engine import Engine, EngineSettings
from secure.pair import CLIENT_IDENTITY, SERVER_IDENTITY

SETTINGS = EngineSettings(idle_timeout=20.0)


def make_acceptor() -> Acceptor:
    return Acceptor(lambda cid: Engine(SETTINGS, SERVER_IDENTITY, original_destination=cid), Drops())


def make_client() -> tuple[Engine, list[bytes]]:
    client = Engine(SETTINGS, CLIENT_IDENTITY, pin=SERVER_IDENTITY.fingerprint)
    client.connect(0.0)
    return client, client.datagrams(0.0)


def test_returns_the_engine_with_the_datagram_that_completes_the_handshake() -> None:
    acceptor = make_acceptor()
    client, flight = make_client()
    found = []
    for _ in range(3):
        for data in flight:
            if (engine := acceptor.receive(data, 0.0)) is not None:
                found.append(engine)
        client.receive(acceptor.datagrams(), 0.0)
        flight = client.datagrams(0.0)
        if found:
            break
    assert len(found) == 1
    assert found[0].connection_id


def test_datagrams_of_one_handshake_may_come_in_any_order() -> None:
    acceptor = make_acceptor()
    client, flight = make_client()
    for data in reversed(flight):
        acceptor.receive(data, 0.0)
    client.receive(acceptor.datagrams(), 0.0)
    assert [acceptor.receive(data, 0.0) for data in client.datagrams(0.0)].count(None) >= 1


def test_a_repeated_initial_needs_no_second_engine() -> None:
    made = []

    def make(cid: bytes) -> Engine:
        made.append(cid)
        return Engine(SETTINGS, SERVER_IDENTITY, original_destination=cid)

    acceptor = Acceptor(make, Drops())
    _, flight = make_client()
    for data in flight * 3:
        acceptor.receive(data, 0.0)
    assert len(made) == 1


def test_half_open_handshakes_are_bounded_and_expire() -> None:
    """No state is kept for longer than the idle timeout, and never more than TRIALS."""
    acceptor = make_acceptor()
    for _ in range(3 * TRIALS):
        for data in make_client()[1]:
            acceptor.receive(data, 0.0)
    acceptor.datagrams()
    for _ in range(1000):
        due = acceptor.next_timeout()
        if due is None:
            break
        acceptor.handle_timeout(due)
        acceptor.datagrams()
    assert acceptor.next_timeout() is None
