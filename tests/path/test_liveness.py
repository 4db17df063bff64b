from natwalk.path.liveness import PATIENCE, QUIET, Liveness, Verdict


def test_an_idle_path_is_never_judged() -> None:
    live = Liveness()
    assert live.next_timeout() is None
    assert live.handle_timeout(1e6) is Verdict.FINE


def test_silence_after_sending_asks_once_then_declares_death() -> None:
    live = Liveness()
    live.sent(10.0)
    live.sent(11.0)
    assert live.next_timeout() == 10.0 + QUIET
    assert live.handle_timeout(10.0 + QUIET / 2) is Verdict.FINE
    assert live.handle_timeout(10.0 + QUIET) is Verdict.ASK
    assert live.handle_timeout(10.0 + QUIET) is Verdict.FINE
    assert live.handle_timeout(10.0 + QUIET + PATIENCE) is Verdict.DEAD
    assert live.next_timeout() is None


def test_anything_received_clears_the_suspicion() -> None:
    live = Liveness()
    live.sent(10.0)
    assert live.handle_timeout(10.0 + QUIET) is Verdict.ASK
    live.received()
    assert live.next_timeout() is None
    live.sent(20.0)
    assert live.next_timeout() == 20.0 + QUIET


def test_suspect_asks_at_once() -> None:
    live = Liveness()
    live.suspect(5.0)
    assert live.handle_timeout(5.0) is Verdict.ASK
