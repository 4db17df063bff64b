from __future__ import annotations

import pytest

from nat.support import (
    HOST,
    OTHER_HOST,
    PUBLIC,
    REMOTE,
    SAME_HOST_OTHER_PORT,
    SECOND,
    STRANGER,
    into,
    make,
    out,
    reason,
)
from natwalk.core import Address, LocalProtocolError
from natwalk.nat import (
    Allocation,
    DropReason,
    EarlyProbe,
    Filtering,
    Hairpin,
    Mapping,
    Nat,
    NatConfig,
    Packet,
    Pooling,
    Side,
    Translation,
    WhenFull,
)

EIM, ADM, APDM = Mapping
EIF, ADF, APDF = Filtering


class TestMapping:
    """RFC 4787 §4.1: what an external port depends on."""

    @pytest.mark.parametrize("allocation", [Allocation.SEQUENTIAL, Allocation.RANDOM])
    @pytest.mark.parametrize(
        ("mapping", "same_for_other_port", "same_for_other_host"),
        [(EIM, True, True), (ADM, True, False), (APDM, False, False)],
    )
    def test_reuse(
        self, mapping: Mapping, allocation: Allocation, same_for_other_port: bool, same_for_other_host: bool
    ) -> None:
        nat = make(mapping=mapping, allocation=allocation)
        first = out(nat, HOST, REMOTE)
        assert out(nat, HOST, REMOTE) == first
        assert (out(nat, HOST, SAME_HOST_OTHER_PORT) == first) is same_for_other_port
        assert (out(nat, HOST, STRANGER) == first) is same_for_other_host

    def test_external_tells_what_a_remote_sees_without_refreshing(self) -> None:
        nat = make(idle_timeout=10)
        seen = out(nat, HOST, REMOTE, 0.0)
        assert nat.external(HOST, REMOTE, 5.0) == seen
        assert nat.external(HOST, REMOTE, 10.0) is None
        assert nat.external(OTHER_HOST, REMOTE, 10.0) is None


class TestFiltering:
    """RFC 4787 §5: whose packets come in."""

    @pytest.mark.parametrize(
        ("filtering", "other_port", "stranger"),
        [
            (EIF, None, None),
            (ADF, None, DropReason.FILTERED),
            (APDF, DropReason.FILTERED, DropReason.FILTERED),
        ],
    )
    def test_who_gets_in(
        self, filtering: Filtering, other_port: DropReason | None, stranger: DropReason | None
    ) -> None:
        nat = make(filtering=filtering)
        external = out(nat, HOST, REMOTE)
        assert into(nat, REMOTE, external) == Translation(Packet(REMOTE, HOST, b"in", ttl=63), Side.INTERNAL)
        assert reason(into(nat, SAME_HOST_OTHER_PORT, external)) is other_port
        assert reason(into(nat, STRANGER, external)) is stranger

    @pytest.mark.parametrize("filtering", list(Filtering))
    def test_nothing_comes_in_where_nothing_went_out(self, filtering: Filtering) -> None:
        nat = make(filtering=filtering)
        assert reason(into(nat, REMOTE, Address(PUBLIC, 5000))) is DropReason.NO_MAPPING
        assert reason(into(nat, REMOTE, Address(SECOND, 5000))) is DropReason.NOT_OURS
        assert nat.drops.counts == {"no mapping for this port": 1, "not an address of this box": 1}

    def test_a_permission_ends_with_its_own_idle_time_while_the_mapping_lives(self) -> None:
        nat = make(filtering=APDF, idle_timeout=30)
        external = out(nat, HOST, REMOTE, 0.0)
        out(nat, HOST, STRANGER, 20.0)
        assert reason(into(nat, REMOTE, external, 29.999)) is None
        assert reason(into(nat, REMOTE, external, 30.0)) is DropReason.FILTERED
        assert reason(into(nat, STRANGER, external, 30.0)) is None

    def test_permissions_of_one_mapping_are_bounded_and_the_oldest_gives_way(self) -> None:
        nat = make(filtering=APDF, max_peers_per_mapping=2)
        external = out(nat, HOST, REMOTE)
        out(nat, HOST, STRANGER)
        out(nat, HOST, REMOTE)
        out(nat, HOST, SAME_HOST_OTHER_PORT)
        assert reason(into(nat, REMOTE, external)) is None
        assert reason(into(nat, STRANGER, external)) is DropReason.FILTERED


