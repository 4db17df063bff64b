from __future__ import annotations

import json
from typing import Any

import pytest

from natwalk.core import Address
from natwalk.rendezvous import RendezvousLimits
from natwalk.rendezvous.messages import Add, Allocate, Claim, encode
from natwalk.server.hub import HubConnection, RendezvousHub

HERE = Address("127.0.0.1", 1).ip


async def frames(connection: HubConnection) -> list[dict[str, Any]]:
    """What is queued for a connection that is being closed."""
    out = []
    while (frame := await connection.next_frame()) is not None:
        out.append(json.loads(frame))
    return out


async def test_a_refused_connection_gets_its_answer_and_is_closed() -> None:
    hub = RendezvousHub(RendezvousLimits())
    connection = hub.attach(HERE)
    hub.receive(connection, "garbage")
    assert [m["code"] for m in await frames(connection)] == ["malformed"]
    assert connection.closed == "malformed"
    hub.detach(connection)
    assert hub.core.connections == 0


async def test_timers_run() -> None:
    hub = RendezvousHub(RendezvousLimits(join_timeout=0.01))
    connection = hub.attach(HERE)
    assert [m["code"] for m in await frames(connection)] == ["idle"]
    hub.close()


async def test_a_client_that_does_not_read_is_closed_and_its_queue_given_back() -> None:
    hub = RendezvousHub(RendezvousLimits(stored_bytes=1 << 30, bytes_per_mailbox=1 << 30))
    reader, writer = hub.attach(HERE), hub.attach(HERE)
    hub.receive(reader, encode(Allocate(side="1" * 32)))
    opened = json.loads(await reader.next_frame() or "")
    hub.receive(writer, encode(Claim(nameplate=opened["nameplate"], side="2" * 32)))
    for n in range(100):
        hub.receive(writer, encode(Add(phase=f"p{n}", body=b"x" * 32_000)))
    assert reader.closed == "the client does not read"
    assert await frames(reader) == []
    hub.close()


@pytest.mark.parametrize(("count", "size"), [(1025, 1), (3, 1 << 20)])
def test_a_queue_is_bounded_in_frames_and_bytes(count: int, size: int) -> None:
    connection = HubConnection(1)
    for _ in range(count):
        connection.put("x" * size)
    assert connection.closed == "the client does not read"


async def test_closing_the_hub_ends_every_connection() -> None:
    hub = RendezvousHub(RendezvousLimits())
    connection = hub.attach(HERE)
    hub.close()
    assert await connection.next_frame() is None
    assert connection.closed == "the server stops"
