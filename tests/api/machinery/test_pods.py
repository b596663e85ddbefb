"""What a pod needs, which nodes suit it, and what it counts as."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubeling.api import affinity, conditions, meta, owner, pods, taints

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _container(cpu: str = "", memory: str = "", **more: Any) -> dict[str, Any]:
    wanted = {name: value for name, value in (("cpu", cpu), ("memory", memory)) if value}
    return {"name": "c", **({"resources": {"requests": wanted}} if wanted else {}), **more}


def test_requests_are_the_sum_or_the_worst_moment_of_initialising() -> None:
    pod = {
        "spec": {
            "containers": [_container("100m", "64Mi"), _container("200m")],
            "initContainers": [_container("500m"), _container("50m", restartPolicy="Always"), _container("400m", "32Mi")],
            "overhead": {"cpu": "10m"},
        }
    }
    # running: 100 + 200 + sidecar 50; initialising: max(500, 400 + sidecar 50); the larger, plus overhead
    assert pods.requests_of(pod) == {"cpu": 510, "memory": 64 * 2**20}


def test_a_sidecar_counts_beside_what_starts_after_it_only() -> None:
    early = {
        "spec": {"containers": [_container("1")], "initContainers": [_container("1", restartPolicy="Always"), _container("2")]}
    }
    late = {
        "spec": {"containers": [_container("1")], "initContainers": [_container("2"), _container("1", restartPolicy="Always")]}
    }
    assert pods.requests_of(early)["cpu"] == 3000
    assert pods.requests_of(late)["cpu"] == 2000


@pytest.mark.parametrize(
    ("requests", "limits", "expected"),
    [
        ({}, {}, "BestEffort"),
        ({"cpu": "1"}, {}, "Burstable"),
        ({"cpu": "1", "memory": "1Gi"}, {"cpu": "1000m", "memory": "1024Mi"}, "Guaranteed"),
        ({}, {"cpu": "1", "memory": "1Gi"}, "Guaranteed"),
        ({"cpu": "1"}, {"cpu": "1"}, "Burstable"),
        ({"cpu": "1", "memory": "1Gi"}, {"cpu": "2", "memory": "1Gi"}, "Burstable"),
        ({"example.com/gpu": "1"}, {"example.com/gpu": "1"}, "BestEffort"),
    ],
)
def test_quality_of_service(requests: dict[str, str], limits: dict[str, str], expected: str) -> None:
    assert pods.qos_class({"spec": {"containers": [{"resources": {"requests": requests, "limits": limits}}]}}) == expected


def test_a_pod_is_available_when_it_has_been_ready_for_long_enough() -> None:
    pod: dict[str, Any] = {"status": {"conditions": []}}
    conditions.set_condition(pod["status"]["conditions"], "Ready", "True", NOW)
    assert pods.is_ready(pod)
    assert pods.is_available(pod, 0, NOW)
    assert not pods.is_available(pod, 10, NOW + timedelta(seconds=9))
    assert pods.seconds_until_available(pod, 10, NOW + timedelta(seconds=9)) == 1
    assert pods.is_available(pod, 10, NOW + timedelta(seconds=10))


def test_a_condition_keeps_its_transition_time_until_its_status_moves() -> None:
    found: list[dict[str, Any]] = []
    assert conditions.set_condition(found, "Ready", "False", NOW, reason="A", message="x")
    assert not conditions.set_condition(found, "Ready", "False", NOW + timedelta(minutes=1), reason="A", message="x")
    assert conditions.set_condition(found, "Ready", "False", NOW + timedelta(minutes=2), reason="B")
    assert found == [{"type": "Ready", "status": "False", "reason": "B", "lastTransitionTime": "2026-01-01T00:00:00Z"}]
    assert conditions.set_condition(found, "Ready", "True", NOW + timedelta(minutes=3), reason="B")
    assert found[0]["lastTransitionTime"] == "2026-01-01T00:03:00Z"


def test_tolerations_cover_taints() -> None:
    taint = {"key": "a", "value": "b", "effect": "NoExecute"}
    for each in (
        {"operator": "Exists"},
        {"key": "a", "operator": "Exists"},
        {"key": "a", "value": "b"},
        {"key": "a", "value": "b", "effect": "NoExecute"},
    ):
        assert taints.tolerates(each, taint), each
    for each in ({"key": "a"}, {"key": "b", "operator": "Exists"}, {"operator": "Exists", "effect": "NoSchedule"}, {}):
        assert not taints.tolerates(each, taint), each
    soft = {"key": "x", "effect": "PreferNoSchedule"}
    assert taints.untolerated([soft, taint], []) == taint
    assert taints.untolerated([taint], [{"operator": "Exists"}]) is None


def test_how_long_a_pod_may_stay_on_a_tainted_node() -> None:
    taint = {"key": "a", "effect": "NoExecute"}
    assert taints.toleration_seconds([taint], []) == 0
    assert taints.toleration_seconds([taint], [{"operator": "Exists"}]) is None
    limits = [{"key": "a", "operator": "Exists", "tolerationSeconds": 300}, {"operator": "Exists", "tolerationSeconds": 60}]
    assert taints.toleration_seconds([taint], limits) == 60
    assert taints.toleration_seconds([{"key": "a", "effect": "NoSchedule"}], []) is None


def test_node_selectors() -> None:
    node = {"metadata": {"name": "n1", "labels": {"disk": "ssd", "cores": "8"}}}

    def fits(*expressions: tuple[str, str, list[str]], field: bool = False) -> bool:
        made = [{"key": key, "operator": operator, "values": values} for key, operator, values in expressions]
        return affinity.matches_term({"matchFields" if field else "matchExpressions": made}, node)

    assert fits(("disk", "In", ["hdd", "ssd"]), ("cores", "Gt", ["7"]), ("gpu", "DoesNotExist", []), ("gpu", "NotIn", ["a"]))
    assert not fits(("cores", "Lt", ["8"]))
    assert not fits(("disk", "Gt", ["1"]))
    assert not fits()
    assert fits(("metadata.name", "In", ["n1"]), field=True)
    selector = {"nodeSelectorTerms": [{}, {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}]}
    wanted = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": selector}}
    assert affinity.pod_matches_node({"spec": {"nodeSelector": {"disk": "ssd"}, "affinity": wanted}}, node)
    assert not affinity.pod_matches_node({"spec": {"nodeSelector": {"disk": "hdd"}}}, node)


def test_owners_are_known_by_uid() -> None:
    made = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "w", "uid": "1", "namespace": "d"}}
    child = {"metadata": {"ownerReferences": [owner.make_controller_ref(made)]}}
    assert owner.is_controlled_by(child, made)
    assert not owner.is_controlled_by(child, {**made, "metadata": {**made["metadata"], "uid": "2"}})
    assert meta.key_of(made) == "d/w"


def test_finalizers_come_and_go() -> None:
    made: dict[str, Any] = {}
    assert meta.add_finalizer(made, "a/b")
    assert not meta.add_finalizer(made, "a/b")
    assert meta.remove_finalizer(made, "a/b")
    assert made == {"metadata": {}}
