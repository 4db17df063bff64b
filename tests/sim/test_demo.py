import pytest

from natwalk.sim.demo import SimulatedDemoFailed, run


def story(
    nat_a: str, nat_b: str, size: int = 300_000, policy: str = "any", **options: object
) -> list[dict[str, object]]:
    events: list[dict[str, object]] = []
    run(nat_a, nat_b, size, policy, events.append, **options)  # type: ignore[arg-type]
    return events


@pytest.mark.parametrize(
    ("nat_a", "nat_b", "kind"),
    [("port-restricted", "port-restricted", "direct"), ("symmetric", "symmetric", "relay")],
)
def test_the_file_arrives_whole_and_the_path_is_told(nat_a: str, nat_b: str, kind: str) -> None:
    events = story(nat_a, nat_b)
    result = events[-1]
    assert result["event"] == "result"
    assert result["sent"] == result["received"]
    for side in ("a", "b"):
        paths = [e for e in events if e["event"] == "path" and e["side"] == side]
        assert paths[-1]["kind"] == kind
        assert [e for e in events if e["event"] == "done" and e["side"] == side]
    assert events[0]["event"] == "topology"
    assert events[0]["where"] == "simulator"


def test_moments_never_go_back_on_one_side() -> None:
    events = story("full-cone", "port-restricted")
    for side in ("a", "b"):
        times = [e["at"] for e in events if e["side"] == side]
        assert times == sorted(times)  # type: ignore[type-var]


def test_one_lan_is_told_as_one() -> None:
    events = story("port-restricted", "port-restricted", same_lan=True)
    assert events[0]["same_lan"] is True


def test_an_empty_file_arrives_too() -> None:
    assert story("none", "none", size=0)[-1]["event"] == "result"


def test_no_path_is_an_error_that_says_why() -> None:
    with pytest.raises(SimulatedDemoFailed, match="UDP"):
        story("udp-blocked", "none", policy="direct")