class TestTimers:
    """RFC 4787 §4.3; a mapping is gone at the very instant its time has come."""

    def test_outbound_packets_refresh(self) -> None:
        nat = make(idle_timeout=30)
        external = out(nat, HOST, REMOTE, 0.0)
        out(nat, HOST, REMOTE, 29.0)
        assert nat.next_expiry() == 59.0
        assert reason(into(nat, REMOTE, external, 58.999)) is None
        assert reason(into(nat, REMOTE, external, 59.0)) is DropReason.NO_MAPPING
        assert nat.next_expiry() is None

    @pytest.mark.parametrize(("refresh", "expiry"), [(False, 30.0), (True, 55.0)])
    def test_inbound_packets_refresh_only_when_told(self, refresh: bool, expiry: float) -> None:
        nat = make(idle_timeout=30, inbound_refresh=refresh)
        external = out(nat, HOST, REMOTE, 0.0)
        into(nat, REMOTE, external, 25.0)
        assert nat.next_expiry() == expiry

    def test_a_filtered_packet_refreshes_nothing(self) -> None:
        nat = make(idle_timeout=30, inbound_refresh=True, filtering=APDF)
        external = out(nat, HOST, REMOTE, 0.0)
        into(nat, STRANGER, external, 25.0)
        assert nat.next_expiry() == 30.0

    def test_an_absolute_timer_is_not_moved_by_traffic(self) -> None:
        nat = make(idle_timeout=30, absolute_timeout=60)
        for now in (0.0, 20.0, 40.0, 59.0):
            external = out(nat, HOST, REMOTE, now)
        assert nat.next_expiry() == 60.0
        assert reason(into(nat, REMOTE, external, 60.0)) is DropReason.NO_MAPPING

    def test_reset_forgets_everything(self) -> None:
        nat = make()
        external = out(nat, HOST, REMOTE, 0.0)
        nat.reset(1.0)
        assert nat.mappings(1.0) == ()
        assert reason(into(nat, REMOTE, external, 1.0)) is DropReason.NO_MAPPING
        assert out(nat, HOST, REMOTE, 1.0) == external


class TestLimits:
    """A full table drops the new flow or evicts the one idle for longest."""

    def test_total(self) -> None:
        nat = make(max_mappings=1)
        out(nat, HOST, REMOTE)
        refused = nat.outbound(Packet(OTHER_HOST, REMOTE, b""), 0.0)
        assert reason(refused) is DropReason.TABLE_FULL

    def test_total_with_eviction(self) -> None:
        nat = make(max_mappings=2, when_full=WhenFull.EVICT_OLDEST)
        first, second = out(nat, HOST, REMOTE), out(nat, OTHER_HOST, REMOTE)
        out(nat, HOST, REMOTE, 1.0)
        third = out(nat, HOST.with_port(6000), REMOTE, 2.0)
        assert {external for _, external in nat.mappings(2.0)} == {first, third}
        assert second not in {first, third}

    def test_share_of_a_subscriber(self) -> None:
        nat = make(max_mappings_per_subscriber=1)
        out(nat, HOST, REMOTE)
        refused = nat.outbound(Packet(HOST.with_port(6000), REMOTE, b""), 0.0)
        assert reason(refused) is DropReason.SUBSCRIBER_FULL
        out(nat, OTHER_HOST, REMOTE)

    def test_share_of_a_subscriber_with_eviction_spares_the_others(self) -> None:
        nat = make(max_mappings_per_subscriber=1, when_full=WhenFull.EVICT_OLDEST)
        out(nat, OTHER_HOST, REMOTE, 0.0)
        out(nat, HOST, REMOTE, 1.0)
        out(nat, HOST.with_port(6000), REMOTE, 2.0)
        assert [internal for internal, _ in nat.mappings(2.0)] == [OTHER_HOST, HOST.with_port(6000)]

    def test_ports_run_out_and_come_back(self) -> None:
        nat = make(ports=(4000, 4000), idle_timeout=10)
        out(nat, HOST, REMOTE, 0.0)
        assert reason(nat.outbound(Packet(OTHER_HOST, REMOTE, b""), 9.0)) is DropReason.NO_PORT
        assert out(nat, OTHER_HOST, REMOTE, 10.0) == Address(PUBLIC, 4000)


