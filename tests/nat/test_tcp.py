"""TCP through the NAT: RFC 5382, with the states of RFC 6146."""

from __future__ import annotations

from itertools import product

import pytest

from nat.support import (
    HOST,
    PUBLIC,
    REMOTE,
    SAME_HOST_OTHER_PORT,
    STRANGER,
    make,
    reason,
)
from natwalk.core import Address
from natwalk.nat import (
    ACK,
    FIN,
    RST,
    SYN,
    DropReason,
    EarlyProbe,
    Filtering,
    Icmp,
    IcmpKind,
    IpProtocol,
    Nat,
    Packet,
    Segment,
    Side,
    Translation,
    UnsolicitedSyn,
    Verdict,
    reset_to,
)
from natwalk.nat.held import HeldAnswers
from natwalk.nat.tcp import LONG_LIVED, OVER, TRANSITIONS, TcpEvent, TcpSession, TcpState, event_of

SEEN = Address(PUBLIC, HOST.port)


def send(nat: Nat, flags: int, now: float = 0.0, remote: Address = REMOTE) -> Verdict:
    return nat.outbound(Packet(HOST, remote, b"", IpProtocol.TCP, tcp=Segment(flags)), now)


def receive(nat: Nat, flags: int, now: float = 0.0, remote: Address = REMOTE) -> Verdict:
    return nat.inbound(Packet(remote, SEEN, b"", IpProtocol.TCP, tcp=Segment(flags, 7)), now)


def opened(now: float = 0.0, **fields: object) -> Nat:
    nat = make(**fields)
    for verdict in (send(nat, SYN, now), receive(nat, SYN | ACK, now), send(nat, ACK, now)):
        assert isinstance(verdict, Translation)
    return nat


class TestStates:
    def test_every_state_has_an_answer_to_every_event(self) -> None:
        assert set(TRANSITIONS) == set(product(TcpState, TcpEvent, (True, False)))

    @pytest.mark.parametrize(
        ("flags", "event"),
        [
            (RST | SYN | FIN, TcpEvent.RST),
            (SYN | ACK, TcpEvent.SYN),
            (FIN | ACK, TcpEvent.FIN),
            (ACK, TcpEvent.DATA),
        ],
    )
    def test_what_flags_mean(self, flags: int, event: TcpEvent) -> None:
        assert event_of(Segment(flags)) is event

    def test_a_connection_from_first_to_last(self) -> None:
        session, story = TcpSession(), []
        for flags, inside in ((SYN, 1), (SYN | ACK, 0), (ACK, 1), (FIN, 1), (FIN, 0), (ACK, 1), (SYN, 1)):
            session.step(event_of(Segment(flags)), bool(inside), 240, 7440, 0)
            story.append(session.state.name)
        assert story == [
            "INTERNAL_SYN",
            "ESTABLISHED",
            "ESTABLISHED",
            "INTERNAL_FIN",
            "BOTH_FINS",
            "BOTH_FINS",
            "INTERNAL_SYN",
        ]

    def test_no_state_is_both_long_lived_and_over(self) -> None:
        assert not LONG_LIVED & OVER


