"""The TURN client on every transport, against our own server on the loopback interface."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from certificates import write_certificate
from natwalk.aio.client_tls import ALPN_TURN, check_name
from natwalk.aio.tls import ServerTls
from natwalk.aio.turn import (
    CertificateMismatch,
    ClientTls,
    NoAllocation,
    RelayLost,
    TurnAllocation,
    open_allocation,
)
from natwalk.aio.turn_server import TurnServerDriver
from natwalk.core import Address, ErrorResponse, LocalProtocolError, NatError, RemoteProtocolError, Transport
from natwalk.stun.resolution import ServerEndpoint
from natwalk.turn import (
    AllocationCreated,
    AllocationEnded,
    AllocationOptions,
    EndReason,
    OAuthCredentials,
    OAuthKey,
    PasswordCredentials,
    PeerPolicy,
    TurnConfig,
    TurnServerEvent,
)
from natwalk.turn.oauth import oauth_token

LOOPBACK = Address("127.0.0.1", 0)
ALICE = PasswordCredentials("alice", "correct horse")
STREAMS = (Transport.TCP, Transport.TLS)
SERVED = tuple(Transport)


class Server:
    """A driver with a listener for each transport, and what it told."""

    def __init__(self, driver: TurnServerDriver, events: list[TurnServerEvent], tls: ClientTls) -> None:
        self.driver = driver
        self.events = events
        self.tls = tls
        self.endpoints: dict[Transport, ServerEndpoint] = {}

    def listen(self, transport: Transport, **options: Any) -> None:
        address = self.driver.add_listener(LOOPBACK, transport, **options)
        self.endpoints[transport] = ServerEndpoint(address, transport, "localhost")

    async def open(self, transport: Transport, **options: Any) -> TurnAllocation:
        async with asyncio.timeout(10):
            return await TurnAllocation.open(
                self.endpoints[transport], ALICE, tls=self.tls, options=AllocationOptions(**options)
            )

    def uri(self, transport: Transport) -> str:
        address = self.endpoints[transport].address
        secure = transport in {Transport.TLS, Transport.DTLS}
        carrier = "tcp" if transport.is_stream else "udp"
        return f"turn{'s' if secure else ''}:localhost:{address.port}?transport={carrier}"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    write_certificate(folder)
    return folder


@pytest.fixture
async def server(certificates: Path) -> AsyncIterator[Server]:
    events: list[TurnServerEvent] = []
    config = TurnConfig(
        users={"alice": "correct horse"},
        relay_addresses=("127.0.0.1", "::1"),
        port_range=(61001, 65535),
        policy=PeerPolicy(allow=["127.0.0.0/8", "::1"]),
        tcp_relays=True,
    )
    driver = await TurnServerDriver.start(config, [], on_event=events.append)
    async with driver:
        server = Server(driver, events, ClientTls(ca_file=certificates / "cert.pem"))
        tls = ServerTls(certificates / "cert.pem", certificates / "key.pem")
        server.listen(Transport.UDP)
        server.listen(Transport.TCP)
        server.listen(Transport.TLS, tls=tls)
        server.listen(Transport.DTLS, tls=tls)
        yield server


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until ``condition`` holds, five real seconds at most."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("the condition does not come true")


async def exchange(allocation: TurnAllocation, host: str = "127.0.0.1", text: bytes = b"ping") -> None:
    """One datagram each way between ``allocation`` and a peer of its own."""
    relayed = next(a for a in allocation.relayed_addresses if (":" in a.host) == (":" in host))
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind((host, 0))
        peer = Address.from_sockname(sock.getsockname())
        async with asyncio.timeout(5):
            allocation.send(text, peer)
            assert (await loop.sock_recv(sock, 65536)) == text
            sock.sendto(text[::-1], relayed)
            assert await allocation.receive() == (text[::-1], peer)


@pytest.mark.parametrize("transport", SERVED)
async def test_data_pass_over_every_transport(server: Server, transport: Transport) -> None:
    async with await server.open(transport) as allocation:
        for size in (1, 2, 3, 4, 1200, 15_000):
            await exchange(allocation, text=secrets.token_bytes(size))
    await until(lambda: not server.driver.stats.allocations)
    [ended] = [event for event in server.events if isinstance(event, AllocationEnded)]
    assert ended.reason is EndReason.DELETED


@pytest.mark.parametrize("transport", SERVED)
async def test_dual_allocation(server: Server, transport: Transport) -> None:
    async with await server.open(transport, dual=True) as allocation:
        await exchange(allocation, "127.0.0.1")
        await exchange(allocation, "::1")


@pytest.mark.parametrize("transport", SERVED)
async def test_allocation_moves_to_another_connection(server: Server, transport: Transport) -> None:
    """RFC 8016: data go on both ways, from the old relayed address."""
    async with await server.open(transport, mobility=True) as allocation:
        await exchange(allocation, text=b"before")
        relayed, path = allocation.relayed, allocation.core.path
        for _ in range(2):
            async with asyncio.timeout(10):
                await allocation.migrate()
            assert allocation.core.path != path
            assert allocation.relayed == relayed
            await exchange(allocation, text=b"after")
        assert len(allocation._links) == 1
    assert sum(isinstance(event, AllocationCreated) for event in server.events) == 1


@pytest.mark.parametrize("transport", STREAMS)
async def test_mobile_allocation_outlives_its_connection(server: Server, transport: Transport) -> None:
    """The connection breaks; another is made, and the relayed address stays."""
    async with await server.open(transport, mobility=True) as allocation:
        await exchange(allocation, text=b"before")
        relayed, path = allocation.relayed, allocation.core.path
        [link] = allocation._links.values()
        link._transport.abort()  # type: ignore[attr-defined]
        await until(lambda: allocation.core.path != path)
        assert allocation.relayed == relayed
        await exchange(allocation, text=b"after")
    assert sum(isinstance(event, AllocationCreated) for event in server.events) == 1


async def test_mobile_allocation_of_a_server_that_is_gone_is_given_up(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("natwalk.aio.turn_allocation.RECONNECT_DELAYS", (0.0, 0.0))
    allocation = await server.open(Transport.TCP, mobility=True)
    server.driver.close()
    with pytest.raises(RelayLost):
        async with asyncio.timeout(5):
            await allocation.receive()
    await allocation.close()


async def test_move_that_cannot_connect_leaves_everything_as_it_was(server: Server) -> None:
    async with await server.open(Transport.UDP, mobility=True) as allocation:
        with pytest.raises(OSError, match="assign"):
            await allocation.migrate(Address("192.0.2.1", 0))
        await exchange(allocation)
    async with await server.open(Transport.UDP) as allocation:
        with pytest.raises(LocalProtocolError, match="ticket"):
            await allocation.migrate()
        assert len(allocation._links) == 1
        await exchange(allocation)


@pytest.mark.parametrize("transport", STREAMS)
async def test_tcp_peers_out_and_in(server: Server, transport: Transport) -> None:
    """RFC 6062, both directions, and a peer that nobody listens at."""
    served: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    listener = await asyncio.start_server(lambda r, w: served.put_nowait((r, w)), "127.0.0.1", 0)
    peer = Address.from_sockname(listener.sockets[0].getsockname())
    big = secrets.token_bytes(1_000_000)
    async with listener, await server.open(transport, relay=Transport.TCP) as allocation, asyncio.timeout(20):
        stream = await allocation.connect(peer)
        reader, writer = await served.get()
        assert Address.from_sockname(writer.get_extra_info("peername")) == allocation.relayed
        stream.writer.write(big)
        assert await reader.readexactly(len(big)) == big
        writer.write(big)
        assert await stream.reader.readexactly(len(big)) == big
        await stream.close()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            with pytest.raises(ErrorResponse) as caught:
                await allocation.connect(Address.from_sockname(unused.getsockname()))
            assert caught.value.code == 447

        allocation.create_permission([peer.ip])
        await until(lambda: not allocation.core._requester.busy)
        accepting = asyncio.create_task(allocation.accept())
        reader, writer = await asyncio.open_connection(*allocation.relayed.sockname)
        writer.write(b"first words")
        incoming = await accepting
        assert incoming.peer == Address.from_sockname(writer.get_extra_info("sockname"))
        assert await incoming.reader.readexactly(11) == b"first words"
        incoming.writer.write(b"answer")
        assert await reader.readexactly(6) == b"answer"
        await incoming.close()
        writer.close()
        await writer.wait_closed()


async def test_waiting_connects_and_accepts_end_with_the_allocation(server: Server) -> None:
    allocation = await server.open(Transport.TCP, relay=Transport.TCP)
    accepting = asyncio.create_task(allocation.accept())
    await asyncio.sleep(0)
    await allocation.close()
    with pytest.raises(RelayLost):
        await accepting
    with pytest.raises(RelayLost):
        await allocation.accept()


@pytest.mark.parametrize("transport", STREAMS)
async def test_lost_connection_is_a_lost_relay(server: Server, transport: Transport) -> None:
    allocation = await server.open(transport)
    server.driver.close()
    with pytest.raises(RelayLost):
        async with asyncio.timeout(5):
            await allocation.receive()
    await allocation.close()


async def test_alpn_is_offered_and_certificates_are_checked(server: Server, certificates: Path) -> None:
    """RFC 7443: ``stun.turn``."""
    endpoint = server.endpoints[Transport.TLS]
    allocation = await server.open(Transport.TLS)
    [link] = allocation._links.values()
    assert link._transport.get_extra_info("ssl_object").selected_alpn_protocol() == ALPN_TURN  # type: ignore[attr-defined]
    await allocation.close()
    for tls, name in ((ClientTls(), "localhost"), (server.tls, "elsewhere.test")):
        with pytest.raises(OSError, match="certificate verify failed"):
            await TurnAllocation.open(ServerEndpoint(endpoint.address, Transport.TLS, name), ALICE, tls=tls)
    unverified = ClientTls(verify=False)
    await (await TurnAllocation.open(endpoint, ALICE, tls=unverified)).close()


def test_names_of_certificates(tmp_path: Path) -> None:
    """DTLS checks them itself: exact, one whole left-most label for a wildcard, addresses as addresses."""
    from cryptography import x509

    write_certificate(tmp_path, name="turn.example.org", more_names=("*.wild.example.org", "*.org"))
    certificate = x509.load_pem_x509_certificate((tmp_path / "cert.pem").read_bytes())
    for good in ("turn.example.org", "TURN.example.org.", "a.wild.example.org", "127.0.0.1", "::1"):
        check_name(certificate, good)
    for bad in ("example.org", "a.b.wild.example.org", ".wild.example.org", "wild.example.org", "127.0.0.2"):
        with pytest.raises(CertificateMismatch):
            check_name(certificate, bad)


async def test_token_instead_of_a_password() -> None:
    """RFC 7635 §6.2, with our own server."""
    key = OAuthKey("k1", secrets.token_bytes(32))
    mac_key = secrets.token_bytes(32)
    config = TurnConfig(
        realm="here",
        oauth_keys=(key,),
        third_party_authorization="as.example.org",
        relay_addresses=("127.0.0.1",),
        port_range=(61001, 65535),
        policy=PeerPolicy(allow=["127.0.0.0/8"]),
    )
    async with await TurnServerDriver.start(config, [LOOPBACK]) as driver:
        token = oauth_token(
            key,
            config.oauth_server_name,
            mac_key,
            issued=time.time(),
            lifetime=600,
            nonce=secrets.token_bytes(12),
        )
        endpoint = ServerEndpoint(driver.listeners[0], Transport.UDP, "localhost")
        credentials = OAuthCredentials("k1", token, mac_key)
        async with await TurnAllocation.open(endpoint, credentials) as allocation:
            await exchange(allocation)


async def test_udp_wins_where_it_works_and_the_others_are_given_back(server: Server) -> None:
    uris = [server.uri(transport) for transport in reversed(SERVED)]
    allocation = await open_allocation(uris, ALICE, tls=server.tls, stagger=0.0)
    async with allocation:
        await exchange(allocation)
    await until(lambda: not server.driver.stats.allocations)


async def test_dead_transports_cost_a_moment_each(server: Server) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hole, socket.socket() as closed:
        hole.bind(("127.0.0.1", 0))
        closed.bind(("127.0.0.1", 0))
        uris = [
            f"turn:127.0.0.1:{hole.getsockname()[1]}",
            f"turn:127.0.0.1:{closed.getsockname()[1]}?transport=tcp",
            server.uri(Transport.TLS),
        ]
        async with asyncio.timeout(10):
            allocation = await open_allocation(uris, ALICE, tls=server.tls, stagger=0.01)
        async with allocation:
            assert allocation.endpoint.transport is Transport.TLS


async def test_what_each_attempt_died_of_is_told(server: Server) -> None:
    with pytest.raises(NoAllocation) as caught:
        await open_allocation(
            [server.uri(Transport.UDP), server.uri(Transport.TLS), "turn://wrong", "turn:nowhere.invalid"],
            PasswordCredentials("alice", "wrong"),
            stagger=0.0,
        )
    text = str(caught.value)
    assert len(caught.value.attempts) >= 4
    for part in ("401", "certificate verify failed", "turn://wrong", "nowhere.invalid"):
        assert part in text
    with pytest.raises(NoAllocation, match="no TURN server"):
        await open_allocation([], ALICE)


async def test_tcp_relays_are_asked_for_over_streams_only(server: Server) -> None:
    uris = [server.uri(Transport.UDP), server.uri(Transport.TCP)]
    options = AllocationOptions(relay=Transport.TCP)
    async with await open_allocation(uris, ALICE, options=options) as allocation:
        assert allocation.endpoint.transport is Transport.TCP
    with pytest.raises(NoAllocation, match="needs TCP or TLS"):
        await open_allocation(uris[:1], ALICE, options=options)


async def test_redirect_of_a_draining_server_is_followed(server: Server) -> None:
    """FAULTS 35: signed, to a place as near as the first, once; and not in a circle."""
    second = await TurnServerDriver.start(
        TurnConfig(
            users={"alice": "correct horse"},
            relay_addresses=("127.0.0.1",),
            port_range=(61001, 65535),
            policy=PeerPolicy(allow=["127.0.0.0/8"]),
        ),
        [LOOPBACK],
    )
    async with second:
        now = asyncio.get_running_loop().time()
        server.driver.core.drain(now, second.listeners[0])
        async with await server.open(Transport.UDP) as allocation:
            assert allocation.endpoint.address == second.listeners[0]
            await exchange(allocation)
        second.core.drain(now, server.endpoints[Transport.UDP].address)
        with pytest.raises(RemoteProtocolError, match="asked already"):
            await server.open(Transport.UDP)


def descriptors() -> set[str]:
    """Open sockets of this process."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if target.startswith("socket:"):
                found.add(target)
    return found


