"""What every shell of a datagram core does alike: send what is queued, arm one timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from natwalk.aio.udp import UdpSocket
from natwalk.core import Address, Drops, Path, Transmit


def send_all(poll: Callable[[], Transmit | None], sockets: Mapping[Address, UdpSocket], drops: Drops) -> None:
    """Send everything there is to send, runs on one path together."""
    run: list[bytes] = []
    path: Path | None = None
    while (out := poll()) is not None:
        if out.path != path:
            _send_run(run, path, sockets, drops)
            run, path = [], out.path
        run.append(out.data)
    _send_run(run, path, sockets, drops)


def _send_run(
    run: Sequence[bytes], path: Path | None, sockets: Mapping[Address, UdpSocket], drops: Drops
) -> None:
    if path is None:
        return
    sock = sockets.get(path.local)
    if sock is None:
        drops.add("the socket is closed")
    elif len(run) == 1:
        sock.send(run[0], path.remote)
    else:
        sock.send_many(run, path.remote)


def armed(
    timer: asyncio.TimerHandle | None,
    due: float | None,
    loop: asyncio.AbstractEventLoop,
    callback: Callable[[], None],
) -> asyncio.TimerHandle | None:
    """A timer for ``due``, the one there is when it already fits."""
    if timer is not None:
        if timer.when() == due:
            return timer
        timer.cancel()
    return None if due is None else loop.call_at(due, callback)
