from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import Reach, canonical, reach


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("::ffff:0.0.0.0", "0.0.0.0"),
        ("64:ff9b::7f00:1", "127.0.0.1"),
        ("64:ff9b::a9fe:a9fe", "169.254.169.254"),
        ("fe80::5efe:192.168.1.1", "192.168.1.1"),
        ("2001:db8::200:5efe:10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("192.0.2.1", "192.0.2.1"),
    ],
)
def test_embedded_addresses_are_unwrapped_and_zones_dropped(text: str, expected: str) -> None:
    assert str(canonical(ip_address(text))) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.0.0.0", Reach.UNSPECIFIED), ("0.1.2.3", Reach.UNSPECIFIED), ("::", Reach.UNSPECIFIED),
        ("127.0.0.1", Reach.LOOPBACK), ("127.255.255.254", Reach.LOOPBACK), ("::1", Reach.LOOPBACK),
        ("::ffff:127.0.0.2", Reach.LOOPBACK), ("64:ff9b::7f00:1", Reach.LOOPBACK),
        ("::127.0.0.1", Reach.TRANSLATION), ("::ffff:0:127.0.0.1", Reach.TRANSLATION),
        ("64:ff9b:1::1", Reach.TRANSLATION), ("2002:7f00:1::", Reach.TUNNEL), ("2001::1", Reach.TUNNEL),
        ("192.88.99.1", Reach.TUNNEL), ("10.0.0.1", Reach.PRIVATE), ("172.16.0.1", Reach.PRIVATE),
        ("172.31.255.254", Reach.PRIVATE), ("192.168.255.254", Reach.PRIVATE), ("100.64.0.0", Reach.SHARED),
        ("100.127.255.254", Reach.SHARED), ("169.254.169.254", Reach.LINK_LOCAL),
        ("fe80::1", Reach.LINK_LOCAL),
        ("fec0::1", Reach.LINK_LOCAL), ("fd00:ec2::254", Reach.PRIVATE), ("224.0.0.1", Reach.MULTICAST),
        ("ff02::1", Reach.MULTICAST), ("ff0e::1", Reach.MULTICAST), ("64:ff9b::e000:1", Reach.MULTICAST),
        ("240.0.0.1", Reach.RESERVED), ("255.255.255.255", Reach.RESERVED), ("192.0.0.1", Reach.RESERVED),
        ("198.18.0.1", Reach.RESERVED), ("198.19.255.254", Reach.RESERVED), ("100::1", Reach.RESERVED),
        ("4000::1", Reach.RESERVED), ("192.0.2.254", Reach.DOCUMENTATION),
        ("2001:db8::1", Reach.DOCUMENTATION),
        ("3fff::1", Reach.DOCUMENTATION), ("168.63.129.16", Reach.METADATA),
        ("8.8.8.8", Reach.GLOBAL), ("172.32.0.1", Reach.GLOBAL), ("2606:4700::1111", Reach.GLOBAL),
    ],
)  # fmt: skip
def test_every_address_a_relay_must_refuse_is_classified(text: str, expected: Reach) -> None:
    assert reach(ip_address(text)) is expected


@given(st.ip_addresses(v=4))
def test_no_embedding_reaches_further_than_the_address_in_it(ip: IPv4Address) -> None:
    """Mapped, NAT64 and ISATAP forms classify as the IPv4 address; obsolete forms never as GLOBAL."""
    value = int(ip)
    for prefix in (0xFFFF << 32, 0x64FF9B << 96, (0xFE80 << 112) | (0x5EFE << 32)):
        assert reach(IPv6Address(prefix | value)) is reach(ip)
    for prefix in (0xFFFF << 48, 0x2002 << 112):
        assert reach(IPv6Address(prefix | value)) is not Reach.GLOBAL
    if value > 1:
        assert reach(IPv6Address(value)) is Reach.TRANSLATION


@given(st.ip_addresses())
def test_canonical_is_idempotent(ip: IPv4Address | IPv6Address) -> None:
    assert canonical(canonical(ip)) == canonical(ip)