class TestTimers:
    """RFC 5382 §5: an idle open connection outlives one that opens or closes."""

    def test_opening(self) -> None:
        nat = make()
        send(nat, SYN, 0.0)
        assert nat.next_expiry() == 240.0

    def test_established(self) -> None:
        nat = opened(10.0)
        assert nat.next_expiry() == 10.0 + 7440.0
        receive(nat, ACK, 100.0)
        assert nat.next_expiry() == 100.0 + 7440.0

    def test_both_fins_bring_the_end_closer_and_nothing_moves_it(self) -> None:
        nat = opened()
        send(nat, FIN | ACK, 1.0)
        assert nat.next_expiry() == 7441.0
        receive(nat, FIN | ACK, 2.0)
        assert nat.next_expiry() == 242.0
        assert isinstance(send(nat, ACK, 3.0), Translation)
        assert nat.next_expiry() == 242.0
        assert nat.entries(242.0) == ()

    def test_a_reset_does_too_until_traffic_shows_that_it_lives(self) -> None:
        nat = opened()
        receive(nat, RST, 1.0)
        assert nat.next_expiry() == 241.0
        send(nat, ACK, 2.0)
        assert nat.next_expiry() == 7442.0

    def test_a_mapping_lives_as_long_as_the_longest_of_its_connections(self) -> None:
        nat = opened()
        send(nat, SYN, 5.0, STRANGER)
        assert len(nat.entries(5.0)) == 1, "endpoint-independent"
        assert nat.next_expiry() == 7440.0
        receive(nat, RST, 6.0)
        assert nat.next_expiry() == 246.0
        assert reason(receive(nat, SYN | ACK, 244.999, STRANGER)) is None
        assert nat.next_expiry() == 244.999 + 7440

    def test_a_connection_ends_at_its_own_time_while_another_keeps_the_mapping(self) -> None:
        nat = opened()
        send(nat, SYN, 5.0, STRANGER)
        assert reason(receive(nat, SYN | ACK, 245.0, STRANGER)) is DropReason.NO_TCP_SESSION


class TestInbound:
    """RFC 5382 §4.3: who may open a connection from outside."""

    @pytest.mark.parametrize(
        ("filtering", "other_port", "stranger"),
        [
            (Filtering.ENDPOINT_INDEPENDENT, True, True),
            (Filtering.ADDRESS_DEPENDENT, True, False),
            (Filtering.ADDRESS_AND_PORT_DEPENDENT, False, False),
        ],
    )
    def test_a_syn_to_a_mapping(self, filtering: Filtering, other_port: bool, stranger: bool) -> None:
        nat = opened(filtering=filtering)
        assert isinstance(receive(nat, SYN, 1.0, SAME_HOST_OTHER_PORT), Translation) is other_port
        assert isinstance(receive(nat, SYN, 1.0, STRANGER), Translation) is stranger

    @pytest.mark.parametrize("allowed", [True, False])
    def test_simultaneous_open(self, allowed: bool) -> None:
        nat = make(simultaneous_open=allowed)
        send(nat, SYN)
        verdict = receive(nat, SYN)
        assert reason(verdict) is (None if allowed else DropReason.SIMULTANEOUS_OPEN)
        assert reason(receive(nat, SYN | ACK)) is None

    def test_segments_of_no_connection(self) -> None:
        nat = opened(filtering=Filtering.ENDPOINT_INDEPENDENT)
        for flags in (ACK, SYN | ACK, RST, FIN):
            assert reason(receive(nat, flags, 1.0, STRANGER)) is DropReason.NO_TCP_SESSION

    def test_connections_of_one_mapping_are_bounded_and_the_new_one_gives_way(self) -> None:
        nat = make(max_peers_per_mapping=1, tcp_transitory=10)
        send(nat, SYN, 0.0)
        assert reason(send(nat, SYN, 1.0, STRANGER)) is DropReason.TABLE_FULL
        send(nat, SYN, 9.0)
        assert reason(send(nat, SYN, 18.0, STRANGER)) is DropReason.TABLE_FULL
        assert reason(send(nat, SYN, 19.0, STRANGER)) is None
        eif = make(
            max_peers_per_mapping=1,
            filtering=Filtering.ENDPOINT_INDEPENDENT,
            unsolicited_syn=UnsolicitedSyn.RST,
        )
        send(eif, SYN)
        assert reason(receive(eif, SYN, 0.0, STRANGER)) is DropReason.TABLE_FULL


