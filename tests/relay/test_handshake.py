"""Whoever has not the key is not let in, and a proof is good in one connection only."""

from __future__ import annotations

from dataclasses import replace

import pytest

from natwalk.core import IntegrityError, MalformedMessage
from natwalk.relay import FrameReader, FrameType, RefusalCode, RelayIdentity, is_usable
from natwalk.relay.handshake import (
    Challenge,
    Channel,
    Proof,
    prove,
    refusal,
    refused,
    welcome,
    welcomed,
)
from natwalk.relay.keys import verify
from relay_world import SERVER, identity

P = 2**255 - 19
CLIENT = identity(1)
NONCE = bytes(range(32))
CHALLENGE = Challenge(SERVER.public, NONCE)


def contents(data: bytes, kind: FrameType) -> bytes:
    [(found, inside)] = FrameReader().feed(data)
    assert found == kind
    return inside


def order(y: int) -> int:
    """The order of the points with this y on the curve of Ed25519, in exact arithmetic; 0 when above 8."""
    d = -121665 * pow(121666, -1, P) % P
    square = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P:
        return -1  # no point of the curve
    point, count = (x, y % P), 1
    for _ in range(8):
        if point == (0, 1):
            return count
        (x1, y1), (x2, y2) = point, (x, y % P)
        product = d * x1 * x2 * y1 * y2 % P
        point = (
            (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P,
            (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P,
        )
        count += 1
    return 0


def small_order_encodings() -> set[bytes]:
    """All y of order 1, 2, 4 and 8, by solving, with both signs and not reduced where that fits."""
    d = -121665 * pow(121666, -1, P) % P
    root_minus_one = pow(2, (P - 1) // 4, P)

    def square_roots(value: int) -> list[int]:
        root = pow(value, (P + 3) // 8, P)
        for each in (root, root * root_minus_one % P):
            if each * each % P == value % P:
                return [each, P - each]
        return []

    ys = {0, 1, P - 1}
    # d y^4 + 2 y^2 - 1 = 0
    for root in square_roots((1 + d) % P):
        for y in square_roots((root - 1) * pow(d, -1, P) % P):
            ys.add(y)
    found = set()
    for y in ys:
        for value in (y, y + P):
            if value < 2**255:
                found |= {(value | sign << 255).to_bytes(32, "little") for sign in (0, 1)}
    return found


class TestKeys:
    def test_keys_that_everybody_can_sign_for_are_refused(self) -> None:
        """FAULTS 113: the all-zero key and every other point of small order, in every spelling."""
        encodings = small_order_encodings()
        ys = {int.from_bytes(each, "little") % 2**255 % P for each in encodings}
        assert sorted(order(y) for y in ys) == [1, 2, 4, 8, 8]
        assert bytes(32) in encodings
        assert not any(is_usable(each) for each in encodings)
        for key in encodings:
            with pytest.raises(IntegrityError):
                verify(key, bytes(64), b"text")

    def test_keys_of_people_are_usable(self) -> None:
        assert all(is_usable(identity(number).public) for number in range(50))

    def test_what_is_no_key_is_not(self) -> None:
        assert not is_usable(b"")
        assert not is_usable(bytes(33))
        assert not is_usable((P + 3).to_bytes(32, "little")), "another spelling of 3"

    def test_a_seed_gives_one_key_and_does_not_show(self) -> None:
        seed = bytes(range(32))
        assert RelayIdentity(seed).public == RelayIdentity(seed).public
        assert seed.hex() not in repr(RelayIdentity(seed))
        with pytest.raises(ValueError, match="31"):
            RelayIdentity(bytes(31))
        assert RelayIdentity.generate(lambda n: seed[:n]).public == RelayIdentity(seed).public


class TestProofs:
    def welcome(self, proof: Proof, nonce: bytes = NONCE, binding: bytes = b"") -> bytes:
        return contents(welcome(SERVER, nonce, proof, binding, 75), FrameType.WELCOME)

    def test_both_sides_prove_their_keys(self) -> None:
        proof, channel = prove(CLIENT, CHALLENGE, bytes(32), b"tls")
        again = Proof.decode(contents(proof.encode(), FrameType.PROOF))
        assert again == proof
        assert Challenge.decode(contents(CHALLENGE.encode(), FrameType.CHALLENGE)) == CHALLENGE
        assert welcomed(channel, self.welcome(again, binding=b"tls")) == 75

    def test_another_key_another_connection_or_another_channel_is_refused(self) -> None:
        """FAULTS 113: a claim without the key, a replayed proof, and one of another TLS channel."""
        proof, _ = prove(CLIENT, CHALLENGE, bytes(32), b"tls")
        for wrong in (
            replace(proof, key=identity(2).public),
            replace(proof, nonce=b"\1" * 32),
            replace(proof, signature=bytes(64)),
            replace(proof, key=bytes(32)),
        ):
            with pytest.raises(IntegrityError):
                self.welcome(wrong, binding=b"tls")
        with pytest.raises(IntegrityError):
            self.welcome(proof, nonce=b"\2" * 32, binding=b"tls")
        for channel in (b"", b"another tls"):
            with pytest.raises(IntegrityError):
                self.welcome(proof, binding=channel)

    def test_a_proof_for_one_server_is_no_proof_for_another(self) -> None:
        proof, _ = prove(CLIENT, Challenge(identity(9).public, NONCE), bytes(32), b"")
        with pytest.raises(IntegrityError):
            self.welcome(proof)

    def test_a_server_without_its_key_is_found_out(self) -> None:
        proof, channel = prove(CLIENT, CHALLENGE, bytes(32), b"")
        good = self.welcome(proof)
        for wrong in (
            bytes(64) + good[64:],
            good[:63] + bytes([good[63] ^ 1]) + good[64:],
            good[:64] + b"\0\0",
        ):
            with pytest.raises(IntegrityError):
                welcomed(channel, wrong)
        _, later = prove(CLIENT, CHALLENGE, b"\1" * 32, b"")
        with pytest.raises(IntegrityError):
            welcomed(later, good)

    def test_the_two_sides_sign_different_texts(self) -> None:
        channel = Channel(SERVER.public, NONCE, CLIENT.public, bytes(32), b"")
        assert channel.client_text() != channel.server_text()

    def test_a_server_key_that_is_nobodys_is_malformed(self) -> None:
        with pytest.raises(MalformedMessage):
            Challenge.decode(bytes([1]) + bytes(64))


class TestRefusals:
    def test_a_refusal_says_code_and_reason(self) -> None:
        inside = contents(refusal(RefusalCode.FULL, "too many"), FrameType.REFUSED)
        assert refused(inside) == (RefusalCode.FULL, "too many")

    def test_a_hostile_reason_is_made_harmless(self) -> None:
        assert refused(b"\xfa\x1b[2J\xff\n") == (None, "?[2J\N{REPLACEMENT CHARACTER}?")
        assert len(refused(b"\1" + b"x" * 500)[1]) == 200
