"""A server behind a 1:1 NAT as its configuration makes it: 127.0.0.1 is known as 127.0.0.2."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from natwalk.aio.server_url import ServerUrl
from natwalk.aio.turn import TurnAllocation
from natwalk.core import Address
from natwalk.server.run import Order
from natwalk_server import running

BOUND, PUBLIC = "127.0.0.1", "127.0.0.2"
FILE = """
[log]
addresses = true
[admin]
socket = "admin.sock"
[turn.users]
alice = "correct horse"
bob = "battery staple"
[server]
public-addresses = { "0.0.0.0" = "127.0.0.2" }
"""


class Lines:
    """Keeps what is logged."""

    def __init__(self, wanted: str = "") -> None:
        self.text: list[str] = []
        self.wanted = wanted
        self.there = asyncio.Event()

    def write(self, line: str) -> bool:
        self.text.append(line)
        if self.wanted in line:
            self.there.set()
        return True


async def get(path: Path | int, what: str) -> bytes:
    """The body of what HTTP answers on a socket in the file system, or a port."""
    if isinstance(path, Path):
        reader, writer = await asyncio.open_unix_connection(path)
    else:
        reader, writer = await asyncio.open_connection(BOUND, path)
    writer.write(f"GET {what} HTTP/1.1\r\nHost: turn.example\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer.partition(b"\r\n\r\n")[2]


async def test_clients_meet_at_addresses_no_socket_has(tmp_path: Path) -> None:
    """Real sockets: datagrams go between bound addresses, and each client hears the other's public one."""
    path = tmp_path / "natwalk.toml"
    path.write_text(FILE)
    path.chmod(0o600)
    lines = Lines()
    async with running(path, lines=lines, turn__relay_addresses=[BOUND]) as ready, asyncio.timeout(30):
        assert ready.relays == (PUBLIC,)
        shown = Address.parse(ready.turn[0].removeprefix("turn:").partition("?")[0])
        assert shown.host == PUBLIC
        server = Address(BOUND, shown.port)
        async with (
            await TurnAllocation.allocate(server, "alice", "correct horse") as alice,
            await TurnAllocation.allocate(server, "bob", "battery staple") as bob,
        ):
            assert alice.relayed.host == bob.relayed.host == PUBLIC
            for one, other in ((alice, bob), (bob, alice)):
                one.create_permission([other.relayed.ip])
                await one.settle()
            for bound in (False, True):  # in indications, then on channels
                if bound:
                    alice.bind_channel(bob.relayed)
                    bob.bind_channel(alice.relayed)
                    await alice.settle()
                    await bob.settle()
                for one, other in ((alice, bob), (bob, alice)):
                    one.send(b"hello", other.relayed)
                    assert await other.receive() == (b"hello", one.relayed)
            listed = json.loads(await get(tmp_path / "admin.sock", "/v1/admin/allocations"))["allocations"]
            assert [each["advertised"] for each in listed] == [[str(alice.relayed)], [str(bob.relayed)]]
            assert all(each["relays"][0].startswith(f"{BOUND}:") for each in listed)
            urls = json.loads(await get(ServerUrl.parse(ready.http).port, "/v1/ice-servers"))["iceServers"]
            assert all("turn.example" in url for entry in urls for url in entry["urls"])
    usage = [line for line in lines.text if " usage " in line]
    assert len(usage) == 2
    assert all(f"advertised={PUBLIC}:" in line and f"relay={BOUND}:" in line for line in usage), usage


async def test_a_reload_that_changes_the_mapping_keeps_the_old_one_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "natwalk.toml"
    path.write_text(FILE)
    path.chmod(0o600)
    lines, orders = Lines("server.public-addresses"), asyncio.Queue[Order]()
    async with running(path, lines=lines, orders=orders, turn__relay_addresses=[BOUND]), asyncio.timeout(30):
        path.write_text(FILE.replace(PUBLIC, "127.0.0.3"))
        orders.put_nowait(Order.RELOAD)
        await lines.there.wait()
    assert "need a restart" in "".join(lines.text)
