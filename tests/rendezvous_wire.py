"""A rendezvous server core and its clients on a virtual clock, wired back to back."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from natwalk.core import Address
from natwalk.rendezvous import RendezvousClient, RendezvousLimits, RendezvousServer, SecureMailbox


class Wire:
    """One server and any number of clients; frames move when :meth:`run` is called."""

    def __init__(self, limits: RendezvousLimits | None = None, seed: int = 1) -> None:
        self.random_bytes: Callable[[int], bytes] = Random(seed).randbytes
        self.limits = limits or RendezvousLimits()
        self.server = RendezvousServer(self.limits, random_bytes=self.random_bytes)
        self.now = 1000.0
        self.frames: list[str] = []
        self.closed: dict[int, str] = {}
        self._conns: dict[int, Any] = {}
        self._events: dict[int, list[Any]] = {}
        self._next = 0

    def client(self) -> RendezvousClient:
        return RendezvousClient(random_bytes=self.random_bytes)

    def mailbox(self, side: str, password: bytes | None = b"7-amber-falcon", **options: Any) -> SecureMailbox:
        return SecureMailbox(
            self.client(),
            side=side,
            password=password,
            app_id="natwalk test",
            random_bytes=self.random_bytes,
            **options,
        )

    def connect(self, client: Any, host: str = "198.51.100.7") -> int:
        self._next += 1
        self._conns[self._next] = client
        self.server.connection_made(self._next, Address(host, 1).ip, self.now)
        client.connection_made(self.now)
        return self._next

    def disconnect(self, conn: int, *, tell_client: bool = True) -> None:
        client = self._conns.pop(conn, None)
        if client is None:
            return
        self.server.connection_lost(conn, self.now)
        if tell_client:
            client.connection_lost(self.now)

    def run(self, frames: int | None = None) -> int:
        """Move frames until none is left, or ``frames`` of them; returns how many moved."""
        for moved in range(10_000):
            if moved == frames or not self._step():
                return moved
        raise AssertionError("the frames never end")

    def _step(self) -> bool:
        for conn, client in list(self._conns.items()):
            if (text := client.poll_message()) is not None:
                self.frames.append(text)
                self.server.receive_message(conn, text, self.now)
                return True
        if (out := self.server.poll_message()) is not None:
            conn, text = out
            self.frames.append(text)
            if conn in self._conns:
                self._conns[conn].receive_message(text, self.now)
            return True
        if (close := self.server.poll_close()) is not None:
            self.closed[close[0]] = close[1]
            self.disconnect(close[0])
            return True
        return False

    def events(self, client: Any) -> list[Any]:
        """Everything the client has reported since the last call."""
        out = []
        while (event := client.poll_event()) is not None:
            out.append(event)
        return out

    def advance(self, seconds: float) -> None:
        """Let virtual time pass, calling every timer when it is due."""
        end = self.now + seconds
        for _ in range(10_000):
            due = [t for t in (self.server.next_timeout(), *self._timeouts()) if t is not None and t <= end]
            if not due:
                break
            self.now = max(self.now, min(due))
            self.server.handle_timeout(self.now)
            for client in list(self._conns.values()):
                client.handle_timeout(self.now)
            self.run()
        else:
            raise AssertionError("the timers never end")
        self.now = end

    def _timeouts(self) -> list[float | None]:
        return [client.next_timeout() for client in self._conns.values()]
