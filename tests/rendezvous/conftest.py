"""A fresh wire for each test; see :mod:`rendezvous_wire`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rendezvous_wire import Wire


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def make_wire() -> Callable[..., Wire]:
    return Wire
