"""Writes docs/explanation/the-papers.md: the questions of published studies, asked of the simulator.

``python scripts/the_papers.py`` runs all pairs (some minutes); a test runs a few of them and holds the page
against them and against arithmetic.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from natwalk.nat import Outcome
from natwalk.sim.population import NetworkKind, Population, load
from natwalk.sim.population_arithmetic import expected_shares
from natwalk.sim.population_stats import shares, simulate

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "the-papers.md"
PAIRS = 2000
SEED = 2005


@dataclass(frozen=True)
class Question:
    """What a study asked, as a population; ``direct`` is the share by arithmetic."""

    text: str
    paper: str
    population: Population
    direct: float


def homes() -> Population:
    """Two NATs of 2005 with each other instead of one at a time."""
    return replace(load("homes-2005"), opposite=None)


def behind_nats(name: str, mobile: float | None = None) -> Population:
    """Of a population the peers that the libp2p study counts: behind NATs, UDP open; IPv4 only.

    ``mobile`` is another share of cellular networks, the others keeping their proportions.
    """
    kept = [network for network in load(name).networks if network.name != "open"]
    fixed = sum(network.share for network in kept if network.name != "cellular")
    cellular = sum(network.share for network in kept) - fixed
    part = cellular / (fixed + cellular) if mobile is None else mobile

    def share(network: NetworkKind) -> float:
        return part if network.name == "cellular" else network.share / fixed * (1 - part)

    networks = tuple(replace(each, share=share(each), ipv6=0.0, udp_blocked=0.0) for each in kept)
    return replace(load(name), networks=networks)


def mobile_share_for(direct: float) -> float:
    """The share of cellular peers with which :func:`behind_nats` comes to ``direct``, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if expected_shares(behind_nats("internet-2026", middle))[Outcome.DIRECT] > direct:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def without_ipv6(name: str) -> Population:
    """A population in which nobody has IPv6."""
    population = load(name)
    return replace(population, networks=tuple(replace(each, ipv6=0.0) for each in population.networks))


def questions() -> list[Question]:
    """All rows of the page."""
    one_nat = replace(homes(), one_nat=1.0)
    hairpin = one_nat.networks[0].nats["consistent-hairpin"]

    def asked(text: str, paper: str, population: Population) -> Question:
        return Question(text, paper, population, expected_shares(population)[Outcome.DIRECT])

    return [
        asked("a NAT of 2005 and a peer that can punch", "82 % (310 of 380), Ford", load("homes-2005")),
        Question("two LANs behind one NAT of 2005", "24 %, Ford", one_nat, hairpin),
        asked("two NATs of 2005", "not asked", homes()),
        asked("two peers of 2026 behind NATs", "70 % ± 7.1 %, libp2p", behind_nats("internet-2026")),
        asked("the same, mostly on phones", "not asked", behind_nats("mobile-heavy")),
        asked("any two peers of 2026", "“around 90 %”, Tailscale and iroh", load("internet-2026")),
        asked("the same without IPv6", "not asked", without_ipv6("internet-2026")),
    ]


def simulated(question: Question, pairs: int) -> float:
    """The direct share among so many pairs."""
    draws = (question.population.draw(SEED, number) for number in range(pairs))
    return shares(simulate(draws, compare=False).outcomes)["direct"]


def page(measured: Callable[[Question], float]) -> str:
    """The page, with the simulated share of each question."""
    rows = [
        f"| {each.text} | {each.paper} | {percent(each.direct)} | {percent(measured(each))} |"
        for each in questions()
    ]
    return (
        TEXT.replace("ROWS", "\n".join(rows))
        .replace("PAIRS", f"{PAIRS:,}")
        .replace("MOBILE", percent(mobile_share_for(0.70), 0))
        .replace("LOW", percent(mobile_share_for(0.771), 0))
        .replace("HIGH", percent(mobile_share_for(0.629), 0))
    )


