"""The TURN server over DTLS on the loopback interface."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from certificates import Files, write_certificate
from dtls_client import DtlsClient
from natwalk.aio.dtls import COOKIE_LIFETIME, Cookies, DtlsServer
from natwalk.aio.dtls_records import datagrams, is_client_hello
from natwalk.aio.stream_limits import ClientLimits
from natwalk.aio.tls import ServerTls
from natwalk.aio.turn_server import TurnServerDriver
from natwalk.core import Address, Transport
from natwalk.stun import (
    CHANNEL_NUMBER,
    NONCE,
    REALM,
    REQUESTED_TRANSPORT,
    USERNAME,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    Attribute,
    Message,
    MessageClass,
    Method,
    decode,
    encode,
    long_term_key,
    request,
)
from natwalk.turn import EndReason
from turn_serving import BINDING, address_of, datagram, serving, until


def dtls_of(driver: TurnServerDriver) -> DtlsServer:
    assert driver._dtls is not None
    return driver._dtls


async def ask(
    client: DtlsClient, method: Method, *attributes: Attribute, key: bytes | None = None
) -> Message:
    client.send(encode(request(method, os.urandom(12), *attributes), integrity_key=key))
    return decode(await client.message())


async def allocate(client: DtlsClient) -> tuple[Address, tuple[Attribute, ...], bytes]:
    """Allocate; the relayed address, and what further requests are signed with."""
    wanted = (REQUESTED_TRANSPORT, 17)
    challenge = await ask(client, Method.ALLOCATE, wanted)
    realm, nonce = challenge.get(REALM), challenge.get(NONCE)
    assert realm is not None
    assert nonce is not None
    credentials = ((USERNAME, "alice"), (REALM, realm), (NONCE, nonce))
    key = long_term_key("alice", realm, "correct horse")
    response = await ask(client, Method.ALLOCATE, wanted, *credentials, key=key)
    relay = response.get(XOR_RELAYED_ADDRESS)
    assert relay is not None, response
    return relay, credentials, key


async def relay_both_ways(client: DtlsClient, peer: socket.socket) -> None:
    relay, credentials, key = await allocate(client)
    channel = ((CHANNEL_NUMBER, 0x4000), (XOR_PEER_ADDRESS, address_of(peer)))
    bound = await ask(client, Method.CHANNEL_BIND, *channel, *credentials, key=key)
    assert bound.message_class is MessageClass.SUCCESS
    for size in (0, 1, 160, 1200, 1500, 9000):
        data = os.urandom(size)
        client.send(b"\x40\x00" + size.to_bytes(2, "big") + data)
        assert await datagram(peer) == data
        peer.sendto(data, relay)
        assert await client.message() == b"\x40\x00" + size.to_bytes(2, "big") + data


async def test_relaying(peer: socket.socket, tls: ServerTls) -> None:
    async with serving(Transport.DTLS, tls=tls) as server:
        with DtlsClient(server.address, alpn=[b"stun.turn"]) as client:
            await client.shake_hands()
            assert client.tls.get_protocol_version_name() == "DTLSv1.2"
            assert client.tls.get_alpn_proto_negotiated() == b"stun.turn"
            await relay_both_ways(client, peer)
            assert server.driver.connections == 1
            client.close()
            await until(lambda: server.ended() == [EndReason.CLIENT_GONE])
            assert server.driver.connections == 0


async def test_plain_stun_and_dtls_on_one_port(peer: socket.socket, tls: ServerTls) -> None:
    """Told apart by the first byte (RFC 7983)."""
    async with serving(Transport.UDP, tls=tls) as server:
        assert server.driver.listeners == (server.address,)
        with DtlsClient(server.address) as client:
            await client.shake_hands()
            await relay_both_ways(client, peer)
            client.sock.send(BINDING)
            assert (await datagram(client.sock))[:2] == b"\x01\x01"


async def test_a_dtls_port_takes_nothing_plain(tls: ServerTls) -> None:
    async with serving(Transport.DTLS, tls=tls) as server:
        with DtlsClient(server.address) as client:
            client.sock.send(BINDING)
            client.sock.send(b"")
            await until(lambda: server.driver.core.drops.total >= 1)
            with pytest.raises(BlockingIOError):
                client.sock.recv(100)


async def test_a_port_without_a_certificate_takes_no_dtls() -> None:
    async with serving(Transport.UDP) as server:
        with DtlsClient(server.address) as client:
            client.sock.send(client.hello())
            await until(lambda: server.driver.core.drops.total == 1)
    with pytest.raises(ValueError, match="certificate"):
        async with serving(Transport.DTLS):
            pass


@pytest.mark.parametrize("size", [60, 4000, 4097, 16_397, 16_398, 65_507])
async def test_a_false_hello_does_not_stand_before_the_next_one(tls: ServerTls, size: int) -> None:
    """OpenSSL reads part of a long datagram; the rest must not be taken for somebody else's hello."""
    false = bytes.fromhex("16fefd") + bytes(8) + b"\xff\xff\x01"
    async with serving(Transport.UDP, tls=tls) as server:
        with DtlsClient(server.address) as client:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                for _ in range(5):
                    stranger.sendto(false.ljust(size, b"\0"), server.address)
            client.sock.send(client.hello())
            answer = await datagram(client.sock)
        assert answer[13] == 3, "a HelloVerifyRequest (RFC 6347 §4.2.1)"
        assert server.driver.connections == 0


