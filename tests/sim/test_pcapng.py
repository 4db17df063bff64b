"""A capture read back by a reader that shares no code with the writer, and by tshark where there is one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from struct import unpack_from
from typing import NamedTuple

import pytest

from natwalk.nat import wire
from natwalk.sim import START, WALL_OFFSET, Network
from natwalk.sim.ice import IceMeeting
from natwalk.sim.internet import Attachment, two_peers
from sim.support import Mailbag


class Captured(NamedTuple):
    """One packet as the file has it."""

    interface: str
    nanoseconds: int
    data: bytes
    inbound: bool


def options(body: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(body):
        code, length = unpack_from("<HH", body, at)
        found[code] = body[at + 4 : at + 4 + length]
        at += 4 + length + -length % 4
    assert found.pop(0) == b""
    return found


def read(file: bytes) -> Iterator[Captured]:
    """Packets of a little-endian pcapng file with one section, everything about the format asserted."""
    at = 0
    names: list[str] = []
    while at < len(file):
        kind, length = unpack_from("<II", file, at)
        assert length % 4 == 0
        assert unpack_from("<I", file, at + length - 4) == (length,)
        body = file[at + 8 : at + length - 4]
        match kind:
            case 0x0A0D0D0A:
                assert at == 0
                assert unpack_from("<IHHq", body) == (0x1A2B3C4D, 1, 0, -1)
                assert options(body[16:]) == {4: b"natwalk simulator"}
            case 1:
                assert unpack_from("<HHI", body) == (101, 0, 65535)
                about = options(body[8:])
                assert about.pop(9) == b"\x09"
                names.append(about.pop(2).decode())
                assert not about
            case 6:
                number, high, low, captured, original = unpack_from("<IIIII", body)
                assert captured == original
                padded = captured + -captured % 4
                flags = options(body[20 + padded :])[2]
                data = body[20 : 20 + captured]
                yield Captured(names[number], high << 32 | low, data, flags == b"\1\0\0\0")
            case _:
                pytest.fail(f"a block of type {kind}")
        at += length


def ping() -> list[Captured]:
    internet = two_peers("port-restricted", "none", seed=1)
    network, file = internet.network, BytesIO()
    capture = network.capture(file)
    server = Mailbag(network, internet.server, 7)
    Mailbag(network, internet.a.host, 5000).socket.send(b"hello", server.socket.address)
    network.run()
    server.socket.send(b"hello yourself", server.got[0][2])
    network.run()
    packets = list(read(file.getvalue()))
    assert capture.packets == len(packets)
    return packets


def test_each_link_shows_what_its_inner_node_sends_and_gets() -> None:
    packets = ping()
    there, back = packets[:3], packets[3:6]
    assert [p.interface for p in there] == ["a-nat-a", "nat-a-core", "server-core"]
    assert [p.inbound for p in there] == [False, False, True]
    assert [p.interface for p in back] == ["server-core", "nat-a-core", "a-nat-a"]
    assert [p.inbound for p in back] == [False, True, True]
    origin = round((WALL_OFFSET + START) * 1_000_000_000)
    assert [p.nanoseconds - origin for p in there] == [0, 500_000, 21_000_000]


def test_headers_and_checksums_are_right_and_the_number_follows_a_datagram_through_the_nat() -> None:
    packets = ping()
    assert all(wire.verify(p.data) for p in packets)
    sources = [str(wire.decode(p.data).source) for p in packets[:3]]
    assert sources == ["192.168.1.10:5000", "198.51.100.1:5000", "198.51.100.1:5000"]
    assert [int.from_bytes(p.data[4:6], "big") for p in packets] == [1, 1, 1, 2, 2, 2]
    assert wire.decode(packets[3].data).payload == b"hello yourself"


def test_a_second_capture_and_later_links_are_seen_too() -> None:
    network = Network(1)
    core, files = network.router("core"), (BytesIO(), BytesIO())
    for file in files:
        network.capture(file)
    one, two = network.host("one"), network.host("two")
    network.connect(one, core, "192.0.2.1")
    network.connect(two, core, "2001:db8::2", "192.0.2.2")
    bag = Mailbag(network, one, 1)
    two.bind(lambda data, source: None, 2, "192.0.2.2").send(b"x", bag.socket.address)
    network.run()
    for file in files:
        assert [p.interface for p in read(file.getvalue())] == ["two-core", "one-core"]


def test_a_run_costs_the_same_packets_with_and_without_a_capture() -> None:
    def run(*, captured: bool) -> str:
        internet = two_peers("cgnat", "symmetric", seed=5)
        internet.a.access.configure(loss=0.1, duplicate=0.1)
        if captured:
            internet.network.capture(BytesIO())
        IceMeeting(internet).run()
        return internet.network.trace.text()

    assert run(captured=True) == run(captured=False)


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_tshark_reads_it(tmp_path: Path) -> None:
    """A whole meeting over both IP versions: none malformed, no bad checksum, STUN read as STUN."""
    both = Attachment(ipv4="symmetric", ipv6="home-ipv6")
    internet = two_peers(both, both, seed=1)
    path = tmp_path / "run.pcapng"
    with path.open("wb") as file:
        capture = internet.network.capture(file)
        IceMeeting(internet).run()
    fields = ("frame.interface_name", "frame.protocols", "frame.time_relative", "udp.checksum.status")
    out = subprocess.run(
        [
            *("tshark", "-r", str(path), "-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"),
            *("-Tfields", *(word for field in (*fields, "ip.checksum.status") for word in ("-e", field))),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    rows = [line.split("\t") for line in out.splitlines()]
    assert len(rows) == capture.packets > 100
    assert {row[0] for row in rows} == set(internet.network.links)
    assert {row[3] for row in rows} == {"1"}
    assert {row[4] for row in rows} == {"1", ""}
    assert not any("malformed" in row[1] for row in rows)
    assert any(row[1].startswith("raw:ipv6:udp:stun") for row in rows)
    assert float(rows[0][2]) == 0.0
