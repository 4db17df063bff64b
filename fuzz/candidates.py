"""Targets of ICE beside its checks: multicast DNS for names, and what one side tells the other."""

from __future__ import annotations

import json
from ipaddress import ip_address

from natwalk.core import Address, MalformedMessage, Path
from natwalk.ice import IceDescription, Mdns
from natwalk.ice.dns import MAX_MESSAGE, DnsMessage, decode, encode
from natwalk.ice.mdns import GROUP, PORT

_HERE = Address("192.168.1.2", PORT)
_NAMES = ("own.local", "wanted.local")


def mdns(data: bytes) -> None:
    """Any bytes are a DNS message or malformed, and make little of a responder that has a name."""
    try:
        message: DnsMessage | None = decode(data)
    except MalformedMessage:
        message = None
    if message is not None:
        try:
            written = encode(message)
        except (ValueError, UnicodeEncodeError):
            written = b""  # some names may be read and not written
        if 0 < len(written) <= MAX_MESSAGE:
            assert decode(written) == message
    core = Mdns(_HERE)
    core.publish(_NAMES[0], ip_address("192.168.1.2"))
    core.look_up(_NAMES[1], 0.0)
    assert core.poll_transmit() is not None
    for source in (Address("192.168.1.3", PORT), Address("192.168.1.3", 40_000)):
        core.receive(data, Path(GROUP, source), 0.0)
        sent = list(iter(core.poll_transmit, None))
        assert len(sent) <= 1
        assert all(len(out.data) <= len(data) + 100 for out in sent), "about as long as the question"
    for _ in range(10):
        due = core.next_timeout()
        if due is None:
            break
        core.handle_timeout(due)
    assert core.next_timeout() is None
    event = core.poll_event()
    assert event is not None
    assert event.name == _NAMES[1]
    assert core.poll_event() is None


def description(data: bytes) -> None:
    """Any text is a description in SDP or JSON, or malformed; what was read is written the same way."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        found = IceDescription.from_sdp(text)
    except MalformedMessage:
        pass
    else:
        again = IceDescription.from_sdp(found.to_sdp())
        assert again.parameters == found.parameters
        assert len(again.candidates) == len(found.candidates)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return
    try:
        found = IceDescription.from_json(value)
    except MalformedMessage:
        return
    assert IceDescription.from_json(found.to_json()).parameters == found.parameters