def percent(share: float, digits: int = 1) -> str:
    """``76.5 %``."""
    return f"{share * 100:.{digits}f} %"


def printed(text: str) -> dict[str, float]:
    """The simulated shares that a page has, by question."""
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \| [\d.]+ % \| ([\d.]+) % \|$", text, re.M)
    return {question: float(share) / 100 for question, share in rows}


TEXT = """\
# The papers

Others have measured how often hole punching works. A simulator that cannot reproduce their figures from
their populations proves nothing, so this page asks it their questions. It is written by `python
scripts/the_papers.py`; the suite repeats a part of it, and holds every figure against arithmetic.

| question: who is direct? | the paper | by arithmetic | simulated, PAIRS pairs |
|---|---|---|---|
ROWS

By arithmetic means: from the definitions of RFC 4787 and the shares of kinds alone
(`natwalk.sim.population_arithmetic`). Simulated means: with the ICE agents, the TURN server and the path
managers that run on real machines, over links with delay and loss. The two are computed by code that has
nothing in common but the table of NATs. Where they differ, it is by the luck of the draw: two standard
errors of PAIRS pairs are about two percentage points.

## Ford, Srisuresh and Kegel, 2005

Their NAT Check asks one NAT at a time whether it gives one public endpoint to all destinations. 310 of 380
did. The population `homes-2005` has NATs in that proportion, each facing one well-behaved NAT, and the
agents get through in the same share of cases: the protocol adds no failure of its own, and finds no way
through a NAT that maps by destination when the other side filters by port.

The share of NATs is not the share of pairs. Two of these NATs at random must both be consistent, which is
the square: two in three.

Hairpin translation shows where two peers are behind one NAT without sharing a LAN. The population gives it
to 24 % of NATs, all of them consistent ones, and exactly those pairs meet without the relay.

Not reproduced: TCP (64 %, hairpin 13 %; Guha and Francis 88 %), because natwalk punches over UDP only, and
Halkes and Pouwelse, whose population was that of one file-sharing network.

## Trautwein et al., libp2p, 2025

70 % ± 7.1 % of 4.4 million attempts from 85,000 networks succeeded. The study counts attempts between peers
behind NATs that have a relayed connection already. So the question to our population leaves out peers
without a NAT, those with UDP blocked, and IPv6. What comes out is inside their interval, above its middle.
Why it is not the same:

- **Who takes part.** The figure hangs on how many peers are on mobile data, since 40 % of cellular carriers
  map by destination and 2 % of home routers do. By arithmetic, MOBILE of peers on mobile data give 70 %;
  LOW to HIGH cover all of ± 7.1 %. `internet-2026` assumes a quarter of all peers. We know of no published
  figure.
- **What fails besides NATs.** Our peers stay, our routers do not reboot, forget or fill up, and no firewall
  looks into packets. In the field all of that counts as a failed attempt. The simulator can do these things
  (`natwalk.nat.PRESETS` has the quirks), but how frequent they are is not known, and numbers made up would
  prove nothing.
- **How one tries.** DCUtR sends at one agreed moment and repeats that twice. ICE checks every pair of
  addresses seven times over some seconds, so a lost packet costs time and not the connection. Their 97.6 %
  of successes at the first attempt says that this is worth two or three percentage points.
- **TCP.** A part of their attempts is over TCP; all of ours is UDP.

Not reproduced: that the median direct round trip is 70 % of the relayed one. It depends on where relays
are, and ours stands at the core of the internet, on the way.

## Tailscale and iroh

Both say about 90 % and neither says of whom. With IPv6 where both have it and every peer counted, those
with UDP blocked too, our figure is the last but one of the table. What would raise it is known: guessing
ports against symmetric NATs and asking routers for a port (`natwalk simulate` lists them as not in this
version).
"""

if __name__ == "__main__":
    PAGE.write_text(page(lambda question: simulated(question, PAIRS)), encoding="utf-8")
    print(PAGE)
