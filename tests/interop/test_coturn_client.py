"""Our TURN client with Debian's coturn, which these tests start themselves on the loopback interface.

The packaged 4.6.1 takes TLS and DTLS on its plain port, too. It knows nothing of RFC 8489's password
algorithms: it offers none, so the client signs with MD5 keys and SHA-1.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import socket
import sqlite3
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from certificates import write_certificate
from coturn import PASSWORD, USER, free_port, relay_ports, running_coturn
from natwalk.aio.turn import CertificateMismatch, ClientTls, NoAllocation, TurnAllocation, open_allocation
from natwalk.aio.turn_test import Step, examine
from natwalk.core import Address, ErrorResponse, LocalProtocolError, NatError, Transport
from natwalk.stun.resolution import ServerEndpoint
from natwalk.turn import (
    AllocationOptions,
    OAuthCredentials,
    OAuthKey,
    PasswordCredentials,
    rest_credentials,
)
from natwalk.turn.oauth import oauth_token

pytestmark = [
    pytest.mark.coturn,
    pytest.mark.skipif(shutil.which("turnserver") is None, reason="coturn's turnserver is not installed"),
]

ALICE = PasswordCredentials(USER, PASSWORD)
TRANSPORTS = tuple(Transport)
LOOPBACK = Address("127.0.0.1", 0)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    write_certificate(folder)
    return folder


@pytest.fixture
async def coturn(tmp_path: Path, certificates: Path) -> AsyncIterator[Address]:
    async with running_coturn(tmp_path / "turn", "mobility", certificates=certificates) as server:
        yield server


@pytest.fixture
def tls(certificates: Path) -> ClientTls:
    return ClientTls(ca_file=certificates / "cert.pem")


class Peer:
    """A plain UDP socket."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind((host, 0))
        self.address = Address.from_sockname(self.sock.getsockname())

    async def receive(self) -> tuple[bytes, Address]:
        async with asyncio.timeout(5):
            data, sockname = await asyncio.get_running_loop().sock_recvfrom(self.sock, 65536)
        return data, Address.from_sockname(sockname)

    async def exchange(self, allocation: TurnAllocation, text: bytes = b"ping") -> None:
        """One datagram each way through ``allocation``."""
        relayed = next(a for a in allocation.relayed_addresses if a.version == self.address.version)
        allocation.send(text, self.address)
        assert await self.receive() == (text, relayed)
        self.sock.sendto(text[::-1], relayed)
        assert await receive(allocation) == (text[::-1], self.address)


@pytest.fixture
def peer() -> Iterator[Peer]:
    found = Peer()
    with contextlib.closing(found.sock):
        yield found


async def allocate(server: Address, password: str = PASSWORD) -> TurnAllocation:
    async with asyncio.timeout(10):
        return await TurnAllocation.allocate(server, USER, password, local=LOOPBACK)


async def open_at(
    server: Address, transport: Transport, tls: ClientTls | None = None, **options: object
) -> TurnAllocation:
    async with asyncio.timeout(10):
        return await TurnAllocation.open(
            ServerEndpoint(server, transport, "localhost"),
            ALICE,
            tls=tls,
            options=AllocationOptions(**options),  # type: ignore[arg-type]
        )


async def receive(allocation: TurnAllocation) -> tuple[bytes, Address]:
    async with asyncio.timeout(5):
        return await allocation.receive()


async def test_indications_and_channels_both_ways(coturn: Address, peer: Peer) -> None:
    """Allocate, permission, Send and Data, then a channel, then LIFETIME 0."""
    async with await allocate(coturn) as allocation:
        low, high = relay_ports()
        assert allocation.relayed.host == "127.0.0.1"
        assert low <= allocation.relayed.port <= high
        assert allocation.mapped == allocation.core.local
        for n in range(20):
            await peer.exchange(allocation, b"ping %d" % n)
        assert allocation.core.overhead(peer.address) == 4
        assert allocation.denials == {}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_every_size_over_every_transport(
    coturn: Address, peer: Peer, tls: ClientTls, transport: Transport
) -> None:
    """Indications and ChannelData with all paddings, framed on streams."""
    async with await open_at(coturn, transport, tls) as allocation:
        for channel in (False, True):
            if channel:
                allocation.bind_channel(peer.address)
            for size in (1, 2, 3, 4, 1200, 1452):
                await peer.exchange(allocation, secrets.token_bytes(size))
        assert allocation.core.overhead(peer.address) <= 7
        assert allocation.drops.total == allocation.core.drops.total == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_bursts_over_every_transport(
    coturn: Address, peer: Peer, tls: ClientTls, transport: Transport
) -> None:
    """Messages that share segments and records are taken apart again."""
    async with await open_at(coturn, transport, tls) as allocation:
        allocation.bind_channel(peer.address)
        await peer.exchange(allocation)
        for n in range(50):
            peer.sock.sendto(b"%d" % n * (n % 7 + 1), allocation.relayed)
        for n in range(50):
            assert (await receive(allocation))[0] == b"%d" % n * (n % 7 + 1)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_wrong_password_is_401(coturn: Address, tls: ClientTls, transport: Transport) -> None:
    with pytest.raises(ErrorResponse) as caught:
        await TurnAllocation.open(
            ServerEndpoint(coturn, transport, "localhost"), PasswordCredentials(USER, "wrong"), tls=tls
        )
    assert caught.value.code == 401


