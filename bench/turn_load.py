"""A client of TURN servers that does nothing but load them: raw sockets, batches, one thread.

What the client costs does not matter to the bench, which divides by the processor time of the server; only
answers and datagrams that really arrive are counted.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from natwalk.core import Address
from natwalk.stun import (
    CHANNEL_NUMBER,
    LIFETIME,
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

PATIENCE: Final = 2.0
RETRANSMISSIONS: Final = 5
CHANNEL: Final = 0x4000
BUFFER: Final = 4 << 20


class Source(Iterator[str]):
    """Loopback addresses, each handed out once: servers limit what one source may do."""

    def __init__(self, start: int = 1) -> None:
        self._numbers = itertools.count(start)

    def __next__(self) -> str:
        number = next(self._numbers)
        return f"127.{64 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}"


@dataclass(slots=True)
class Client:
    """One 5-tuple: a connected socket and what the server told it."""

    sock: socket.socket
    key: bytes
    username: str
    realm: str = ""
    nonce: bytes = b""
    relay: Address | None = None

    @classmethod
    def open(cls, server: Address, source: str, username: str, password: str, realm: str) -> Client:
        """A client at ``source``, any free port."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind((source, 0))
        sock.connect(server)
        return cls(sock, long_term_key(username, realm, password), username)

    def signed(self, method: Method, *attributes: Attribute) -> bytes:
        """A request with credentials."""
        credentials = ((USERNAME, self.username), (REALM, self.realm), (NONCE, self.nonce))
        return encode(request(method, os.urandom(12), *attributes, *credentials), integrity_key=self.key)

    def challenged(self, answer: Message) -> None:
        """Remember the realm and nonce of a 401. Raises RuntimeError when there are none."""
        realm, nonce = answer.get(REALM), answer.get(NONCE)
        if realm is None or nonce is None:
            raise RuntimeError(f"no challenge: {answer}")
        self.realm, self.nonce = realm, nonce


def answers(sockets: Sequence[socket.socket], requests: Sequence[bytes]) -> list[Message]:
    """The answer to ``requests[n]``, sent from ``sockets[n]``; sent again when it is late.

    Raises RuntimeError when one stays away.
    """
    found: dict[int, Message] = {}
    poll = select.epoll()
    numbers = {sock.fileno(): number for number, sock in enumerate(sockets)}
    for fd in numbers:
        poll.register(fd, select.EPOLLIN)
    with contextlib.closing(poll):
        for _ in range(RETRANSMISSIONS):
            for number, (sock, data) in enumerate(zip(sockets, requests, strict=True)):
                if number not in found:
                    sock.send(data)
            deadline = time.monotonic() + PATIENCE
            while len(found) < len(sockets) and (left := deadline - time.monotonic()) > 0:
                for fd, _ in poll.poll(left):
                    number = numbers[fd]
                    message = decode(sockets[number].recv(2048))
                    if message.transaction_id == requests[number][8:20]:
                        found[number] = message
            if len(found) == len(sockets):
                return [found[number] for number in range(len(sockets))]
    raise RuntimeError(f"{len(sockets) - len(found)} of {len(sockets)} requests were not answered")


def allocate(clients: Sequence[Client]) -> None:
    """Make an allocation for each client, challenge and all. Raises RuntimeError when one is refused."""
    sockets = [client.sock for client in clients]
    wanted = ((REQUESTED_TRANSPORT, 17), (LIFETIME, 600))
    bare = [encode(request(Method.ALLOCATE, os.urandom(12), *wanted)) for _ in clients]
    for client, answer in zip(clients, answers(sockets, bare), strict=True):
        client.challenged(answer)
    signed = [client.signed(Method.ALLOCATE, *wanted) for client in clients]
    for client, answer in zip(clients, answers(sockets, signed), strict=True):
        client.relay = _granted(answer).get(XOR_RELAYED_ADDRESS)


def bind_channels(clients: Sequence[Client], peers: Sequence[Address]) -> None:
    """Bind CHANNEL of each client to its peer. Raises RuntimeError when one is refused."""
    requests = [
        client.signed(Method.CHANNEL_BIND, (CHANNEL_NUMBER, CHANNEL), (XOR_PEER_ADDRESS, peer))
        for client, peer in zip(clients, peers, strict=True)
    ]
    for answer in answers([client.sock for client in clients], requests):
        _granted(answer)


def _granted(answer: Message) -> Message:
    if answer.message_class is not MessageClass.SUCCESS:
        raise RuntimeError(f"refused: {answer}")
    return answer


def exchange(
    sends: Sequence[tuple[socket.socket, list[bytes]]], receivers: Sequence[socket.socket], window: int
) -> int:
    """Send every batch, never more than ``window`` datagrams ahead of what arrived; return how many arrived.

    ``sends`` are taken in turn, so batches of one interleave the flows as calls do and longer ones come in
    bursts as video frames do. What does not arrive within ``PATIENCE`` counts as lost.
    """
    arrived = sent = 0
    poll = select.epoll()
    with contextlib.closing(poll):
        readers: dict[int, Callable[..., int]] = {}
        for sock in receivers:
            poll.register(sock.fileno(), select.EPOLLIN)
            readers[sock.fileno()] = sock.recv_into
        buffer = bytearray(4096)

        def collect(timeout: float) -> int:
            count = 0
            for fd, _ in poll.poll(timeout):
                read = readers[fd]
                with contextlib.suppress(BlockingIOError):
                    while True:
                        read(buffer)
                        count += 1
            return count

        for sock, batch in sends:
            for data in batch:
                sock.send(data)
            sent += len(batch)
            if sent - arrived >= window:
                got = collect(PATIENCE)
                arrived += got
                if not got:
                    sent = arrived  # all that was under way is lost
        total = sum(len(batch) for _, batch in sends)
        while arrived < total and (got := collect(PATIENCE)):
            arrived += got
    return arrived
