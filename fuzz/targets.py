"""What is fuzzed, one function a target: it takes any bytes, and raises only when something is wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final

from fuzz.binding import binding, discovery, lifetime
from fuzz.candidates import description, mdns
from fuzz.reader import Reader
from fuzz.relay import relay_cores, relay_frames, relay_openings
from fuzz.turn_client import turn_client
from fuzz.turn_server import turn_server
from natwalk.core import IntegrityError, LocalProtocolError, MalformedMessage
from natwalk.stun import (
    FINGERPRINT,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    InvalidServerUri,
    Message,
    check_integrity,
    decode,
    encode,
    is_stun,
    parse_uri,
)
from natwalk.stun.classic import decode_classic
from natwalk.turn.channel_data import decode_channel_data, is_channel_data
from natwalk.turn.config import OAuthKey
from natwalk.turn.framing import MESSAGE_LIMIT, StreamFramer
from natwalk.turn.oauth import oauth_token, open_token
from natwalk.turn.proxy_protocol import HEADER_LIMIT, ProxyHeader, ProxyParser

_ADDED: Final = (MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256, FINGERPRINT)


def codec(data: bytes) -> None:
    """Any bytes are a message or malformed, the same in every buffer; what can be written comes back."""
    outcomes = []
    for buffer in (data, bytearray(data), memoryview(b"\0" + data)[1:]):
        try:
            outcomes.append(decode(buffer))
        except MalformedMessage:
            outcomes.append(None)
    assert outcomes[0] == outcomes[1] == outcomes[2]
    message = outcomes[0]
    if message is None:
        return
    assert is_stun(data)
    assert message.raw == data
    try:
        check_integrity(message, b"a key nobody has")
        raise AssertionError("verified without the key")
    except IntegrityError:
        pass
    plain = tuple(pair for pair in message.attributes if pair[0] not in _ADDED)
    again = Message(message.method, message.message_class, message.transaction_id, plain)
    try:
        written = encode(again, integrity_key=b"key", fingerprint=True)
    except LocalProtocolError:
        return  # some values may be read and not written
    back = decode(written)
    assert tuple(pair for pair in back.attributes if pair[0] not in _ADDED) == plain
    check_integrity(back, b"key")


def classic(data: bytes) -> None:
    """Any bytes are a request of RFC 3489, malformed, or something else; ChannelData likewise."""
    with contextlib.suppress(MalformedMessage):
        decode_classic(data)
    try:
        decode_channel_data(data)
    except MalformedMessage:
        return
    assert is_channel_data(data)


def framing(data: bytes) -> None:
    """However a stream is cut, the same messages come out, and little is held."""
    step, stream = (data[0] % 37 + 1, data[1:]) if data else (1, b"")
    whole, wrong = _framed([stream])
    pieces, wrong_in_pieces = _framed([stream[at : at + step] for at in range(0, len(stream), step)])
    assert pieces == whole
    assert wrong_in_pieces == wrong
    assert all(len(message) <= MESSAGE_LIMIT for message in whole)


def _framed(pieces: list[bytes]) -> tuple[list[bytes], bool]:
    framer = StreamFramer()
    messages: list[bytes] = []
    for piece in pieces:
        try:
            messages += framer.feed(piece)
        except MalformedMessage:
            return messages, True
        assert framer.buffered <= MESSAGE_LIMIT
    return messages, False


def proxy(data: bytes) -> None:
    """A PROXY protocol header is read, refused or not yet whole, however it is cut."""
    step, stream = (data[0] % 37 + 1, data[1:]) if data else (1, b"")
    whole = _proxied([stream])
    pieces = _proxied([stream[at : at + step] for at in range(0, len(stream), step)])
    assert pieces == whole


def _proxied(pieces: list[bytes]) -> tuple[ProxyHeader | None, bytes] | str:
    parser = ProxyParser()
    for number, piece in enumerate(pieces):
        try:
            header = parser.feed(piece)
        except MalformedMessage:
            return "malformed"
        if header is not None:
            return header, parser.rest() + b"".join(pieces[number + 1 :])
    rest = parser.rest()
    assert len(rest) <= HEADER_LIMIT
    return None, rest


def uri(data: bytes) -> None:
    """Any text is a server's URI or refused; what is accepted has one spelling."""
    try:
        found = parse_uri(data.decode("utf-8", "surrogateescape"))
    except InvalidServerUri:
        return
    assert parse_uri(str(found)) == found


_KEY: Final = OAuthKey("kid", bytes(range(32)))


def oauth(data: bytes) -> None:
    """A token opens or does not; one we made, changed anywhere, does not."""
    reader = Reader(data)
    if reader.number() & 1:
        try:
            open_token(reader.bytes(reader.left), _KEY, "natwalk")
        except IntegrityError:
            return
        raise AssertionError("opened a token nobody sealed")
    mac_key = reader.bytes(16 + reader.number() % 49).ljust(16, b"k")
    issued, lifetime = float(reader.number(4)), reader.number(4)
    made = oauth_token(_KEY, "natwalk", mac_key, issued=issued, lifetime=lifetime, nonce=bytes(12))
    token = open_token(made, _KEY, "natwalk")
    assert (token.mac_key, token.lifetime, token.issued) == (mac_key, lifetime, issued)
    changed = bytearray(made)
    changed[reader.number() % len(made)] ^= reader.number() or 1
    try:
        open_token(bytes(changed), _KEY, "natwalk")
    except IntegrityError:
        return
    raise AssertionError("opened a token that was changed")


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    target.__name__.replace("_", "-"): target
    for target in (
        codec,
        classic,
        framing,
        proxy,
        uri,
        oauth,
        binding,
        discovery,
        lifetime,
        turn_server,
        turn_client,
        relay_frames,
        relay_cores,
        relay_openings,
        mdns,
        description,
    )
}
"""By name, in the order ``make fuzz`` runs them."""
