from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from natwalk.nat.checksum import adjusted, checksum


def plain(data: bytes) -> int:
    """Word by word with end-around carry, as RFC 1071 says it."""
    total = 0
    for n in range(0, len(data), 2):
        total += int.from_bytes(data[n : n + 2].ljust(2, b"\0"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def test_the_example_of_rfc_1071() -> None:
    """RFC 1071 §3: the sum of these bytes is DDF2."""
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2


def test_the_example_of_rfc_1624() -> None:
    """RFC 1624 §4: 0x5555 becomes 0x3285 under the checksum 0xDD2F, which becomes 0x0000."""
    assert adjusted(0xDD2F, 0x3285 - 0x5555) == 0


def test_a_header_in_common_use() -> None:
    """A well-known IPv4 header; its checksum field, zero here, is B861."""
    assert checksum(bytes.fromhex("45000073000040004011 0000 c0a80001c0a800c7".replace(" ", ""))) == 0xB861


@given(st.binary(max_size=80))
def test_one_division_says_the_same_as_the_loop(data: bytes) -> None:
    assert checksum(data) == plain(data)
    even = data[: len(data) // 2 // 2 * 2]
    assert checksum(even, data[len(even) :]) == plain(data)


@given(st.binary(min_size=2, max_size=20).filter(any), st.integers(0, 0xFFFF), st.integers(0, 9))
def test_adjusting_says_the_same_as_computing_anew(data: bytes, word: int, at: int) -> None:
    data = data[: len(data) // 2 * 2]
    at = at * 2 % len(data)
    changed = data[:at] + word.to_bytes(2, "big") + data[at + 2 :]
    if not any(data) or not any(changed):
        return
    old = int.from_bytes(data[at : at + 2], "big")
    assert adjusted(checksum(data), word - old) == checksum(changed)
