"""A TURN client and a hand that answers what it sends, message by message."""

from __future__ import annotations

from typing import Any

from conformance import drain
from natwalk.core import Address, Path, Transport
from natwalk.stun import (
    LIFETIME,
    NONCE,
    REALM,
    XOR_MAPPED_ADDRESS,
    XOR_RELAYED_ADDRESS,
    Attribute,
    Message,
    decode,
    encode,
    error,
    is_stun,
    long_term_key,
    success,
)
from natwalk.turn import AllocationOptions, Credentials, PasswordCredentials, TurnClient
from turn_world import LISTENER, seeded

LOCAL = Address("198.51.100.7", 40000)
RELAYED = Address("203.0.113.50", 50000)
RELAYED6 = Address("2001:db8::50", 50000)
ALICE = PasswordCredentials("alice", "pw")
KEY = long_term_key("alice", "here", "pw")
KEY256 = long_term_key("alice", "here", "pw", sha256=True)


class Script:
    """The client, what it said, and the server's lines."""

    def __init__(
        self,
        *,
        transport: Transport = Transport.UDP,
        credentials: Credentials = ALICE,
        key: bytes = KEY,
        **options: Any,
    ) -> None:
        self.path = Path(LOCAL, LISTENER, transport)
        self.key = key
        self.sha256 = False
        self.now = 0.0
        self.client = TurnClient(
            LISTENER,
            LOCAL,
            credentials,
            random_bytes=seeded(),
            transport=transport,
            options=AllocationOptions(**options),
        )
        self.raw: list[bytes] = []
        self.paths: list[Path] = []
        self.events: list[Any] = []

    def sent(self) -> list[Message]:
        """The STUN messages since the last call; everything else is in ``raw``, events in ``events``."""
        transmits, events = drain(self.client)
        self.events += events
        self.raw = [out.data for out in transmits if not is_stun(out.data)]
        self.paths = [out.path for out in transmits]
        return [decode(out.data) for out in transmits if is_stun(out.data)]

    def said(self) -> list[Any]:
        """The events since the last call."""
        self.sent()
        found, self.events = self.events, []
        return found

    def tell(self, message: Message, *, signed: bool = True, path: Path | None = None) -> None:
        key = self.key if signed else None
        data = encode(message, integrity_key=key, sha256=self.sha256 and signed)
        self.client.receive(data, path or self.path, self.now)

    def challenge(self, nonce: bytes = b"n", *attributes: Attribute, code: int = 401) -> None:
        """Challenge the request that is waiting."""
        [request] = self.sent()
        answer = error(request, code, "", (REALM, "here"), (NONCE, nonce), *attributes)
        self.tell(answer, signed=False)

    def signed_allocate(self, nonce: bytes = b"n", *attributes: Attribute) -> Message:
        """The signed Allocate request."""
        self.client.allocate(self.now)
        self.challenge(nonce, *attributes)
        [signed] = self.sent()
        return signed

    def allocated(self, *attributes: Attribute, relayed: tuple[Address, ...] = (RELAYED,)) -> Script:
        """With an allocation."""
        request = self.signed_allocate()
        addresses = [(XOR_RELAYED_ADDRESS, address) for address in relayed]
        self.tell(success(request, *addresses, (LIFETIME, 600), (XOR_MAPPED_ADDRESS, LOCAL), *attributes))
        self.sent()
        return self

    def wait(self) -> None:
        """Let time pass until the next deadline."""
        due = self.client.next_timeout()
        assert due is not None
        self.now = due
        self.client.handle_timeout(due)