@pytest.mark.parametrize("transport", [Transport.TLS, Transport.DTLS])
async def test_certificates_are_checked(coturn: Address, tls: ClientTls, transport: Transport) -> None:
    """Unknown CA, wrong name; and no check when none is wanted."""
    with pytest.raises((OSError, NatError), match="certificate verify failed"):
        await open_at(coturn, transport, ClientTls())
    with pytest.raises((OSError, CertificateMismatch), match="elsewhere"):
        await TurnAllocation.open(ServerEndpoint(coturn, transport, "elsewhere.test"), ALICE, tls=tls)
    async with await open_at(coturn, transport, ClientTls(verify=False)):
        pass
    by_address = ServerEndpoint(coturn, transport, "127.0.0.1")
    async with await TurnAllocation.open(by_address, ALICE, tls=tls) as allocation:
        assert allocation.relayed


async def test_two_allocations_reach_each_other(coturn: Address) -> None:
    """Relay to relay, as two peers behind hard NATs do."""
    async with await allocate(coturn) as a, await allocate(coturn) as b:
        a.create_permission([b.relayed.ip])
        b.send(b"prime", a.relayed)
        for n in range(10):
            a.send(b"%d" % n, b.relayed)
        got = [await receive(b) for _ in range(5)]
        assert all(remote == a.relayed for _, remote in got)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_ipv6(tmp_path: Path, certificates: Path, tls: ClientTls, transport: Transport) -> None:
    async with running_coturn(tmp_path / "turn", host="::1", certificates=certificates) as server:
        six = Peer("::1")
        with contextlib.closing(six.sock):
            async with await open_at(server, transport, tls, family=6) as allocation:
                assert allocation.relayed.host == "::1"
                await six.exchange(allocation)


async def test_dual_allocation(tmp_path: Path, peer: Peer) -> None:
    """One relayed address of each IP version, and a peer behind each (RFC 8656 §7.1).

    This coturn knows the attribute by the number it had in drafts; the client sends that, too.
    """
    async with running_coturn(tmp_path / "turn", "relay-ip=127.0.0.1", "relay-ip=::1") as server:
        six = Peer("::1")
        with contextlib.closing(six.sock):
            async with await open_at(server, Transport.UDP, dual=True) as allocation:
                assert {a.host for a in allocation.relayed_addresses} == {"127.0.0.1", "::1"}
                await peer.exchange(allocation)
                await six.exchange(allocation)


async def test_even_port_and_its_reservation(coturn: Address) -> None:
    """EVEN-PORT with the next port kept, then claimed with the token (RFC 8656 §7.1)."""
    async with await open_at(coturn, Transport.UDP, even_port=True, reserve_next=True) as first:
        assert first.relayed.port % 2 == 0
        token = first.granted.reservation_token
        assert token is not None
        async with await open_at(coturn, Transport.UDP, reservation_token=token) as second:
            assert second.relayed.port == first.relayed.port + 1


