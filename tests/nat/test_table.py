from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import Address
from natwalk.nat import IpProtocol
from natwalk.nat.table import Binding, BindingTable

UDP = IpProtocol.UDP


def binding(number: int, expires_at: float, host: str = "192.168.1.10") -> Binding:
    internal = Address(host, number)
    external = Address("198.51.100.1", number)
    return Binding((UDP, internal), (UDP, external), UDP, internal, external, 0.0, expires_at)


def test_what_was_added_is_found_by_each_key_until_removed() -> None:
    table = BindingTable()
    one = binding(1, 10.0)
    table.add(one)
    assert table.by_key[one.key] is one
    assert table.by_external[one.external_key] is one
    assert list(table) == [one]
    assert table.count("192.168.1.10") == 1
    table.remove(one)
    assert table.by_key == table.by_external == {}
    assert len(table) == 0
    assert table.count("192.168.1.10") == 0
    assert table.next_expiry() is None


def test_oldest_is_the_one_not_used_for_longest() -> None:
    table = BindingTable()
    one, two, three = binding(1, 1.0), binding(2, 1.0), binding(3, 1.0, "192.168.1.11")
    for each in (one, two, three):
        table.add(each)
    table.touch(one, 2.0)
    assert table.oldest() is two
    assert table.oldest("192.168.1.11") is three
    assert table.oldest("192.168.1.99") is None


def test_the_heap_stays_as_small_as_the_table() -> None:
    """Removed bindings do not pile up until they would have expired."""
    table = BindingTable()
    for number in range(1, 5000):
        one = binding(number, 1e9 - number)
        table.add(one)
        table.remove(one)
    assert len(table.heap) <= 66


def test_hastened_bindings_do_not_pile_up_either() -> None:
    table = BindingTable()
    one = binding(1, 1e9)
    table.add(one)
    for n in range(5000):
        table.hasten(one, 1e8 - n)
    assert len(table.heap) <= 67
    assert table.next_expiry() == one.expires_at


def test_a_detached_binding_is_found_from_outside_only() -> None:
    table = BindingTable()
    one = binding(1, 5.0)
    table.add(one)
    table.detach(one)
    table.detach(one)
    assert table.by_key == {}
    assert table.by_external[one.external_key] is one
    assert table.expire(5.0) == [one]


def test_the_newer_of_two_with_one_external_key_keeps_it() -> None:
    table = BindingTable()
    one, two = binding(1, 5.0), binding(2, 9.0)
    two.external_key = one.external_key
    table.add(one)
    table.add(two)
    assert table.expire(5.0) == [one]
    assert table.by_external[two.external_key] is two


def test_clear_forgets_everything() -> None:
    table = BindingTable()
    one = binding(1, 1.0)
    table.add(one)
    table.clear()
    assert not one.alive
    assert table.expire(5.0) == []
    assert len(table) == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "touch", "hasten", "remove", "expire"]),
            st.integers(1, 30),
            st.integers(1, 50),
        ),
        max_size=120,
    )
)
def test_expiry_agrees_with_looking_at_every_binding(steps: list[tuple[str, int, int]]) -> None:
    """The heap says the same as a plain search of all bindings, after any history."""
    table, model, now = BindingTable(), {}, 0.0
    for what, number, span in steps:
        one = model.get(number)
        match what:
            case "add" if one is None:
                model[number] = binding(number, now + span)
                table.add(model[number])
            case "touch" if one is not None:
                table.touch(one, max(one.expires_at, now + span))
            case "hasten" if one is not None:
                table.hasten(one, min(one.expires_at, now + span))
            case "remove" if one is not None:
                table.remove(model.pop(number))
            case "expire":
                now += span / 4
                gone = table.expire(now)
                assert {b.internal.port for b in gone} == {n for n, b in model.items() if b.expires_at <= now}
                model = {n: b for n, b in model.items() if b.expires_at > now}
        assert table.next_expiry() == min((b.expires_at for b in model.values()), default=None)
        assert len(table) == len(model)
