"""The plugin in examples/scheduler-plugin, found by its entry point."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from kubeling.scheduler.algorithm import decide
from kubeling.scheduler.cache import Cache
from kubeling.scheduler.config import build, load
from kubeling.scheduler.framework import Framework
from kubeling.scheduler.handle import Handle
from kubeling.scheduler.nodeinfo import PodInfo
from tests.scheduler.test_decisions import node, pod

EXAMPLE = Path(__file__).parents[2] / "examples" / "scheduler-plugin"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `pip install` leaves it: the module on the path, and its metadata beside it."""
    folder = tmp_path / "cheapest_node-0.1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: cheapest-node\nVersion: 0.1.0\n")
    (folder / "entry_points.txt").write_text("[kubeling.scheduler.plugins]\nCheapestNode = cheapest_node:make\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(EXAMPLE))


def sides() -> list[tuple[Cache, Framework]]:
    profiles = load(EXAMPLE / "scheduler.yaml").profiles
    assert [each.name for each in profiles] == ["default-scheduler", "cheap"]
    return [(Cache(vector_from=start), build(profiles[1], Handle())) for start in (None, 1)]


@pytest.mark.usefixtures("installed")
def test_it_is_found_and_decides_alike_in_both_forms() -> None:
    rand = random.Random(7)
    both = sides()
    assert all(framework.vectorised and framework.weights["CheapestNode"] == 5 for _, framework in both)
    for number in range(30):
        made = node(f"n{number}", labels={"example.com/price": str(rand.randrange(600))} if rand.random() < 0.8 else {})
        for cache, _ in both:
            cache.set_node(made)
    for _ in range(20):
        wanted = pod("p")
        wanted["metadata"]["annotations"] = {"example.com/max-price": str(rand.randrange(1, 600))} if rand.random() < 0.7 else {}
        chance = rand.random()
        chosen = [decide(framework, cache.cycle(PodInfo(wanted)), rand=lambda: chance) for cache, framework in both]  # noqa: B023
        assert chosen[0].node == chosen[1].node
        assert [list(map(int, each.scores.by_plugin["CheapestNode"])) for each in chosen if each.scores][:1] == [
            list(map(int, each.scores.by_plugin["CheapestNode"])) for each in chosen if each.scores
        ][1:]