class TestUnsolicitedSyn:
    def test_dropped(self) -> None:
        assert receive(make(), SYN).answer is None

    def test_answered_with_a_reset(self) -> None:
        verdict = receive(make(unsolicited_syn=UnsolicitedSyn.RST), SYN)
        assert reason(verdict) is DropReason.NO_MAPPING
        assert verdict.answer == Packet(SEEN, REMOTE, b"", IpProtocol.TCP, tcp=Segment(RST | ACK, 0, 8))

    def test_answered_with_an_icmp_error_about_it(self) -> None:
        verdict = receive(make(unsolicited_syn=UnsolicitedSyn.ICMP), SYN)
        about = Packet(REMOTE, SEEN, b"", IpProtocol.TCP, tcp=Segment(SYN, 7))
        assert verdict.answer == Packet(
            Address(PUBLIC, 0),
            Address(REMOTE.host, 0),
            b"",
            IpProtocol.ICMP,
            icmp=Icmp(IcmpKind.PORT_UNREACHABLE, about),
        )

    def test_only_a_syn_is_answered(self) -> None:
        nat = make(unsolicited_syn=UnsolicitedSyn.RST)
        assert all(receive(nat, flags).answer is None for flags in (ACK, SYN | ACK, RST))

    @pytest.mark.parametrize("how", [UnsolicitedSyn.RST, UnsolicitedSyn.ICMP])
    def test_the_answer_can_wait_for_our_own_syn(self, how: UnsolicitedSyn) -> None:
        """RFC 5382 §4.3: six seconds, in which simultaneous open still works and silences it."""
        nat = make(unsolicited_syn=how, syn_answer_delay=6.0)
        assert receive(nat, SYN, 1.0).answer is None
        assert receive(nat, SYN, 2.0, STRANGER).answer is None
        assert nat.next_answer() == 7.0
        send(nat, SYN, 3.0)
        assert nat.next_answer() == 8.0
        assert nat.answers(7.9) == []
        [(answer, side)] = nat.answers(8.0)
        assert side is Side.EXTERNAL
        assert answer.destination.host == STRANGER.host
        assert nat.next_answer() is None

    def test_answers_held_back_are_bounded(self) -> None:
        nat = make(unsolicited_syn=UnsolicitedSyn.RST, syn_answer_delay=6.0)
        for port in range(1, 400):
            receive(nat, SYN, 0.0, STRANGER.with_port(port))
        assert len(nat.answers(6.0)) == HeldAnswers.LIMIT
        receive(nat, SYN, 7.0)
        nat.reset(8.0)
        assert nat.next_answer() is None

    def test_it_poisons_where_probes_do(self) -> None:
        nat = make(early_probe=EarlyProbe.POISONS)
        receive(nat, SYN)
        verdict = send(nat, SYN)
        assert isinstance(verdict, Translation)
        assert verdict.packet.source != SEEN


class TestOutbound:
    def test_a_lenient_nat_picks_up_what_it_lost(self) -> None:
        nat = make()
        assert isinstance(send(nat, ACK), Translation)
        assert nat.next_expiry() == 7440.0

    def test_a_strict_one_does_not(self) -> None:
        nat = make(tcp_pickup=False)
        assert reason(send(nat, ACK)) is DropReason.NO_TCP_SESSION
        assert nat.entries(0.0) == ()

    @pytest.mark.parametrize("flags", [RST, SYN | RST])
    def test_a_reset_opens_nothing(self, flags: int) -> None:
        assert reason(send(make(), flags)) is DropReason.NO_TCP_SESSION

    def test_tcp_and_udp_ports_are_apart(self) -> None:
        nat = make()
        send(nat, SYN)
        verdict = nat.outbound(Packet(HOST, REMOTE, b""), 0.0)
        assert isinstance(verdict, Translation)
        assert verdict.packet.source == SEEN


@pytest.mark.parametrize(
    ("segment", "payload", "answer"),
    [
        (Segment(SYN, 0xFFFFFFFF), b"", Segment(RST | ACK, 0, 0)),
        (Segment(FIN, 10), b"abc", Segment(RST | ACK, 0, 14)),
        (Segment(ACK, 10, 99), b"abc", Segment(RST, 99)),
        (Segment(RST, 10), b"", None),
        (None, b"", None),
    ],
)
def test_the_numbers_of_a_reset(segment: Segment | None, payload: bytes, answer: Segment | None) -> None:
    """RFC 9293 §3.5.2: so that the sender takes it."""
    reset = reset_to(Packet(REMOTE, SEEN, payload, IpProtocol.TCP, tcp=segment))
    assert (None if reset is None else reset.tcp) == answer
