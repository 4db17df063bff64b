"""URIs of STUN and TURN servers: what they mean, and what is refused with which hint."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import NatError, Transport
from natwalk.stun import InvalidServerUri, Scheme, ServerUri, parse_uri

RFC_EXAMPLES = [
    ("stun:example.org", Scheme.STUN, "example.org", None, None),
    ("stuns:example.org", Scheme.STUNS, "example.org", None, None),
    ("stun:example.org:8000", Scheme.STUN, "example.org", 8000, None),
    ("turn:example.org", Scheme.TURN, "example.org", None, None),
    ("turns:example.org", Scheme.TURNS, "example.org", None, None),
    ("turn:example.org:8000", Scheme.TURN, "example.org", 8000, None),
    ("turn:example.org?transport=udp", Scheme.TURN, "example.org", None, Transport.UDP),
    ("turn:example.org?transport=tcp", Scheme.TURN, "example.org", None, Transport.TCP),
    ("turns:example.org?transport=tcp", Scheme.TURNS, "example.org", None, Transport.TCP),
    ("turn:[2001:db8::1]:3478?transport=udp", Scheme.TURN, "2001:db8::1", 3478, Transport.UDP),
    ("stun:192.0.2.1", Scheme.STUN, "192.0.2.1", None, None),
]


@pytest.mark.parametrize(("text", "scheme", "host", "port", "transport"), RFC_EXAMPLES)
def test_the_parts_are_read_and_written_back(
    text: str, scheme: Scheme, host: str, port: int | None, transport: Transport | None
) -> None:
    """The examples of RFC 7064 appendix A and RFC 7065 appendix A, and addresses."""
    uri = parse_uri(text)
    assert uri == ServerUri(scheme, host, port, transport)
    assert str(uri) == text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("TURN:Example.ORG?transport=UDP", "turn:example.org?transport=udp"),
        ("stun:[2001:DB8:0::1]", "stun:[2001:db8::1]"),
        ("stun:[::ffff:192.0.2.1]", "stun:[::ffff:192.0.2.1]"),
        ("stun:ex%61mple.org", "stun:example.org"),
        ("stun:b%C3%BCcher.example", "stun:xn--bcher-kva.example"),
        ("stun:example.org.", "stun:example.org."),
        ("stun:_odd_.example", "stun:_odd_.example"),
        ("stun:example.org:03478", "stun:example.org:3478"),
    ],
)
def test_equal_uris_have_one_spelling(text: str, canonical: str) -> None:
    assert str(parse_uri(text)) == canonical
    assert parse_uri(canonical) == parse_uri(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("turn://example.org:3478", "written 'turn:example.org:3478'"),
        ("stun:alice@example.org", "credentials are given apart"),
        ("turn:alice:secret@example.org", "credentials are given apart"),
        ("http:example.org", "does not begin with"),
        ("example.org", "does not begin with"),
        ("", "does not begin with"),
        ("stun:", "empty"),
        ("stun::3478", "empty"),
        ("stun:example.org:", "port ''"),
        ("stun:example.org:0", "port '0'"),
        ("stun:example.org:65536", "port '65536'"),
        ("stun:example.org:+1", "port '+1'"),
        ("stun:example.org:٣", "port"),
        ("stun:example.org:3478:3479", "port"),
        ("stun:example.org?transport=udp", "names no transport"),
        ("stuns:example.org?", "names no transport"),
        ("turn:example.org?", "neither"),
        ("turn:example.org?transport=", "neither"),
        ("turn:example.org?transport=tls", "neither"),
        ("turn:example.org?transport=udp&x=1", "neither"),
        ("turn:example.org?ttl=1", "neither"),
        ("turn:example.org/path", "not like"),
        ("turn:example.org#fragment", "not like"),
        ("turn:example.org?transport=udp#f", "not like"),
        ("stun:2001:db8::1", "neither an IPv4"),
        ("stun:[2001:db8::1", "not like"),
        ("stun:[192.0.2.1]", "not an IPv6"),
        ("stun:[fe80::1%25eth0]", "zone"),
        ("stun:[fe80::1%eth0]", "zone"),
        ("stun:[v1.x]", "not an IPv6"),
        ("stun:127.1", "neither an IPv4"),
        ("stun:0x7f.1", "neither an IPv4"),
        ("stun:0x7f", "neither an IPv4"),
        ("stun:300.1.1.1", "neither an IPv4"),
        ("stun:010.0.0.1", "neither an IPv4"),
        ("stun:2130706433", "neither an IPv4"),
        ("stun:a..b", "DNS name"),
        ("stun:-a.example", "DNS name"),
        ("stun:" + "a" * 64, "DNS name"),
        ("stun:" + "a." * 127 + "aa", "DNS name"),
        ("stun:a%2eb%00", "DNS name"),
        ("stun:a%2Fb", "DNS name"),
        ("stun:a%3a1", "DNS name"),
        ("stun:a%zz", "characters"),
        ("stun:a%", "characters"),
        ("stun:%ff", "DNS can have"),
        ("stun:a b", "characters"),
        (" stun:a", "does not begin with"),
        ("stun:a\n", "characters"),
        ("stun:bücher.example", "characters"),
        ("stun:" + "a" * 2000, "2005 characters"),
    ],
)
def test_anything_else_is_refused_and_the_message_says_why(text: str, hint: str) -> None:
    with pytest.raises(InvalidServerUri) as raised:
        parse_uri(text)
    assert hint in str(raised.value)
    assert isinstance(raised.value, NatError)
    assert "secret" not in str(raised.value)


def test_values_are_checked_when_made_by_hand_too() -> None:
    for fields in [
        (Scheme.STUN, "Example.org", None, None),
        (Scheme.STUN, "[::1]", None, None),
        (Scheme.STUN, "a", 0, None),
        (Scheme.STUN, "a", None, Transport.UDP),
        (Scheme.TURN, "a", None, Transport.TLS),
    ]:
        with pytest.raises(InvalidServerUri):
            ServerUri(*fields)


@pytest.mark.parametrize(
    ("text", "transports", "port"),
    [
        ("stun:a", (Transport.UDP, Transport.TCP), 3478),
        ("stuns:a", (Transport.TLS, Transport.DTLS), 5349),
        ("turn:a?transport=udp", (Transport.UDP,), 3478),
        ("turn:a?transport=tcp", (Transport.TCP,), 3478),
        ("turns:a", (Transport.TLS, Transport.DTLS), 5349),
        ("turns:a?transport=udp", (Transport.DTLS,), 5349),
        ("turns:a?transport=tcp", (Transport.TLS,), 5349),
    ],
)
def test_what_carries_it_and_the_default_port(
    text: str, transports: tuple[Transport, ...], port: int
) -> None:
    uri = parse_uri(text)
    assert uri.transports == transports
    assert uri.scheme.default_port == port
    assert uri.ip is None
    assert str(parse_uri("stun:[::1]").ip) == "::1"


LABELS = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
HOSTS = st.one_of(
    st.lists(LABELS, min_size=1, max_size=4).map(".".join),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda ip: str(parse_uri(f"stun:[{ip}]").host)),
)


@given(
    scheme=st.sampled_from(Scheme),
    host=HOSTS,
    port=st.none() | st.integers(1, 65535),
    transport=st.sampled_from([None, Transport.UDP, Transport.TCP]),
)
def test_every_server_survives_its_own_text(
    scheme: Scheme, host: str, port: int | None, transport: Transport | None
) -> None:
    uri = ServerUri(scheme, host, port, transport if scheme.is_turn else None)
    assert parse_uri(str(uri)) == uri


@given(text=st.text(max_size=60) | st.text("stun:r[]%0a.?=", max_size=30).map("turn:".__add__))
def test_any_text_is_a_server_or_refused(text: str) -> None:
    try:
        uri = parse_uri(text)
    except InvalidServerUri:
        return
    assert parse_uri(str(uri)) == uri
