"""aioice, an independent implementation, reads what we write and writes what we read."""

from __future__ import annotations

from aioice import stun as aioice
from hypothesis import given, settings
from hypothesis import strategies as st

from natwalk.core import Address
from natwalk.stun import (
    DATA,
    ERROR_CODE,
    ICE_CONTROLLING,
    LIFETIME,
    NONCE,
    PRIORITY,
    REALM,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    XOR_PEER_ADDRESS,
    ErrorCode,
    Message,
    MessageClass,
    Method,
    check_integrity,
    decode,
    encode,
)

KEY = b"key"
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
ADDRESS = st.builds(Address, (st.ip_addresses(v=4) | st.ip_addresses(v=6)).map(str), st.integers(0, 65535))
VALUES = {
    USERNAME: TEXT,
    REALM: TEXT,
    NONCE: st.binary(max_size=40),
    DATA: st.binary(max_size=40),
    LIFETIME: st.integers(0, 2**32 - 1),
    PRIORITY: st.integers(0, 2**32 - 1),
    ICE_CONTROLLING: st.integers(0, 2**64 - 1),
    XOR_MAPPED_ADDRESS: ADDRESS,
    XOR_PEER_ADDRESS: ADDRESS,
    ERROR_CODE: st.builds(ErrorCode, st.integers(300, 699), TEXT),
}
CLASSES = {
    MessageClass.REQUEST: aioice.Class.REQUEST,
    MessageClass.INDICATION: aioice.Class.INDICATION,
    MessageClass.SUCCESS: aioice.Class.RESPONSE,
    MessageClass.ERROR: aioice.Class.ERROR,
}
METHODS = st.sampled_from([m for m in Method if m <= Method.CHANNEL_BIND])


def plain(value: object) -> object:
    """The value as aioice has it."""
    match value:
        case Address():
            return (str(value.ip), value.port)
        case ErrorCode(code, reason):
            return (code, reason)
    return value


@settings(max_examples=200, deadline=None)
@given(
    method=METHODS,
    message_class=st.sampled_from(list(CLASSES)),
    tid=st.binary(min_size=12, max_size=12),
    values=st.fixed_dictionaries({}, optional=VALUES),
)
def test_both_read_and_write_the_same_bytes(
    method: Method, message_class: MessageClass, tid: bytes, values: dict[object, object]
) -> None:
    ours = Message(method, message_class, tid, tuple(values.items()))  # type: ignore[arg-type]
    data = encode(ours, integrity_key=KEY, fingerprint=True)

    theirs = aioice.parse_message(data)
    assert theirs.message_method == method
    assert theirs.message_class == CLASSES[message_class]
    assert theirs.check_message_integrity(KEY)
    for spec, value in ours.attributes:
        assert theirs.attributes[spec.name] == plain(value)

    wanted = {spec.name: plain(value) for spec, value in ours.attributes}
    written = aioice.Message(aioice.Method(method), CLASSES[message_class], tid, wanted)
    written.add_message_integrity(KEY)
    assert bytes(written) == data
    back = decode(bytes(written))
    check_integrity(back, KEY)
    assert back.attributes[: len(values)] == ours.attributes
