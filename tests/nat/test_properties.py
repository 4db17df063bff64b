"""What holds for every NAT whatever it is told to be, after any history of packets."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nat.support import PUBLIC, SECOND, make
from natwalk.core import Address
from natwalk.nat import (
    ACK,
    FIN,
    RST,
    SYN,
    Allocation,
    Dropped,
    EarlyProbe,
    Filtering,
    Hairpin,
    Icmp,
    IcmpKind,
    IpProtocol,
    Mapping,
    Nat,
    Packet,
    Pooling,
    Segment,
    Side,
    Translation,
    WhenFull,
)
from natwalk.nat.tcp import TcpSession, event_of

UDP, TCP, ICMP = IpProtocol.UDP, IpProtocol.TCP, IpProtocol.ICMP
INTERNAL = [Address(f"192.168.1.{n}", port) for n in (1, 2, 3) for port in (5000, 5001)]
REMOTE = [Address(f"203.0.113.{n}", port) for n in (1, 2) for port in (53, 3478)]
TIMEOUT = 30.0
PORTS = (5000, 5011)
NARROW = Filtering.ADDRESS_AND_PORT_DEPENDENT


def possible(config: dict[str, Any]) -> dict[str, Any]:
    """The same without combinations that NatConfig refuses."""
    if config["mapping"] is Mapping.ENDPOINT_INDEPENDENT:
        config = config | {"share_ports": False}
    if config["share_ports"]:
        config = config | {"filtering": NARROW, "keep_contiguity": False}
    return config | {
        "keep_contiguity": config["keep_contiguity"] and config["keep_parity"],
        "reuse_ports": config["reuse_ports"] and config["share_ports"],
    }


configs = st.fixed_dictionaries(
    {
        "mapping": st.sampled_from(Mapping),
        "filtering": st.sampled_from(Filtering),
        "allocation": st.sampled_from([a for a in Allocation if a is not Allocation.OVERLOAD]),
        "share_ports": st.booleans(),
        "reuse_ports": st.booleans(),
        "block_size": st.sampled_from([2, 4]),
        "blocks_per_subscriber": st.sampled_from([1, 2]),
        "step": st.sampled_from([1, 2, -3]),
        "ports": st.just(PORTS),
        "keep_parity": st.booleans(),
        "keep_contiguity": st.booleans(),
        "remap_after": st.sampled_from([None, 20.0]),
        "public": st.sampled_from([(PUBLIC,), (PUBLIC, SECOND)]),
        "pooling": st.sampled_from(Pooling),
        "hairpin": st.sampled_from(Hairpin),
        "idle_timeout": st.just(TIMEOUT),
        "tcp_established": st.just(TIMEOUT),
        "tcp_transitory": st.sampled_from([TIMEOUT, 10.0]),
        "icmp_timeout": st.sampled_from([TIMEOUT, 10.0]),
        "absolute_timeout": st.sampled_from([None, 45.0]),
        "inbound_refresh": st.booleans(),
        "early_probe": st.sampled_from(EarlyProbe),
        "max_mappings": st.sampled_from([3, 8, 100]),
        "max_mappings_per_subscriber": st.sampled_from([None, 2, 5]),
        "when_full": st.sampled_from(WhenFull),
        "max_peers_per_mapping": st.sampled_from([1, 3, 100]),
        "seed": st.integers(0, 99),
    }
).map(possible)
externals = st.builds(Address, st.sampled_from([PUBLIC, SECOND]), st.integers(*PORTS))
protocols = st.sampled_from([UDP, UDP, TCP, ICMP])
steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("out"),
            st.sampled_from(INTERNAL),
            st.one_of(st.sampled_from(REMOTE), externals),
            protocols,
        ),
        st.tuples(st.just("in"), st.sampled_from(REMOTE), externals, protocols),
        st.tuples(st.just("wait"), st.floats(0.0, 40.0), st.none(), st.none()),
        st.tuples(st.just("reset"), st.none(), st.none(), st.none()),
    ),
    max_size=60,
)


def request(source: Address, destination: Address, protocol: IpProtocol, ttl: int = 64) -> Packet:
    """A packet that opens a flow of ``protocol``."""
    tcp = Segment(SYN) if protocol is TCP else None
    icmp = Icmp(IcmpKind.ECHO_REQUEST) if protocol is ICMP else None
    return Packet(source, destination, b"x", protocol, ttl, tcp, icmp)


def answer(source: Address, destination: Address, protocol: IpProtocol, ttl: int = 64) -> Packet:
    """A packet that answers one."""
    tcp = Segment(SYN | ACK) if protocol is TCP else None
    icmp = Icmp(IcmpKind.ECHO_REPLY) if protocol is ICMP else None
    return Packet(source, destination, b"y", protocol, ttl, tcp, icmp)


def check_table(nat: Nat, now: float) -> None:
    """No two flows share a key and every limit holds."""
    entries = nat.entries(now)
    config = nat.config
    if not config.shares_ports:
        used = [(entry.protocol, entry.external) for entry in entries]
        assert len(set(used)) == len(used)
    assert len(nat._table.by_external) == len(entries)
    assert len(entries) <= config.max_mappings
    share = config.max_mappings_per_subscriber
    for host in {entry.internal.host for entry in entries}:
        own = [entry for entry in entries if entry.internal.host == host]
        assert share is None or len(own) <= share
        assert config.pooling is Pooling.ARBITRARY or len({e.external.host for e in own}) == 1
        if config.allocation is Allocation.BLOCK:
            check_blocks(nat, [e.external for e in own])
    for entry in entries:
        assert now < entry.expires_at <= now + TIMEOUT
        if entry.protocol is not ICMP:
            assert PORTS[0] <= entry.external.port <= PORTS[1]
        assert not config.keep_parity or entry.internal.port % 2 == entry.external.port % 2
    assert nat.next_expiry() == min((entry.expires_at for entry in entries), default=None)


def check_blocks(nat: Nat, externals: list[Address]) -> None:
    """One subscriber's ports lie in as few blocks as it may have at each address."""
    for host in {external.host for external in externals}:
        blocks = {(e.port - PORTS[0]) // nat.config.block_size for e in externals if e.host == host}
        assert len(blocks) <= nat.config.blocks_per_subscriber


@settings(deadline=None, max_examples=300)
@given(config=configs, history=steps)
def test_limits_keys_and_reversibility_hold_after_any_history(
    config: dict[str, Any], history: list[Any]
) -> None:
    """What went out under some name comes back to who sent it, and never to anybody else."""
    nat, now = make(**config), 0.0
    for what, one, two, protocol in history:
        match what:
            case "wait":
                now += one
            case "reset":
                nat.reset(now)
                assert nat.mappings(now) == ()
            case "in":
                owners = {e.internal for e in nat.entries(now) if (e.protocol, e.external) == (protocol, two)}
                verdict = nat.inbound(request(one, two, protocol), now)
                if isinstance(verdict, Translation):
                    assert verdict.packet.destination in owners
                    back = verdict.packet.destination
                    assert verdict == Translation(request(one, back, protocol, 63), Side.INTERNAL)
            case "out":
                verdict = nat.outbound(request(one, two, protocol), now)
                if isinstance(verdict, Translation) and verdict.side is Side.EXTERNAL:
                    seen = verdict.packet.source
                    assert verdict.packet == request(seen, two, protocol, 63)
                    assert nat.external(one, two, now, protocol) == seen
                    back = nat.inbound(answer(two, seen, protocol), now)
                    assert back == Translation(answer(two, one, protocol, 63), Side.INTERNAL)
        check_table(nat, now)


@settings(deadline=None, max_examples=200)
@given(
    config=configs.map(
        lambda c: c | {"max_mappings": 100, "max_mappings_per_subscriber": None, "remap_after": None}
    ),
    refreshes=st.lists(st.floats(0.5, 29.5), max_size=6),
    after=st.floats(0.0, 20.0),
)
def test_expiry_is_exact(config: dict[str, Any], refreshes: list[float], after: float) -> None:
    """Alive an instant before its time, gone at it: idle time after the last refresh, or absolute age."""
    nat, now = make(**config), 100.0
    internal, remote = INTERNAL[0], REMOTE[0]
    nat.outbound(Packet(internal, remote, b""), now)
    created = now
    for gap in refreshes:
        if nat.next_expiry() is not None and now + gap >= nat.next_expiry():
            break
        now += gap
        nat.outbound(Packet(internal, remote, b""), now)
    due = now + TIMEOUT
    if config["absolute_timeout"] is not None:
        due = min(due, created + config["absolute_timeout"])
    assert nat.next_expiry() == due
    external = nat.external(internal, remote, now)
    assert external is not None
    before = due - 1e-6
    assert nat.external(internal, remote, before) == external
    assert nat.external(internal, remote, due + after) is None
    assert isinstance(nat.inbound(Packet(remote, external, b""), due + after), Dropped)


@given(
    allocation=st.sampled_from([Allocation.RANDOM, Allocation.BLOCK, Allocation.SEQUENTIAL]),
    seed=st.integers(0, 2**32),
    count=st.integers(1, 40),
)
def test_the_same_randomness_gives_the_same_ports(allocation: Allocation, seed: int, count: int) -> None:
    def ports() -> list[tuple[Address, Address]]:
        nat = make(seed, mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=allocation)
        for port in range(1, count + 1):
            nat.outbound(Packet(INTERNAL[0], Address("203.0.113.1", port), b""), 0.0)
        return list(nat.mappings(0.0))

    assert ports() == ports()


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(REMOTE[:3]),
        st.booleans(),
        st.sampled_from([SYN, SYN | ACK, ACK, FIN | ACK, RST]),
        st.floats(0.0, 12.0),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=300)
