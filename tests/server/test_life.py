"""A server that changes while clients use it: reloads, certificates, drains, stops."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from certificates import client_context, write_certificate
from natwalk.aio.rendezvous import fetch_ice_servers
from natwalk.aio.server_url import ServerUrl
from natwalk.aio.turn import ClientTls, TurnAllocation
from natwalk.core import Address, ErrorResponse, Transport
from natwalk.rendezvous.messages import Allocate, encode
from natwalk.server.run import Order, Ready
from natwalk.stun.resolution import ServerEndpoint
from natwalk.turn import PasswordCredentials
from natwalk_server import running

ALICE, BOB = "correct horse", "battery staple"
CONFIG = """
[turn]
relay-addresses = ["127.0.0.1"]
[turn.peers]
allow = ["127.0.0.0/8"]
[turn.users]
alice = "correct horse"
bob = "battery staple"
"""


class Collected:
    """Log lines as objects."""

    def __init__(self) -> None:
        self.events: list[dict[str, object]] = []

    def write(self, line: str) -> bool:
        self.events.append(json.loads(line))
        return True

    def named(self, event: str) -> list[dict[str, object]]:
        return [each for each in self.events if each["event"] == event]


class World:
    """A running server with its file and orders."""

    def __init__(self, folder: Path, text: str = CONFIG) -> None:
        self.path = folder / "natwalk.toml"
        self.orders: asyncio.Queue[Order] = asyncio.Queue()
        self.log = Collected()
        self.write(text)
        self.server = running(self.path, lines=self.log, orders=self.orders, log__format="json")
        self.ready: Ready

    def write(self, text: str) -> None:
        self.path.write_text(text)
        self.path.chmod(0o600)

    async def __aenter__(self) -> World:
        self.ready = await self.server.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.server.__aexit__(*exc)  # type: ignore[arg-type]

    def address(self, transport: str = "udp", scheme: str = "turn") -> Address:
        [uri] = [
            u for u in self.ready.turn if u.startswith(f"{scheme}:") and u.endswith(f"transport={transport}")
        ]
        return Address.parse(uri.partition(":")[2].partition("?")[0])

    async def allocate(
        self, user: str = "alice", password: str = ALICE, transport: Transport = Transport.UDP
    ) -> TurnAllocation:
        return await TurnAllocation.allocate(
            self.address(transport.value), user, password, transport=transport
        )

    async def reloaded(self, text: str, event: str = "reloaded") -> dict[str, object]:
        before = len(self.log.named(event))
        self.write(text)
        self.orders.put_nowait(Order.RELOAD)
        await until(lambda: len(self.log.named(event)) > before)
        return self.log.named(event)[-1]

    async def get(self, path: str) -> tuple[int, dict[str, object]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", ServerUrl.parse(self.ready.http).port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return int(head.split()[1]), json.loads(body)


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class TestReload:
    async def test_a_new_user_may_come_and_a_revoked_one_is_cut_off(self, tmp_path: Path) -> None:
        """FAULTS 159, the good half; revoking a user stops what it has within a second."""
        async with World(tmp_path) as world, await world.allocate("bob", BOB):
            async with await world.allocate(transport=Transport.TCP) as alice:
                loop = asyncio.get_running_loop()
                started = loop.time()
                text = CONFIG.replace("bob =", "carol =")
                await world.reloaded(text)
                assert loop.time() - started < 1
                assert (await world.get("/healthz"))[1]["turn_allocations"] == 1
                with pytest.raises(ErrorResponse):
                    await world.allocate("bob", BOB)
                async with await world.allocate("carol", BOB):
                    assert alice.relayed.host == "127.0.0.1"
            [record] = [r for r in world.log.named("usage") if r["reason"] == "disconnected"]
            assert record["user"] == "bob"

    @pytest.mark.parametrize(
        ("bad", "says"),
        [
            ("[turn\n", "is not TOML"),
            (CONFIG + "[stun]\nprot = 1\n", "unknown key stun.prot"),
            (CONFIG.replace("127.0.0.0/8", "127.0.0.0-8"), "127.0.0.0-8"),
            (CONFIG.replace(ALICE, "short"), "'alice'"),
        ],
    )
    async def test_a_bad_file_keeps_the_old_configuration_and_says_why_once(
        self, tmp_path: Path, bad: str, says: str
    ) -> None:
        """FAULTS 159: one line with the reason; what was allowed still is, and nothing half is taken up."""
        async with World(tmp_path) as world, await world.allocate() as alice:
            line = await world.reloaded(bad, "reload refused, the old configuration stays")
            assert says in str(line["reason"])
            assert line["hint"]
            assert len(world.log.named("reload refused, the old configuration stays")) == 1
            async with await world.allocate("bob", BOB):
                alice.create_permission([Address("127.0.0.1", 1).ip])
                assert (await world.get("/healthz"))[1]["turn_allocations"] == 2
            await world.reloaded(CONFIG)

    async def test_a_flow_that_the_new_policy_denies_is_cut_within_a_second(self, tmp_path: Path) -> None:
        async with World(tmp_path) as world, await world.allocate() as a, await world.allocate() as b:
            a.bind_channel(b.relayed)
            b.bind_channel(a.relayed)
            async with asyncio.timeout(10):
                while True:
                    a.send(b"before", b.relayed)
                    try:
                        async with asyncio.timeout(0.2):
                            assert (await b.receive())[0] == b"before"
                            break
                    except TimeoutError:
                        continue  # the channel is not bound yet
            await world.reloaded(CONFIG.replace("allow =", "deny ="))
            cut = asyncio.get_running_loop().time()
            while asyncio.get_running_loop().time() < cut + 0.3:
                a.send(b"after", b.relayed)
                await asyncio.sleep(0.02)
            received: list[bytes] = []
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    while True:
                        received.append((await b.receive())[0])
            assert b"after" not in received

    async def test_what_needs_a_restart_is_named_and_stays(self, tmp_path: Path) -> None:
        async with World(tmp_path) as world:
            await world.reloaded(
                "[server]\nrealm = 'other'\n[streams]\nconnections = 5\n"
                + CONFIG.replace("[turn]\n", '[turn]\nrelay-ports = "50000-50100"\n')
            )
            [warning] = world.log.named("these need a restart to change, and stay as they were")
            assert warning["keys"] == ["streams", "server.realm", "turn.relay-ports"]
            async with await world.allocate():
                pass

    async def test_a_file_that_changes_is_noticed(self, tmp_path: Path) -> None:
        async with World(tmp_path) as world:
            world.write(CONFIG.replace("bob =", "carol ="))
            await until(lambda: bool(world.log.named("reloaded")))
            async with await world.allocate("carol", BOB):
                pass

    async def test_a_secret_is_rotated_without_a_gap(self, tmp_path: Path) -> None:
        for name in ("one", "two"):
            (tmp_path / name).write_text(f"the-secret-with-number-{name}")
            (tmp_path / name).chmod(0o600)
        text = CONFIG.replace("[turn]\n", '[turn]\nauth-secret-file = "one"\n')
        async with World(tmp_path, text) as world:
            old = (await fetch_ice_servers(world.ready.http)).turn[0]
            async with await world.allocate(old.username, old.password):
                await world.reloaded(
                    text.replace('file = "one"\n', 'file = "two"\nauth-secret-files = ["one"]\n')
                )
                new = (await fetch_ice_servers(world.ready.http)).turn[0]
                for server in (old, new):
                    async with await world.allocate(server.username, server.password):
                        assert (await world.get("/healthz"))[1]["turn_allocations"] == 2
                await world.reloaded(text.replace('"one"', '"two"'))
                assert (await world.get("/healthz"))[1]["turn_allocations"] == 0
                with pytest.raises(ErrorResponse):
                    await world.allocate(old.username, old.password)


TLS = '[tls]\ncert = "cert.pem"\nkey = "key.pem"\nport = 0\n'


def serial_of(connection: asyncio.StreamWriter) -> str:
    return str(connection.get_extra_info("peercert")["serialNumber"])


async def tls_to(port: int, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")


class TestCertificates:
    async def test_a_new_one_is_used_and_nobody_is_dropped(self, tmp_path: Path) -> None:
        """FAULTS 158: replaced under load, no allocation is lost, new connections get the new one."""
        first = write_certificate(tmp_path)
        async with World(tmp_path, CONFIG + TLS) as world:
            tls = [u for u in world.ready.turn if u.startswith("turns:") and u.endswith("tcp")]
            ports = [int(u.partition("?")[0].rpartition(":")[2]) for u in tls]
            ports.append(ServerUrl.parse(world.ready.http).port)
            assert len(set(ports)) == 3
            endpoint = ServerEndpoint(Address("127.0.0.1", ports[0]), Transport.TLS, "localhost")
            allocation = await TurnAllocation.open(
                endpoint, PasswordCredentials("alice", ALICE), tls=ClientTls(first.cert)
            )
            async with allocation:
                old = client_context(first)
                second = write_certificate(tmp_path)
                assert first.serial != second.serial
                await until(lambda: bool(world.log.named("reloaded")))
                for port in ports:
                    _, writer = await tls_to(port, client_context(second))
                    assert int(serial_of(writer), 16) == second.serial
                    writer.close()
                    with pytest.raises(ssl.SSLError):
                        await tls_to(port, old)
                allocation.create_permission([Address("127.0.0.1", 1).ip])
                assert (await https_get(ports[2], "/healthz", second.cert))["turn_allocations"] == 1

    async def test_a_pair_that_does_not_fit_changes_nothing(self, tmp_path: Path) -> None:
        """FAULTS 158: one file replaced without the other is refused, and the old certificate goes on."""
        first = write_certificate(tmp_path)
        context = client_context(first)
        async with World(tmp_path, CONFIG + TLS) as world:
            cert = first.cert.read_bytes()
            write_certificate(tmp_path, key_file="elsewhere.pem")
            await until(lambda: bool(world.log.named("reload refused, the old configuration stays")))
            _, writer = await tls_to(ServerUrl.parse(world.ready.http).port, context)
            assert int(serial_of(writer), 16) == first.serial
            writer.close()
            first.cert.write_bytes(cert)


class TestSharedPort:
    async def test_https_and_turn_on_one_port(self, tmp_path: Path) -> None:
        files = write_certificate(tmp_path)
        async with World(tmp_path, CONFIG + TLS) as world:
            uris = [u for u in world.ready.turn if u.startswith("turns:") and u.endswith("tcp")]
            port = int(uris[1].partition("?")[0].rpartition(":")[2])
            endpoint = ServerEndpoint(Address("127.0.0.1", port), Transport.TLS, "localhost")
            async with await TurnAllocation.open(
                endpoint, PasswordCredentials("alice", ALICE), tls=ClientTls(files.cert)
            ):
                answer = await https_get(port, "/healthz", files.cert)
                assert answer["turn_allocations"] == 1
                servers = await https_get(port, "/v1/ice-servers", files.cert)
                assert f"turns:localhost:{port}?transport=tcp" in str(servers)

    async def test_the_rendezvous_service_is_there_too(self, tmp_path: Path) -> None:
        files = write_certificate(tmp_path)
        async with World(tmp_path, CONFIG + TLS) as world:
            uris = [u for u in world.ready.turn if u.startswith("turns:") and u.endswith("tcp")]
            port = int(uris[1].partition("?")[0].rpartition(":")[2])
            url = f"wss://localhost:{port}/v1/rendezvous"
            async with connect(url, proxy=None, ssl=client_context(files), host="127.0.0.1") as websocket:
                await websocket.send(encode(Allocate(side="1" * 32)))
                assert json.loads(await websocket.recv())["type"] == "allocated"


async def https_get(port: int, path: str, ca: Path) -> dict[str, object]:
    context = ssl.create_default_context(cafile=ca)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost"
    )
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 200")
    answer: dict[str, object] = json.loads(body)
    return answer


class TestDrain:
    async def test_new_ones_are_refused_and_old_ones_live_until_the_last_has_gone(
        self, tmp_path: Path
    ) -> None:
        """FAULTS 150: new Allocate 508, refreshes and data go on, readiness says so, it ends when empty."""
        async with World(tmp_path) as world:
            async with await world.allocate() as alice:
                assert (await world.get("/readyz"))[0] == 200
                world.orders.put_nowait(Order.DRAIN)
                await until(lambda: bool(world.log.named("draining")))
                with pytest.raises(ErrorResponse) as caught:
                    await world.allocate("bob", BOB)
                assert caught.value.code == 508
                assert (await world.get("/readyz"))[0] == 503
                status, body = await world.get("/healthz")
                assert (status, body["status"]) == (200, "draining")
                assert "turn:" not in str((await world.get("/v1/ice-servers"))[1])
                alice.create_permission([Address("127.0.0.1", 1).ip])
                assert not world.log.named("stopping")
            await until(lambda: bool(world.log.named("stopping")))

    async def test_clients_are_sent_to_the_other_server(self, tmp_path: Path) -> None:
        """FAULTS 150: 300 with the alternate server, inside an integrity-protected answer."""
        other_folder = tmp_path / "other"
        other_folder.mkdir()
        async with World(other_folder) as other:
            text = f'[server]\nalternate = "{other.address()}"\n{CONFIG}'
            async with World(tmp_path, text) as world, await world.allocate():
                world.orders.put_nowait(Order.DRAIN)
                await until(lambda: bool(world.log.named("draining")))
                with pytest.raises(ErrorResponse) as caught:
                    await world.allocate("bob", "not the password")
                assert caught.value.code == 401
                async with await world.allocate("bob", BOB) as allocation:
                    assert allocation.endpoint.address == other.address()

    async def test_a_deadline_ends_it(self, tmp_path: Path) -> None:
        async with World(tmp_path, f"[server]\ndrain-seconds = 0.2\n{CONFIG}") as world:
            allocation = await world.allocate()
            world.orders.put_nowait(Order.FINISH)
            await until(lambda: bool(world.log.named("stopping")))
            assert [r["reason"] for r in world.log.named("usage")] == ["shutdown"]
            allocation.abort()

    async def test_the_second_order_ends_it_at_once(self, tmp_path: Path) -> None:
        """FAULTS 161: SIGTERM twice."""
        async with World(tmp_path, f"[server]\ndrain-seconds = 600\n{CONFIG}") as world:
            allocation = await world.allocate()
            world.orders.put_nowait(Order.FINISH)
            await until(lambda: bool(world.log.named("draining")))
            assert not world.log.named("stopping")
            world.orders.put_nowait(Order.FINISH)
            await until(lambda: bool(world.log.named("stopping")))
            allocation.abort()

    async def test_nothing_to_wait_for_ends_it_at_once(self, tmp_path: Path) -> None:
        async with World(tmp_path, f"[server]\ndrain-seconds = 600\n{CONFIG}") as world:
            world.orders.put_nowait(Order.FINISH)
            await until(lambda: bool(world.log.named("stopping")))
