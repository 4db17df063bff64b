from __future__ import annotations

from typing import Any

import pytest

from natwalk.stun import Algorithm
from natwalk.turn import OAuthKey, TurnConfig, TurnLimits


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


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"password_algorithms": ()}, "algorithms"),
        ({"password_algorithms": (Algorithm.MD5, Algorithm.MD5)}, "each once"),
        ({"third_party_authorization": "x" * 256}, "longer than 255"),
        ({"nonce_secret": b"short"}, "5 bytes"),
        ({"users": {"a\u202eb": "password"}}, "U\\+202E at 1"),
    ],
)
def test_credentials_that_cannot_be_are_refused_by_name(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TurnConfig(**settings)


@pytest.mark.parametrize("size", [0, 15, 17, 31, 33])
def test_oauth_key_has_16_or_32_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="north"):
        OAuthKey("north", bytes(size))
    with pytest.raises(ValueError, match="name"):
        OAuthKey("", bytes(16))
