"""Which remote addresses are refused, signalled or discovered."""

from __future__ import annotations

import pytest

from natwalk.core import Address, Drops
from natwalk.ice import AddressFilter, Candidate, CandidateType, IceConfig, TransportPolicy
from natwalk.ice.remote_filter import SERVICE_PORTS, RemoteCandidates, normal, pairable, refusal


def candidate(address: str, kind: CandidateType = CandidateType.HOST, component: int = 1) -> Candidate:
    return Candidate(
        foundation="1", component=component, priority=100, address=Address.parse(address), type=kind
    )


def table(config: IceConfig | None = None) -> tuple[RemoteCandidates, Drops]:
    drops = Drops()
    return RemoteCandidates(config or IceConfig(), drops), drops


@pytest.mark.parametrize(
    "address",
    [
        "192.0.2.1:0",
        "192.0.2.1:19",
        "192.0.2.1:22",
        "192.0.2.1:25",
        "192.0.2.1:53",
        "192.0.2.1:5060",
        "0.0.0.0:5000",
        "0.1.2.3:5000",
        "[::]:5000",
        "224.0.0.1:5000",
        "239.255.255.250:5000",
        "255.255.255.255:5000",
        "[ff02::1]:5000",
        "169.254.169.254:5000",
        "168.63.129.16:5000",
        "[fe80::1]:5000",
        "[fe80::1%eth0]:5000",
        "[fec0::1]:5000",
        "[::ffff:169.254.169.254]:5000",
        "[::ffff:224.0.0.1]:5000",
        "[64:ff9b::a9fe:a9fe]:5000",
        "[64:ff9b:1::1]:5000",
        "[2002:7f00:1::]:5000",
        "[2001:0:1::1]:5000",
        "[::127.0.0.1]:5000",
        "[::ffff:0:127.0.0.1]:5000",
        "198.18.0.1:5000",
        "240.0.0.1:5000",
    ],
)
def test_addresses_no_peer_can_have_are_refused_signalled_or_discovered(address: str) -> None:
    """FAULTS 69: the same rule for candidates and for the sources of checks."""
    assert refusal(Address.parse(address)) is not None
    remotes, drops = table()
    assert remotes.signalled(candidate(address)) is None
    assert remotes.discovered(Address.parse(address), 5, "p1") is None
    assert drops.total == 2
    assert len(remotes) == 0


@pytest.mark.parametrize(
    "address",
    [
        "192.0.2.1:5000",
        "10.0.0.1:49152",
        "100.64.1.1:1024",
        "[2001:db8::1]:5000",
        "[fd00::1]:5000",
        "8.8.8.8:3478",
    ],
)
def test_ordinary_addresses_are_taken(address: str) -> None:
    remotes, _ = table()
    assert remotes.signalled(candidate(address)) is not None
    assert [known.address for known in remotes] == [Address.parse(address)]


def test_reflector_ports_are_all_in_the_list() -> None:
    assert {7, 13, 17, 19, 25, 53, 111, 123, 137, 161, 389, 1900, 5353, 11211} <= SERVICE_PORTS
    assert not {3478, 443, 49152} & SERVICE_PORTS


def test_a_v4_mapped_address_is_the_ipv4_address() -> None:
    assert normal(Address("::ffff:192.0.2.1", 5)) == Address("192.0.2.1", 5)
    assert normal(Address("2001:db8::1%eth0", 5)) == Address("2001:db8::1", 5)
    assert normal(Address("192.0.2.1", 5)) == Address("192.0.2.1", 5)
    remotes, _ = table()
    taken = remotes.signalled(candidate("[::ffff:192.0.2.1]:5000"))
    assert taken is not None
    assert taken.address == taken.base == Address("192.0.2.1", 5000)


@pytest.mark.parametrize(
    ("local", "remote", "may"),
    [
        ("192.0.2.1", "198.51.100.1", True),
        ("192.0.2.1", "2001:db8::1", False),
        ("2001:db8::1", "2001:db8::2", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "192.0.2.1", False),
        ("192.0.2.1", "127.0.0.1", False),
        ("::1", "2001:db8::1", False),
        ("2001:db8::1", "64:ff9b::7f00:1", False),
    ],
)
def test_pairs_are_of_one_family_and_loopback_stays_with_loopback(local: str, remote: str, may: bool) -> None:
    """FAULTS 69: a remote loopback address is of use only to somebody on loopback."""
    assert pairable(Address(local, 5000), Address(remote, 6000)) is may


