"""The Binding server with a partner, and behaviour discovery: scripts of requests, orders and answers."""

from __future__ import annotations

import random
from typing import Any, Final

from fuzz.messages import PEERS, attributes
from fuzz.reader import Reader
from natwalk.core import Address, Core, LocalProtocolError, Path
from natwalk.stun import (
    Behaviour,
    BehaviourDiscovery,
    BindingServer,
    Message,
    MessageClass,
    Method,
    NatBehaviour,
    decode,
    encode,
)
from natwalk.stun.lifetime import LifetimeProbe, MappingLifetime

A1, A2 = Address("192.0.2.1", 3478), Address("192.0.2.2", 3479)
CLIENT = Address("198.51.100.7", 50000)
LOCAL, SECOND = Address("192.168.1.2", 5000), Address("192.168.1.2", 5001)
START: Final = 100.0
SECRET: Final = b"a secret of both partners"


def binding(data: bytes) -> None:
    """No answer is longer than 68 bytes and its request, and none goes to another host."""
    reader = Reader(data)
    server = BindingServer(
        behaviour=Behaviour(A1, A2, partner_secret=SECRET), random_bytes=random.Random(1).randbytes
    )
    server.wall_offset = 1.7e9
    for _ in range(16):
        if not reader.left:
            return
        raw, partner = _binding_message(reader)
        local = Address(A1.host, reader.choice((A1.port, A2.port)))
        remote = Address(A2.host, local.port) if partner else CLIENT
        server.receive(raw, Path(local, remote), float(reader.number()))
        while (out := server.poll_transmit()) is not None:
            if out.path.remote.host == A2.host:
                continue  # an order, or an answer to the partner
            assert out.path.remote.host == CLIENT.host or partner
            assert len(out.data) <= max(68, 1.6 * len(raw)) or partner
    assert server.next_timeout() is None


def _binding_message(reader: Reader) -> tuple[bytes, bool]:
    kind = reader.number()
    if kind & 3 == 0:
        return reader.blob(), bool(kind & 4)
    message_class = reader.choice((MessageClass.REQUEST, MessageClass.INDICATION))
    message = Message(Method.BINDING, message_class, reader.bytes(12).ljust(12, b"\0"), attributes(reader))
    key = SECRET if message_class is MessageClass.INDICATION else None
    try:
        return encode(message, integrity_key=key, sha256=True), message_class is MessageClass.INDICATION
    except LocalProtocolError:
        return b"", False


def discovery(data: bytes) -> None:
    """Whatever a server answers, the discovery never spins and ends with one result."""
    core = BehaviourDiscovery(A1, LOCAL, random_bytes=random.Random(1).randbytes, now=START, second=SECOND)
    _answer_all(core, NatBehaviour, Reader(data))


def lifetime(data: bytes) -> None:
    """The same of the search for the lifetime of mappings."""
    core = LifetimeProbe(A1, LOCAL, SECOND, random_bytes=random.Random(1).randbytes, now=START)
    _answer_all(core, MappingLifetime, Reader(data))


def _answer_all(core: Core[Any], last: type, reader: Reader) -> None:
    """Answer what ``core`` asks as the reader decides, then not at all, until it is done."""
    now = START
    asked: list[tuple[Message, Path]] = []
    results = 0
    for _ in range(600):
        while (out := core.poll_transmit()) is not None:
            assert out.path.local in {LOCAL, SECOND}
            asked.append((decode(out.data), out.path))
        while (event := core.poll_event()) is not None:
            results += isinstance(event, last)
        due = core.next_timeout()
        if due is None:
            assert results == 1
            return
        kind = reader.number()
        if reader.left and asked and kind & 1:
            message, path = reader.choice(asked[-4:])
            remote = reader.choice((path.remote, A1, A2, Address(A1.host, A2.port), *PEERS))
            message_class = MessageClass.SUCCESS if kind & 2 else reader.choice(tuple(MessageClass))
            answer = Message(Method.BINDING, message_class, message.transaction_id, attributes(reader))
            try:
                raw = encode(answer)
            except LocalProtocolError:
                continue
            core.receive(raw, Path(reader.choice((path.local, SECOND)), remote), now)
        else:
            now = max(now, due)
            core.handle_timeout(now)
            following = core.next_timeout()
            assert following is None or following > now
    raise AssertionError("it never ends")