async def test_a_flood_of_hellos_leaves_no_state(tls: ServerTls) -> None:
    """20,000 ClientHellos from as many ports: every table stays empty, and a real client is served."""
    async with serving(Transport.UDP, tls=tls) as server:
        dtls = dtls_of(server.driver)
        with DtlsClient(server.address) as model:
            hello = model.hello()
        answers: list[Address] = []
        dtls._endpoints[server.address].send = lambda sent, to: answers.append(to) or len(sent)  # type: ignore[func-returns-value]
        spare = dtls._endpoints[server.address]._spare
        for number in range(20_000):
            remote = Address(f"198.51.{100 + number % 2}.{number // 250 % 250 + 1}", 1024 + number)
            dtls.receive(hello, _path(server.address, remote))
        assert len(answers) == len(set(answers)) == 20_000
        assert len(dtls) == dtls.handshaking == len(dtls._sources) == 0
        assert dtls._endpoints[server.address]._spare is spare
        dtls._endpoints[server.address].send = server.driver._sockets[server.address].send_many
        with DtlsClient(server.address) as client:
            await client.shake_hands()
            await allocate(client)


def _path(local: Address, remote: Address) -> Any:
    from natwalk.core import Path as NetworkPath

    return NetworkPath(local, remote, Transport.DTLS)


async def test_the_answer_to_a_hello_is_shorter(tls: ServerTls) -> None:
    """A spoofed hello is not worth sending."""
    async with serving(Transport.UDP, tls=tls) as server:
        with DtlsClient(server.address) as client:
            hello = client.hello()
            client.sock.send(hello)
            assert len(await datagram(client.sock)) < len(hello) / 3


async def test_a_cookie_is_for_one_address(tls: ServerTls) -> None:
    """A hello with the cookie of another port gets a cookie, not a handshake."""
    async with serving(Transport.UDP, tls=tls) as server:
        with DtlsClient(server.address) as client, DtlsClient(server.address) as thief:
            client.sock.send(client.hello())
            client.tls.bio_write(await datagram(client.sock))
            with pytest.raises(SSL.WantReadError):
                client.tls.do_handshake()
            thief.sock.send(client.tls.bio_read(65536))
            answer = await datagram(thief.sock)
            assert answer[13] == 3  # HelloVerifyRequest
            assert len(dtls_of(server.driver)) == 0


def test_cookies_live_one_to_two_minutes() -> None:
    now = [1000.0]
    cookies = Cookies(lambda: now[0])
    one, other = Address("192.0.2.1", 1), Address("192.0.2.1", 2)
    cookie = cookies.make(one)
    assert cookies.check(one, cookie)
    assert not cookies.check(other, cookie)
    assert not cookies.check(one, cookie[:-1])
    now[0] += COOKIE_LIFETIME
    assert cookies.check(one, cookie)
    assert cookies.make(one) != cookie
    now[0] += COOKIE_LIFETIME
    assert not cookies.check(one, cookie)
    later = cookies.make(one)
    now[0] += 2 * COOKIE_LIFETIME
    assert not cookies.check(one, later)


