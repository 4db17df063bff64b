"""A laboratory of network namespaces with kernel NATs: proof on a real network stack."""

from natwalk.lab.errors import LabError, LabUnavailable
from natwalk.lab.lab import Lab, why_unavailable
from natwalk.lab.nodes import Gateway, Network, Node, Router
from natwalk.lab.space import Namespace, Space

__all__ = [
    "Gateway",
    "Lab",
    "LabError",
    "LabUnavailable",
    "Namespace",
    "Network",
    "Node",
    "Router",
    "Space",
    "why_unavailable",
]
