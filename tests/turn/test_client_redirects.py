"""FAULTS 35: where a client lets itself be sent."""

from __future__ import annotations

import pytest

from client_script import Script
from natwalk.core import Address, RemoteProtocolError, Transport
from natwalk.stun import ALTERNATE_DOMAIN, ALTERNATE_SERVER, NONCE, REALM, error
from natwalk.turn import AllocationFailed, Redirects

PUBLIC = Address("8.8.8.8", 3478)
OTHER = Address("9.9.9.9", 3478)


@pytest.mark.parametrize(
    "alternate",
    [
        "127.0.0.1:3478",
        "[::1]:3478",
        "0.0.0.0:3478",
        "224.0.0.1:3478",
        "169.254.169.254:80",
        "10.0.0.1:3478",
        "192.168.1.1:3478",
        "100.64.0.1:3478",
        "[::ffff:127.0.0.1]:3478",
        "[64:ff9b::7f00:1]:3478",
        "[2002:7f00:1::]:3478",
        "[fe80::1]:3478",
        "[fd00::1]:3478",
        "[ff02::1]:3478",
        "255.255.255.255:3478",
        "9.9.9.9:0",
    ],
)
def test_no_public_server_sends_us_into_other_networks(alternate: str) -> None:
    """FAULTS 35: loopback, private, multicast, embedded forms and port 0 are refused."""
    with pytest.raises(RemoteProtocolError):
        Redirects((PUBLIC,)).follow(Address.parse(alternate))


@pytest.mark.parametrize(
    ("first", "alternate"),
    [
        ("8.8.8.8:3478", "9.9.9.9:3478"),
        ("127.0.0.1:3478", "127.0.0.1:3479"),
        ("10.0.0.1:3478", "192.168.0.1:3478"),
        ("10.0.0.1:3478", "9.9.9.9:3478"),
    ],
)
def test_servers_as_near_as_the_one_that_was_named_are_fine(first: str, alternate: str) -> None:
    trail = Redirects((Address.parse(first),)).follow(Address.parse(alternate))
    assert trail.servers == (Address.parse(first), Address.parse(alternate))


def test_private_server_sends_nobody_to_loopback_or_metadata() -> None:
    for bad in ("127.0.0.1:1", "169.254.169.254:80", "168.63.129.16:80"):
        with pytest.raises(RemoteProtocolError):
            Redirects((Address("10.0.0.1", 3478),)).follow(Address.parse(bad))


def test_three_hops_and_no_circle() -> None:
    """FAULTS 35: a loop of 300s ends."""
    trail = Redirects((PUBLIC,))
    with pytest.raises(RemoteProtocolError, match="asked already"):
        trail.follow(PUBLIC)
    for n in range(3):
        trail = trail.follow(OTHER.with_port(1000 + n))
    with pytest.raises(RemoteProtocolError, match="too many"):
        trail.follow(OTHER)
    with pytest.raises(RemoteProtocolError, match="without an address"):
        trail.follow(None)


def test_redirect_counts_only_with_integrity() -> None:
    """FAULTS 35: ignored before the challenge and, unsigned, after it; told with integrity."""
    script = Script()
    script.client.allocate(0.0)
    [bare] = script.sent()
    redirect = (ALTERNATE_SERVER, OTHER)
    script.tell(error(bare, 300, "Try Alternate", redirect), signed=False)
    script.tell(error(bare, 401, "", (REALM, "here"), (NONCE, b"n")), signed=False)
    [signed] = script.sent()
    script.tell(error(signed, 300, "Try Alternate", redirect), signed=False)
    assert script.said() == []
    answer = error(signed, 300, "Try Alternate", (ALTERNATE_SERVER, Address("::1", 9)), redirect)
    script.tell(answer)
    [failed] = script.said()
    assert failed == AllocationFailed(300, "Try Alternate", alternate=OTHER)


def test_redirect_that_is_not_believed_is_named_as_the_reason() -> None:
    script = Script(transport=Transport.TCP)
    script.client.allocate(0.0)
    [bare] = script.sent()
    script.tell(error(bare, 300, "Try Alternate", (ALTERNATE_SERVER, OTHER)), signed=False)
    script.wait()
    [failed] = script.said()
    assert failed.timed_out
    assert "redirects" in failed.reason


def test_domain_of_the_alternate_comes_along() -> None:
    script = Script()
    signed = script.signed_allocate()
    attributes = ((ALTERNATE_SERVER, OTHER), (ALTERNATE_DOMAIN, "turn.example.org"))
    script.tell(error(signed, 300, "", *attributes))
    [failed] = script.said()
    assert failed.alternate_domain == "turn.example.org"
