import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import Address, Drops, Outbox, Path, Transmit


@given(st.lists(st.integers(), max_size=40), st.integers(1, 10))
def test_outbox_is_bounded_and_keeps_order(items: list[int], limit: int) -> None:
    box: Outbox[int] = Outbox(limit)
    taken = [box.put(item) for item in items]
    assert taken == [n < limit for n in range(len(items))]
    assert len(box) == min(len(items), limit)
    assert box.refused == max(0, len(items) - limit)
    assert [box.poll() for _ in range(len(box))] == items[:limit]
    assert box.poll() is None


def test_outbox_clear_forgets_everything() -> None:
    box: Outbox[int] = Outbox()
    box.put(1)
    box.clear()
    assert box.poll() is None


def test_drops_count_by_reason_and_stay_bounded() -> None:
    drops = Drops()
    for n in range(1000):
        drops.add(f"reason {n}")
    assert drops.total == 1000
    assert len(drops.counts) <= Drops.LIMIT + 1
    assert drops.last == "other"


def test_drops_of_parts_sum_up() -> None:
    one, two = Drops(), Drops()
    one.add("a")
    two.add("a")
    two.add("b")
    total = Drops.sum([one, two, Drops()])
    assert total.counts == {"a": 2, "b": 1}
    assert total.last == "b"
    assert one.total == 1


def test_path_reads_as_a_flow() -> None:
    path = Path(Address("192.0.2.1", 1), Address("2001:db8::1", 2))
    assert str(path) == "192.0.2.1:1 -> [2001:db8::1]:2"
    assert Transmit(b"x", path).path.remote.port == 2


def test_reasons_are_kept_apart() -> None:
    drops = Drops()
    drops.add("a")
    drops.add("b")
    drops.add("a")
    assert drops.counts == {"a": 2, "b": 1}
    with pytest.raises(AttributeError):
        drops.unknown = 1  # type: ignore[attr-defined]
