"""Events are values, and the union names them all."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest

from natwalk import ice
from natwalk.ice import events


def test_every_event_is_in_the_union_exported_and_frozen() -> None:
    kinds = get_args(events.IceEvent)
    defined = {
        value
        for value in vars(events).values()
        if isinstance(value, type) and value.__module__ == events.__name__
    }
    assert set(kinds) == defined
    for kind in kinds:
        assert getattr(ice, kind.__name__) is kind
        assert kind.__name__ in ice.__all__


def test_an_event_cannot_be_changed() -> None:
    event = ice.Disconnected("because")
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.reason = "other"  # type: ignore[misc]
