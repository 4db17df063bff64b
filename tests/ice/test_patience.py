"""When an agent may give up."""

from __future__ import annotations

from natwalk.ice import IceConfig
from natwalk.ice.patience import Patience


def test_it_runs_from_the_start_to_the_rfc_s_39_5_seconds() -> None:
    patience = Patience(IceConfig())
    assert patience.over_at(exhausted=True) is None
    patience.start(100.0)
    assert patience.over_at(exhausted=False) == patience.over_at(exhausted=True) == 139.5


def test_an_exhausted_agent_may_be_told_to_give_up_sooner() -> None:
    patience = Patience(IceConfig(patience=20.0, early_failure=10.0))
    patience.start(100.0)
    assert patience.over_at(exhausted=False) == 120.0
    assert patience.over_at(exhausted=True) == 110.0


def test_it_stops_with_a_valid_pair_and_starts_anew_without() -> None:
    patience = Patience(IceConfig())
    patience.start(100.0)
    patience.stop()
    assert patience.over_at(exhausted=True) is None
    patience.start(500.0)
    assert patience.over_at(exhausted=False) == 539.5
