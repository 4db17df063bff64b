"""Every quirk of the field that is the NAT's: the preset does what was seen, by those its source names."""

from __future__ import annotations

from random import Random

import pytest

from nat.support import (
    HOST,
    OTHER_HOST,
    PUBLIC,
    REMOTE,
    SAME_HOST_OTHER_PORT,
    STRANGER,
    build,
    into,
    out,
    reason,
)
from natwalk.core import Address
from natwalk.nat import PRESETS, DropReason, Group, Nat, Packet, ServiceQuirk, Translation, preset

STUN = bytes.fromhex("000100002112a442") + bytes(12)


def nat(name: str, *public: str) -> Nat:
    """The NAT of a quirk with one layer."""
    (layer,) = preset(name).layers
    return Nat(layer.at(*(public or (PUBLIC,))), random_bytes=Random(3).randbytes)


def test_every_quirk_has_a_test_here_or_with_the_services() -> None:
    names = {name for name, spec in PRESETS.items() if spec.group is Group.QUIRK}
    services = {name for name in names if preset(name).services is not None}
    assert len(services) == len(ServiceQuirk)
    assert names - services == {
        "absolute-timeout",
        "all-but-500",
        "answers-probes",
        "large-packets-vanish",
        "pings-only",
        "poisoned-by-probes",
        "remaps-early",
        "same-port-starves",
        "several-addresses",
        "snat-moves-ports",
    }


def test_absolute_timeout() -> None:
    """iroh#4424: traffic in both directions all the time, and the mapping is gone after 50 to 75 seconds."""
    box = nat("absolute-timeout")
    first, now = out(box, HOST, REMOTE, 0.0), 0.0
    while reason(into(box, REMOTE, first, now)) is None:
        out(box, HOST, REMOTE, now)
        ends = box.next_expiry()
        now += 0.5
    assert 50.0 <= ends <= 75.0
    assert now - 0.5 < ends + 0.5


def test_remaps_early() -> None:
    """Tailscale netcheck: two public ports of one socket, both alive."""
    box = nat("remaps-early")
    old, new = out(box, HOST, REMOTE, 0.0), out(box, HOST, REMOTE, 31.0)
    assert old != new
    assert [into(box, REMOTE, seen, 32.0).packet.destination for seen in (old, new)] == [HOST, HOST]


def test_same_port_starves() -> None:
    """tailscale#2187: two clients on port 41641; only the one that came last hears anything."""
    box = nat("same-port-starves")
    one, two = HOST.with_port(41641), OTHER_HOST.with_port(41641)
    assert out(box, one, REMOTE) == out(box, two, REMOTE)
    for now in (1.0, 2.0, 3.0):
        out(box, one, REMOTE, now)
        assert into(box, REMOTE, Address(PUBLIC, 41641), now).packet.destination == two


@pytest.mark.parametrize(("ttl", "poisoned"), [(64, True), (2, False)])
def test_poisoned_by_probes_and_what_a_low_ttl_avoids(ttl: int, poisoned: bool) -> None:
    """Dolphin PR 11382, frp, hyperdht: an opener that dies on the way cannot poison the other side's NAT."""
    mine, theirs = nat("poisoned-by-probes"), nat("poisoned-by-probes", "192.0.2.1")
    server = REMOTE
    here, there = out(mine, HOST, server), out(theirs, OTHER_HOST, server)
    opener = mine.outbound(Packet(HOST, there, b"open", ttl=ttl), 1.0)
    assert isinstance(opener, Translation)
    hops_between = 1
    if opener.packet.ttl > hops_between:
        theirs.inbound(opener.packet._replace(ttl=opener.packet.ttl - hops_between), 1.0)
    answer = theirs.outbound(Packet(OTHER_HOST, here, b"answer"), 2.0).packet
    assert (answer.source != there) is poisoned
    assert (reason(mine.inbound(answer, 2.0)) is DropReason.FILTERED) is poisoned


