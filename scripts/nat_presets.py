"""Writes docs/reference/nat-presets.md from natwalk.nat.PRESETS; a test says when that was forgotten."""

from __future__ import annotations

from pathlib import Path

from natwalk.nat import PRESETS, Group, KindSpec, details

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "nat-presets.md"

HEAD = """\
# NAT presets

Every kind of NAT, carrier, cloud and firewall that natwalk knows by name: `natwalk.nat.preset(NAME)`,
`natwalk.nat.PRESETS`. What each does is said in the words of RFC 4787, what RFC 3489 called it in brackets.
Times are those of idle mappings: for TCP first of connections that open or close, then of open ones.
This page is written by `python scripts/nat_presets.py`.
"""


def page() -> str:
    """The page as it should be."""
    parts = [HEAD]
    for group in Group:
        parts.append(f"## {group.value.capitalize()}\n")
        parts += [section(spec) for spec in PRESETS.values() if spec.group is group]
    return "\n".join(parts)


def section(spec: KindSpec) -> str:
    """One preset."""
    _, _, words = str(spec).partition(": ")
    lines = [f"### {spec.name}\n", f"{words[0].upper()}{words[1:]}.\n"]
    several = len(spec.layers) > 1
    for number, layer in enumerate(spec.layers, start=1):
        where = f"layer {number}: " if several else ""
        if phrases := details(layer):
            lines.append(f"- {where}{'; '.join(phrases)}")
    if spec.public_addresses > 1:
        lines.append(f"- {spec.public_addresses} public addresses")
    if (services := spec.services) is not None:
        names = [*["NAT-PMP"] * services.nat_pmp, *["PCP"] * services.pcp]
        names += [f"UPnP IGD {services.upnp}"] * bool(services.upnp)
        quirks = "".join(f"; {quirk.value}" for quirk in services.quirks)
        lines.append(f"- services: {', '.join(names)}{quirks}")
    lines.append(f"- source: {spec.source}\n")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
