from __future__ import annotations

import pytest

from natwalk.sim import START, Channel, Network, SimulationError


class Party:
    """One end's user: keeps what it hears."""

    def __init__(self, network: Network, end: object) -> None:
        self.network, self.end, self.heard = network, end, []
        end.on_message = self._hear
        end.on_made = lambda: self._hear("+")
        end.on_lost = lambda: self._hear("-")

    def _hear(self, text: str) -> None:
        self.heard.append((round(self.network.now - START, 6), text))


def pair(delay: float = 0.1) -> tuple[Network, Channel, Party, Party]:
    network = Network(1)
    channel = network.channel(network.host("a"), network.host("server"), delay)
    return network, channel, Party(network, channel.a), Party(network, channel.b)


def test_it_connects_after_a_round_trip_and_keeps_the_order() -> None:
    network, channel, a, b = pair()
    network.run()
    assert a.heard == b.heard == [(0.2, "+")]
    for n in range(3):
        channel.a.send(str(n))
    channel.delay = 0.01
    channel.a.send("3")
    network.run()
    assert b.heard[1:] == [(0.3, "0"), (0.3, "1"), (0.3, "2"), (0.3, "3")]


def test_before_it_is_connected_messages_are_lost() -> None:
    network, channel, _, b = pair()
    assert not channel.a.connected
    channel.a.send("early")
    network.run()
    assert b.heard == [(0.2, "+")]


def test_a_cut_loses_what_is_under_way_and_both_ends_hear_of_it() -> None:
    network, channel, a, b = pair()
    network.at(START + 1.0, channel.a.send, "lost")
    network.at(START + 1.05, channel.cut)
    network.at(START + 1.06, channel.a.send, "lost too")
    network.at(START + 2.0, channel.restore)
    network.at(START + 3.0, channel.b.send, "again")
    network.run()
    assert a.heard == [(0.2, "+"), (1.05, "-"), (2.2, "+"), (3.1, "again")]
    assert b.heard == [(0.2, "+"), (1.05, "-"), (2.2, "+")]


def test_an_end_may_close_it_and_what_it_said_before_still_arrives() -> None:
    network, channel, a, b = pair()
    network.run()
    channel.b.send("last words")
    channel.b.close()
    channel.b.send("too late")
    channel.b.close()
    assert channel.a.connected
    assert not channel.b.connected
    network.run()
    assert a.heard[1:] == [(0.3, "last words"), (0.3, "-")]
    assert b.heard[1:] == [(0.3, "-")]


def test_a_cut_overtakes_a_close() -> None:
    network, channel, a, _ = pair()
    network.run()
    channel.b.close()
    channel.cut()
    channel.restore()
    network.run()
    assert [text for _, text in a.heard] == ["+", "-", "+"]
    assert channel.b.connected


def test_a_cut_while_connecting_means_it_never_connects() -> None:
    network, channel, a, _ = pair()
    channel.cut()
    network.run()
    assert a.heard == []
    assert not channel.connected


def test_messages_under_way_are_bounded() -> None:
    network, channel, _, _ = pair()
    network.run()
    for _ in range(Channel.IN_FLIGHT):
        channel.a.send("")
    with pytest.raises(SimulationError):
        channel.a.send("")
    network.run()
    channel.a.send("")


def test_nobody_needs_to_listen() -> None:
    network = Network(1)
    channel = network.channel(network.host("a"), network.host("b"), 0.1)
    network.run()
    channel.a.send("into the void")
    channel.cut()
    network.run()
    assert "13 characters" in network.trace.text()