@given(events=EVENTS, pickup=st.booleans(), filtering=st.sampled_from(Filtering))
def test_a_tcp_mapping_lives_exactly_as_long_as_its_longest_connection(
    events: list[tuple[Address, bool, int, float]], pickup: bool, filtering: Filtering
) -> None:
    """Whatever comes and goes over several connections of one mapping; a model keeps each one's deadline."""
    nat, now, model = (
        make(tcp_transitory=10, tcp_established=25, tcp_pickup=pickup, filtering=filtering),
        0.0,
        {},
    )
    host, seen = INTERNAL[0], Address(PUBLIC, INTERNAL[0].port)
    for remote, inside, flags, gap in events:
        now += gap
        source, destination = (host, remote) if inside else (remote, seen)
        packet = Packet(source, destination, b"", TCP, tcp=Segment(flags))
        verdict = nat.outbound(packet, now) if inside else nat.inbound(packet, now)
        model = {peer: session for peer, session in model.items() if session.deadline > now}
        if isinstance(verdict, Translation):
            session = model.setdefault(remote, TcpSession())
            session.step(event_of(Segment(flags)), inside, 10, 25, now)
        else:
            assert remote not in model, "a segment of a live connection always passes"
        expected = max((session.deadline for session in model.values()), default=None)
        assert nat.next_expiry() == expected
        assert len(nat.entries(now)) == bool(model)