def test_answers_probes() -> None:
    box = nat("answers-probes")
    assert into(box, STRANGER, Address(PUBLIC, 9)).answer.destination.host == STRANGER.host


def test_all_but_500() -> None:
    """tailscale#864: IKE's port is the exception."""
    box = nat("all-but-500")
    remotes = (REMOTE, SAME_HOST_OTHER_PORT, STRANGER)
    assert len({out(box, HOST.with_port(500), remote) for remote in remotes}) == 1
    assert len({out(box, HOST, remote) for remote in remotes}) == 3


def test_snat_moves_ports() -> None:
    """patchbay notes: the port is decided for every connection tracking entry, not for every socket."""
    box = nat("snat-moves-ports")
    assert out(box, OTHER_HOST, REMOTE, 0.0).port == 5000
    assert out(box, HOST, STRANGER, 0.0).port == 5000
    assert out(box, HOST, REMOTE, 0.0).port != 5000, "one socket, two ports"
    assert out(box, HOST, REMOTE, 31.0).port == 5000, "and another for the next entry"


def test_several_addresses() -> None:
    """frp#4232: one socket is seen at several addresses."""
    spec = preset("several-addresses")
    box = nat("several-addresses", *(f"198.51.100.{n}" for n in range(1, 1 + spec.public_addresses)))
    assert len({out(box, HOST, REMOTE.with_port(n)).host for n in range(1, 60)}) == spec.public_addresses


def test_pings_only() -> None:
    """tailscale#19457: STUN gets through, so the path looks fine; data does not, either way."""
    box = build(preset("pings-only"))
    sent = box.outbound(Packet(HOST, REMOTE, STUN), 0.0).packet
    assert isinstance(box.inbound(Packet(REMOTE, sent.source, STUN), 0.0), Translation)
    assert reason(box.outbound(Packet(HOST, REMOTE, b"data" * 10), 0.0)) is DropReason.SCRUBBED
    assert reason(box.inbound(Packet(REMOTE, sent.source, b"data" * 10), 0.0)) is DropReason.SCRUBBED


def test_large_packets_vanish() -> None:
    """RFC 9308: without a word, in both directions."""
    box = nat("large-packets-vanish")
    seen = out(box, HOST, REMOTE)
    assert reason(into(box, REMOTE, seen)) is None
    large = bytes(1280 - 28 + 1)
    for verdict in (
        box.outbound(Packet(HOST, REMOTE, large), 0.0),
        box.inbound(Packet(REMOTE, seen, large), 0.0),
    ):
        assert reason(verdict) is DropReason.TOO_LARGE
        assert verdict.answer is None
    assert reason(box.outbound(Packet(HOST, REMOTE, large[1:]), 0.0)) is None


def test_one_side_must_keep_sending_after_its_first_receive() -> None:
    """patchbay notes. Not a quirk of one NAT: two that filter by port let in only who was sent to before."""
    mine, theirs = nat("large-packets-vanish"), nat("large-packets-vanish", "192.0.2.1")
    here, there = out(mine, HOST, REMOTE), out(theirs, OTHER_HOST, REMOTE)
    lost = mine.outbound(Packet(HOST, there, b"1"), 1.0).packet
    assert reason(theirs.inbound(lost, 1.0)) is DropReason.FILTERED
    came = theirs.outbound(Packet(OTHER_HOST, here, b"2"), 2.0).packet
    assert reason(mine.inbound(came, 2.0)) is None, "we heard them; they have heard nothing yet"
    again = mine.outbound(Packet(HOST, there, b"3"), 3.0).packet
    assert reason(theirs.inbound(again, 3.0)) is None


@pytest.mark.parametrize("quirk", ServiceQuirk)
def test_every_quirk_of_the_services_has_a_preset(quirk: ServiceQuirk) -> None:
    """What each does is in tests/nat/services/test_upnp.py and test_nat_pmp.py."""
    specs = [spec for spec in PRESETS.values() if spec.services and quirk in spec.services.quirks]
    assert len(specs) == 1
