from __future__ import annotations

import pytest

from natwalk.nat import NatConfig


@pytest.mark.parametrize(
    "fields",
    [
        {"ports": (0, 10)},
        {"ports": (10, 9)},
        {"ports": (1, 65536)},
        {"ports": (7, 7), "keep_parity": True},
        {"step": 0},
        {"idle_timeout": 0},
        {"poison_timeout": -1},
        {"max_mappings": 0},
        {"max_peers_per_mapping": 0},
        {"absolute_timeout": 0},
        {"max_mappings_per_subscriber": 0},
        {"absolute_spread": -1},
        {"syn_answer_delay": -1},
        {"remap_after": 0},
        {"max_packet": 0},
        {"replied_timeout": 0},
        {"router_address": "router"},
        {"public_addresses": ("198.51.100.1", "2001:db8::1")},
        {"public_addresses": ("example.com",)},
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        NatConfig(**fields)  # type: ignore[arg-type]


def test_at_changes_nothing_but_the_addresses() -> None:
    preset = NatConfig(idle_timeout=7)
    placed = preset.at("198.51.100.1", "198.51.100.2")
    assert placed.public_addresses == ("198.51.100.1", "198.51.100.2")
    assert placed.at() == preset