@pytest.mark.parametrize("transport", [Transport.TCP, Transport.TLS])
async def test_tcp_relay_out_and_in(coturn: Address, tls: ClientTls, transport: Transport) -> None:
    """RFC 6062: Connect to a listening peer, then a peer that connects to the relayed address."""
    served: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    listener = await asyncio.start_server(lambda r, w: served.put_nowait((r, w)), "127.0.0.1", 0)
    peer = Address.from_sockname(listener.sockets[0].getsockname())
    big = secrets.token_bytes(300_000)
    async with listener, await open_at(coturn, transport, tls, relay=Transport.TCP) as allocation:
        with pytest.raises(LocalProtocolError):
            allocation.send(b"x", peer)
        async with asyncio.timeout(10):
            stream = await allocation.connect(peer)
            reader, writer = await served.get()
            assert Address.from_sockname(writer.get_extra_info("peername")) == allocation.relayed
            stream.writer.write(big)
            assert await reader.readexactly(len(big)) == big
            writer.write(big[::-1])
            assert await stream.reader.readexactly(len(big)) == big[::-1]
            writer.close()
            with contextlib.suppress(ConnectionResetError):  # coturn ends a TCP connection so, or properly
                assert await stream.reader.read() == b""
            await stream.close()
            await writer.wait_closed()

            allocation.create_permission([peer.ip])
            with pytest.raises(ErrorResponse) as caught:
                await allocation.connect(Address("127.0.0.1", free_port()))
            assert caught.value.code == 447
            accepting = asyncio.create_task(allocation.accept())
            reader, writer = await asyncio.open_connection(*allocation.relayed.sockname)
            incoming = await accepting
            assert incoming.peer == Address.from_sockname(writer.get_extra_info("sockname"))
            writer.write(b"from the peer")
            assert await incoming.reader.readexactly(13) == b"from the peer"
            incoming.writer.write(b"to the peer")
            assert await reader.readexactly(11) == b"to the peer"
            await incoming.close()
            writer.close()
            with contextlib.suppress(ConnectionResetError):
                await writer.wait_closed()


@pytest.mark.parametrize("transport", [Transport.UDP, Transport.DTLS])
async def test_mobility(coturn: Address, tls: ClientTls, peer: Peer, transport: Transport) -> None:
    """RFC 8016: another socket, the same relayed address, and data go on both ways.

    Not over TCP and TLS: there this coturn moves the allocation and answers with the wrong eight bytes.
    """
    async with await open_at(coturn, transport, tls, mobility=True) as allocation:
        assert allocation.core.mobile
        await peer.exchange(allocation, b"before")
        relayed, old = allocation.relayed, allocation.core.path
        async with asyncio.timeout(10):
            await allocation.migrate()
        assert allocation.core.path != old
        assert allocation.relayed == relayed
        for n in range(8):
            await peer.exchange(allocation, b"after %d" % n)


@pytest.mark.parametrize("transport", [Transport.TCP, Transport.TLS])
async def test_senseless_answer_ends_the_move(coturn: Address, tls: ClientTls, transport: Transport) -> None:
    """What coturn says over a stream then is not STUN: the move fails at once, with the reason."""
    async with await open_at(coturn, transport, tls, mobility=True) as allocation:
        async with asyncio.timeout(10):
            with pytest.raises(NatError):
                await allocation.migrate()


async def test_mobility_forbidden_is_not_the_end(tmp_path: Path, peer: Peer) -> None:
    """A server without mobility answers 405; the allocation is made without."""
    async with (
        running_coturn(tmp_path / "turn") as server,
        await open_at(server, Transport.UDP, mobility=True) as allocation,
    ):
        assert not allocation.core.mobile
        await peer.exchange(allocation)
        with pytest.raises(LocalProtocolError, match="ticket"):
            await allocation.migrate()


async def test_rest_credentials(tmp_path: Path, peer: Peer) -> None:
    options = ("use-auth-secret", "static-auth-secret=north")
    async with running_coturn(tmp_path / "turn", *options, users=False) as server:
        good = rest_credentials("north", time.time(), 60)
        async with await TurnAllocation.allocate(server, *good) as allocation:
            await peer.exchange(allocation)
        with pytest.raises(ErrorResponse) as caught:
            await TurnAllocation.allocate(server, *rest_credentials("north", time.time(), -60))
        assert caught.value.code == 401


