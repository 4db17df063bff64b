"""What parts of the laboratory need of the machine, as marks that skip with the reason."""

from __future__ import annotations

import os

import pytest

from natwalk.lab.tun import DEVICE

needs_tun = pytest.mark.skipif(
    not os.access(DEVICE, os.R_OK | os.W_OK), reason=f"no routers or cables in user space here: no {DEVICE}"
)
