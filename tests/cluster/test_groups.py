"""Node groups as they are written, and what follows from them for a machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kubeling.cluster import groups, plan
from kubeling.cluster.groups import GroupError, Membership, NodeGroup
from kubeling.cluster.topology import (
    ClusterSpec,
    Layout,
    Node,
    Topology,
    next_machine,
    nodes_for,
    spec_from_json,
    spec_to_json,
)

GROUP = {
    "name": "big",
    "min": 1,
    "max": 3,
    "cpu": "500m",
    "memory": "64Mi",
    "labels": {"tier": "x", "on": True},
    "taints": [{"key": "only", "value": "big", "effect": "NoSchedule"}],
    "zone": "a",
}


def test_a_range_is_a_group_of_plain_workers() -> None:
    (found,), flags = groups.load("1:5")
    assert (found.name, found.minimum, found.maximum, flags) == ("workers", 1, 5, {})
    for wrong in ("5:1", "x:2", ":", "1:"):
        with pytest.raises(GroupError):
            groups.load(wrong)


def test_a_file_of_groups(tmp_path: Path) -> None:
    path = tmp_path / "groups.yaml"
    path.write_text(
        "groups: [{name: a, max: 2}, {name: b, max: 1}]\nautoscaler: {--expander: random, scale-down-enabled: false}\n"
    )
    found, flags = groups.load(str(path))
    assert [each.name for each in found] == ["a", "b"]
    assert flags == {"expander": "random", "scale-down-enabled": "false"}
    with pytest.raises(GroupError, match="No such file"):
        groups.load(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"max": 0}, "min 1 and max 0"),
        ({"name": "Big"}, "small letters"),
        ({"cpu": "many"}, "cpu"),
        ({"memory": "0"}, "more than nothing"),
        ({"taints": [{"key": "x"}]}, "effect"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_cannot_be_meant_is_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(GroupError, match=says):
        groups.parse({"groups": [{**GROUP, **change}]})


def test_two_groups_of_one_name_are_refused() -> None:
    with pytest.raises(GroupError, match="same name"):
        groups.parse({"groups": [GROUP, GROUP]})


def test_a_machine_has_what_its_template_promises() -> None:
    (found,), _ = groups.parse({"groups": [GROUP]})
    spec = replace(ClusterSpec("t", groups=(found,), autoscaler={"expander": "random"}))
    assert spec_from_json(spec_to_json(spec)) == spec
    nodes = (*nodes_for(spec), Node("worker", 2))
    topology = Topology(spec, nodes, Layout(Path("/t")), machines={"worker-2": Membership("big", "1a", 0.0)})
    flags = {
        name: next(d for d in plan.daemons(topology, topology.node(name)) if d.name == "kubelet").args
        for name in ("worker-1", "worker-2")
    }
    assert not [each for each in flags["worker-1"] if each.startswith(("--node-labels", "--register-with-taints"))]
    assert "--node-labels=tier=x,on=true,kubeling.dev/node-group=big" in flags["worker-2"]
    taints = "only=big:NoSchedule,node.cloudprovider.kubernetes.io/uninitialized=true:NoSchedule"
    assert f"--register-with-taints={taints}" in flags["worker-2"]
    cpu, memory = groups.host_size()
    reserved = f"--system-reserved=cpu={cpu - 500}m,memory={memory - 100 * 2**20 - 64 * 2**20}"
    assert reserved in flags["worker-2"]
    shown = groups.template(found, 10 * 2**30)
    assert (shown["allocatable"]["cpu"], shown["allocatable"]["memory"]) == ("500m", "65536Ki")
    assert shown["labels"]["topology.kubernetes.io/zone"] == "a"
    cloud = next(d for d in plan.daemons(topology, nodes[0]) if d.name == "cloud").args
    assert {"--autoscale=true", "--expander=random", "--control-socket=/t/control.sock"} <= set(cloud)


def test_more_than_the_host_has_is_what_it_has() -> None:
    assert groups.reserve(NodeGroup(maximum=1, cpu="100000", memory="1000Ti")) == {}


def test_a_name_is_not_used_again_at_once() -> None:
    nodes = (Node("worker", 1), Node("worker", 3))
    assert next_machine(nodes, 0).number == 4
    assert next_machine(nodes, 7).number == 8
    assert next_machine(nodes, 230).number == 2