@pytest.mark.parametrize("kind", ["udp", "tcp", "tls", "dtls", "race"])
async def test_cancelled_at_every_await_nothing_stays(server: Server, kind: str) -> None:
    """FAULTS 160: no socket, no task; what the server may have made is given back with LIFETIME 0."""

    async def allocate() -> TurnAllocation:
        if kind == "race":
            uris = [server.endpoints[transport] for transport in SERVED]
            return await open_allocation(uris, ALICE, tls=server.tls, stagger=0.001)
        return await TurnAllocation.open(server.endpoints[Transport(kind)], ALICE, tls=server.tls)

    await (await allocate()).close()
    await until(lambda: not server.driver.stats.allocations)
    tasks, sockets = len(asyncio.all_tasks()), len(descriptors())
    done = 0
    for turns in range(400):
        task = asyncio.create_task(allocate())
        for _ in range(turns):
            if task.done():
                break
            await asyncio.sleep(0)
        done += task.done()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await (await task).close()
        if done >= 3:
            break
    assert done
    await until(lambda: not server.driver.stats.allocations)
    await until(lambda: len(asyncio.all_tasks()) <= tasks)
    await until(lambda: len(descriptors()) <= sockets)
    reasons = {event.reason for event in server.events if isinstance(event, AllocationEnded)}
    assert reasons == {EndReason.DELETED}


async def test_cancelled_connect_leaves_the_allocation_usable(server: Server) -> None:
    """FAULTS 160: for connections with TCP peers."""
    listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    peer = Address.from_sockname(listener.sockets[0].getsockname())
    async with listener, await server.open(Transport.TCP, relay=Transport.TCP) as allocation:
        for turns in range(1, 60, 3):
            task = asyncio.create_task(allocation.connect(peer))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, NatError):
                await (await task).close()
            await until(lambda: not allocation.core._requester.busy)
        assert allocation.relayed
