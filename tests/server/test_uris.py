from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.server.ports import Ports
from natwalk.server.uris import host_of, hosts_for, stun_uris, stuns_uris, turn_uris


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("turn.example.net:8478", "turn.example.net"),
        ("turn.example.net", "turn.example.net"),
        ("localhost", "localhost"),
        ("203.0.113.5:80", "203.0.113.5"),
        ("[2001:DB8::5]:80", "2001:db8::5"),
        ("[::]", None),
        ("0.0.0.0", None),
        ("224.0.0.1", None),
        ("999.1.1.1", None),
        ("2130706433", None),
        ("[::1", None),
        ("a b", None),
        ("evil@host", None),
        ('x"y', None),
        ("x\r\ny", None),
        ("x/y", None),
        (".", None),
        ("", None),
        (None, None),
        ("x" * 300, None),
    ],
)
def test_only_a_plain_host_comes_back(header: str | None, host: str | None) -> None:
    assert host_of(header) == host


@given(st.text(max_size=40))
def test_no_header_puts_anything_else_into_a_uri(header: str) -> None:
    host = host_of(header)
    if host is not None:
        [uri] = stun_uris([host], 3478)
        assert all(c.isascii() and (c.isalnum() or c in ".-:[]") for c in uri)


LISTEN = ["127.0.0.1", "203.0.113.5", "2001:db8::5", "::1"]


@pytest.mark.parametrize(
    ("header", "local", "public", "hosts"),
    [
        ("turn.example.net:1", "203.0.113.5", None, ["turn.example.net"]),
        ("turn.example.net:1", "203.0.113.5", "public.example", ["public.example"]),
        ("203.0.113.5:1", "10.0.0.1", None, ["203.0.113.5", "2001:db8::5"]),
        ("bad header", "203.0.113.5", None, ["203.0.113.5", "2001:db8::5"]),
        ("127.0.0.1", "127.0.0.1", None, ["127.0.0.1", "::1"]),
        ("198.18.0.1", "203.0.113.5", None, ["198.18.0.1"]),
        (None, None, "203.0.113.7", ["203.0.113.7"]),
        (None, None, None, []),
    ],
)
def test_a_client_is_told_the_host_it_used(
    header: str | None, local: str | None, public: str | None, hosts: list[str]
) -> None:
    assert hosts_for(header, local, public, LISTEN) == hosts


def test_the_uris() -> None:
    hosts = ["192.0.2.1", "2001:db8::1"]
    assert stun_uris(hosts, 9, None) == ["stun:192.0.2.1:9", "stun:[2001:db8::1]:9"]
    assert stuns_uris(["x.example"], 9) == ["stuns:x.example:9"]
    assert stuns_uris(["x.example"], None) == []
    assert turn_uris(["x.example"], Ports(9)) == ["turn:x.example:9?transport=udp"]
    assert turn_uris(["x.example"], Ports(1, 2, tcp=3, tls=4, dtls=5, shared=6)) == [
        "turn:x.example:1?transport=udp",
        "turn:x.example:3?transport=tcp",
        "turns:x.example:4?transport=tcp",
        "turns:x.example:6?transport=tcp",
        "turns:x.example:5?transport=udp",
    ]
    assert turn_uris(["2001:db8::1"], Ports(9)) == ["turn:[2001:db8::1]:9?transport=udp"]
