"""Candidates: priorities, foundations, and the candidate-attribute of RFC 8839."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import Address, MalformedMessage
from natwalk.ice import Candidate, CandidateType, candidate_priority
from natwalk.ice.candidate import TYPE_PREFERENCES, Foundations, hidden_address, local_preference

HOST = Candidate(
    foundation="1", priority=2130706431, address=Address("192.0.2.1", 3478), type=CandidateType.HOST
)
ICE_CHARS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"
addresses = st.builds(
    lambda ip, port: Address(str(ip), port), st.ip_addresses(), st.integers(min_value=0, max_value=65535)
)
candidates = st.builds(
    Candidate,
    foundation=st.text(ICE_CHARS, min_size=1, max_size=32),
    component=st.integers(min_value=1, max_value=256),
    priority=st.integers(min_value=1, max_value=2**31 - 1),
    address=addresses,
    type=st.sampled_from(CandidateType),
    related=addresses,
)


def test_the_rfc_example_priority() -> None:
    """A host candidate with local preference 65535 and component 1 has the well-known 2130706431."""
    assert candidate_priority(CandidateType.HOST, 65535) == 2130706431


@pytest.mark.parametrize("kind", CandidateType)
def test_priority_orders_by_type_then_preference_then_component(kind: CandidateType) -> None:
    assert candidate_priority(kind, 5) > candidate_priority(kind, 4, component=1)
    assert candidate_priority(kind, 5, component=1) > candidate_priority(kind, 5, component=2)
    for other, preference in TYPE_PREFERENCES.items():
        if preference < TYPE_PREFERENCES[kind]:
            assert candidate_priority(kind, 0) > candidate_priority(other, 65535)


def test_ipv6_of_the_internet_is_preferred_and_unique_local_is_not() -> None:
    """RFC 8421 §4 by the precedence of RFC 6724: global IPv6, then IPv4, then unique-local, then tunnels."""
    ranked = ["2001:db8::1", "203.0.113.1", "2001:0:1::1", "fd00::1"]
    preferences = [local_preference(ip_address(text), 0) for text in ranked]
    assert preferences == sorted(preferences, reverse=True)
    assert all(0 <= preference <= 65535 for preference in preferences)


def test_local_preferences_are_distinct_by_order() -> None:
    ip = ip_address("192.0.2.1")
    assert len({local_preference(ip, order) for order in range(32)}) == 32
    assert local_preference(ip, 0) > local_preference(ip, 1)
    assert local_preference(ip, 5000) == local_preference(ip, 999)


def test_foundations_are_equal_for_the_same_type_base_and_server_only() -> None:
    names = Foundations()
    base, other = Address("192.0.2.1", 1), Address("192.0.2.2", 1)
    server = Address("203.0.113.1", 3478)
    first = names.name(CandidateType.HOST, base)
    assert names.name(CandidateType.HOST, base.with_port(2)) == first
    assert names.name(CandidateType.HOST, other) != first
    srflx = names.name(CandidateType.SERVER_REFLEXIVE, base, server)
    assert srflx != first
    assert names.name(CandidateType.SERVER_REFLEXIVE, base, server.with_port(5349)) == srflx
    assert names.name(CandidateType.SERVER_REFLEXIVE, base, Address("203.0.113.2", 3478)) != srflx


def test_a_host_candidate_is_written_as_in_the_rfc() -> None:
    assert HOST.to_sdp() == "candidate:1 1 udp 2130706431 192.0.2.1 3478 typ host"


def test_a_hidden_related_address_is_written_as_unspecified_and_port_9() -> None:
    relay = Candidate(
        foundation="4",
        priority=5,
        address=Address("2001:db8::1", 50000),
        type=CandidateType.RELAYED,
        related=Address("10.0.0.1", 4000),
    )
    assert relay.to_sdp().endswith("typ relay raddr 10.0.0.1 rport 4000")
    assert relay.without_related().to_sdp().endswith("typ relay raddr :: rport 9")
    assert hidden_address(Address("10.0.0.1", 1)) == Address("0.0.0.0", 9)


def test_an_unknown_related_address_is_written_as_hidden() -> None:
    prflx = Candidate(
        foundation="4", priority=5, address=Address("192.0.2.1", 1), type=CandidateType.PEER_REFLEXIVE
    )
    assert prflx.to_sdp().endswith("raddr 0.0.0.0 rport 9")


def test_extension_attributes_are_skipped_and_transport_may_be_upper_case() -> None:
    line = "candidate:842163049 1 UDP 1677729535 192.0.2.3 46154 typ srflx raddr 10.0.0.17 rport 8998"
    candidate = Candidate.from_sdp(line + " generation 0 network-cost 999 ufrag abcd")
    assert candidate.type is CandidateType.SERVER_REFLEXIVE
    assert candidate.related == Address("10.0.0.17", 8998)
    assert candidate.transport == "udp"


def test_the_first_of_two_related_addresses_counts() -> None:
    line = "candidate:1 1 udp 5 192.0.2.3 1 typ srflx raddr 10.0.0.1 rport 2 raddr 10.0.0.2 rport 3"
    assert Candidate.from_sdp(line).related == Address("10.0.0.1", 2)


@given(candidates)
def test_text_round_trip(candidate: Candidate) -> None:
    again = Candidate.from_sdp(candidate.to_sdp())
    if candidate.type is CandidateType.HOST:
        assert again.related is None
        assert again.to_sdp() == candidate.to_sdp()
    else:
        assert again == candidate


@given(
    st.text(max_size=120) | st.binary(max_size=120).map(lambda data: "candidate:" + data.decode("latin-1"))
)
def test_any_text_is_a_candidate_or_malformed(text: str) -> None:
    with suppress(MalformedMessage):
        Candidate.from_sdp(text)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "candidate:",
        "candidate:1 1 udp 5 192.0.2.1 1 typ",
        "candidate:1 1 udp 5 192.0.2.1 1 type host",
        "a=candidate:1 1 udp 5 192.0.2.1 1 typ host",
        "candidate:1 1 udp 5 192.0.2.1 1 typ host\r\n",
        "candidate:1 1 udp 5 192.0.2.1 1 typ host\r\na=evil:1",
        "candidate:1 1 udp 5 192.0.2.1\0 1 typ host",
        "candidate:1 1 udp 5 192.0.2.1 -1 typ host",
        "candidate:1 1 udp 5 192.0.2.1 65536 typ host",
        "candidate:1 1 udp 5 192.0.2.1 ٣ typ host",
        "candidate:1 1 udp 18446744073709551616 192.0.2.1 1 typ host",
        "candidate:1 1 udp 2147483648 192.0.2.1 1 typ host",
        "candidate:1 1 udp 0 192.0.2.1 1 typ host",
        "candidate:1 0 udp 5 192.0.2.1 1 typ host",
        "candidate:1 65536 udp 5 192.0.2.1 1 typ host",
        "candidate:1 257 udp 5 192.0.2.1 1 typ host",
        "candidate:1 1 tcp 5 192.0.2.1 1 typ host tcptype passive",
        "candidate:1 1 udp 5 peer.local 1 typ host",
        "candidate:1 1 udp 5 192.0.2.1 1 typ bogus",
        "candidate:1! 1 udp 5 192.0.2.1 1 typ host",
        "candidate:" + "f" * 33 + " 1 udp 5 192.0.2.1 1 typ host",
        "candidate:1 1 udp 5 192.0.2.1 1 typ srflx raddr 10.0.0.1",
        "candidate:1 1 udp 5 192.0.2.1 1 typ srflx rport 5",
        "candidate:1 1 udp 5 192.0.2.1 1 typ host odd",
        "candidate:1  1 udp 5 192.0.2.1 1 typ host",
    ],
)
def test_a_line_that_is_no_candidate_is_malformed(line: str) -> None:
    """FAULTS 81."""
    with pytest.raises(MalformedMessage):
        Candidate.from_sdp(line)


def test_a_line_of_ten_megabytes_is_refused_without_being_read() -> None:
    """FAULTS 81: bounded time."""
    line = "candidate:1 1 udp 5 192.0.2.1 1 typ host" + " a b" * 2_500_000
    began = perf_counter()
    with pytest.raises(MalformedMessage):
        Candidate.from_sdp(line)
    assert perf_counter() - began < 0.05


def test_a_candidate_is_its_own_base_unless_told() -> None:
    assert HOST.base == HOST.address
    based = Candidate(
        foundation="1",
        priority=5,
        address=Address("192.0.2.1", 1),
        type=CandidateType.SERVER_REFLEXIVE,
        base=Address("10.0.0.1", 2),
    )
    assert based.base == Address("10.0.0.1", 2)