class TestPooling:
    """RFC 4787 §4.1: which of several external addresses."""

    def test_paired_keeps_a_host_on_one_address(self) -> None:
        nat = make(public=(PUBLIC, SECOND), mapping=APDM)
        hosts = {out(nat, HOST, Address("203.0.113.10", port)).host for port in range(1, 50)}
        assert len(hosts) == 1

    def test_paired_lasts_as_long_as_the_host_has_a_mapping(self) -> None:
        nat = make(public=(PUBLIC, SECOND), mapping=APDM, idle_timeout=10)
        seen = {out(nat, HOST, REMOTE, 20.0 * n).host for n in range(40)}
        assert seen == {PUBLIC, SECOND}

    def test_paired_does_not_spill_to_another_address(self) -> None:
        nat = make(public=(PUBLIC, SECOND), mapping=APDM, ports=(4000, 4000))
        out(nat, HOST, REMOTE)
        assert reason(nat.outbound(Packet(HOST, STRANGER, b""), 0.0)) is DropReason.NO_PORT

    def test_arbitrary_uses_all_and_spills(self) -> None:
        nat = make(public=(PUBLIC, SECOND), mapping=APDM, ports=(4000, 4000), pooling=Pooling.ARBITRARY)
        assert {out(nat, HOST, REMOTE).host, out(nat, HOST, STRANGER).host} == {PUBLIC, SECOND}


class TestHairpin:
    """RFC 4787 §6: from inside to the external address of a neighbour."""

    def test_none(self) -> None:
        nat = make(filtering=EIF)
        external = out(nat, OTHER_HOST, REMOTE)
        assert reason(nat.outbound(Packet(HOST, external, b""), 0.0)) is DropReason.NO_HAIRPIN

    @pytest.mark.parametrize("hairpin", [Hairpin.INTERNAL_SOURCE, Hairpin.EXTERNAL_SOURCE])
    def test_the_source_the_neighbour_sees(self, hairpin: Hairpin) -> None:
        nat = make(filtering=EIF, hairpin=hairpin)
        target = out(nat, OTHER_HOST, REMOTE)
        mine = out(nat, HOST, REMOTE)
        seen = HOST if hairpin is Hairpin.INTERNAL_SOURCE else mine
        verdict = nat.outbound(Packet(HOST, target, b"x"), 0.0)
        assert verdict == Translation(Packet(seen, OTHER_HOST, b"x", ttl=63), Side.INTERNAL)

    def test_filtering_applies_to_neighbours_too(self) -> None:
        nat = make(filtering=APDF, hairpin=Hairpin.EXTERNAL_SOURCE)
        mine, target = out(nat, HOST, REMOTE), out(nat, OTHER_HOST, REMOTE)
        assert reason(nat.outbound(Packet(HOST, target, b""), 0.0)) is DropReason.FILTERED
        assert isinstance(nat.outbound(Packet(OTHER_HOST, mine, b""), 0.0), Translation)
        assert isinstance(nat.outbound(Packet(HOST, target, b""), 0.0), Translation)

    def test_a_sender_without_a_mapping_gets_none(self) -> None:
        nat = make(hairpin=Hairpin.EXTERNAL_SOURCE, max_mappings=1)
        target = out(nat, OTHER_HOST, REMOTE)
        assert reason(nat.outbound(Packet(HOST, target, b""), 0.0)) is DropReason.TABLE_FULL

    def test_to_a_port_nobody_holds(self) -> None:
        nat = make(hairpin=Hairpin.EXTERNAL_SOURCE)
        verdict = nat.outbound(Packet(HOST, Address(PUBLIC, 9), b""), 0.0)
        assert reason(verdict) is DropReason.NO_MAPPING


