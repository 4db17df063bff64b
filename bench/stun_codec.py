"""Rate of STUN decoding beside aioice: the same packets, the same process, rounds taking turns.

Run it with the environment natwalk is installed in: ``python bench/stun_codec.py``.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable

from aioice import stun as aioice

from natwalk.core import Address
from natwalk.stun import (
    ICE_CONTROLLING,
    PRIORITY,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    Method,
    check_integrity,
    decode,
    encode,
    request,
    success,
)

ROUNDS = 15
PACKETS = 500
REPEATS = 4
KEY = b"VOkJxbRl1RmTxUk/WvJxBt"
WANTED = 2.0


def responses(rng: random.Random) -> list[bytes]:
    """Binding responses as a plain STUN server sends them, each to another client."""
    found = []
    for _ in range(PACKETS):
        address = Address(f"203.0.113.{rng.randrange(1, 255)}", rng.randrange(1024, 65536))
        asked = request(Method.BINDING, rng.randbytes(12))
        found.append(encode(success(asked, (XOR_MAPPED_ADDRESS, address))))
    return found


def checks(rng: random.Random) -> list[bytes]:
    """Connectivity checks of ICE, each of another transaction, priority and tie-breaker."""
    found = []
    for _ in range(PACKETS):
        check = request(
            Method.BINDING,
            rng.randbytes(12),
            (USERNAME, "evtj:h6vY"),
            (PRIORITY, rng.getrandbits(31)),
            (ICE_CONTROLLING, rng.getrandbits(64)),
        )
        found.append(encode(check, integrity_key=KEY, fingerprint=True))
    return found


def natwalk_verified(data: bytes) -> None:
    check_integrity(decode(data), KEY)


def aioice_verified(data: bytes) -> None:
    if not aioice.parse_message(data).check_message_integrity(KEY):
        raise AssertionError("aioice does not verify our packet")


def rate(read: Callable[[bytes], object], packets: list[bytes]) -> float:
    """Packets a second over one round."""
    start = time.perf_counter()
    for _ in range(REPEATS):
        for data in packets:
            read(data)
    return REPEATS * len(packets) / (time.perf_counter() - start)


def compare(
    name: str, packets: list[bytes], ours: Callable[[bytes], object], theirs: Callable[[bytes], object]
) -> float:
    """Print both rates and return the median ratio of neighbouring rounds."""
    rate(ours, packets)
    rate(theirs, packets)
    rounds = [(rate(ours, packets), rate(theirs, packets)) for _ in range(ROUNDS)]
    ratio = statistics.median(mine / other for mine, other in rounds)
    columns = list(zip(*rounds, strict=True))
    best = [max(column) / 1000 for column in columns]
    middle = [statistics.median(column) / 1000 for column in columns]
    print(
        f"{name:<34} natwalk {best[0]:5.0f} best {middle[0]:5.0f} median"
        f" | aioice {best[1]:5.0f} best {middle[1]:5.0f} median | {ratio:.2f}x"
    )
    return ratio


def main() -> int:
    """Print the comparison in thousand packets a second; 0 always: it measures, the reader judges."""
    rng = random.Random(8489)
    print(f"STUN decoding, thousand packets/s, {ROUNDS} rounds of {PACKETS * REPEATS} packets")
    ratios = [
        compare("Binding response, parse", responses(rng), decode, aioice.parse_message),
        compare("ICE check, parse", checks(rng), decode, aioice.parse_message),
        compare("ICE check, parse and integrity", checks(rng), natwalk_verified, aioice_verified),
    ]
    print(f"lowest ratio {min(ratios):.2f}, wanted {WANTED:.2f}: {'yes' if min(ratios) >= WANTED else 'NO'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
