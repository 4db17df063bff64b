import pytest

from natwalk.core import Address
from natwalk.path.mtu import BASE_PLPMTU, MtuSearch, ladder


@pytest.mark.parametrize(
    ("local", "remote", "sizes"),
    [
        ("192.0.2.1", "192.0.2.2", (1472, 8972)),
        ("192.0.2.1", "192.0.2.1", (1472, 8972, 60_000)),
        ("2001:db8::1", "2001:db8::2", (1452, 8952)),
        ("127.0.0.1", "127.0.0.2", (1472, 8972, 60_000)),
        ("::1", "::1", (1452, 8952, 60_000)),
    ],
)
def test_the_ladder_fits_the_links_of_each_family(local: str, remote: str, sizes: tuple[int, ...]) -> None:
    assert ladder(Address(local, 1), Address(remote, 2)) == sizes


def test_the_largest_answered_probe_wins() -> None:
    search = MtuSearch(Address("192.0.2.1", 1), Address("192.0.2.2", 1), relayed=False)
    assert (search.mtu, search.settled) == (BASE_PLPMTU, False)
    search.record(8972, ok=False)
    assert (search.mtu, search.settled) == (BASE_PLPMTU, False)
    search.record(1472, ok=True)
    assert (search.mtu, search.settled) == (1472, True)


def test_a_larger_answer_settles_the_smaller_ones() -> None:
    search = MtuSearch(Address("127.0.0.1", 1), Address("127.0.0.1", 2), relayed=False)
    search.record(60_000, ok=True)
    assert (search.mtu, search.settled) == (60_000, True)
    search.record(1472, ok=True)
    assert search.mtu == 60_000


def test_nothing_is_probed_through_a_relay() -> None:
    search = MtuSearch(Address("127.0.0.1", 1), Address("127.0.0.1", 2), relayed=True)
    assert (search.sizes, search.settled, search.mtu) == ((), True, BASE_PLPMTU)
