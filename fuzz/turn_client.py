"""The TURN client's core under a script: a server that may say anything, and an application."""

from __future__ import annotations

import random
from typing import Final

from fuzz.messages import PEERS, attributes
from fuzz.reader import Reader
from natwalk.core import LocalProtocolError, MalformedMessage, Path, Transport
from natwalk.stun import (
    NONCE,
    REALM,
    Message,
    MessageClass,
    Method,
    decode,
    encode,
    long_term_key,
)
from natwalk.turn import AllocationOptions, PasswordCredentials, TurnClient
from natwalk.turn.channel_data import encode_channel_data
from turn_world import LISTENER

KEY: Final = long_term_key("alice", "natwalk", "secret")
LOCAL: Final = PEERS[-1]
MOST_STEPS: Final = 40
MOST_DATAGRAMS: Final = 4096


class _Script:
    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.now = 100.0
        flags = reader.number()
        self.transport = Transport.TCP if flags & 1 else Transport.UDP
        tcp = bool(flags & 2) and self.transport is Transport.TCP
        options = AllocationOptions(
            relay=Transport.TCP if tcp else Transport.UDP,
            dual=bool(flags & 4) and not tcp,
            mobility=bool(flags & 8),
        )
        self.core = TurnClient(
            LISTENER,
            LOCAL,
            PasswordCredentials("alice", "secret"),
            random_bytes=random.Random(1).randbytes,
            transport=self.transport,
            options=options,
        )
        self.path = Path(LOCAL, LISTENER, self.transport)
        self.asked: list[Message] = []

    def run(self) -> None:
        self.core.allocate(self.now)
        self.drain()
        for _ in range(MOST_STEPS):
            if not self.reader.left:
                break
            self.step()
            self.drain()
        self.core.close(self.now)
        self.drain()
        for _ in range(MOST_STEPS):
            if self.core.next_timeout() is None:
                return
            self.wait()
        raise AssertionError("a closed client never ends")

    def step(self) -> None:
        match self.reader.number() % 8:
            case 0:
                self.core.receive(self.reader.blob(), self.path, self.now)
            case 1 | 2 | 3:
                self.answer()
            case 4:
                data = encode_channel_data(0x4000 + self.reader.number() % 4, self.reader.blob())
                self.core.receive(data, self.path, self.now)
            case 5:
                self.indicate()
            case 6:
                self.wait()
            case _:
                self.command()

    def answer(self) -> None:
        """Answer one of the last requests."""
        if not self.asked:
            return
        reader = self.reader
        asked = reader.choice(self.asked[-4:])
        kind = reader.number()
        extra = attributes(reader)
        if kind & 4:
            extra += ((REALM, "natwalk"), (NONCE, b"nonce"))
        message_class = MessageClass.ERROR if kind & 1 else MessageClass.SUCCESS
        self.say(Message(asked.method, message_class, asked.transaction_id, extra), signed=bool(kind & 2))

    def indicate(self) -> None:
        method = self.reader.choice((Method.DATA, Method.CONNECTION_ATTEMPT, Method.SEND))
        message = Message(method, MessageClass.INDICATION, bytes(12), attributes(self.reader))
        self.say(message, signed=bool(self.reader.number() & 1))

    def say(self, message: Message, *, signed: bool) -> None:
        try:
            data = encode(message, integrity_key=KEY if signed else None)
        except LocalProtocolError:
            return
        self.core.receive(data, self.path, self.now)

    def command(self) -> None:
        """What an application may do at any time; it may only be told that it is the wrong one."""
        reader, peer = self.reader, self.reader.choice(PEERS)
        try:
            match reader.number() % 5:
                case 0:
                    self.core.send(reader.blob(), peer, self.now)
                case 1:
                    self.core.create_permission([peer.ip], self.now)
                case 2:
                    self.core.bind_channel(peer, self.now)
                case 3:
                    self.core.connect(peer, self.now)
                case _:
                    self.core.migrate(LOCAL.with_port(50001), self.now)
        except LocalProtocolError:
            return

    def wait(self) -> None:
        due = self.core.next_timeout()
        if due is None:
            return
        self.now = max(self.now, due)
        self.core.handle_timeout(self.now)
        following = self.core.next_timeout()
        assert following is None or following > self.now
        self.drain()

    def drain(self) -> None:
        for _ in range(MOST_DATAGRAMS):
            if (out := self.core.poll_transmit()) is None:
                break
            assert out.path.remote == LISTENER
            try:
                self.asked.append(decode(out.data))
            except MalformedMessage:
                continue  # ChannelData
        else:
            raise AssertionError("the client sends without end")
        for _ in range(MOST_DATAGRAMS):
            if self.core.poll_event() is None:
                return
        raise AssertionError("events without end")


def turn_client(data: bytes) -> None:
    """Whatever the server says, the client raises nothing, never spins, sends to it only, and ends."""
    _Script(Reader(data)).run()