def test_signalled_candidates_are_bounded_and_known_ones_are_no_news() -> None:
    remotes, drops = table(IceConfig(max_remote_candidates=64))
    for port in range(40_000, 50_000):
        remotes.signalled(candidate(f"192.0.2.1:{port}"))
    assert len(remotes) == 64
    assert drops.counts["remote candidate: too many"] == 10_000 - 64
    assert remotes.signalled(candidate("192.0.2.1:40000")) is None
    assert drops.last == "remote candidate: known already"


def test_discovered_candidates_are_bounded_on_their_own() -> None:
    """FAULTS 70; a quarter of the places is left for those met by a relay."""
    remotes, drops = table()
    for port in range(40_000, 50_000):
        remotes.discovered(Address("192.0.2.1", port), 5, "p1")
    assert len(remotes) == 24
    assert drops.counts["remote candidate: too many peer-reflexive candidates"] == 10_000 - 24
    for port in range(50_000, 50_100):
        remotes.discovered(Address("192.0.2.1", port), 5, "p1", by_relay=True)
    assert len(remotes) == 32
    assert remotes.signalled(candidate("198.51.100.1:5000")) is not None


def test_a_discovered_candidate_takes_on_its_signalled_type() -> None:
    """RFC 8838 §11; its place among the peer-reflexive ones is free again."""
    remotes, _ = table(IceConfig(max_peer_reflexive=1))
    address = Address("192.0.2.1", 5000)
    first = remotes.discovered(address, 5, "p1")
    assert first is not None
    assert first.type is CandidateType.PEER_REFLEXIVE
    known = remotes.signalled(candidate("192.0.2.1:5000", CandidateType.SERVER_REFLEXIVE))
    assert known is not None
    assert known.priority == 100
    assert remotes.get(address) == known
    assert remotes.discovered(Address("192.0.2.1", 5001), 5, "p2") is not None


def test_a_filter_of_the_application_s_holds_for_signalled_and_discovered_addresses() -> None:
    """FAULTS 69: networks, IP versions and ports, whoever names the address."""
    chosen = AddressFilter(deny=("198.51.100.0/24",), versions=frozenset({4}), ports=(1024, 60_000))
    remotes, drops = table(IceConfig(remote_filter=chosen))
    for address in ("198.51.100.9:5000", "[2001:db8::9]:5000", "192.0.2.9:443", "192.0.2.9:60001"):
        assert remotes.signalled(candidate(address)) is None
        assert remotes.discovered(Address.parse(address), 5, "p1") is None
    assert drops.counts == {
        "remote candidate: its network is filtered": 2,
        "remote candidate: its IP version is filtered": 2,
        "remote candidate: its port is filtered": 4,
    }
    assert remotes.signalled(candidate("192.0.2.9:5000")) is not None


def test_other_components_are_refused() -> None:
    remotes, drops = table()
    assert remotes.signalled(candidate("192.0.2.1:5000", component=2)) is None
    assert drops.last == "remote candidate: not of component 1"


def test_the_direct_policy_refuses_relays_even_when_met_before() -> None:
    remotes, drops = table(IceConfig(policy=TransportPolicy.DIRECT))
    relay = candidate("203.0.113.1:50000", CandidateType.RELAYED)
    assert remotes.signalled(relay) is None
    assert remotes.is_refused(relay.address)
    assert remotes.discovered(relay.address, 5, "p1") is None
    assert drops.last == "remote candidate: its type is refused by policy"


def test_what_is_remembered_of_refused_relays_is_bounded() -> None:
    remotes, _ = table(IceConfig(policy=TransportPolicy.DIRECT, max_remote_candidates=4))
    for port in range(20_000, 20_100):
        remotes.signalled(candidate(f"203.0.113.1:{port}", CandidateType.RELAYED))
    assert sum(remotes.is_refused(Address("203.0.113.1", port)) for port in range(20_000, 20_100)) == 4
