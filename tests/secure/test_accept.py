"""The server's sessions before the decision, beyond what the tests of the whole connection show."""

from __future__ import annotations

from natwalk.core import Drops
from natwalk.secure.accept import TRIALS, Acceptor
from natwalk.secure.session import Session
from secure.pair import make_session


def make_acceptor() -> tuple[Acceptor, list[bytes]]:
    made: list[bytes] = []

    def make(destination: bytes) -> Session:
        made.append(destination)
        return make_session(original_destination=destination)

    return Acceptor(make, Drops()), made


def make_client() -> tuple[Session, list[bytes]]:
    client = make_session()
    client.engine.connect(0.0)
    return client, client.datagrams(0.0)


def exchange(acceptor: Acceptor, client: Session, flight: list[bytes], rounds: int) -> list[Session]:
    decided = []
    for _ in range(rounds):
        decided += [session for data in flight if (session := acceptor.receive(data, 0.0)) is not None]
        client.feed(acceptor.datagrams(0.0), 0.0)
        flight = client.datagrams(0.0)
    return decided


def test_the_proven_session_is_returned() -> None:
    acceptor, _ = make_acceptor()
    client, flight = make_client()
    decided = exchange(acceptor, client, flight, 2)
    assert len(set(decided)) == 1
    assert decided[0].proven


def test_datagrams_of_one_handshake_may_come_in_any_order() -> None:
    acceptor, made = make_acceptor()
    client, flight = make_client()
    assert len(flight) > 1
    assert exchange(acceptor, client, flight[::-1], 2)
    assert len(made) == 1


def test_a_repeated_initial_needs_no_second_session() -> None:
    acceptor, made = make_acceptor()
    _, flight = make_client()
    for data in flight * 3:
        acceptor.receive(data, 0.0)
    assert len(made) == 1


def test_a_secured_session_is_not_pushed_out_by_new_initials() -> None:
    """One whose proof is still to come survives any number of strangers."""
    acceptor, _ = make_acceptor()
    client, flight = make_client()
    for data in flight:
        acceptor.receive(data, 0.0)
    client.feed(acceptor.datagrams(0.0), 0.0)
    finished = client.datagrams(0.0)
    proofs = [data for data in finished if not data[0] & 0x80]
    for data in finished:
        if data not in proofs:
            acceptor.receive(data, 0.0)
    assert len(acceptor.secured()) == 1
    for _ in range(3 * TRIALS):
        for data in make_client()[1]:
            acceptor.receive(data, 0.0)
    assert any(acceptor.receive(data, 0.0) is not None for data in proofs)


def test_half_open_handshakes_are_bounded_and_expire() -> None:
    """No state is kept for longer than the idle timeout, and never more than TRIALS."""
    acceptor, _ = make_acceptor()
    for _ in range(3 * TRIALS):
        for data in make_client()[1]:
            acceptor.receive(data, 0.0)
    assert len(acceptor._sessions) == TRIALS
    acceptor.datagrams(0.0)
    for _ in range(1000):
        due = acceptor.next_timeout()
        if due is None:
            break
        acceptor.handle_timeout(due)
        acceptor.datagrams(due)
    assert acceptor.next_timeout() is None
