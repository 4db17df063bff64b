"""Whatever packets come from either side, every box judges them and keeps its promises."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nat.any_packet import packets
from nat.support import build
from natwalk.core import Address
from natwalk.nat import PRESETS, Dropped, IcmpKind, Packet, Side, Translation, embed, preset
from natwalk.nat.wire import decode, encode, rewrite, verify

OURS = [Address(f"198.51.100.{n}", port) for n in (1, 2) for port in (0, 5000, 40000)]
HOSTS = [Address(f"192.168.1.{n}", port) for n in (10, 11) for port in (0, 5000, 40000)]
REMOTES = [Address("203.0.113.9", port) for port in (0, 53, 5000)]
PLACES = OURS + HOSTS + REMOTES


def moved(packet: Packet, source: Address, destination: Address) -> Packet:
    """The packet between places that mean something to the box, and so in what it quotes."""
    icmp = packet.icmp
    if icmp is not None and icmp.about is not None:
        about = icmp.about._replace(source=destination, destination=source)
        return packet._replace(
            source=source.with_port(0), destination=destination.with_port(0), icmp=icmp._replace(about=about)
        )
    if icmp is not None and icmp.kind is IcmpKind.ECHO_REQUEST:
        destination = destination.with_port(0)
    elif icmp is not None:
        source = source.with_port(0)
    return packet._replace(source=source, destination=destination)


steps = st.lists(
    st.tuples(packets(4), st.sampled_from(PLACES), st.sampled_from(PLACES), st.booleans(), st.floats(0, 40)),
    max_size=25,
)


@pytest.mark.parametrize("name", PRESETS)
@settings(deadline=None, max_examples=12)
@given(history=steps)
def test_every_packet_is_judged(
    name: str, history: list[tuple[Packet, Address, Address, bool, float]]
) -> None:
    """No exception; a hop is taken; an answer goes to the sender; what passes can be written to the wire."""
    spec = preset(name)
    box, now = build(spec), 0.0
    prefix = getattr(spec.layers[0], "prefix", None) if spec.layers else None
    for packet, source, destination, outwards, gap in history:
        now += gap
        if prefix is not None and outwards:
            source, destination = (Address(embed(a.host, prefix), a.port) for a in (source, destination))
        packet = moved(packet, source, destination)
        verdict = box.outbound(packet, now) if outwards else box.inbound(packet, now)
        if isinstance(verdict, Translation):
            hops = packet.ttl - verdict.packet.ttl
            assert 0 <= hops <= 2 * len(spec.layers)
            assert verdict.packet.payload == packet.payload
            assert outwards or verdict.side is Side.INTERNAL
        else:
            assert isinstance(verdict, Dropped)
            if verdict.answer is not None:
                assert verdict.answer.destination.host == packet.source.host
                assert verify(encode(verdict.answer))
        for answer, _ in box.answers(now):
            assert verify(encode(answer))


@settings(deadline=None, max_examples=100)
@given(packet=packets(4), seed=st.integers(0, 99))
def test_what_passes_a_nat_on_the_wire_is_what_the_engine_said(packet: Packet, seed: int) -> None:
    packet = moved(packet, HOSTS[1], REMOTES[2])._replace(ttl=9)
    box = build(preset("linux-random"), seed)
    verdict = box.outbound(packet, 0.0)
    if isinstance(verdict, Translation):
        data = rewrite(encode(packet), packet, verdict.packet)
        assert decode(data) == verdict.packet
        assert verify(data)
