"""The NAT engine as a router between real network stacks: what the kernels at both ends make of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from natwalk.lab.nodes import Node
from natwalk.lab.space import Space

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src"
PUBLIC, ROUTER = "198.51.100.1", "192.168.1.1"


def why_no_tun() -> str | None:
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        return f"no TUN device: {error}"
    return None


@pytest.mark.lab
def test_two_kernels_talk_through_the_engine() -> None:
    """TCP, UDP in fragments, resets, ICMP errors, pings: all as through a router of the kernel's."""
    if (reason := why_no_tun()) is not None:
        pytest.skip(reason)
    space = Space()
    try:
        host, router, server = (Node(space, name) for name in ("host", "router", "server"))
        forwarding = router.popen(
            [sys.executable, str(HERE / "tun_router.py"), PUBLIC, ROUTER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(SOURCE)},
        )
        assert forwarding.stdout.readline() == b"ready\n"
        router.ip(f"link set inside netns {host.pid}", f"link set outside netns {server.pid}")
        host.ip(
            "address add 192.168.1.10/24 dev inside", "link set inside up", "route add default dev inside"
        )
        server.ip(
            "address add 203.0.113.10/24 dev outside",
            "link set outside up",
            f"route add {PUBLIC}/32 dev outside",
        )
        serving = server.popen(
            [sys.executable, "-I", "-S", str(HERE / "tun_server.py")], stdout=subprocess.PIPE
        )
        assert serving.stdout.readline() == b"ready\n"
        seen = json.loads(host.python(HERE / "tun_client.py"))
        forwarding.stdin.close()
        told = json.loads(forwarding.stdout.readline())
        forwarding.wait(10)
        forwarding.stdout.close()
        serving.stdout.close()
    finally:
        space.close()
    assert seen == {
        "tcp": [PUBLIC, 1_000_000],
        "udp": [True] * 5,
        "closed": ["ECONNREFUSED", "ECONNREFUSED"],
        "expired": [ROUTER, 11],
        "ping": True,
    }
    assert told.pop("translated") > 100
    assert told == {"wrong checksums": 0, "TTL expired": 1}
