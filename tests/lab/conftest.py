"""Fixtures of the lab's tests: skipped, with the reason, where there can be no lab."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from natwalk.lab import Lab, Node, why_unavailable

UNAVAILABLE = why_unavailable()
HERE = Path(__file__).parent
Endpoint = tuple[str, int]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and "lab" in item.keywords and UNAVAILABLE is not None:
            item.add_marker(pytest.mark.skip(reason=f"no lab here: {UNAVAILABLE}"))


class Agent:
    """UDP sockets in a namespace."""

    def __init__(self, node: Node) -> None:
        self.process = node.popen(
            [sys.executable, "-I", "-S", str(HERE / "udp_agent.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def bind(self, name: str, host: str = "0.0.0.0", port: int = 0) -> Endpoint:
        address = self._do(do="bind", name=name, at=[host, port])
        return address[0], address[1]

    def send(self, name: str, to: Endpoint, text: str = "hello") -> None:
        self._do(do="send", name=name, to=list(to), text=text)

    def receive(self, name: str, within: float = 5.0) -> tuple[Endpoint, str] | None:
        answer = self._do(do="receive", name=name, within=within)
        return None if answer is None else ((answer[0][0], answer[0][1]), answer[1])

    def source_seen(self, name: str) -> Endpoint:
        """Where the datagram that must arrive at ``name`` came from."""
        answer = self.receive(name)
        assert answer is not None, f"nothing arrived at {name}"
        return answer[0]

    def _do(self, **order: object):
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


class World:
    """A lab with an agent on every host; the server's four sockets are bound."""

    SERVER: ClassVar = {
        "x1": ("203.0.113.10", 5001),
        "x2": ("203.0.113.10", 5002),
        "y1": ("203.0.113.11", 5001),
        "y2": ("203.0.113.11", 5002),
    }

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.a, self.b, self.server = Agent(lab.a), Agent(lab.b), Agent(lab.server)
        for name, (host, port) in self.SERVER.items():
            self.server.bind(name, host, port)
        self.a_local = self.a.bind("a", lab.a.address)
        self.b_local = self.b.bind("b", lab.b.address)

    def mapped(self, name: str, side: str = "a") -> Endpoint:
        """The public address of the socket of ``side`` as the server's socket ``name`` sees it."""
        agent = self.a if side == "a" else self.b
        agent.send(side, self.SERVER[name])
        return self.server.source_seen(name)

    def lets_in(self, name: str, public: Endpoint, text: str) -> bool:
        """Whether a datagram from the server's socket ``name`` to ``public`` reaches host a."""
        self.server.send(name, public, text)
        answer = self.a.receive("a", within=0.3)
        assert answer is None or answer == (self.SERVER[name], text)
        return answer is not None


@contextmanager
def world(nat_a: str, nat_b: str = "none", **options: bool) -> Iterator[World]:
    with Lab(nat_a, nat_b, **options) as lab:
        made = World(lab)
        try:
            yield made
        finally:
            for agent in (made.a, made.b, made.server):
                agent.close()


@pytest.fixture
def build():
    """The context manager ``world(nat_a, nat_b, same_lan=..., engine=...)``."""
    return world
