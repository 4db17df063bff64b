"""The way to a relayed address that works first: several servers, several transports (RFC 8656 §3.9).

UDP is tried first at every server, then DTLS, TCP and TLS, each a moment after the one before: a relay over
UDP is the better one, and where UDP does not pass the others follow before anybody has waited long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from natwalk.aio.client_tls import ClientTls
from natwalk.aio.resolve import resolve
from natwalk.aio.turn_allocation import OnEvent, TurnAllocation
from natwalk.core import Address, NatError, Transport
from natwalk.stun import ServerUri
from natwalk.stun.resolution import ServerEndpoint
from natwalk.turn import AllocationOptions, Credentials

STAGGER: Final = 0.3
"""Seconds between one transport's turn and the next one's (RFC 8305 §5 has 0.25)."""

MAX_ATTEMPTS: Final = 32

_TURNS: Final = (Transport.UDP, Transport.DTLS, Transport.TCP, Transport.TLS)


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """One server, or one way to it, and why there was no allocation."""

    server: str
    error: Exception = field(compare=False)

    def __str__(self) -> str:
        return f"{self.server}: {self.error or type(self.error).__name__}"


class NoAllocation(NatError):
    """No server gave an allocation; ``attempts`` says of each why, in the order they ended."""

    def __init__(self, attempts: Sequence[FailedAttempt]) -> None:
        self.attempts = tuple(attempts)
        super().__init__("; ".join(map(str, attempts)) or "there is no TURN server to ask")


async def open_allocation(
    servers: Iterable[str | ServerUri | ServerEndpoint],
    credentials: Credentials,
    *,
    options: AllocationOptions | None = None,
    local: Address | None = None,
    tls: ClientTls | None = None,
    stagger: float = STAGGER,
    on_event: OnEvent | None = None,
) -> TurnAllocation:
    """A relayed address from whichever of ``servers`` gives one first.

    Each is a URI (RFC 7065 §3.1) or an endpoint; all are asked side by side, over UDP at once and over each
    other transport ``stagger`` seconds after the one before, or as soon as that one has failed everywhere.
    Those that come too late are given back. ``local``, ``options``, ``tls`` and ``on_event`` are those of
    :meth:`TurnAllocation.open`. Raises :class:`NoAllocation` when none works; it may take 40 seconds to
    know, so put :func:`asyncio.timeout` around it: cancelled at any moment, nothing stays behind.
    """
    race = _Race(credentials, options, local, tls, on_event)
    try:
        winner = await race.run(list(servers), stagger)
    except BaseException:
        losers = race.dismiss()
        if race.winner is not None:
            race.winner.abort()
        if losers:
            await asyncio.wait(losers)
        raise
    winner.wait_for(race.dismiss())
    return winner


class _Race:
    def __init__(
        self,
        credentials: Credentials,
        options: AllocationOptions | None,
        local: Address | None,
        tls: ClientTls | None,
        on_event: OnEvent | None,
    ) -> None:
        self._credentials = credentials
        self._options = options
        self._local = local
        self._tls = tls
        self._on_event = on_event
        self._tasks: dict[asyncio.Task[TurnAllocation], ServerEndpoint] = {}
        self.winner: TurnAllocation | None = None
        self._failed: list[FailedAttempt] = []

    async def run(
        self, servers: Sequence[str | ServerUri | ServerEndpoint], stagger: float
    ) -> TurnAllocation:
        endpoints = await self._endpoints(servers)
        turns = [[each for each in endpoints if each.transport is turn] for turn in _TURNS]
        for endpoints_of_turn in filter(None, turns):
            self._start(endpoints_of_turn)
            if await self._wait(stagger):
                break
        else:
            await self._wait(None)
        if self.winner is None:
            raise NoAllocation(self._failed)
        return self.winner

    def dismiss(self) -> list[asyncio.Task[TurnAllocation]]:
        """Give back what came too late and cancel what still runs, which is returned: it closes itself."""
        for task in [task for task in self._tasks if task.done()]:
            self._harvest(task)
        for task in self._tasks:
            task.cancel()
            task.add_done_callback(_forget)
        return list(self._tasks)

    async def _endpoints(self, servers: Sequence[str | ServerUri | ServerEndpoint]) -> list[ServerEndpoint]:
        found: dict[ServerEndpoint, None] = {}
        named = [each for each in servers if not isinstance(each, ServerEndpoint)]
        resolved = iter(await asyncio.gather(*map(self._resolve, named)))
        for each in servers:
            for endpoint in (each,) if isinstance(each, ServerEndpoint) else next(resolved):
                if self._possible(endpoint):
                    found[endpoint] = None
        return list(found)[:MAX_ATTEMPTS]

    async def _resolve(self, server: str | ServerUri) -> list[ServerEndpoint]:
        try:
            return await resolve(server)
        except (NatError, OSError) as error:
            self._failed.append(FailedAttempt(str(server), error))
            return []

    def _possible(self, endpoint: ServerEndpoint) -> bool:
        wrong_family = self._local is not None and self._local.version != endpoint.address.version
        tcp = self._options is not None and self._options.relay is Transport.TCP
        if wrong_family:
            problem = f"no connection from {self._local} to IPv{endpoint.address.version}"
        elif tcp and not endpoint.transport.is_stream:
            problem = "a TCP allocation needs TCP or TLS to the server"
        else:
            return True
        self._failed.append(FailedAttempt(_label(endpoint), NatError(problem)))
        return False

    def _start(self, endpoints: Sequence[ServerEndpoint]) -> None:
        for endpoint in endpoints:
            attempt = TurnAllocation.open(
                endpoint,
                self._credentials,
                local=self._local,
                options=self._options,
                tls=self._tls,
                on_event=self._on_event,
            )
            self._tasks[asyncio.create_task(attempt)] = endpoint

    async def _wait(self, seconds: float | None) -> bool:
        """Until there is a winner (True), nothing runs any more, or ``seconds`` are over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._tasks and self.winner is None:
                    done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        self._harvest(task)
        return self.winner is not None

    def _harvest(self, task: asyncio.Task[TurnAllocation]) -> None:
        endpoint = self._tasks.pop(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            if self.winner is None:
                self.winner = task.result()
            else:
                task.result().abort()
        elif isinstance(error, NatError | OSError | ValueError):
            self._failed.append(FailedAttempt(_label(endpoint), error))
        else:
            raise error


def _forget(task: asyncio.Task[TurnAllocation]) -> None:
    """Let nobody complain that the outcome of a cancelled attempt was not looked at."""
    if not task.cancelled() and task.exception() is None:
        task.result().abort()


def _label(endpoint: ServerEndpoint) -> str:
    return f"{endpoint.name or endpoint.address.host} ({endpoint.transport} {endpoint.address})"
