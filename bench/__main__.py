"""``make bench``: every figure beside a peer's from the same run, as a ratio.

``python -m bench [NAME…]`` runs some of them. Numbers depend on the machine; ratios travel better.
"""

from __future__ import annotations

import importlib
import sys
import time
from typing import Final

BENCHES: Final = {
    "stun_codec": "STUN: parse, and parse with integrity check, beside aioice",
    "bulk": "300 MB over loopback, whole commands, beside magic-wormhole 0.24",
    "first_byte": "receive pressed to first byte, easy pair in the laboratory",
    "turn": "the TURN server beside Debian's coturn, by second of the server's processor time",
    "relay": "the relay by key: memory of an idle client, frames a second through it",
    "nat": "the NAT engine: packets a second, memory",
    "lab_router": "the NAT engine as a router in user space, beside the kernel's masquerade",
    "simulator": "the simulator beside real time: one pair of real cores",
    "simulate": "populations: pairs a second, beside arithmetic (there is no peer)",
    "startup": "natwalk --version",
}


def main(names: list[str]) -> int:
    """Run the named benches, or all; return the process's exit code."""
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        print(f"no bench called {', '.join(unknown)}; there are: {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    failed = []
    for name in names or list(BENCHES):
        print(f"\n## {name}: {BENCHES[name]}", flush=True)
        started = time.perf_counter()
        try:
            importlib.import_module(f"bench.{name}").main()
        except Exception as error:
            failed.append(name)
            print(f"{name} failed: {type(error).__name__}: {error}", flush=True)
        print(f"({time.perf_counter() - started:.1f} s)", flush=True)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
