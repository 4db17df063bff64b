from natwalk.peer.messages import MAX_BATCH, CandidatesEnd, Message
from natwalk.peer.signalling import MAX_QUEUED, Signalling
from natwalk.rendezvous import (
    MailboxMessage,
    RendezvousClient,
    RendezvousLimits,
    RendezvousServer,
    SecureMailbox,
)


class Mailboxes:
    """Two encrypted mailboxes on one server, everything delivered at once."""

    def __init__(self) -> None:
        self.server = RendezvousServer(RendezvousLimits(), random_bytes=lambda n: bytes(range(n)))
        self.sides = []
        for number, name in enumerate("AB"):
            client = RendezvousClient(random_bytes=lambda n, k=number: bytes((k + 1,)) * n)  # type: ignore[misc]
            mailbox = SecureMailbox(
                client, side=name, password=b"p" * 32, app_id="test", random_bytes=_ramp(number), resume=True
            )
            self.sides.append(mailbox)

    def open(self) -> None:
        from ipaddress import ip_address

        for number, mailbox in enumerate(self.sides):
            self.server.connection_made(number, ip_address(f"192.0.2.{number + 1}"), 0.0)
            mailbox.client.open("0" * 32, 0.0, slot="AB"[number])
            mailbox.connection_made(0.0)
        self.deliver()

    def deliver(self) -> None:
        for _ in range(100):
            for number, mailbox in enumerate(self.sides):
                while (text := mailbox.poll_message()) is not None:
                    self.server.receive_message(number, text, 0.0)
            while (out := self.server.poll_message()) is not None:
                self.sides[out[0]].receive_message(out[1], 0.0)

    def received(self, number: int) -> list[bytes]:
        bodies = []
        while (event := self.sides[number].poll_event()) is not None:
            if isinstance(event, MailboxMessage):
                bodies.append(event.body)
        return bodies


def _ramp(seed: int):  # type: ignore[no-untyped-def]
    state = [seed * 7 + 1]

    def random_bytes(n: int) -> bytes:
        state[0] += 1
        return bytes((state[0] * 31 + k * 17) & 0xFF for k in range(n))

    return random_bytes


def test_messages_wait_for_the_key_and_then_go_in_batches() -> None:
    boxes = Mailboxes()
    signalling = Signalling(boxes.sides[0])
    messages: list[Message] = [CandidatesEnd(n) for n in range(MAX_BATCH + 10)]
    for message in messages:
        signalling.queue(message)
    signalling.flush(0.0)
    boxes.open()
    assert boxes.received(1) == []
    signalling.flush(0.0)
    boxes.deliver()
    bodies = boxes.received(1)
    assert len(bodies) == 2
    assert [message for body in bodies for message in Signalling(boxes.sides[1]).read(body)] == messages


def test_the_queue_is_bounded_and_keeps_the_oldest() -> None:
    boxes = Mailboxes()
    signalling = Signalling(boxes.sides[0])
    for n in range(MAX_QUEUED + 50):
        signalling.queue(CandidatesEnd(n))
    boxes.open()
    signalling.flush(0.0)
    boxes.deliver()
    read = [m for body in boxes.received(1) for m in signalling.read(body)]
    assert read == [CandidatesEnd(n) for n in range(MAX_QUEUED)]
