"""The table of what gets through as a picture: ``python -m natwalk.sim.grid`` writes the one in ``docs/``."""

from __future__ import annotations

import sys
from html import escape
from typing import Final

from natwalk.nat import PASSAGES, ROWS, TODAY, Abilities, Outcome, Passage, between

LABELS: Final = {
    "none": ("no NAT", ""),
    "full-cone": ("full-cone", "EIM, EIF"),
    "address-restricted": ("address-restricted", "EIM, ADF"),
    "port-restricted": ("port-restricted", "EIM, APDF"),
    "cgnat": ("cgnat", "EIM twice, APDF"),
    "symmetric-regular": ("symmetric", "APDM, regular ports"),
    "symmetric-block": ("symmetric", "APDM, port block"),
    "symmetric": ("symmetric", "APDM, random ports"),
    "udp-blocked": ("udp-blocked", "firewall"),
}
_CELL: Final = (92, 46)
_LEFT: Final = 190
_TOP: Final = 128
_FILL: Final = {Outcome.DIRECT: "#2da44e", Outcome.RELAY: "#bf8700", Outcome.NONE: "#cf222e"}
_STYLE: Final = """
text{font:13px system-ui,"Segoe UI",Helvetica,Arial,sans-serif;fill:#24292f}
.name{font-weight:600}.how{font-size:11px;fill:#57606a}
.cell{fill:#fff;font-weight:600;text-anchor:middle}.row{text-anchor:end}.title{font-size:15px;font-weight:600}
"""


def grid_svg(abilities: Abilities = TODAY) -> str:
    """The grid for a program with those ``abilities``; what guessing would change is marked."""
    wide, high = _CELL
    width, height = _LEFT + wide * len(ROWS) + 40, _TOP + high * len(ROWS) + 56
    shapes = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        "<title>What two peers end up on, by the NATs before them</title>",
        f"<style>{_STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        '<text class="title" x="16" y="28">What two peers end up on, by the NATs before them</text>',
    ]
    for number, name in enumerate(ROWS):
        title, how = map(escape, LABELS[name])
        x, y = _LEFT + number * wide + 10, _TOP + number * high + high // 2
        shapes.append(
            f'<g transform="translate({x + wide // 2 - 8},{_TOP - 10}) rotate(-32)">'
            f'<text class="name" y="-13">{title}</text><text class="how">{how}</text></g>'
        )
        shapes.append(f'<text class="name row" x="{_LEFT - 12}" y="{y - 1}">{title}</text>')
        shapes.append(f'<text class="how row" x="{_LEFT - 12}" y="{y + 13}">{how}</text>')
        for column, other in enumerate(ROWS):
            shapes += _cell(_LEFT + column * wide, _TOP + number * high, name, other, abilities)
    legend = (
        "EIM, APDM: mapping that does not, or does, depend on the destination. EIF, ADF, APDF: filtering "
    )
    legend += "by nothing, by address, by address and port."
    shapes.append(f'<text class="how" x="16" y="{height - 28}">{legend}</text>')
    shapes.append(
        f'<text class="how" x="16" y="{height - 12}">* direct once ports are guessed. '
        "Two peers on one LAN are direct whatever the NAT.</text>"
    )
    return "\n".join((*shapes, "</svg>\n"))


def _cell(x: int, y: int, a: str, b: str, abilities: Abilities) -> list[str]:
    wide, high = _CELL
    outcome = between(a, b, abilities=abilities)
    words = {Outcome.DIRECT: "direct", Outcome.RELAY: "relay", Outcome.NONE: "no path"}[outcome]
    guess = PASSAGES[a, b] is Passage.GUESSED and outcome is not Outcome.DIRECT
    size = f'width="{wide - 2}" height="{high - 2}" rx="4"'
    return [
        f'<rect x="{x + 1}" y="{y + 1}" {size} fill="{_FILL[outcome]}"/>',
        f'<text class="cell" x="{x + wide // 2}" y="{y + high // 2 + 5}">{words}{" *" if guess else ""}'
        f"<title>{escape(f'{a} and {b}')}</title></text>",
    ]


if __name__ == "__main__":
    sys.stdout.write(grid_svg())
