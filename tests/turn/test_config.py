from __future__ import annotations

from typing import Any

import pytest

from natwalk.turn import TurnConfig, TurnLimits


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"realm": ""}, "realm"),
        ({"realm": "a\nb"}, "realm"),
        ({"realm": "x" * 128}, "realm"),
        ({"users": {"alice": ""}}, "alice"),
        ({"users": {"": "pw"}}, "''"),
        ({"auth_secrets": ("a", "")}, "secret"),
        ({"relay_addresses": ("relay.example",)}, "relay.example"),
        ({"relay_addresses": ("0.0.0.0",)}, "0.0.0.0"),
        ({"relay_addresses": ("ff02::1",)}, "ff02::1"),
        ({"relay_addresses": ("2001:DB8::1",)}, "2001:DB8::1"),
        ({"port_range": (1023, 2000)}, "1023-2000"),
        ({"port_range": (2000, 1999)}, "2000-1999"),
        ({"port_range": (2000, 65536)}, "2000-65536"),
        ({"nonce_lifetime": 0.0}, "nonce"),
    ],
)
def test_wrong_values_are_refused_by_name(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError) as caught:
        TurnConfig(**settings)
    assert named in str(caught.value)


def test_limits_below_one_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="allocations_per_user"):
        TurnLimits(allocations_per_user=0)


def test_secrets_are_not_in_the_repr() -> None:
    """FAULTS 67: a configuration may end up in a log or a traceback."""
    config = TurnConfig(
        users={"alice": "canary-1"}, auth_secrets=("canary-2",), nonce_secret=b"canary-3-canary-3"
    )
    assert "canary" not in repr(config)
