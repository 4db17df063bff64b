from __future__ import annotations

from natwalk.sim import Trace
from natwalk.sim.internet import two_peers
from sim.support import Mailbag

EXPECTED = """\
 1000.000000  > a            #1 192.168.1.10:5000 -> 203.0.113.10:3478  2 B  data
 1000.000500  = nat-a        #1 198.51.100.1:5000 -> 203.0.113.10:3478  was \
192.168.1.10:5000 -> 203.0.113.10:3478
 1000.021000  < server       #1 198.51.100.1:5000 -> 203.0.113.10:3478  2 B  data
 1000.021000  > server       #2 203.0.113.10:3478 -> 198.51.100.1:5001  4 B  data
 1000.041500  x nat-a        #2 203.0.113.10:3478 -> 198.51.100.1:5001  no mapping for this port"""


def ping(trace: Trace | None = None) -> str:
    internet = two_peers("port-restricted", "none", seed=1, trace=trace)
    server = Mailbag(internet.network, internet.server, 3478)
    Mailbag(internet.network, internet.a.host, 5000).socket.send(b"hi", server.socket.address)
    internet.network.run()
    server.socket.send(b"miss", server.got[0][2].with_port(5001))
    internet.network.run()
    return internet.network.trace.text()


def test_the_text_says_what_happened_line_by_line() -> None:
    assert ping() == EXPECTED


def test_a_sink_gets_the_same_lines_as_they_happen() -> None:
    lines: list[str] = []
    assert ping(Trace(limit=0, sink=lines.append)) == ""
    assert "\n".join(lines) == EXPECTED


def test_it_keeps_the_newest_and_counts_the_rest() -> None:
    trace = Trace(limit=2)
    text = ping(trace)
    assert text.splitlines() == ["(3 earlier records are not kept)", *EXPECTED.splitlines()[-2:]]
    assert trace.text(last=1).splitlines()[-1] == EXPECTED.splitlines()[-1]
