import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import Address

HOSTS = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
PORTS = st.integers(0, 65535)


@given(HOSTS, PORTS)
def test_text_round_trips(host: str, port: int) -> None:
    address = Address(host, port)
    assert Address.parse(str(address)) == address
    assert Address(address.host, address.port) == address


@pytest.mark.parametrize(
    ("spelled", "canonical"),
    [("2001:DB8:0:0::1", "2001:db8::1"), ("::ffff:102:304", "::ffff:1.2.3.4"), ("192.0.2.1", "192.0.2.1")],
)
def test_host_is_canonical_text(spelled: str, canonical: str) -> None:
    assert Address(spelled, 1).host == canonical


@pytest.mark.parametrize(
    "host", ["", "example.org", "1.2.3", "01.2.3.4", "1.2.3.4 ", "::g", "[::1]", "1.2.3.4%eth0"]
)
def test_names_and_wrong_hosts_are_refused_by_value(host: str) -> None:
    with pytest.raises(ValueError, match="not an IP address"):
        Address(host, 1)


@pytest.mark.parametrize("port", [-1, 65536, 1 << 40])
def test_ports_out_of_range_are_refused(port: int) -> None:
    with pytest.raises(ValueError, match=str(port)):
        Address("192.0.2.1", port)


@pytest.mark.parametrize(
    "text", ["1.2.3.4", "1.2.3.4:", ":1", "::1:5", "[::1]", "[1.2.3.4]:5", "1.2.3.4:+5", "1.2.3.4:٣", "a:1"]
)
def test_parse_refuses_what_is_not_an_address(text: str) -> None:
    with pytest.raises(ValueError, match="not an"):
        Address.parse(text)


def test_equals_what_the_socket_module_reports() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        address = Address.from_sockname(sock.getsockname())
        assert address == sock.getsockname()
        assert address.sockname == sock.getsockname()
        assert address.version == 4


def test_sockname_of_a_dual_stack_socket_is_unwrapped() -> None:
    assert Address.from_sockname(("::ffff:192.0.2.7", 9, 0, 0)) == Address("192.0.2.7", 9)
    assert Address.from_sockname(("2001:db8::7", 9, 0, 0)).version == 6


def test_with_port_keeps_the_host() -> None:
    assert Address("2001:db8::1", 5).with_port(6) == Address("2001:db8::1", 6)
    assert repr(Address("2001:db8::1", 5)) == "Address('[2001:db8::1]:5')"
