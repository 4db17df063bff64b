"""``natwalk.connect``: from a code to a connection."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

from natwalk import __version__
from natwalk.aio.connection import Connection
from natwalk.aio.errors import ConnectionEnded
from natwalk.aio.interfaces import local_addresses
from natwalk.aio.peer import PeerDriver
from natwalk.aio.rendezvous import IceServers, RendezvousDriver, ServerUrl, fetch_ice_servers
from natwalk.core import IPAddress
from natwalk.ice import IceConfig, TransportPolicy, TurnServerAddress
from natwalk.peer import (
    CodeReady,
    Connected,
    Ended,
    Failure,
    PeerConfig,
    PeerConnection,
    PeerEvent,
    ResumeToken,
    Role,
)
from natwalk.rendezvous import Code
from natwalk.secure import Identity

PathPolicy = Literal["any", "direct", "relay"]
CHECK_INTERVAL: Final = 0.02
"""Seconds between connectivity checks. RFC 8445 §14.2 recommends 50 ms where nothing is known of the
network and allows 5 ms; the checks of one connection to one peer are some kilobytes."""
PATIENCE: Final = 20.0
"""Seconds without any working pair before a person is told that there is no path (RFC 8863 waits 39.5)."""


@asynccontextmanager
async def connect(
    code: str | None = None,
    *,
    server: str,
    path_policy: PathPolicy = "any",
    on_code: Callable[[str], None] | None = None,
    on_event: Callable[[PeerEvent], None] | None = None,
    resume: ResumeToken | None = None,
    role: Literal["offer", "accept"] | None = None,
    timeout: float | None = None,
    addresses: Callable[[], Iterable[IPAddress]] = local_addresses,
) -> AsyncIterator[Connection]:
    """A connection to the peer that has the other half of ``code``, over the best path there is.

    Without ``code`` this side makes one, gives it to ``on_code`` and waits for whoever comes with it. With
    ``resume`` (from :attr:`Connection.resume`) both sides meet again without a code; ``role`` then says
    which side this was. ``path_policy`` allows ``any`` path, only ``direct`` ones or only a ``relay``.
    ``timeout`` is the seconds to wait for the peer and the connection, None for no limit; ``on_event`` sees
    everything that happens from the start. ``addresses`` lists the local addresses to use.

    Raises :class:`natwalk.InvalidCode` and ValueError on arguments that make no sense,
    :class:`natwalk.ServerUnavailable` when the server cannot be reached, :class:`natwalk.ConnectionEnded`
    when there is no connection (its ``failure`` says why), and TimeoutError.
    """
    config = _peer_config(code, resume, role)
    url = ServerUrl.parse(server)
    policy = TransportPolicy(path_policy)
    core = PeerConnection(config, identity=Identity.generate(), random_bytes=secrets.token_bytes)
    session = _Session(core, url, policy, on_code, on_event, addresses)
    try:
        async with asyncio.timeout(timeout):
            connection = await session.establish()
        yield connection
    finally:
        await session.close()


def _peer_config(code: str | None, resume: ResumeToken | None, role: str | None) -> PeerConfig:
    agent = f"natwalk {__version__}"
    if resume is not None:
        if role is None:
            raise ValueError("resuming needs the role this side had: 'offer' or 'accept'")
        return PeerConfig(Role(role), resume=resume, agent=agent)
    if code is None:
        return PeerConfig(Role.OFFER, agent=agent)
    return PeerConfig(Role.ACCEPT, code=Code.parse(code), agent=agent)


def ice_config(servers: IceServers, policy: TransportPolicy) -> IceConfig:
    """ICE as natwalk runs it for one connection, with the servers a natwalk server named."""
    return IceConfig(
        stun_servers=servers.stun,
        turn_servers=tuple(
            TurnServerAddress(turn.address, turn.username, turn.password, turn.transport, turn.name)
            for turn in servers.turn
        ),
        policy=policy,
        ta=CHECK_INTERVAL,
        patience=PATIENCE,
        early_failure=PATIENCE,
    )


class _Session:
    """What runs while a connection lasts: the peer's driver, the rendezvous channel, the first query."""

    def __init__(
        self,
        core: PeerConnection,
        server: ServerUrl,
        policy: TransportPolicy,
        on_code: Callable[[str], None] | None,
        on_event: Callable[[PeerEvent], None] | None,
        addresses: Callable[[], Iterable[IPAddress]],
    ) -> None:
        self._core = core
        self._server = server
        self._policy = policy
        self._on_code = on_code
        self._on_event = on_event
        self._outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._driver = PeerDriver(core, self._handle, self._flushed, addresses=addresses)
        self._connection = Connection(self._driver)
        self._rendezvous = RendezvousDriver(server, self._driver)
        self._driver.wake = self._rendezvous.flush
        self._tasks: set[asyncio.Task[None]] = set()

    async def establish(self) -> Connection:
        """Meet the peer and authenticate it."""
        self._core.start(self._driver.now)
        self._spawn(self._rendezvous.run())
        self._spawn(self._gather())
        await self._outcome
        return self._connection

    async def close(self) -> None:
        """End the connection if it has not ended, tell the server, and free everything."""
        await self._connection.close()
        if not self._core.rendezvous_finished:
            # The goodbye to the mailbox is worth a moment, not a wait.
            await asyncio.wait(self._tasks, timeout=0.2) if self._tasks else None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._driver.close()
        if self._outcome.done() and not self._outcome.cancelled():
            self._outcome.exception()  # retrieved: close may come before anybody awaited it

    async def _gather(self) -> None:
        servers = await fetch_ice_servers(self._server)
        self._core.configure_ice(ice_config(servers, self._policy), self._driver.now)
        self._driver.flush()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not self._outcome.done():
            self._outcome.set_exception(error)
        # Once connected, a lost rendezvous server only means that a lost path cannot be repaired.

    def _handle(self, event: PeerEvent) -> None:
        match event:
            case CodeReady(code=code) if self._on_code is not None:
                self._on_code(code)
            case Connected() if not self._outcome.done():
                self._outcome.set_result(None)
            case Ended(failure=failure, reason=reason) if not self._outcome.done():
                self._outcome.set_exception(ConnectionEnded(failure or Failure.PEER_CLOSED, reason))
        if self._on_event is not None:
            self._on_event(event)
        self._connection.handle(event)

    def _flushed(self) -> None:
        self._connection.advanced()
