"""A TURN client over a stream that does what a test says, one request at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections import deque
from typing import Self

from natwalk.core import Address
from natwalk.stun import (
    CHANNEL_NUMBER,
    NONCE,
    REALM,
    REQUESTED_TRANSPORT,
    USERNAME,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    Attribute,
    Message,
    MessageClass,
    Method,
    decode,
    encode,
    long_term_key,
    request,
)
from natwalk.turn.framing import StreamFramer

UDP = 17
TCP = 6


class StreamTurnClient:
    """A connection with long-term credentials."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, username: str, password: str
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.framer = StreamFramer()
        self.inbox: deque[bytes] = deque()
        self.relay: Address | None = None
        self._username = username
        self._password = password
        self._credentials: tuple[Attribute, ...] = ()
        self._key: bytes | None = None

    @classmethod
    async def connect(
        cls,
        server: Address,
        *,
        context: ssl.SSLContext | None = None,
        prefix: bytes = b"",
        username: str = "alice",
        password: str = "correct horse",
    ) -> Self:
        """Connect, over TLS with a ``context``; ``prefix`` goes out before anything else."""
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(prefix)
        if context is not None:
            await writer.start_tls(context, server_hostname="localhost")
        return cls(reader, writer, username, password)

    @property
    def local(self) -> Address:
        return Address.from_sockname(self.writer.get_extra_info("sockname"))

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)

    async def message(self) -> bytes:
        """The next message of any kind; raises EOFError at the end of the stream."""
        async with asyncio.timeout(5):
            while not self.inbox:
                data = await self.reader.read(65536)
                if not data:
                    raise EOFError
                self.inbox += self.framer.feed(data)
        return self.inbox.popleft()

    async def ended(self) -> bool:
        """Wait for the end of the stream, whatever comes before it."""
        try:
            while True:
                await self.message()
        except (EOFError, ConnectionError):
            return True

    async def ask(self, method: Method, *attributes: Attribute) -> Message:
        """Send a request and return its response; other messages that come first are lost."""
        sent = request(method, os.urandom(12), *attributes, *self._credentials)
        self.send(encode(sent, integrity_key=self._key))
        while True:
            message = await self.message()
            if message[0] < 0x40 and message[8:20] == sent.transaction_id:
                return decode(message)

    async def allocate(self, transport: int = UDP, *attributes: Attribute) -> Message:
        """Allocate, challenge and all; returns the last response."""
        wanted = ((REQUESTED_TRANSPORT, transport), *attributes)
        if self._key is None:
            await self.learn_nonce(wanted)
        response = await self.ask(Method.ALLOCATE, *wanted)
        self.relay = response.get(XOR_RELAYED_ADDRESS)
        return response

    async def learn_nonce(self, wanted: tuple[Attribute, ...] = ((REQUESTED_TRANSPORT, UDP),)) -> None:
        """Ask without credentials for what the next requests need."""
        response = await self.ask(Method.ALLOCATE, *wanted)
        assert response.message_class is MessageClass.ERROR
        realm, nonce = response.get(REALM), response.get(NONCE)
        assert realm is not None
        assert nonce is not None
        self._credentials = ((USERNAME, self._username), (REALM, realm), (NONCE, nonce))
        self._key = long_term_key(self._username, realm, self._password)

    async def bind_channel(self, channel: int, peer: Address) -> Message:
        return await self.ask(Method.CHANNEL_BIND, (CHANNEL_NUMBER, channel), (XOR_PEER_ADDRESS, peer))

    async def permit(self, peer: Address) -> Message:
        return await self.ask(Method.CREATE_PERMISSION, (XOR_PEER_ADDRESS, peer))

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):  # the server was first
            await self.writer.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()
