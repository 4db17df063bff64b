"""What a user writes; it must type-check under ``mypy --strict``. Never run."""

from typing import assert_type

import natwalk
from natwalk.core import Address, Core, Path
from natwalk.ice import IceAgent, IceConfig, IceEvent
from natwalk.stun import USERNAME, BindingClient, Message, decode


async def streams(code: str) -> bytes:
    async with natwalk.connect(code, server="http://192.0.2.1:8478", path_policy="direct") as connection:
        assert_type(connection, natwalk.Connection)
        assert_type(connection.path, natwalk.PathInfo | None)
        stream = await connection.open_stream()
        await stream.write(b"x")
        await stream.finish()
        return await stream.read()


async def codes(told: list[str]) -> None:
    async with natwalk.connect(server="http://192.0.2.1:8478", on_code=told.append) as connection:
        async for event in connection.events():
            print(event)


def errors(error: natwalk.ConnectionEnded) -> tuple[natwalk.Failure | None, str]:
    return error.failure, error.hint


def messages(data: bytes) -> str | None:
    message = decode(data)
    assert_type(message, Message)
    return message.get(USERNAME)


def cores(agent: IceAgent, client: BindingClient, now: float) -> None:
    core: Core[IceEvent] = agent
    core.receive(b"", Path(Address("192.0.2.1", 1), Address("192.0.2.2", 2)), now)
    event = core.poll_event()
    assert_type(event, IceEvent | None)
    client.handle_timeout(now)


CONFIG = IceConfig(stun_servers=(Address("192.0.2.1", 3478),))
