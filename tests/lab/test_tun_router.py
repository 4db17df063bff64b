"""The router in user space between two descriptors: no namespace needed."""

from __future__ import annotations

import json
import socket

import pytest

from natwalk.core import Address
from natwalk.lab.behaviour import BOXES, layer_of, table_of
from natwalk.lab.router_plan import BoxPlan, RouterPlan
from natwalk.lab.tun_router import UserRouter, answer_orders
from natwalk.nat import PRESETS, SYN, IpProtocol, Packet, Segment, preset
from natwalk.nat.fragments import fragment
from natwalk.nat.wire import decode, encode, verify

HOST = Address("192.168.1.10", 40000)
SERVER = Address("203.0.113.10", 5001)


class Bench:
    """A router and the far ends of its two devices."""

    def __init__(self, kind: str, *public: str) -> None:
        self.lan, inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.wan, outside = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sockets = (self.lan, self.wan, inside, outside)
        for each in self._sockets:
            each.setblocking(False)
        self.router = UserRouter(plan(kind, *public), inside.fileno(), outside.fileno())

    def out(self, data: bytes) -> bytes | None:
        self.lan.send(data)
        self.router.from_inside()
        return read(self.wan)

    def into(self, data: bytes) -> bytes | None:
        self.wan.send(data)
        self.router.from_outside()
        return read(self.lan)

    def close(self) -> None:
        for each in self._sockets:
            each.close()


def read(end: socket.socket) -> bytes | None:
    try:
        return end.recv(65535)
    except BlockingIOError:
        return None


def plan(kind: str, *public: str) -> RouterPlan:
    layers = [table_of(layer) for layer in preset(kind).layers]
    return RouterPlan(boxes=[BoxPlan(layers=layers, public=list(public or ("198.51.100.2",)))], seed=1)


@pytest.fixture
def make():
    benches = []

    def build(kind: str, *public: str) -> Bench:
        benches.append(Bench(kind, *public))
        return benches[-1]

    yield build
    for bench in benches:
        bench.close()


@pytest.mark.parametrize("kind", ["port-restricted", "symmetric", "cgnat", "linux"])
def test_a_packet_goes_out_translated_and_its_answer_comes_back(make, kind) -> None:
    bench = make(kind)
    for _ in range(3):  # the long way once, then the short one
        out = bench.out(encode(Packet(HOST, SERVER, b"question", ttl=63)))
        assert out is not None
        assert verify(out)
        seen = decode(out)
        assert (seen.source.host, seen.destination, seen.payload) == ("198.51.100.2", SERVER, b"question")
        back = bench.into(encode(Packet(SERVER, seen.source, b"answer", ttl=60)))
        assert back is not None
        assert verify(back)
        assert decode(back)[:3] == (SERVER, HOST, b"answer")
    assert bench.router.statistics()["packets"] == {"from inside": 3, "from outside": 3}


def test_the_hops_that_the_kernel_takes_are_given_back(make) -> None:
    """It takes one on either side of us, and a router is one hop."""
    bench = make("port-restricted")
    out = bench.out(encode(Packet(HOST, SERVER, b"", ttl=1)))
    assert out is not None
    assert decode(out).ttl == 2


def test_what_nobody_asked_for_is_dropped_and_counted(make) -> None:
    bench = make("port-restricted")
    assert bench.into(encode(Packet(SERVER, Address("198.51.100.2", 50000), b"hello"))) is None
    assert bench.router.statistics()["drops"] == {"no mapping for this port": 1}


def test_garbage_is_dropped_and_counted(make) -> None:
    bench = make("port-restricted")
    for data in (
        b"\x45",
        b"\x00" * 40,
        encode(Packet(Address("fd00::1", 1), Address("2001:db8::1", 2), b"")),
    ):
        assert bench.out(data) is None
    assert sum(bench.router.drops.counts.values()) == 3


def test_fragments_are_put_together_before_they_are_translated(make) -> None:
    bench = make("port-restricted")
    whole = encode(Packet(HOST, SERVER, bytes(3000)))
    first, *rest = fragment(whole, 1500)
    assert bench.out(first) is None
    outs = [bench.out(piece) for piece in rest]
    assert outs[:-1] == [None] * (len(rest) - 1)
    assert decode(outs[-1]).payload == bytes(3000)


def test_an_answer_of_the_box_goes_back_to_where_the_packet_came_from(make) -> None:
    bench = make("rfc-4787")
    syn = Packet(SERVER, Address("198.51.100.2", 5000), b"", IpProtocol.TCP, tcp=Segment(SYN, 1))
    bench.wan.send(encode(syn))
    bench.router.from_outside()
    assert bench.router.held_answers() == pytest.approx(6.0, abs=0.5), "held back (RFC 5382 §4.3)"
    assert read(bench.wan) is None


def test_orders(make) -> None:
    bench = make("symmetric")
    first = bench.out(encode(Packet(HOST, SERVER, b"")))
    assert ask(bench, do="statistics")["mappings"] == 1
    assert ask(bench, do="reset") is True
    assert ask(bench, do="statistics")["mappings"] == 0
    assert ask(bench, do="fill", count=2000, host="192.168.1.250") == 1024, "as many as the home router holds"
    assert bench.out(encode(Packet(HOST, SERVER, b""))) is None
    changed = BoxPlan(
        layers=[table_of(layer) for layer in preset("full-cone").layers], public=["198.51.100.2"]
    )
    assert ask(bench, do="change", plan={"boxes": [{"layers": changed.layers, "public": changed.public}]})
    again = decode(bench.out(encode(Packet(HOST, SERVER, b""))))
    assert again.source.port == HOST.port != decode(first).source.port


def test_a_wrong_order_is_answered_and_changes_nothing(make, capsys) -> None:
    answer_orders(make("symmetric").router, [b'{"do": "dance"}', b"nonsense"])
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [list(answer) for answer in answers] == [["error"], ["error"]]


def ask(bench: Bench, **order: object):
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        answer_orders(bench.router, [json.dumps(order).encode()])
    return json.loads(out.getvalue())["ok"]


@pytest.mark.parametrize("name", [name for name, spec in PRESETS.items() if spec.layers])
def test_every_preset_can_be_a_router(make, name) -> None:
    spec = PRESETS[name]
    bench = make(name, *(f"198.51.100.{2 + n}" for n in range(spec.public_addresses)))
    bench.out(encode(Packet(HOST, SERVER, b"hello")))
    assert bench.router.statistics()["packets"] == {"from inside": 1}


@pytest.mark.parametrize("name", PRESETS)
def test_every_layer_of_every_preset_survives_being_a_table(name) -> None:
    for layer in PRESETS[name].layers:
        assert layer_of(json.loads(json.dumps(table_of(layer)))) == layer


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"mapping": "conical"}, "conical"),
        ({"colour": 1}, "unknown key 'colour' of a nat"),
        ({"box": "black"}, "box 'black' is none of nat, firewall"),
        ({"idle-timeout": -1}, "idle_timeout must be positive"),
        ({"box": "firewall"}, "udp"),
    ],
)
def test_a_wrong_table_is_refused_by_name(table, message) -> None:
    with pytest.raises(ValueError, match=message):
        layer_of(table)


def test_every_box_has_a_name() -> None:
    assert set(BOXES) == {"nat", "firewall", "basic-nat", "twice-nat", "nat64"}
