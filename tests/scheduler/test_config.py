"""KubeSchedulerConfiguration: which plugins run where, with what weight and arguments; and what cannot be meant."""

from __future__ import annotations

from typing import Any

import pytest

from kubeling.scheduler.config import SchedulerConfig, build, parse, resolve
from kubeling.scheduler.framework import Framework
from kubeling.scheduler.handle import Handle
from kubeling.scheduler.registry import ConfigError

HEAD = {"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration"}


def config(*profiles: dict[str, Any], **more: Any) -> SchedulerConfig:
    return parse({**HEAD, "profiles": list(profiles), **more})


def framework(**profile: Any) -> Framework:
    return build(config(profile).profiles[0], Handle())


def names(made: Framework, point: str) -> list[str]:
    return [plugin.name for plugin in made.at(point)]


def test_the_default_profile_is_upstreams() -> None:
    made = framework()
    assert made.scheduler_name == "default-scheduler"
    assert names(made, "sort_key") == ["PrioritySort"]
    assert names(made, "bind") == ["DefaultBinder"]
    weights = {name: made.weights[name] for name in names(made, "score")}
    assert weights == {
        "TaintToleration": 3,
        "NodeAffinity": 2,
        "NodeResourcesFit": 1,
        "PodTopologySpread": 2,
        "InterPodAffinity": 2,
        "NodeResourcesBalancedAllocation": 1,
        "ImageLocality": 1,
    }
    assert made.vectorised


def test_a_point_disables_and_weighs_plugins() -> None:
    made = framework(
        plugins={
            "score": {"disabled": [{"name": "ImageLocality"}], "enabled": [{"name": "NodeResourcesFit", "weight": 9}]},
            "filter": {"disabled": [{"name": "NodePorts"}]},
        }
    )
    assert "ImageLocality" not in names(made, "score")
    assert names(made, "score")[0] == "NodeResourcesFit"
    assert made.weights["NodeResourcesFit"] == 9
    assert "NodePorts" not in names(made, "filter")


def test_everything_can_be_disabled_at_once() -> None:
    points, _ = resolve({"score": {"disabled": [{"name": "*"}], "enabled": [{"name": "ImageLocality", "weight": 2}]}})
    assert points["score"] == [("ImageLocality", 2)]
    multi, _ = resolve({"multiPoint": {"disabled": [{"name": "*"}], "enabled": [{"name": "PrioritySort"}]}})
    assert multi["filter"] == [("PrioritySort", 0)]


def test_arguments_reach_the_plugins() -> None:
    made = framework(
        schedulerName="packing",
        pluginConfig=[{"name": "NodeResourcesFit", "args": {"scoringStrategy": {"type": "MostAllocated"}}}],
    )
    assert made.scheduler_name == "packing"
    fit = next(plugin for plugin in made.plugins if plugin.name == "NodeResourcesFit")
    assert vars(fit)["_strategy"] == "MostAllocated"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"apiVersion": "v1", "kind": "ConfigMap"}, "apiVersion and kind must be"),
        ({**HEAD, "profiles": [{}, {}]}, "each schedulerName may be there once"),
        ({**HEAD, "percentageOfNodesToScore": 101}, "between 0 and 100"),
        ({**HEAD, "profiles": [{"plugins": {"filters": {}}}]}, "there is no extension point filters"),
        ({**HEAD, "extenders": [{"filterVerb": "filter"}]}, "urlPrefix: required"),
        ({**HEAD, "extenders": [{"urlPrefix": "http://x", "prioritizeVerb": "p"}]}, "weight: must be above 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(found: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(found)


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ({"plugins": {"filter": {"enabled": [{"name": "Nonsense"}]}}}, "no scheduler plugin 'Nonsense'"),
        ({"plugins": {"queueSort": {"disabled": [{"name": "*"}]}}}, "exactly one plugin sorts"),
        ({"plugins": {"bind": {"disabled": [{"name": "*"}]}}}, "at least one plugin must bind"),
        (
            {"pluginConfig": [{"name": "NodeResourcesFit", "args": {"scoringStrategy": {"type": "RequestedToCapacityRatio"}}}]},
            "at least one point is required",
        ),
        ({"pluginConfig": [{"name": "PodTopologySpread", "args": {"defaultConstraints": [{}]}}]}, "must be empty"),
    ],
)
def test_a_profile_that_makes_no_sense_is_refused(profile: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        framework(**profile)
