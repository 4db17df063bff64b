"""A laboratory of network namespaces: NATs of the kernel and of the engine, real programs, real packets."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from natwalk.lab.conditions import Conditions
from natwalk.lab.errors import LabError, LabUnavailable
from natwalk.lab.lab import Lab, why_unavailable
from natwalk.lab.nodes import Capture, Gateway, Network, Node, Router
from natwalk.lab.space import Namespace, Space

if TYPE_CHECKING:
    from natwalk.lab.engine import EngineRouter as EngineRouter
    from natwalk.lab.layout import HostLayout as HostLayout
    from natwalk.lab.layout import Layout as Layout
    from natwalk.lab.layout import LayoutError as LayoutError
    from natwalk.lab.layout import NatLayout as NatLayout
    from natwalk.lab.layout import NetworkLayout as NetworkLayout
    from natwalk.lab.layout_file import parse_layout as parse_layout
    from natwalk.lab.layout_file import read_layout as read_layout
    from natwalk.lab.world import World as World

_LATER: Final = {
    "EngineRouter": "engine",
    "HostLayout": "layout",
    "Layout": "layout",
    "LayoutError": "layout",
    "NatLayout": "layout",
    "NetworkLayout": "layout",
    "World": "world",
    "parse_layout": "layout_file",
    "read_layout": "layout_file",
}
"""Names that need more than the standard library, imported when they are asked for."""

__all__ = [
    "Capture",
    "Conditions",
    "EngineRouter",
    "Gateway",
    "HostLayout",
    "Lab",
    "LabError",
    "LabUnavailable",
    "Layout",
    "LayoutError",
    "Namespace",
    "NatLayout",
    "Network",
    "NetworkLayout",
    "Node",
    "Router",
    "Space",
    "World",
    "parse_layout",
    "read_layout",
    "why_unavailable",
]


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"natwalk.lab.{_LATER[name]}"), name)
