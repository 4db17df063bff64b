"""What an Allocate may ask for together, and what comes of it."""

from __future__ import annotations

from typing import Any

import pytest

from client_script import ALICE, LOCAL, RELAYED, RELAYED6, Script
from natwalk.core import LocalProtocolError, Transport
from natwalk.stun import (
    ADDITIONAL_ADDRESS_FAMILY,
    ADDRESS_ERROR_CODE,
    DATA,
    DONT_FRAGMENT,
    EVEN_PORT,
    ICMP,
    LIFETIME,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    AddressErrorCode,
    IcmpError,
    Method,
    encode,
    indication,
    success,
)
from natwalk.turn import Allocated, AllocationFailed, AllocationOptions, PeerData, PeerUnreachable, TurnClient
from turn_world import LISTENER, PEER, seeded

TCP = Transport.TCP


@pytest.mark.parametrize(
    "options",
    [
        {"family": 5},
        {"lifetime": -1},
        {"lifetime": 1 << 32},
        {"relay": Transport.TLS},
        {"dual": True, "family": 4},
        {"dual": True, "reserve_next": True},
        {"reservation_token": b"short"},
        {"reservation_token": bytes(8), "family": 6},
        {"reservation_token": bytes(8), "dual": True},
        {"reservation_token": bytes(8), "even_port": True},
        {"relay": TCP, "even_port": True},
        {"relay": TCP, "dont_fragment": True},
        {"relay": TCP, "reservation_token": bytes(8)},
    ],
)
def test_what_the_rfcs_forbid_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        AllocationOptions(**options)


def test_tcp_allocations_need_a_stream_to_the_server() -> None:
    for transport in (Transport.UDP, Transport.DTLS):
        with pytest.raises(ValueError, match="RFC 6062"):
            TurnClient(
                LISTENER,
                LOCAL,
                ALICE,
                random_bytes=seeded(),
                transport=transport,
                options=AllocationOptions(relay=TCP),
            )


@pytest.mark.parametrize(
    ("options", "attribute", "value"),
    [
        ({}, REQUESTED_TRANSPORT, 17),
        ({"relay": TCP}, REQUESTED_TRANSPORT, 6),
        ({"family": 6}, REQUESTED_ADDRESS_FAMILY, 2),
        ({"dual": True}, ADDITIONAL_ADDRESS_FAMILY, 2),
        ({"even_port": True}, EVEN_PORT, False),
        ({"reserve_next": True}, EVEN_PORT, True),
        ({"reservation_token": b"12345678"}, RESERVATION_TOKEN, b"12345678"),
        ({"dont_fragment": True}, DONT_FRAGMENT, True),
        ({"lifetime": 1800}, LIFETIME, 1800),
    ],
)
def test_options_are_attributes_of_the_request(options: dict[str, Any], attribute: Any, value: Any) -> None:
    request = Script(transport=TCP, **options).signed_allocate()
    assert request.get(attribute) == value


def test_dual_allocation_has_an_address_for_each_family() -> None:
    script = Script(dual=True).allocated(relayed=(RELAYED, RELAYED6))
    assert script.client.relayed_addresses == (RELAYED, RELAYED6)
    assert script.client.relayed_for(6) == RELAYED6
    [event] = script.said()
    assert (event.relayed, event.additional) == (RELAYED, RELAYED6)
    script.client.create_permission([PEER.ip, RELAYED6.ip], 0.0)
    assert [m.method for m in script.sent()] == [Method.CREATE_PERMISSION] * 2


def test_half_a_dual_allocation_says_why() -> None:
    problem = AddressErrorCode(2, 440, "Address Family not Supported")
    script = Script(dual=True).allocated((ADDRESS_ERROR_CODE, problem))
    [event] = script.said()
    assert event == Allocated(RELAYED, LOCAL, 600, address_errors=(problem,))
    with pytest.raises(LocalProtocolError, match="IPv6"):
        script.client.send(b"x", RELAYED6, 0.0)


def test_two_addresses_of_one_family_are_senseless() -> None:
    script = Script(dual=True)
    request = script.signed_allocate()
    two = [(XOR_RELAYED_ADDRESS, RELAYED.with_port(port)) for port in (1000, 1001)]
    script.tell(success(request, *two, (LIFETIME, 600)))
    assert [type(event) for event in script.said()] == [AllocationFailed]


def test_second_address_nobody_asked_for_is_ignored() -> None:
    assert Script().allocated(relayed=(RELAYED, RELAYED6)).client.relayed_addresses == (RELAYED,)


def test_reservation_token_is_told_but_not_shown() -> None:
    [event] = Script(reserve_next=True).allocated((RESERVATION_TOKEN, b"SECRET78")).said()
    assert event.reservation_token == b"SECRET78"
    assert "SECRET" not in repr(event)


def test_dont_fragment_takes_an_indication_even_where_there_is_a_channel() -> None:
    """RFC 8656 §11.1: only a Send indication can carry DONT-FRAGMENT."""
    script = Script().allocated()
    script.client.bind_channel(PEER, 0.0)
    [bind] = script.sent()
    script.tell(success(bind))
    script.client.send(b"by channel", PEER, 0.0)
    script.client.send(b"unbroken", PEER, 0.0, dont_fragment=True)
    [sent] = script.sent()
    assert (sent.method, sent.get(DATA), sent.get(DONT_FRAGMENT)) == (Method.SEND, b"unbroken", True)
    assert [data[4:] for data in script.raw] == [b"by channel"]


def test_icmp_about_a_permitted_peer_is_an_event() -> None:
    """RFC 8656 §11.6."""
    script = Script().allocated()
    error = IcmpError(3, 4, (1280).to_bytes(4))
    message = indication(Method.DATA, bytes(12), (XOR_PEER_ADDRESS, PEER), (ICMP, error))
    script.said()
    script.client.receive(encode(message), script.path, 0.0)
    assert script.said() == []
    assert script.client.drops.last == "ICMP about a peer without permission"
    script.client.create_permission([PEER.ip], 0.0)
    script.client.receive(encode(message), script.path, 0.0)
    assert script.said() == [PeerUnreachable(PEER, error)]


@pytest.mark.parametrize("transport", Transport)
@pytest.mark.parametrize("size", range(6))
def test_channel_data_are_padded_on_streams_only(transport: Transport, size: int) -> None:
    """RFC 8656 §12.5; padding that comes back is not data."""
    script = Script(transport=transport).allocated()
    script.client.bind_channel(PEER, 0.0)
    [bind] = script.sent()
    script.tell(success(bind))
    script.said()
    script.client.send(b"d" * size, PEER, 0.0)
    script.sent()
    [data] = script.raw
    assert len(data) - size <= script.client.overhead(PEER) <= 7
    padded = 4 + size + (-size % 4 if transport.is_stream else 0)
    assert len(data) == padded
    assert data[4 + size :] == bytes(padded - 4 - size)
    script.client.receive(data, script.path, 0.0)
    assert script.said() == [PeerData(b"d" * size, PEER)]


def test_nothing_is_sent_twice_over_a_stream_and_silence_ends_after_39_5_seconds() -> None:
    """RFC 8489 §6.2.2: Ti."""
    script = Script(transport=TCP)
    script.client.allocate(0.0)
    script.sent()
    script.wait()
    assert script.now == 39.5
    assert script.sent() == []
    [failed] = script.said()
    assert failed.timed_out


def test_dtls_is_retransmitted_like_udp() -> None:
    script = Script(transport=Transport.DTLS)
    script.client.allocate(0.0)
    script.sent()
    script.wait()
    assert script.now == 0.5
    assert len(script.sent()) == 1
