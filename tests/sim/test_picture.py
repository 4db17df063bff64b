from __future__ import annotations

from xml.etree import ElementTree

from natwalk.sim import sequence, sequence_svg
from natwalk.sim.ice import IceMeeting
from natwalk.sim.internet import Internet, two_peers

SVG = "{http://www.w3.org/2000/svg}"


def meeting() -> Internet:
    internet = two_peers("port-restricted", "symmetric", seed=3)
    internet.a.access.configure(loss=0.1)
    IceMeeting(internet).run()
    return internet


def words(svg: str) -> list[str]:
    return ["".join(text.itertext()) for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_it_shows_what_the_text_shows() -> None:
    trace = meeting().network.trace
    for nodes in ((), ("a", "b"), ("a", "nat-a", "server", "nat-b", "b")):
        text = sequence(trace, *nodes, until=1001.0).splitlines()
        svg = sequence_svg(trace, *nodes, until=1001.0)
        drawn = words(svg)
        assert drawn[: len(text[0].split()) - 1] == text[0].split()[1:]
        times = [word for word in drawn if word.replace(".", "").isdigit()]
        assert times == [line.split()[0] for line in text[1:]]


def test_what_was_dropped_ends_in_a_cross_with_the_reason() -> None:
    svg = sequence_svg(meeting().network.trace, "a", "nat-a", "server", "nat-b", "b")
    assert svg.count('stroke="#cf222e" stroke-width="2.5"') == sum("filtered" in w for w in words(svg)) + sum(
        w.endswith("lost") for w in words(svg)
    )
    assert any("filtered" in word for word in words(svg))


def test_names_are_escaped() -> None:
    internet = two_peers("none", "none", seed=1)
    internet.network.note("<a>", "R&B")
    assert "<a>: R&B" in words(sequence_svg(internet.network.trace, "<a>"))


def test_an_empty_trace_is_an_empty_picture() -> None:
    internet = two_peers("none", "none", seed=1)
    assert words(sequence_svg(internet.network.trace)) == []


def test_the_same_seed_gives_the_same_picture() -> None:
    assert sequence_svg(meeting().network.trace) == sequence_svg(meeting().network.trace)
