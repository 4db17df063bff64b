"""Which connection gets the packets for a key: of several with one key, the newest."""

from __future__ import annotations

from collections.abc import Iterator

from natwalk.relay.connection import ServerConnection


class Routes:
    """Connections by proved key; each operation costs the same however many keys there are."""

    def __init__(self) -> None:
        self._by_key: dict[bytes, list[ServerConnection]] = {}
        self._connections = 0

    @property
    def connections(self) -> int:
        """How many connections have proved a key."""
        return self._connections

    def __len__(self) -> int:
        return len(self._by_key)

    def active(self, key: bytes) -> ServerConnection | None:
        """The connection that gets packets for ``key``."""
        there = self._by_key.get(key)
        return there[-1] if there else None

    def all_of(self, key: bytes) -> tuple[ServerConnection, ...]:
        """Every connection of ``key``, the oldest first."""
        return tuple(self._by_key.get(key, ()))

    def add(self, connection: ServerConnection) -> ServerConnection | None:
        """``connection`` becomes the active one of its key; returns the one that was."""
        there = self._by_key.setdefault(connection.key, [])
        before = there[-1] if there else None
        there.append(connection)
        self._connections += 1
        return before

    def remove(self, connection: ServerConnection) -> ServerConnection | None:
        """Forget ``connection``; returns the one that becomes active in its place, if that changes."""
        there = self._by_key.get(connection.key)
        if there is None or connection not in there:
            return None
        was_active = there[-1] is connection
        there.remove(connection)
        self._connections -= 1
        if not there:
            del self._by_key[connection.key]
            return None
        return there[-1] if was_active else None

    def __iter__(self) -> Iterator[ServerConnection]:
        """Every connection that has proved a key."""
        for there in self._by_key.values():
            yield from there
