"""What each door of the API may change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubeling.api import resources, scale
from kubeling.api.meta import copy_json
from kubeling.api.resources import BUILTIN, Resource
from kubeling.api.strategies import custom_strategy, strategy_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _deployment(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web", "uid": "u", "generation": 4}, "spec": spec, "status": {"replicas": 3}}


def test_a_creator_sets_neither_status_nor_generation() -> None:
    made = _deployment(replicas=1)
    strategy_of(resources.DEPLOYMENTS).prepare_for_create(made, NOW)
    assert made["status"] == {}
    assert made["metadata"]["generation"] == 1


def test_a_node_registers_with_its_status() -> None:
    made = {"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "1"}}}
    strategy_of(resources.NODES).prepare_for_create(made, NOW)
    assert made["status"]["capacity"] == {"cpu": "1"}


def test_the_generation_counts_changes_of_the_spec() -> None:
    rules, old = strategy_of(resources.DEPLOYMENTS), _deployment(replicas=1)
    same, changed, annotated = copy_json(old), copy_json(old), copy_json(old)
    same["metadata"]["labels"] = {"a": "b"}
    changed["spec"]["replicas"] = 2
    annotated["metadata"]["annotations"] = {"a": "b"}
    for new, expected in ((same, 4), (changed, 5), (annotated, 5)):
        new["metadata"]["generation"] = 99
        new["status"] = {}
        rules.prepare_for_update(new, old)
        assert new["metadata"]["generation"] == expected
        assert new["status"] == {"replicas": 3}


def test_kinds_without_generation_have_none() -> None:
    old = {"metadata": {"name": "x"}, "data": {"a": "b"}}
    new = {"metadata": {"name": "x", "generation": 7}, "data": {"a": "c"}}
    strategy_of(resources.CONFIG_MAPS).prepare_for_update(new, old)
    assert "generation" not in new["metadata"]


def test_the_status_door_changes_the_status_and_soft_metadata_only() -> None:
    old = _deployment(replicas=1)
    new: dict[str, Any] = {
        "metadata": {"name": "web", "uid": "u", "annotations": {"a": "b"}, "labels": {"c": "d"}},
        "spec": {"replicas": 9},
        "status": {"replicas": 1},
    }
    strategy_of(resources.DEPLOYMENTS).prepare_for_status_update(new, old)
    assert new["spec"] == {"replicas": 1}
    assert new["status"] == {"replicas": 1}
    assert new["metadata"] == {"name": "web", "uid": "u", "annotations": {"a": "b"}, "generation": 4}


def test_the_status_door_of_a_custom_resource_leaves_metadata_alone() -> None:
    rules = custom_strategy(Resource("example.com", "v1", "widgets", "Widget", subresources=(resources.STATUS,)))
    old = {"metadata": {"name": "x", "generation": 2}, "spec": {"a": 1}}
    new = {"metadata": {"name": "x", "labels": {"a": "b"}}, "spec": {"a": 2}, "status": {"ok": True}}
    rules.prepare_for_status_update(new, old)
    assert new["metadata"].get("labels") is None
    assert new["spec"] == {"a": 1}
    assert new["metadata"]["generation"] == 2


def test_system_fields_are_put_back() -> None:
    old = {
        "metadata": {
            "name": "x",
            "uid": "u",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "deletionTimestamp": "2026-01-01T00:01:00Z",
        }
    }
    new = {"metadata": {"name": "x", "creationTimestamp": "1999-01-01T00:00:00Z"}}
    strategy_of(resources.CONFIG_MAPS).prepare_for_update(new, old)
    assert new == old


@pytest.mark.parametrize(
    ("spec", "phase", "requested", "expected"),
    [
        ({"nodeName": "n", "terminationGracePeriodSeconds": 30}, "Running", None, 30),
        ({"nodeName": "n", "terminationGracePeriodSeconds": 30}, "Running", 5, 5),
        ({"nodeName": "n", "terminationGracePeriodSeconds": 30}, "Running", 0, 0),
        ({"nodeName": "n", "terminationGracePeriodSeconds": -1}, "Running", None, 1),
        ({"terminationGracePeriodSeconds": 30}, "Pending", None, 0),
        ({"nodeName": "n", "terminationGracePeriodSeconds": 30}, "Succeeded", 10, 0),
    ],
)
def test_grace_of_pods(spec: dict[str, Any], phase: str, requested: int | None, expected: int) -> None:
    assert strategy_of(resources.PODS).grace_period({"spec": spec, "status": {"phase": phase}}, requested) == expected


def test_only_pods_have_grace() -> None:
    assert strategy_of(resources.CONFIG_MAPS).grace_period({}, 30) == 0


def test_a_second_deletion_shortens_the_grace_period_but_never_lengthens_it() -> None:
    rules, pod = strategy_of(resources.PODS), {"metadata": {"name": "x"}}
    rules.mark_deleting(pod, NOW, 30)
    assert pod["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:30Z"
    rules.mark_deleting(pod, NOW + timedelta(seconds=5), 60)
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 30
    rules.mark_deleting(pod, NOW + timedelta(seconds=5), 10)
    assert pod["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:10Z"
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 10


def test_a_job_finds_its_pods_by_its_uid() -> None:
    job: dict[str, Any] = {"metadata": {"name": "j", "uid": "u1"}, "spec": {"template": {}}}
    strategy_of(resources.JOBS).prepare_for_create(job, NOW)
    assert job["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": "u1"}}
    assert job["spec"]["template"]["metadata"]["labels"]["job-name"] == "j"


def test_a_gated_pod_says_so() -> None:
    pod: dict[str, Any] = {"metadata": {"name": "x"}, "spec": {"schedulingGates": [{"name": "a/b"}], "containers": []}}
    strategy_of(resources.PODS).prepare_for_create(pod, NOW)
    assert pod["status"]["conditions"][0]["reason"] == "SchedulingGated"
    assert pod["status"]["qosClass"] == "BestEffort"


def test_a_service_keeps_what_it_was_given() -> None:
    old = {
        "metadata": {"name": "s"},
        "spec": {
            "type": "NodePort",
            "clusterIP": "10.96.0.9",
            "clusterIPs": ["10.96.0.9"],
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001}],
        },
    }
    new: dict[str, Any] = {"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]}}
    strategy_of(resources.SERVICES).prepare_for_update(new, old)
    assert new["spec"] == old["spec"]
    inner: dict[str, Any] = copy_json(old)
    inner["spec"]["type"] = "ClusterIP"
    strategy_of(resources.SERVICES).prepare_for_update(inner, old)
    assert "nodePort" not in inner["spec"]["ports"][0]
    gone: dict[str, Any] = {
        "metadata": {"name": "s"},
        "spec": {**old["spec"], "type": "ExternalName", "externalName": "a.b", "ports": []},
    }
    strategy_of(resources.SERVICES).prepare_for_update(gone, old)
    assert "clusterIP" not in gone["spec"]


def test_doors_of_their_own() -> None:
    old = {
        "metadata": {"name": "x"},
        "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": "n"},
        "status": {"phase": "Running"},
    }
    new: dict[str, Any] = copy_json(old)
    new["spec"] = {"containers": [], "ephemeralContainers": [{"name": "debug"}]}
    new["status"] = {}
    strategy_of(resources.PODS).prepare_for_subresource_update("ephemeralcontainers", new, old)
    assert new["spec"] == {**old["spec"], "ephemeralContainers": [{"name": "debug"}]}
    assert new["status"] == old["status"]
    request = {"metadata": {"name": "r"}, "spec": {"a": 1}, "status": {"certificate": "x"}}
    approved = {"metadata": {"name": "r"}, "spec": {"a": 2}, "status": {"conditions": [{"type": "Approved"}]}}
    strategy_of(resources.CERTIFICATE_SIGNING_REQUESTS).prepare_for_subresource_update("approval", approved, request)
    assert approved["spec"] == {"a": 1}
    assert approved["status"] == {"certificate": "x", "conditions": [{"type": "Approved"}]}
    space = {"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Terminating"}}
    emptied: dict[str, Any] = {"metadata": {"name": "n"}, "spec": {}}
    strategy_of(resources.NAMESPACES).prepare_for_subresource_update("finalize", emptied, space)
    assert emptied["spec"] == {}
    assert emptied["status"] == {"phase": "Terminating"}


def test_selectable_fields_of_pods() -> None:
    rules = strategy_of(resources.PODS)
    pod = {"metadata": {"name": "x", "namespace": "d"}, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}}
    found = rules.selectable_fields(pod)
    assert (found["metadata.namespace"], found["spec.nodeName"], found["status.phase"]) == ("d", "n", "Running")
    assert found["spec.hostNetwork"] == "false"
    assert {"status.podIP", "spec.serviceAccountName"} <= rules.selectable_names


@pytest.mark.parametrize("resource", BUILTIN, ids=lambda each: f"{each.plural}.{each.group_version}")
def test_every_kind_can_be_selected_by_name_and_prepared(resource: Resource) -> None:
    rules = strategy_of(resource)
    assert "metadata.name" in rules.selectable_names
    assert ("metadata.namespace" in rules.selectable_names) is resource.namespaced
    made: dict[str, Any] = {"metadata": {"name": "x", "uid": "u"}}
    rules.prepare_for_create(made, NOW)
    rules.prepare_for_update(copy_json(made), made)


def test_scale_reads_and_writes_replicas() -> None:
    made: dict[str, Any] = {
        "metadata": {"name": "web", "namespace": "d", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"}},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}},
        "status": {"replicas": 2},
    }
    found = scale.scale_of(made)
    assert found["spec"] == {"replicas": 3}
    assert found["status"] == {"replicas": 2, "selector": "app=web"}
    assert found["metadata"] == {"name": "web", "namespace": "d", "uid": "u", "resourceVersion": "7"}
    changed = scale.with_scale(made, {"metadata": {"resourceVersion": "6"}, "spec": {"replicas": 5}})
    assert changed["spec"]["replicas"] == 5
    assert changed["metadata"]["resourceVersion"] == "6"
    assert made["spec"]["replicas"] == 3
