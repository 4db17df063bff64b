"""coturn's test client against our server over every transport and in every mode, all at once.

``turnutils_uclient`` mostly waits, so one server takes all of its runs side by side. Left out, as they fail
in the same way against coturn itself: ``-P`` (half of its messages are lost) and ``-R`` over TCP (it waits
for ever for an answer to what is no message). Over UDP ``-R``, which damages bytes of its own messages at
random, waits in vain most times, too: of many short runs one must get through, and nobody else may notice.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest

from certificates import write_certificate
from natwalk.aio.tls import ServerTls
from natwalk.aio.turn_server import TurnServerDriver
from natwalk.core import Address, Transport
from natwalk.turn import PeerPolicy, TurnConfig, TurnLimits

pytestmark = [
    pytest.mark.coturn,
    pytest.mark.skipif(
        shutil.which("turnutils_uclient") is None, reason="coturn's turnutils are not installed"
    ),
]

MESSAGES: Final = 10
MODES: Final = {
    "UDP": "",
    "TCP": "-t",
    "TLS": "-t -S",
    "DTLS": "-S",
    "Send over UDP": "-s",
    "Send over TCP": "-t -s",
    "Send over TLS": "-t -S -s",
    "Send over DTLS": "-S -s",
    "TCP relay over TCP": "-t -T",
    "TCP relay over TLS": "-t -S -T",
    "TCP relay on IPv6": "-t -T -x",
    "IPv6 over UDP": "-x",
    "IPv6 over TCP": "-t -x",
    "both families over UDP": "-Z",
    "both families over TLS": "-t -S -Z",
    "mobility over UDP": "-M",
    "mobility over TCP": "-t -M",
    "negative tests": "-N",
    "negative tests over TCP": "-t -N",
    "DONT-FRAGMENT": "-g",
    "padded channels": "-D",
    "extra requests": "-G -m 2 -l 1200",
    "extra requests over TLS": "-t -S -G -m 2 -l 1200",
    "random disconnects": "-B -m 2",
}
PUBLIC: Final = {
    "public address over UDP": "",
    "public address, Send over UDP": "-s",
    "public address over TCP": "-t",
    "public address, TCP relay over TCP": "-t -T",
}
"""Against a server that has a public address for the one it is bound to."""
NEGATIVE_PROTOCOL: Final = "-R -n 2"
NEGATIVE_PROTOCOL_RUNS: Final = 24  # a third of them at least get through
PATIENCE: Final = 15.0


@dataclass(frozen=True, slots=True)
class Run:
    """What one uclient said."""

    code: int
    output: str

    def number(self, pattern: str) -> int:
        found = re.findall(pattern, self.output)
        assert found, self.output
        return int(found[-1])


async def uclient(ports: Mapping[Transport, int], options: str) -> Run:
    flags = options.split()
    secure = "-S" in flags
    stream = Transport.TLS if secure else Transport.TCP
    transport = stream if "-t" in flags else Transport.DTLS if secure else Transport.UDP
    process = await asyncio.create_subprocess_exec(
        *("turnutils_uclient", "-u", "alice", "-w", "secret", "-y", "-c"),
        # at a shorter interval two messages share a TLS record, of which uclient reads the first
        *("-n", str(MESSAGES), "-z", "100", "-L", "127.0.0.1", "-p", str(ports[transport])),
        *flags,
        "127.0.0.1",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(PATIENCE if "-R" in flags else 90):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        output, _ = await process.communicate()
    assert process.returncode is not None
    return Run(process.returncode, output.decode(errors="replace"))


def has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


async def run_all(folder: Path) -> dict[str, Run]:
    files = write_certificate(folder)
    tls = ServerTls(files.cert, files.key)
    ipv6 = has_ipv6_loopback()
    config = TurnConfig(
        realm="natwalk.test",
        users={"alice": "secret"},
        relay_addresses=("127.0.0.1", "::1") if ipv6 else ("127.0.0.1",),
        port_range=(50000, 65535),
        policy=PeerPolicy(allow=["127.0.0.0/8", "::1"]),
        limits=TurnLimits(allocations_per_user=1000, refusals_rate=1000, refusals_burst=1000),
        rfc5766_channels=True,  # uclient picks numbers up to 0x7FFF
        tcp_relays=True,
    )
    anywhere = Address("127.0.0.1", 0)
    mapped = replace(config, public_addresses={"127.0.0.1": "127.0.0.2"}, port_range=(40000, 49999))
    mapped = replace(mapped, relay_addresses=("127.0.0.1",))
    async with TurnServerDriver(config) as driver, TurnServerDriver(mapped) as behind_nat:
        public_ports = {
            transport: behind_nat.add_listener(anywhere, transport).port
            for transport in (Transport.UDP, Transport.TCP)
        }
        udp = driver.add_listener(anywhere, tls=tls).port
        ports = {
            Transport.UDP: udp,
            Transport.DTLS: udp,
            Transport.TCP: driver.add_listener(anywhere, Transport.TCP).port,
            Transport.TLS: driver.add_listener(anywhere, Transport.TLS, tls=tls).port,
        }
        usable = {mode: flags for mode, flags in MODES.items() if ipv6 or not {"-x", "-Z"} & {*flags.split()}}
        modes = usable | {f"-R {number}": NEGATIVE_PROTOCOL for number in range(NEGATIVE_PROTOCOL_RUNS)}
        runs = await asyncio.gather(
            *(uclient(ports, options) for options in modes.values()),
            *(uclient(public_ports, options) for options in PUBLIC.values()),
        )
        after = await uclient(ports, "")
    return dict(zip([*modes, *PUBLIC], runs, strict=True)) | {"after": after}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    return asyncio.run(run_all(tmp_path_factory.mktemp("certificate")))


@pytest.mark.parametrize("mode", [*MODES, *PUBLIC, "after"])
def test_nothing_is_lost(runs: dict[str, Run], mode: str) -> None:
    if mode not in runs:
        pytest.skip("this machine has no ::1")
    run = runs[mode]
    assert run.code == 0, run.output
    assert run.number(r"Total lost packets (\d+)") == 0, run.output
    assert run.number(r"tot_recv_msgs=(\d+)") >= MESSAGES, run.output


def test_random_messages_get_through(runs: dict[str, Run]) -> None:
    """``-R``: some get through, and the server is as it was, says the run after all others."""
    negative = [run for name, run in runs.items() if name.startswith("-R")]
    done = [run for run in negative if run.code == 0 and run.number(r"tot_recv_msgs=(\d+)") >= 2]
    assert done, negative
