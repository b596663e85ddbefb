"""What a cluster gets for its hollow nodes, and only then: a daemon, an identity, rights, a place in the queues."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubeling.cluster import bootstrap, launch, plan, rbac
from kubeling.cluster.state import ClusterError
from kubeling.cluster.topology import HOLLOW_USER, ClusterSpec, Layout, Topology, nodes_for, spec_from_json, spec_to_json


def topology(spec: ClusterSpec) -> Topology:
    return Topology(spec, nodes_for(spec), Layout(Path("/c/t")))


def test_one_process_on_the_first_control_plane_plays_all_of_them() -> None:
    spec = ClusterSpec("t", control_planes=3, workers=1, hollow_nodes=50, hollow_configured=True)
    made = topology(spec)
    found = [each for node in made.nodes for each in plan.daemons(made, node) if each.name == "hollow"]
    assert [each.node for each in found] == ["control-plane-1"]
    assert found[0].module == "kubeling.kubelet.hollow.__main__"
    assert {"--nodes=50", "--config=/c/t/hollow.yaml", "--node-ip=172.30.0.11"} <= set(found[0].args)
    without = topology(ClusterSpec("t"))
    assert "hollow" not in {each.name for node in without.nodes for each in plan.daemons(without, node)}
    assert spec_from_json(spec_to_json(spec)) == spec


def test_the_wide_rights_are_there_only_where_hollow_nodes_are() -> None:
    def users(objects: list[dict[str, object]]) -> str:
        return str([each.get("subjects") for each in objects])

    assert HOLLOW_USER not in users(rbac.objects())
    assert HOLLOW_USER in users(rbac.objects(hollow=True))
    role = next(
        each for each in rbac.objects(hollow=True) if each["kind"] == "ClusterRole" and "hollow" in each["metadata"]["name"]
    )
    assert "*" not in str(role["rules"])
    assert not {"secrets", "configmaps", "serviceaccounts/token"} & {name for rule in role["rules"] for name in rule["resources"]}


def test_their_leases_are_as_urgent_as_those_of_nodes() -> None:
    levels = {each["metadata"]["name"]: each["spec"]["priorityLevelConfiguration"]["name"] for each in bootstrap.hollow_flows()}
    assert levels == {"kubeling-hollow-node-high": "node-high", "kubeling-hollow-nodes": "system"}


@pytest.mark.parametrize("nodes", [-1, 10_001])
def test_how_many_there_may_be(nodes: int) -> None:
    with pytest.raises(ClusterError, match="hollow-nodes"):
        launch.up(ClusterSpec("t", hollow_nodes=nodes))


def test_a_file_without_nodes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="needs --hollow-nodes"):
        launch.up(ClusterSpec("t"), hollow_config=tmp_path / "x")
