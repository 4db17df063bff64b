from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import Address, Path
from natwalk.path.bursts import MAX_WAITING, Bursts

PATHS = [Path(Address("192.0.2.1", 1), Address("198.51.100.1", n)) for n in (1, 2)]


@given(st.lists(st.tuples(st.sampled_from(PATHS), st.lists(st.binary(max_size=3), max_size=4)), max_size=12))
def test_order_is_kept_and_runs_have_one_path(puts: list[tuple[Path, list[bytes]]]) -> None:
    bursts, singles = Bursts(), Bursts()
    for path, datagrams in puts:
        bursts.put(path, datagrams)
        singles.put(path, datagrams)
    expected = [(path, datagram) for path, datagrams in puts for datagram in datagrams]
    out = []
    while (run := bursts.poll()) is not None:
        assert run[1]
        out += [(run[0], datagram) for datagram in run[1]]
    assert out == expected
    out = []
    while (transmit := singles.poll_one()) is not None:
        out.append((transmit.path, transmit.data))
    assert out == expected


def test_the_queue_is_bounded() -> None:
    bursts = Bursts()
    bursts.put(PATHS[0], [b""] * (MAX_WAITING + 5))
    bursts.put(PATHS[1], [b""])
    assert bursts.refused == 6
    run = bursts.poll()
    assert run is not None
    assert len(run[1]) == MAX_WAITING
    assert bursts.poll() is None