async def test_garbage_disturbs_nobody(peer: socket.socket, tls: ServerTls) -> None:
    """Neither before a handshake nor inside an association."""
    async with serving(Transport.UDP, tls=tls) as server:
        with DtlsClient(server.address) as client, DtlsClient(server.address) as other:
            hello = other.hello()
            for junk in (hello[:40], hello[:13] + b"\x01" + os.urandom(100), b"\x16" * 2000, b"\x17\xfe\xfd"):
                other.sock.send(junk)
            await client.shake_hands()
            for junk in (b"\x14", b"\x17\xfe\xfd" + os.urandom(60), b"\x15" * 1400, hello[:30]):
                client.sock.send(junk)
            await relay_both_ways(client, peer)


async def test_a_client_that_was_restarted_begins_anew(peer: socket.socket, tls: ServerTls) -> None:
    """From the same port, with a new handshake that proves its address (RFC 6347 §4.2.8)."""
    async with serving(Transport.UDP, tls=tls) as server:
        with DtlsClient(server.address) as client:
            await client.shake_hands()
            await allocate(client)
            client.renew()
            client.sock.send(client.hello())  # alone it changes nothing
            client.tls.bio_write(await datagram(client.sock))
            assert server.driver.stats.allocations == 1
            await client.shake_hands()
            assert server.ended() == [EndReason.CLIENT_GONE]
            await relay_both_ways(client, peer)
            assert server.driver.connections == 1


async def test_a_reloaded_certificate_is_for_new_handshakes(
    peer: socket.socket, files: Files, tls: ServerTls
) -> None:
    """FAULTS 158: running associations go on."""
    async with serving(Transport.UDP, tls=tls) as server:
        with DtlsClient(server.address) as before, DtlsClient(server.address) as after:
            await before.shake_hands()
            new = write_certificate(files.cert.parent)
            tls.reload()
            await after.shake_hands()
            assert [serial(before), serial(after)] == [files.serial, new.serial]
            await relay_both_ways(before, peer)


def serial(client: DtlsClient) -> int:
    certificate = client.tls.get_peer_certificate(as_cryptography=True)
    assert isinstance(certificate, x509.Certificate)
    return certificate.serial_number


async def test_handshakes_and_associations_are_bounded(tls: ServerTls) -> None:
    limits = ClientLimits(connections=3, connections_per_source=2, handshakes=2)
    async with serving(Transport.UDP, tls=tls, limits=limits) as server:
        clients = [DtlsClient(server.address, host=f"127.0.0.{n}") for n in (1, 2, 3)]
        for client in clients:  # each with a cookie, none with a finished handshake
            client.sock.send(client.hello())
            client.tls.bio_write(await datagram(client.sock))
            with pytest.raises(SSL.WantReadError):
                client.tls.do_handshake()
            client.flush()
        await until(lambda: server.drops.get("too many DTLS handshakes", 0) == 1)
        assert dtls_of(server.driver).handshaking == len(dtls_of(server.driver)) == 2
        for client in clients[:2]:
            await client.shake_hands()
        await until(lambda: dtls_of(server.driver).handshaking == 0)
        with DtlsClient(server.address) as second, DtlsClient(server.address) as third:
            await second.shake_hands()
            third.sock.send(third.hello())
            third.tls.bio_write(await datagram(third.sock))
            with pytest.raises(SSL.WantReadError):
                third.tls.do_handshake()
            third.flush()
            await until(lambda: server.drops.get("too many DTLS associations", 0) == 1)
            clients[1].close()
            await until(lambda: server.driver.connections == 2)
            third.flush()
            third.renew()
            third.sock.send(third.hello())
            third.tls.bio_write(await datagram(third.sock))
            with pytest.raises(SSL.WantReadError):
                third.tls.do_handshake()
            third.flush()
            await until(lambda: server.drops.get("too many DTLS associations from one source", 0) == 1)
        for client in clients:
            client.close()