class TestEarlyProbe:
    """A probe from outside before ours went out: dropped, or it poisons the port towards its sender."""

    def test_dropped_leaves_no_mark(self) -> None:
        nat = make()
        out(nat, HOST, REMOTE)
        into(nat, STRANGER, Address(PUBLIC, 5000))
        assert out(nat, HOST, STRANGER) == Address(PUBLIC, 5000)

    @pytest.mark.parametrize("known", [True, False])
    def test_poison_moves_the_flow_to_its_sender_only(self, known: bool) -> None:
        nat = make(early_probe=EarlyProbe.POISONS)
        if known:
            out(nat, HOST, REMOTE)
        into(nat, STRANGER, Address(PUBLIC, 5000), 1.0)
        detour = out(nat, HOST, STRANGER, 2.0)
        assert detour != Address(PUBLIC, 5000)
        assert out(nat, HOST, STRANGER, 3.0) == detour
        if known:
            assert out(nat, HOST, REMOTE, 3.0) == Address(PUBLIC, 5000)
        assert reason(into(nat, STRANGER, detour, 3.0)) is None

    def test_a_probe_can_be_answered_and_poison_all_the_same(self) -> None:
        nat = make(early_probe=EarlyProbe.ANSWERED_AND_POISONS)
        assert into(nat, STRANGER, Address(PUBLIC, 5000)).answer is not None
        assert out(nat, HOST, STRANGER) != Address(PUBLIC, 5000)

    def test_poison_wears_off(self) -> None:
        nat = make(early_probe=EarlyProbe.POISONS, poison_timeout=5)
        into(nat, STRANGER, Address(PUBLIC, 5000), 1.0)
        assert nat.outbound(Packet(HOST, STRANGER, b""), 6.0) == Translation(
            Packet(Address(PUBLIC, 5000), STRANGER, b"", ttl=63), Side.EXTERNAL
        )

    def test_reset_cleans_it(self) -> None:
        nat = make(early_probe=EarlyProbe.POISONS)
        into(nat, STRANGER, Address(PUBLIC, 5000), 1.0)
        nat.reset(1.0)
        assert out(nat, HOST, STRANGER, 1.0) == Address(PUBLIC, 5000)


class TestMove:
    """The line comes back with another address, as after a night's reconnect."""

    def test_everything_is_lost_and_goes_on_at_the_new_address(self) -> None:
        nat = make(hairpin=Hairpin.EXTERNAL_SOURCE, filtering=EIF)
        out(nat, HOST, REMOTE, 0.0)
        nat.move(SECOND, now=1.0)
        assert nat.public_addresses == nat.config.public_addresses == (SECOND,)
        assert nat.mappings(1.0) == ()
        assert reason(into(nat, REMOTE, Address(PUBLIC, 5000), 1.0)) is DropReason.NOT_OURS
        assert out(nat, HOST, REMOTE, 1.0) == Address(SECOND, 5000)
        assert isinstance(into(nat, REMOTE, Address(SECOND, 5000), 1.0), Translation)
        turned = nat.outbound(Packet(OTHER_HOST, Address(SECOND, 5000), b""), 1.0)
        assert turned.side is Side.INTERNAL

    @pytest.mark.parametrize("addresses", [(), ("2001:db8::1",)])
    def test_not_without_one_nor_to_the_other_ip(self, addresses: tuple[str, ...]) -> None:
        with pytest.raises(ValueError, match="cannot take the place"):
            make().move(*addresses, now=0.0)


def test_another_address_family_is_not_translated() -> None:
    nat = make()
    v6 = Address("2001:db8::1", 1)
    assert reason(nat.outbound(Packet(v6, v6, b""), 0.0)) is DropReason.WRONG_FAMILY
    assert reason(nat.outbound(Packet(HOST, v6, b""), 0.0)) is DropReason.WRONG_FAMILY


def test_a_nat_without_public_address_is_a_bug_of_the_caller() -> None:
    with pytest.raises(LocalProtocolError):
        Nat(NatConfig(), random_bytes=bytes)
