"""``pytest_natwalk``: tests of other projects with their programs behind real NATs.

Installed with natwalk, it gives the fixture ``nat_lab`` and the marker ``nats``::

    @pytest.mark.nats("port-restricted", "symmetric")
    def test_my_program(nat_lab):
        server = nat_lab.server.popen(["my-server"])
        nat_lab.a.run(["my-client", nat_lab.server.address])

It loads nothing of natwalk before a test asks for the fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from natwalk.lab import Lab

_MARKER: Final = (
    "nats(a='port-restricted', b='port-restricted', *, same_lan=False, mtu=1500, engine=False): "
    "the kinds of NAT before the hosts of the fixture nat_lab, by the names of natwalk.nat.PRESETS"
)


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def nat_lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A :class:`natwalk.lab.Lab` with the NATs of the test's marker ``nats``; taken down after the test.

    Where this machine cannot have one the test is skipped, with what would help as the reason.
    """
    from natwalk.lab import Lab, LabUnavailable

    marker = request.node.get_closest_marker("nats")
    arguments, options = (marker.args, marker.kwargs) if marker is not None else ((), {})
    try:
        lab = Lab(*arguments, **options)
    except LabUnavailable as error:
        pytest.skip(f"no laboratory here: {error}")
    except (TypeError, ValueError) as error:
        pytest.fail(f"marker nats: {error}", pytrace=False)
    with lab:
        yield lab
