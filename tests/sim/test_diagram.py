from __future__ import annotations

from natwalk.core import Address
from natwalk.sim import START, Happening, sequence
from natwalk.sim.internet import Internet, two_peers
from sim.support import Mailbag


def conversation() -> Internet:
    internet = two_peers("none", "port-restricted", seed=1)
    network = internet.network
    server = Mailbag(network, internet.server, 3478)
    a = Mailbag(network, internet.a.host, 5000)
    a.socket.send(b"one", server.socket.address)
    network.run()
    return internet


def test_one_line_a_datagram_from_its_sender_to_where_it_ended() -> None:
    internet = conversation()
    network = internet.network
    Mailbag(network, internet.server, 9).socket.send(b"two", internet.server_address().with_port(1))
    internet.server.bind(lambda data, source: None, 10).send(b"3", Address(internet.b.public, 1))
    network.run()
    lines = sequence(network.trace, "a", "server", "nat-b").splitlines()
    assert lines[0].split() == ["seconds", "a", "server", "nat-b"]
    assert "o------------->" in lines[1]
    assert lines[1].endswith("data  20.5 ms")
    assert lines[2].endswith("data  0.0 ms  no socket")
    assert "x" in lines[3]
    assert lines[3].endswith("data  20.5 ms  no mapping for this port")
    assert len({len(line[: line.rindex("data")]) for line in lines[1:]}) == 1


def test_columns_are_found_and_times_select() -> None:
    internet = conversation()
    text = sequence(internet.network.trace)
    assert text.splitlines()[0].split() == ["seconds", "a", "server"]
    assert len(sequence(internet.network.trace, since=START + 1).splitlines()) == 1


def test_what_is_lost_on_a_link_ends_where_the_link_leads() -> None:
    internet = two_peers("none", "none", seed=1)
    internet.a.access.configure(loss=1.0)
    Mailbag(internet.network, internet.a.host, 5000).socket.send(b"x", internet.server_address())
    internet.network.run()
    lines = sequence(internet.network.trace, "a", "core").splitlines()
    assert "[a>core] loss=1.0" in lines[1]
    assert lines[-1].endswith("data  0.0 ms  lost")
    assert "o-------------x" in lines[-1]


def test_under_way_when_it_ended_and_messages() -> None:
    internet = two_peers("none", "none", seed=1)
    channel, _ = internet.channels()
    internet.network.run()
    channel.b.send("hello")
    Mailbag(internet.network, internet.a.host, 5000).socket.send(b"x", internet.server_address())
    text = sequence(internet.network.trace)
    assert "5 characters  (under way)" in text
    assert "data  (under way)" in text
    internet.network.run()
    text = sequence(internet.network.trace, "a", "server")
    assert "<-------------o" in text
    assert "5 characters  20.0 ms" in text
    assert sequence(internet.network.trace, "nobody").count("\n") == 4


def test_events_stand_in_the_column_of_their_node() -> None:
    internet = two_peers("none", "none", seed=1)
    network = internet.network
    network.trace.add(network.now, Happening.EVENT, "a", 0, None, "Connected")
    network.trace.add(network.now, Happening.EVENT, "b", 0, None, "Connected")
    lines = sequence(network.trace, "server", "a").splitlines()
    assert len(lines) == 2
    assert lines[1].split() == ["1000.000000", "|", "!", "[a]", "Connected"]
