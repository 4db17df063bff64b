"""What holds for every NAT whatever it is told to be, after any history of packets."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nat.support import PUBLIC, SECOND, make
from natwalk.core import Address
from natwalk.nat import (
    Allocation,
    Dropped,
    EarlyProbe,
    Filtering,
    Hairpin,
    Mapping,
    Nat,
    Packet,
    Pooling,
    Side,
    Translation,
    WhenFull,
)

INTERNAL = [Address(f"192.168.1.{n}", port) for n in (1, 2, 3) for port in (5000, 5001)]
REMOTE = [Address(f"203.0.113.{n}", port) for n in (1, 2) for port in (53, 3478)]
TIMEOUT = 30.0
PORTS = (5000, 5011)

configs = st.fixed_dictionaries(
    {
        "mapping": st.sampled_from(Mapping),
        "filtering": st.sampled_from(Filtering),
        "allocation": st.sampled_from(Allocation),
        "step": st.sampled_from([1, 2, -3]),
        "ports": st.just(PORTS),
        "keep_parity": st.booleans(),
        "public": st.sampled_from([(PUBLIC,), (PUBLIC, SECOND)]),
        "pooling": st.sampled_from(Pooling),
        "hairpin": st.sampled_from(Hairpin),
        "idle_timeout": st.just(TIMEOUT),
        "absolute_timeout": st.sampled_from([None, 45.0]),
        "inbound_refresh": st.booleans(),
        "early_probe": st.sampled_from(EarlyProbe),
        "max_mappings": st.sampled_from([3, 8, 100]),
        "max_mappings_per_subscriber": st.sampled_from([None, 2, 5]),
        "when_full": st.sampled_from(WhenFull),
        "max_peers_per_mapping": st.sampled_from([1, 3, 100]),
        "seed": st.integers(0, 99),
    }
)
externals = st.builds(Address, st.sampled_from([PUBLIC, SECOND]), st.integers(*PORTS))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("out"), st.sampled_from(INTERNAL), st.one_of(st.sampled_from(REMOTE), externals)),
        st.tuples(st.just("in"), st.sampled_from(REMOTE), externals),
        st.tuples(st.just("wait"), st.floats(0.0, 40.0), st.none()),
        st.tuples(st.just("reset"), st.none(), st.none()),
    ),
    max_size=60,
)


def check_table(nat: Nat, now: float) -> None:
    """No two flows share a key and every limit holds."""
    mappings = nat.mappings(now)
    used = [external for _, external in mappings]
    assert len(set(used)) == len(used)
    assert len(mappings) <= nat.config.max_mappings
    share = nat.config.max_mappings_per_subscriber
    for host in {internal.host for internal, _ in mappings}:
        own = [external for internal, external in mappings if internal.host == host]
        assert share is None or len(own) <= share
        assert nat.config.pooling is Pooling.ARBITRARY or len({e.host for e in own}) == 1
    for internal, external in mappings:
        assert PORTS[0] <= external.port <= PORTS[1]
        assert not nat.config.keep_parity or internal.port % 2 == external.port % 2
    due = nat.next_expiry()
    assert due is None or now < due <= now + TIMEOUT
    assert (due is None) == (not mappings)


@settings(deadline=None, max_examples=300)
@given(config=configs, history=steps)
def test_limits_keys_and_reversibility_hold_after_any_history(
    config: dict[str, Any], history: list[Any]
) -> None:
    """What went out under some name comes back to who sent it, and never to anybody else."""
    nat, now = make(**config), 0.0
    for what, one, two in history:
        match what:
            case "wait":
                now += one
            case "reset":
                nat.reset(now)
                assert nat.mappings(now) == ()
            case "in":
                owner = {e: i for i, e in nat.mappings(now)}.get(two)
                verdict = nat.inbound(Packet(one, two, b"in"), now)
                if isinstance(verdict, Translation):
                    assert verdict == Translation(Packet(one, owner, b"in"), Side.INTERNAL)
            case "out":
                verdict = nat.outbound(Packet(one, two, b"out"), now)
                if isinstance(verdict, Translation) and verdict.side is Side.EXTERNAL:
                    assert verdict.packet.destination == two
                    assert nat.external(one, two, now) == verdict.packet.source
                    back = nat.inbound(Packet(two, verdict.packet.source, b"back"), now)
                    assert back == Translation(Packet(two, one, b"back"), Side.INTERNAL)
        check_table(nat, now)


@settings(deadline=None, max_examples=200)
@given(
    config=configs.map(lambda c: c | {"max_mappings": 100, "max_mappings_per_subscriber": None}),
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


@given(seed=st.integers(0, 2**32), count=st.integers(1, 40))
def test_the_same_randomness_gives_the_same_ports(seed: int, count: int) -> None:
    def ports() -> list[tuple[Address, Address]]:
        nat = make(seed, mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=Allocation.RANDOM)
        for port in range(1, count + 1):
            nat.outbound(Packet(INTERNAL[0], Address("203.0.113.1", port), b""), 0.0)
        return list(nat.mappings(0.0))

    assert ports() == ports()
