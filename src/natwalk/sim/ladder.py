"""Presets of bad links: what people have between them and their access provider, from good to absurd."""

from __future__ import annotations

from typing import Final

from natwalk.sim.link import LinkConfig

LADDER: Final = {
    name: LinkConfig(rate=mbits * 1e6, delay=ms / 1e3, jitter=jitter / 1e3, loss=loss, burst=burst)
    for name, mbits, ms, jitter, loss, burst in (
        ("good-wifi", 100, 16, 0, 0.001, None),
        ("congested-wifi", 25, 40, 12, 0.01, 6),
        ("weak-4g", 8, 90, 15, 0.02, 8),
        ("slow-3g", 3, 200, 30, 0.03, 10),
        ("congested-cell", 1.5, 300, 40, 0.05, 12),
        ("very-bad", 0.8, 450, 60, 0.08, 20),
        ("satellite", 25, 600, 40, 0.015, 6),
        ("barely-usable", 0.5, 450, 80, 0.12, 25),
        ("absurd", 0.25, 800, 150, 0.25, 40),
    )
}
"""Bad links by name, from good to absurd: iroh's patchbay ladder."""


def allowance(rung: str) -> float:
    """How long a connection may take with both sides on ``rung``, in seconds: 20 and 10 more for each rung.

    Raises ValueError for a name that is no rung.
    """
    return 20.0 + 10.0 * list(LADDER).index(rung)
