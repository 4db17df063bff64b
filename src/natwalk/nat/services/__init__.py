"""The mapping services of a router: NAT-PMP, PCP and UPnP IGD, as bytes in and bytes out."""

from natwalk.nat.services.gateway import Gateway
from natwalk.nat.services.http import HttpRequest
from natwalk.nat.services.leases import Lease, Leases, Refusal

__all__ = ["Gateway", "HttpRequest", "Lease", "Leases", "Refusal"]
