from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natwalk.sim import LADDER, START, Happening, LinkConfig
from sim.support import one_link

COUNT = 20_000


def send(seed: int = 1, count: int = COUNT, gap: float = 0.001, **config: float | int | None) -> list[int]:
    """Numbers of the packets that arrived, in order of arrival."""
    network, sender, receiver = one_link(seed, **config)
    for n in range(count):
        network.at(START + n * gap, sender.send, n.to_bytes(4, "big"), receiver.socket.address)
    network.run(max_events=10 * count)
    return [int.from_bytes(data, "big") for data in receiver.payloads]


@pytest.mark.parametrize(
    "config",
    [
        {"loss": 1.1},
        {"loss": -0.1},
        {"reorder": 2},
        {"duplicate": -1},
        {"corrupt": 1.5},
        {"delay": -1},
        {"delay": 0.01, "jitter": 0.02},
        {"loss": 0.5, "burst": 0.5},
        {"loss": 0.9, "burst": 2},
        {"rate": 0},
        {"mtu": 67},
        {"mtu": 65_536},
    ],
)
def test_what_cannot_be_is_refused(config: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        LinkConfig(**config)  # type: ignore[arg-type]


def test_a_perfect_link_carries_everything_in_order_after_its_delay() -> None:
    network, sender, receiver = one_link(delay=0.25)
    sender.send(b"x", receiver.socket.address)
    network.run()
    assert receiver.got == [(START + 0.25, b"x", sender.address)]
    assert send(count=1000) == list(range(1000))


def test_jitter_spreads_arrivals_but_keeps_the_order() -> None:
    network, sender, receiver = one_link(delay=0.1, jitter=0.05)
    for n in range(500):
        network.at(START + n, sender.send, n.to_bytes(2, "big"), receiver.socket.address)
    network.run()
    took = [at - START - n for n, (at, _, _) in enumerate(receiver.got)]
    assert 0.05 <= min(took) < 0.06
    assert 0.14 < max(took) <= 0.15
    assert send(count=2000, gap=0.001, delay=0.1, jitter=0.05) == list(range(2000))


@pytest.mark.parametrize("loss", [0.01, 0.25])
def test_independent_loss_has_its_rate(loss: float) -> None:
    lost = COUNT - len(send(loss=loss))
    assert lost == pytest.approx(COUNT * loss, rel=0.15)


@pytest.mark.parametrize(("loss", "burst"), [(0.05, 12), (0.25, 40), (0.02, 8)])
def test_bursty_loss_has_its_rate_and_its_mean_burst(loss: float, burst: float) -> None:
    count = 5 * COUNT
    got = send(seed=3, count=count, loss=loss, burst=burst)
    gaps = [b - a - 1 for a, b in pairwise(got) if b - a > 1]
    assert (count - len(got)) / count == pytest.approx(loss, rel=0.25)
    assert sum(gaps) / len(gaps) == pytest.approx(burst, rel=0.25)


def test_reordered_packets_come_later_than_their_successors() -> None:
    got = send(count=5000, delay=0.01, reorder=0.1, reorder_delay=0.0025)
    assert sorted(got) == list(range(5000))
    overtaken = sum(1 for a, b in pairwise(got) if b < a)
    assert overtaken == pytest.approx(500, rel=0.25)


def test_duplicates_arrive_twice() -> None:
    got = send(count=5000, duplicate=0.1)
    assert len(set(got)) == 5000
    assert len(got) - 5000 == pytest.approx(500, rel=0.2)


def test_corruption_flips_one_bit_of_some_packets() -> None:
    network, sender, receiver = one_link(corrupt=0.1)
    for n in range(2000):
        network.at(START + n, sender.send, bytes(20), receiver.socket.address)
    network.at(START + 2000, sender.send, b"", receiver.socket.address)
    network.run()
    flipped = [int.from_bytes(data, "big").bit_count() for data in receiver.payloads]
    assert len(flipped) == 2001
    assert set(flipped) == {0, 1}
    assert sum(flipped) == pytest.approx(200, rel=0.3)
    assert len(network.trace.select(Happening.CORRUPT)) == sum(flipped)


def test_a_rate_limit_spaces_packets_and_a_full_queue_drops() -> None:
    """1000 bytes a packet with headers, at 80 kbit/s: ten a second, three of them may wait."""
    network, sender, receiver = one_link(rate=80_000, queue_bytes=3000)
    for _ in range(5):
        sender.send(bytes(972), receiver.socket.address)
    network.run()
    assert [round(at - START, 6) for at, _, _ in receiver.got] == [0.1, 0.2, 0.3]
    assert "queue full" in network.trace.text()


@pytest.mark.parametrize(("size", "arrives"), [(1472, True), (1473, False)])
def test_packets_above_the_mtu_vanish(size: int, arrives: bool) -> None:
    """1500 bytes are 1472 of payload, 8 of UDP and 20 of IPv4."""
    network, sender, receiver = one_link()
    sender.send(bytes(size), receiver.socket.address)
    network.run()
    assert bool(receiver.got) is arrives
    assert arrives or "1501 bytes exceed the MTU of 1500" in network.trace.text()


def test_down_loses_what_is_sent_and_up_mends() -> None:
    network, sender, receiver = one_link(delay=0.1)
    link = network.links["sender-core"]
    network.at(START + 1, link.down)
    network.at(START + 2, link.up)
    for when in (0.95, 1.5, 2.5):
        network.at(START + when, sender.send, b"%f" % when, receiver.socket.address)
    network.run()
    assert receiver.payloads == [b"0.950000", b"2.500000"]


def test_one_direction_can_be_changed_alone() -> None:
    network, sender, receiver = one_link()
    link = network.links["sender-core"]
    link.configure_pipe(link.inward, loss=1.0)
    sender.send(b"there", receiver.socket.address)
    receiver.socket.send(b"back", sender.address)
    network.run()
    assert receiver.payloads == [b"there"]
    assert "lost" in network.trace.text()
    assert link.inward.lost == 1
    assert link.outward.lost == 0


def test_loss_can_change_while_it_runs() -> None:
    network, sender, receiver = one_link()
    network.at(START + 1, lambda: network.links["sender-core"].configure(loss=1.0))
    network.at(START + 0.5, sender.send, b"before", receiver.socket.address)
    network.at(START + 1.5, sender.send, b"after", receiver.socket.address)
    network.run()
    assert receiver.payloads == [b"before"]


@pytest.mark.parametrize("rung", list(LADDER))
def test_every_rung_of_the_ladder_carries_something(rung: str) -> None:
    config = LADDER[rung]
    got = send(
        count=300, gap=0.05, delay=config.delay, jitter=config.jitter, loss=config.loss, burst=config.burst
    )
    assert len(got) > 100


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    loss=st.floats(0, 0.5),
    duplicate=st.floats(0, 0.5),
    reorder=st.floats(0, 0.5),
    jitter=st.floats(0, 0.02),
)
def test_the_same_seed_gives_the_same_trace(
    seed: int, loss: float, duplicate: float, reorder: float, jitter: float
) -> None:
    def text() -> str:
        network, sender, receiver = one_link(
            seed, delay=0.02, jitter=jitter, loss=loss, duplicate=duplicate, reorder=reorder, rate=1e5
        )
        for n in range(40):
            network.at(START + n * 0.003, sender.send, bytes([n]), receiver.socket.address)
        network.run()
        return network.trace.text()

    assert text() == text()
