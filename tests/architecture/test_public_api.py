"""What is public, pinned: a name that comes or goes is a decision, seen here and in the changelog."""

import importlib
import inspect
from pathlib import Path

import pytest

import natwalk

SOURCE = Path(__file__).parents[2] / "src" / "natwalk"

PUBLIC = [
    "Connection",
    "ConnectionEnded",
    "Failure",
    "InvalidCode",
    "InvalidServerUrl",
    "NatError",
    "PathInfo",
    "PathKind",
    "PathPolicy",
    "ResumeToken",
    "ServerUnavailable",
    "Stream",
    "StreamEnded",
    "__version__",
    "connect",
]

ROOMS = [
    "core",
    "stun",
    "turn",
    "ice",
    "rendezvous",
    "relay",
    "path",
    "secure",
    "peer",
    "nat",
    "transfer",
    "sim",
    "lab",
]


def test_the_face_of_the_package_is_pinned() -> None:
    assert sorted(natwalk.__all__) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_exists_and_says_what_it_is(name: str) -> None:
    value = getattr(natwalk, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__doc__


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="teleport"):
        natwalk.teleport  # noqa: B018


def test_dir_lists_what_is_public() -> None:
    assert set(PUBLIC) <= set(dir(natwalk))


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_re_exports_what_exists(room: str) -> None:
    module = importlib.import_module(f"natwalk.{room}")
    assert module.__doc__
    assert module.__all__
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert hasattr(module, name), f"natwalk.{room}.{name}"


def test_the_types_are_shipped() -> None:
    assert (SOURCE / "py.typed").exists()
