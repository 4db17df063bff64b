"""The client's attempts: when they are made, how many, and what ends them."""

from __future__ import annotations

from natwalk.core import Drops
from natwalk.secure import CloseCode, Identity
from natwalk.secure.accept import Acceptor
from natwalk.secure.dial import ATTEMPTS_LIMIT, INTERVALS, SESSIONS_LIMIT, UNSECURED_AT_ONCE, Dialler
from natwalk.secure.session import Session
from secure.pair import SERVER_IDENTITY, make_session


def make_dialler() -> tuple[Dialler, list[Session]]:
    made: list[Session] = []

    def make() -> Session:
        made.append(make_session())
        return made[-1]

    return Dialler(make, Drops()), made


def make_acceptor(identity: Identity = SERVER_IDENTITY) -> Acceptor:
    return Acceptor(lambda cid: make_session(original_destination=cid, identity=identity), Drops())


def answer(dialler: Dialler, acceptor: Acceptor, now: float) -> list[bytes]:
    for data in dialler.datagrams(now):
        acceptor.receive(data, now)
    return acceptor.datagrams(now)


def run(dialler: Dialler, made: list[Session], until: float) -> list[float]:
    """Let timers fire; the times at which a new attempt was made."""
    times = []
    for _ in range(2000):
        due = dialler.next_timeout()
        if due is None or due > until:
            break
        before = len(made)
        dialler.handle_timeout(due)
        dialler.datagrams(due)
        if len(made) > before:
            times.append(due)
    return times


def test_attempts_follow_the_intervals() -> None:
    dialler, made = make_dialler()
    dialler.start(0.0)
    assert sum(map(len, dialler.datagrams(0.0))) >= 1200
    times = run(dialler, made, 8.0)
    first = [sum(INTERVALS[: n + 1]) for n in range(len(INTERVALS))]
    assert times[:3] == first
    assert times[3] == first[-1] + INTERVALS[-1]
    assert len({session.engine.connection_id for session in made}) == len(made)


def test_attempts_are_bounded_at_once_and_in_all() -> None:
    dialler, made = make_dialler()
    dialler.start(0.0)
    run(dialler, made, 500.0)
    assert len(made) == ATTEMPTS_LIMIT
    assert len(dialler._sessions) <= UNSECURED_AT_ONCE
    assert dialler.next_timeout() is None
    dialler.start(500.0)
    assert len(made) == ATTEMPTS_LIMIT


def test_an_older_attempt_may_still_win() -> None:
    """The answer to the first attempt comes after the second was made: it counts."""
    dialler, made = make_dialler()
    dialler.start(0.0)
    acceptor = make_acceptor()
    late = answer(dialler, acceptor, 0.0)
    run(dialler, made, INTERVALS[0])
    assert len(made) == 2
    for data in late:
        assert dialler.receive(data, INTERVALS[0]) is None
    assert dialler.secured() == [made[0]]
    decided = [dialler.receive(data, INTERVALS[0]) for data in answer(dialler, acceptor, INTERVALS[0])]
    assert made[0] in decided
    assert made[0].proven
    dialler.clear()
    assert dialler.next_timeout() is None
    assert dialler.datagrams(INTERVALS[0]) == []


def test_secured_attempts_stay_but_not_without_bound() -> None:
    """The server may have taken any of them."""
    dialler, made = make_dialler()
    dialler.start(0.0)
    for session in made:
        session.secured = True
    now = 0.0
    for _ in range(ATTEMPTS_LIMIT):
        now += max(INTERVALS)
        dialler.start(now)
        for session in made:
            session.secured = True
    assert len(dialler._sessions) == SESSIONS_LIMIT
    assert made[0] in dialler.secured()


def test_a_wrong_certificate_decides_at_once() -> None:
    dialler, _ = make_dialler()
    dialler.start(0.0)
    decided = [dialler.receive(d, 0.0) for d in answer(dialler, make_acceptor(Identity.generate()), 0.0)]
    (session,) = {session for session in decided if session is not None}
    assert session.ending is not None
    assert session.ending.code == CloseCode.AUTHENTICATION_FAILED


def test_an_engine_that_overlooks_the_pin_is_overruled() -> None:
    """The certificate is compared again outside the engine, before a proof is sent."""
    dialler, made = make_dialler()
    dialler.start(0.0)
    made[0].engine._pin = bytes(32)
    decided = [dialler.receive(data, 0.0) for data in answer(dialler, make_acceptor(), 0.0)]
    assert made[0] in decided
    assert made[0].ending is not None
    assert made[0].ending.code == CloseCode.AUTHENTICATION_FAILED
    assert not made[0].proven


def test_an_attempt_given_up_is_replaced_at_once() -> None:
    dialler, made = make_dialler()
    dialler.start(0.0)
    dialler.datagrams(0.0)
    made[0].engine._quic.close(0x0A, 0x06, "engine trouble")
    dialler.receive(b"\x40" + made[0].engine.connection_id + bytes(30), 0.0)
    assert dialler.next_timeout() == 0.0
    dialler.handle_timeout(0.0)
    assert len(made) == 2


def test_datagrams_for_nobody_are_counted() -> None:
    dialler, _ = make_dialler()
    dialler.start(0.0)
    for data in (b"\x40" * 30, b"", b"\xe0\0\0\0\1\x08" + bytes(60)):
        assert dialler.receive(data, 0.0) is None
    assert dialler._drops.total == 3
