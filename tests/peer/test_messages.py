import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import MalformedMessage
from natwalk.peer.messages import (
    CandidateLine,
    CandidatesEnd,
    Description,
    Farewell,
    Hello,
    Message,
    NatReport,
    decode_batch,
    encode_batch,
)

TEXT = st.text(max_size=100)
NUMBER = st.integers(0, 1 << 16)
MESSAGES = st.one_of(
    st.builds(
        Hello, fingerprint=st.binary(min_size=32, max_size=32).map(bytes.hex), agent=st.text(max_size=64)
    ),
    st.builds(Description, generation=NUMBER, ufrag=TEXT, pwd=TEXT),
    st.builds(CandidateLine, generation=NUMBER, line=TEXT),
    st.builds(CandidatesEnd, generation=NUMBER),
    st.builds(NatReport, mapping=st.sampled_from(["unknown", "no-nat", "endpoint-dependent"])),
    st.builds(Farewell, reason=TEXT),
)


@given(st.lists(MESSAGES, max_size=20))
def test_batches_round_trip(messages: list[Message]) -> None:
    assert decode_batch(encode_batch(messages)) == messages


@given(st.binary(max_size=300))
def test_any_bytes_give_a_batch_or_malformed_message(data: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        decode_batch(data)


@pytest.mark.parametrize(
    "data",
    [
        b'[{"type":"hello","fingerprint":"zz"}]',
        b'[{"type":"ice","generation":-1,"ufrag":"a","pwd":"b"}]',
        b'[{"type":"ice","generation":65537,"ufrag":"a","pwd":"b"}]',
        b'[{"type":"candidate","generation":0,"line":"' + b"x" * 513 + b'"}]',
        b'[{"no":"type"}]',
        b"[" * 100_000,
        b"[" + b'{"type":"bye"},' * 64 + b'{"type":"bye"}]',
    ],
)
def test_out_of_bounds_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_batch(data)


def test_a_later_version_may_add_kinds_and_fields() -> None:
    data = b'[{"type":"teleport","to":1},{"type":"bye","reason":"done","colour":"red"}]'
    assert decode_batch(data) == [Farewell("done")]
