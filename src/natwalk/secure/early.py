"""What a client writes before the connection stands, kept for the engine that will carry it."""

from __future__ import annotations

from collections import Counter

from natwalk.core import LocalProtocolError
from natwalk.secure.engine import Engine


class EarlyData:
    """Streams opened and bytes written, in order; replayed into each engine that might carry them.

    Kept until the peer is proven, because only then is it sure that no other engine has to take them.
    """

    def __init__(self) -> None:
        self._opened: list[int] = []
        self._ended: set[int] = set()
        self._writes: list[tuple[int, bytes, bool]] = []
        self._sizes: Counter[int] = Counter()

    def open(self, stream_id: int) -> None:
        """Remember a stream of ours."""
        self._opened.append(stream_id)

    def write(self, stream_id: int, data: bytes | bytearray | memoryview, fin: bool) -> None:
        """Remember bytes; raises LocalProtocolError for a stream that is not open for writing."""
        if stream_id not in self._opened or stream_id in self._ended:
            raise LocalProtocolError(f"stream {stream_id} is not open")
        if fin:
            self._ended.add(stream_id)
        self._writes.append((stream_id, bytes(data), fin))
        self._sizes[stream_id] += len(data)

    def size(self, stream_id: int | None = None) -> int:
        """Bytes kept of one stream, or of all."""
        return self._sizes.total() if stream_id is None else self._sizes[stream_id]

    def replay(self, engine: Engine) -> None:
        """Give everything to ``engine``."""
        for stream_id in self._opened:
            engine.open_stream(stream_id)
        for stream_id, data, fin in self._writes:
            engine.send_stream(stream_id, data, fin)
