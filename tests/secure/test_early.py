"""Early data: what is kept, and that a replay is exact."""

from __future__ import annotations

import pytest

from natwalk.core import LocalProtocolError
from natwalk.secure.early import EarlyData


class Recorder:
    """Stands in for an engine."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def open_stream(self, stream_id: int) -> None:
        self.calls.append(("open", stream_id))

    def send_stream(self, stream_id: int, data: bytes, fin: bool) -> None:
        self.calls.append(("send", stream_id, data, fin))


def test_replay_repeats_everything_in_order_as_often_as_asked() -> None:
    early = EarlyData()
    early.open(4)
    early.open(8)
    early.write(8, b"b", False)
    early.write(4, bytearray(b"a"), True)
    early.write(8, memoryview(b"c"), True)
    expected = [
        ("open", 4),
        ("open", 8),
        ("send", 8, b"b", False),
        ("send", 4, b"a", True),
        ("send", 8, b"c", True),
    ]
    for _ in range(2):
        engine = Recorder()
        early.replay(engine)  # type: ignore[arg-type]
        assert engine.calls == expected
    assert (early.size(), early.size(4), early.size(8), early.size(12)) == (3, 1, 2, 0)


def test_a_mutable_buffer_may_be_reused_after_the_write() -> None:
    early, engine = EarlyData(), Recorder()
    early.open(4)
    buffer = bytearray(b"one")
    early.write(4, buffer, False)
    buffer[:] = b"two"
    early.replay(engine)  # type: ignore[arg-type]
    assert engine.calls[-1] == ("send", 4, b"one", False)


def test_streams_not_open_for_writing_are_refused() -> None:
    early = EarlyData()
    with pytest.raises(LocalProtocolError):
        early.write(4, b"x", False)
    early.open(4)
    early.write(4, b"", True)
    with pytest.raises(LocalProtocolError):
        early.write(4, b"", True)
