"""The population in the guide is one."""

import re
from pathlib import Path

from natwalk.sim.population import parse

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "ask-a-population.md"


def test_the_example_is_a_population() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    population = parse(text)
    assert [network.name for network in population.networks] == ["dsl", "mobile"]
    assert len(population.networks[0].specs["mine"].layers) == 2
