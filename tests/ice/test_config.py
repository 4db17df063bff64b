"""Configuration is checked when it is made."""

from __future__ import annotations

from typing import Any

import pytest

from natwalk.core import Address
from natwalk.ice import IceConfig, TurnServerAddress


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"ta": 0.004}, "ta 0.004"),
        ({"patience": 5.0, "early_failure": 6.0}, "early_failure 6.0"),
        ({"consent_interval": 26.0}, "consent"),
        ({"check_rc": 0}, "check_rc"),
        ({"check_rm": 65}, "check_rm"),
    ],
)
def test_values_no_agent_can_run_with_are_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        IceConfig(**changes)


def test_the_defaults_are_those_of_the_rfcs() -> None:
    config = IceConfig()
    assert config.ta == 0.05
    assert config.patience == 39.5
    assert (config.check_rc, config.check_rm) == (7, 16)
    assert (config.consent_interval, config.consent_expiry) == (5.0, 30.0)
    assert config.max_pairs == 100


def test_a_turn_password_is_not_in_the_repr() -> None:
    assert "hunter2" not in repr(TurnServerAddress(Address("192.0.2.1", 3478), "user", "hunter2"))