async def test_handshakes_that_stop_and_idle_associations_are_closed(tls: ServerTls) -> None:
    """FAULTS 52: and one with an allocation stays."""
    limits = ClientLimits(first_message_timeout=0.3, idle_timeout=0.3)
    async with serving(Transport.UDP, tls=tls, limits=limits) as server:
        with (
            DtlsClient(server.address) as half,
            DtlsClient(server.address) as silent,
            DtlsClient(server.address) as idle,
            DtlsClient(server.address) as user,
        ):
            half.sock.send(half.hello())
            half.tls.bio_write(await datagram(half.sock))
            with pytest.raises(SSL.WantReadError):
                half.tls.do_handshake()
            half.flush()
            for client in (silent, idle, user):
                await client.shake_hands()
            await allocate(user)
            idle.send(BINDING)
            await idle.message()
            for client in (silent, idle):
                with pytest.raises(EOFError):
                    await client.message()
            await until(lambda: server.driver.connections == 1)
            assert dtls_of(server.driver).handshaking == 0
            assert server.drops["no message in time"] == 2
            assert server.drops["idle without an allocation"] == 1
            user.send(BINDING)
            await user.message()


async def test_a_lost_flight_is_sent_again(tls: ServerTls) -> None:
    """By the server too: it waits for the client's second flight and repeats its own."""
    async with serving(Transport.UDP, tls=tls) as server:
        with DtlsClient(server.address) as client:
            client.sock.send(client.hello())
            client.tls.bio_write(await datagram(client.sock))
            with pytest.raises(SSL.WantReadError):
                client.tls.do_handshake()
            client.flush()
            first = await datagram(client.sock)  # lost, as far as the client's TLS knows
            again = await datagram(client.sock)
            assert len(again) == len(first)
            client.tls.bio_write(again)
            await client.shake_hands()


async def test_renegotiation_is_refused(tls: ServerTls) -> None:
    """FAULTS 53: the association goes on as it was."""
    async with serving(Transport.UDP, tls=tls) as server:
        with DtlsClient(server.address) as client:
            await client.shake_hands()
            client.send(BINDING)
            await client.message()
            (association,) = dtls_of(server.driver)._associations.values()
            assert client.tls.renegotiate()
            with pytest.raises(SSL.Error):
                await client.shake_hands()
            assert association._connection.total_renegotiations() == 0


async def test_closing_says_goodbye(tls: ServerTls) -> None:
    async with serving(Transport.UDP, tls=tls) as server:
        with DtlsClient(server.address) as client:
            await client.shake_hands()
            client.send(BINDING)
            await client.message()
            server.driver.close()
            with pytest.raises(EOFError):
                await client.message()


def test_pyopenssl_is_imported_by_dtls_alone() -> None:
    """A server without DTLS does not wait for it."""
    import subprocess
    import sys

    source = "import sys, natwalk.aio.turn_server; print('OpenSSL' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


def record(size: int) -> bytes:
    return b"\x16\xfe\xfd" + bytes(8) + size.to_bytes(2, "big") + bytes(size)


@given(st.lists(st.integers(0, 400), max_size=20), st.integers(13, 600))
def test_records_are_cut_into_datagrams(sizes: list[int], mtu: int) -> None:
    records = [record(size) for size in sizes]
    cut = datagrams(b"".join(records), mtu)
    assert b"".join(cut) == b"".join(records)
    starts = {0, *(sum(map(len, records[:n])) for n in range(len(records)))}
    at = 0
    for one in cut:
        assert at in starts
        at += len(one)
        assert len(one) <= mtu or one in records


@given(st.binary(max_size=100))
def test_any_bytes_are_a_hello_or_not(data: bytes) -> None:
    assert is_client_hello(data) in {True, False}
    assert b"".join(datagrams(data, 1200)) == data


def test_a_hello_is_not_encrypted() -> None:
    hello = b"\x16\xfe\xfd\0\0" + bytes(6) + b"\0\1" + b"\1"
    assert is_client_hello(hello)
    assert not is_client_hello(b"\x17" + hello[1:])
    assert not is_client_hello(hello[:3] + b"\0\1" + hello[5:])
    assert not is_client_hello(hello[:-1] + b"\2")