async def test_oauth_token(tmp_path: Path, peer: Peer) -> None:
    """RFC 7635; this coturn takes MAC keys of 20 bytes and signs with 16 of them."""
    folder, name, key = tmp_path / "turn", "as.natwalk.test", OAuthKey("north", secrets.token_bytes(32))
    async with running_coturn(folder, "oauth", f"server-name={name}") as server:
        with contextlib.closing(sqlite3.connect(folder / "turn.db")) as database, database:
            database.execute(
                "insert into oauth_key (kid, ikm_key, timestamp, lifetime, as_rs_alg) values (?, ?, 0, 0, ?)",
                (key.kid, b64encode(key.key).decode(), "A256GCM"),
            )
        mac_key = secrets.token_bytes(20)

        async def open_with(sealed: OAuthKey) -> TurnAllocation:
            token = oauth_token(
                sealed, name, mac_key, issued=time.time(), lifetime=600, nonce=secrets.token_bytes(12)
            )
            credentials = OAuthCredentials(key.kid, token, mac_key)
            return await TurnAllocation.open(ServerEndpoint(server, Transport.UDP, "localhost"), credentials)

        async with await open_with(key) as allocation:
            await peer.exchange(allocation)
        with pytest.raises(ErrorResponse) as caught:
            await open_with(OAuthKey("north", secrets.token_bytes(32)))
        assert caught.value.code == 401


async def test_redirect_is_not_believed_when_unsigned(tmp_path: Path) -> None:
    """FAULTS 35: coturn's ALTERNATE-SERVER comes before authentication, so anybody could have sent it."""
    async with (
        running_coturn(tmp_path / "second") as second,
        running_coturn(tmp_path / "first", f"alternate-server={second}") as first,
    ):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.7):
                await TurnAllocation.allocate(first, USER, PASSWORD)


async def test_turn_test_finds_nothing_wrong(coturn: Address, tls: ClientTls) -> None:
    """``natwalk turn test`` over every transport; throughput is measured but not judged."""
    plain, secure = {Transport.UDP, Transport.TCP}, {Transport.TLS, Transport.DTLS}
    for uri, expected in (
        (f"turn:127.0.0.1:{coturn.port}", plain),
        (f"turns:localhost:{coturn.port}", secure),
    ):
        report = await examine(uri, ALICE, tls=tls, seconds=0.05)
        assert report.ok
        assert {each.endpoint.transport for each in report.endpoints if each.ok} == expected


async def test_turn_test_names_what_a_peer_rule_breaks(tmp_path: Path) -> None:
    """A server that denies its own relay addresses: two people who both need it cannot talk."""
    async with running_coturn(tmp_path / "turn", "denied-peer-ip=127.0.0.1") as server:
        report = await examine(f"turn:127.0.0.1:{server.port}?transport=udp", ALICE, seconds=0.0)
    [endpoint] = report.endpoints
    assert not report.ok
    assert endpoint.checks[-1].step is Step.PERMISSION
    assert "403" in endpoint.checks[-1].detail


async def test_fastest_of_several_servers_and_transports_wins(
    coturn: Address, tls: ClientTls, peer: Peer
) -> None:
    """A dead UDP port, a closed TCP port, a server that works: the one that works, whichever it is."""
    hole = Peer()
    with contextlib.closing(hole.sock):
        async with asyncio.timeout(10):
            allocation = await open_allocation(
                [
                    f"turn:127.0.0.1:{hole.address.port}?transport=udp",
                    f"turn:127.0.0.1:{free_port()}?transport=tcp",
                    f"turns:127.0.0.1:{coturn.port}?transport=tcp",
                ],
                ALICE,
                tls=tls,
                stagger=0.05,
            )
        async with allocation:
            assert allocation.endpoint.transport is Transport.TLS
            await peer.exchange(allocation)


async def test_udp_is_preferred_where_it_works(coturn: Address, tls: ClientTls) -> None:
    uris = [
        f"turns:localhost:{coturn.port}?transport=tcp",
        f"turn:127.0.0.1:{coturn.port}?transport=tcp",
        f"turn:127.0.0.1:{coturn.port}",
    ]
    async with await open_allocation(uris, ALICE, tls=tls, stagger=2.0) as allocation:
        assert allocation.endpoint.transport is Transport.UDP


async def test_every_attempt_and_its_reason_is_named(coturn: Address) -> None:
    closed = free_port()
    with pytest.raises(NoAllocation) as caught:
        await open_allocation(
            [
                f"turn:127.0.0.1:{coturn.port}?transport=udp",
                f"turn:127.0.0.1:{closed}?transport=tcp",
                f"turns:127.0.0.1:{coturn.port}?transport=tcp",
            ],
            PasswordCredentials(USER, "wrong"),
            stagger=0.0,
        )
    text = str(caught.value)
    assert len(caught.value.attempts) == 3
    for part in ("401", f"127.0.0.1:{closed}", "certificate verify failed"):
        assert part in text
