"""Ta and RTO."""

from __future__ import annotations

from natwalk.ice.pacing import Pacer, check_rto, gathering_rto


def test_rto_is_never_under_half_a_second() -> None:
    """RFC 8445 §14.3."""
    assert check_rto(0.05, 1) == gathering_rto(0.05, 1) == 0.5


def test_every_check_sends_once_before_any_sends_twice() -> None:
    """Deviates from RFC 8445 §14.3: without the factor N, the RTO is Ta times the checks outstanding."""
    assert check_rto(0.05, 100) == 5.0
    assert gathering_rto(0.05, 40) == 2.0


def test_one_transaction_every_ta() -> None:
    pacer = Pacer(0.05)
    assert pacer.ready(10.0)
    assert pacer.at(10.0) == 10.0
    pacer.took(10.0)
    assert not pacer.ready(10.049)
    assert pacer.at(10.0) == 10.05
    assert pacer.ready(pacer.at(10.0))
    assert pacer.at(11.0) == 11.0
