"""What two peers tell each other through the encrypted mailbox, before and while they have a path.

Messages travel in batches, one mailbox entry each, because a mailbox holds few entries. Unknown fields are
ignored, so that a later version may add some; an unknown kind of message is an error of its own batch only.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from natwalk.core import MalformedMessage

VERSION: Final = 1
MAX_BATCH: Final = 64
"""Messages in one batch."""

Text = Annotated[str, msgspec.Meta(max_length=512)]
Generation = Annotated[int, msgspec.Meta(ge=0, le=1 << 16)]


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """First message of each side: which certificate its QUIC endpoint will show."""

    fingerprint: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    """SHA-256 of the certificate, hexadecimal."""
    agent: Annotated[str, msgspec.Meta(max_length=64)] = ""
    version: int = VERSION


class Description(msgspec.Struct, frozen=True, tag="ice"):
    """ICE credentials of one generation (RFC 8445 §5.3)."""

    generation: Generation
    ufrag: Text
    pwd: Text


class CandidateLine(msgspec.Struct, frozen=True, tag="candidate"):
    """One candidate as RFC 8839 §5.1 writes it."""

    generation: Generation
    line: Text


class CandidatesEnd(msgspec.Struct, frozen=True, tag="end-of-candidates"):
    """No more candidates in this generation (RFC 8838 §13)."""

    generation: Generation


class NatReport(msgspec.Struct, frozen=True, tag="nat"):
    """What this side learned of its own NAT, so that the other can say why a path is what it is."""

    mapping: Literal["unknown", "no-nat", "endpoint-independent", "endpoint-dependent", "udp-silent"]


class Farewell(msgspec.Struct, frozen=True, tag="bye"):
    """Whoever sends it stops, and says why."""

    reason: Text = ""


Message = Hello | Description | CandidateLine | CandidatesEnd | NatReport | Farewell

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_message = msgspec.json.Decoder(Message)


def encode_batch(messages: list[Message]) -> bytes:
    """The bytes of one mailbox entry."""
    return _encoder.encode(messages)


def decode_batch(data: bytes) -> list[Message]:
    """The messages in one mailbox entry, without those of a kind this version does not know.

    Raises :class:`MalformedMessage` when the batch is not one or a known kind of message is ill-formed.
    """
    try:
        raws = _decoder.decode(data)
        if len(raws) > MAX_BATCH:
            raise MalformedMessage(f"{len(raws)} messages in a batch; {MAX_BATCH} is the most")
        return [message for raw in raws if (message := _decode_one(raw)) is not None]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(f"a batch from the peer cannot be read: {error}") from error


class _Tag(msgspec.Struct):
    type: Text


_tag = msgspec.json.Decoder(_Tag)
_KNOWN: Final = {kind.__struct_config__.tag for kind in Message.__args__}


def _decode_one(raw: msgspec.Raw) -> Message | None:
    if _tag.decode(raw).type not in _KNOWN:
        return None
    message: Message = _message.decode(raw)
    return message
