"""ResourceQuota and LimitRange, as far as objects alone decide."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubeling.api.admission import limits, quota
from kubeling.api.times import format_time

Obj = dict[str, Any]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def pod(name: str = "p", requests: Obj | None = None, limit: Obj | None = None, phase: str = "", **spec: Any) -> Obj:
    resources = {key: value for key, value in (("requests", requests), ("limits", limit)) if value}
    made: Obj = {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "resources": resources}], **spec}}
    if phase:
        made["status"] = {"phase": phase}
    return made


def counts(usage: quota.Usage) -> dict[str, str]:
    return {key: str(value) for key, value in sorted(usage.items())}


def used(spec: Obj, **objects: list[Obj]) -> dict[str, str]:
    return quota.used(
        {"spec": spec}, lambda kind: objects.get(kind, []), lambda kind: 7 if kind == "deployments.apps" else 0, NOW
    )


def test_what_objects_use():
    small = pod(requests={"cpu": "250m", "memory": "64Mi", "example.com/gpu": "2"}, limit={"memory": "128Mi"})
    assert counts(quota.usage_of("pods", small, NOW)) == {
        "count/pods": "1",
        "cpu": "250m",
        "limits.memory": "128Mi",
        "memory": "64Mi",
        "pods": "1",
        "requests.cpu": "250m",
        "requests.example.com/gpu": "2",
        "requests.memory": "64Mi",
    }
    assert counts(quota.usage_of("pods", pod(phase="Failed"), NOW)) == {"count/pods": "1"}
    going = pod()
    going["metadata"] |= {"deletionTimestamp": format_time(NOW - timedelta(seconds=31)), "deletionGracePeriodSeconds": 30}
    assert counts(quota.usage_of("pods", going, NOW)) == {"count/pods": "1"}
    balancer = {"spec": {"type": "LoadBalancer", "ports": [{"nodePort": 1}, {}]}}
    assert counts(quota.usage_of("services", balancer, NOW))["services.nodeports"] == "2"
    balancer["spec"]["allocateLoadBalancerNodePorts"] = False
    assert counts(quota.usage_of("services", balancer, NOW))["services.nodeports"] == "1"
    assert counts(quota.usage_of("widgets.example.com", {}, NOW)) == {"count/widgets.example.com": "1"}


def test_what_a_namespace_uses():
    small = pod("small", {"cpu": "250m", "memory": "64Mi"}, {"memory": "128Mi"})
    done = pod("done", {"cpu": "250m"}, phase="Succeeded")
    services = [
        {"spec": {"type": "LoadBalancer", "ports": [{"nodePort": 30000}, {"nodePort": 30001}]}},
        {"spec": {"type": "ClusterIP"}},
    ]
    claim = {"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "5Gi"}}}}
    expected = {
        "pods": "2",
        "count/pods": "3",
        "cpu": "250m",
        "requests.memory": "64Mi",
        "limits.memory": "128Mi",
        "services": "2",
        "services.loadbalancers": "1",
        "services.nodeports": "2",
        "requests.storage": "5Gi",
        "count/deployments.apps": "7",
        "fast.storageclass.storage.k8s.io/requests.storage": "5Gi",
        "requests.example.com/gpu": "0",
    }
    spec = {"hard": dict.fromkeys([*expected, "nonsense"], "1")}
    assert used(spec, pods=[small, pod("plain"), done], services=services, persistentvolumeclaims=[claim]) == expected
    assert used({"hard": {"pods": "1"}, "scopes": ["BestEffort"]}, pods=[small, pod("plain")]) == {"pods": "1"}


def made(hard: Obj, used: Obj | None = None, **spec: Any) -> Obj:
    status = {"hard": hard, "used": used if used is not None else dict.fromkeys(hard, "0")}
    return {"metadata": {"name": "q"}, "spec": {"hard": hard, **spec}, "status": status}


def charge(found: Obj, obj: Obj, kind: str = "pods") -> Obj | None:
    return quota.charge(found, kind, obj, quota.usage_of(kind, obj, NOW), creating=True)


def test_a_quota_is_charged_or_refuses_in_upstreams_words():
    both = made({"pods": "2", "requests.cpu": "1"}, {"pods": "1", "requests.cpu": "600m"})
    assert charge(both, pod(requests={"cpu": "400m"})) == {"pods": "2", "requests.cpu": "1"}
    with pytest.raises(quota.Exceeded) as error:
        charge(both, pod(requests={"cpu": "500m"}))
    assert str(error.value) == "exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1"
    with pytest.raises(quota.Exceeded) as error:
        charge(made({"limits.cpu": "1", "memory": "1Gi"}), pod())
    assert str(error.value) == "failed quota: q: must specify limits.cpu for: c; memory for: c"
    with pytest.raises(quota.Exceeded) as error:
        charge(made({"pods": "2"}, {}), pod())
    assert str(error.value) == "status unknown for quota: q, resources: pods"
    assert charge(made({"services": "0"}), pod()) is None
    assert charge(made({"pods": "0"}, scopes=["Terminating"]), pod()) is None
    with pytest.raises(quota.Exceeded):
        charge(made({"pods": "0"}, scopes=["Terminating"]), pod(activeDeadlineSeconds=1))
    chosen = {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}
    assert charge(made({"pods": "0"}, scopeSelector=chosen), pod()) is None
    with pytest.raises(quota.Exceeded):
        charge(made({"pods": "0"}, scopeSelector=chosen), pod(priorityClassName="high"))
    assert quota.grown({"a": quota.parse(3), "b": quota.parse(1)}, {"a": quota.parse(1), "b": quota.parse(1)}) == {
        "a": quota.parse(2)
    }


def limit_range(**item: Any) -> Obj:
    return {"spec": {"limits": [item]}}


def test_limits_give_defaults_and_say_so():
    wanted = limit_range(type="Container", default={"cpu": "1", "memory": "1Gi"}, defaultRequest={"cpu": "500m"})
    obj = pod(requests={"cpu": "100m"}, initContainers=[{"name": "i"}])
    limits.set_defaults(wanted, obj)
    assert obj["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "100m"}, "limits": {"cpu": "1", "memory": "1Gi"}}
    assert obj["metadata"]["annotations"] == {
        "kubernetes.io/limit-ranger": "LimitRanger plugin set: cpu, memory limit for container c; "
        "cpu request for init container i; cpu, memory limit for init container i"
    }


def test_limits_are_bounds():
    item = {"type": "Container", "min": {"cpu": "100m"}, "max": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "2"}}
    assert limits.pod_faults(limit_range(**item), pod(requests={"cpu": "500m"}, limit={"cpu": "1"})) == []
    assert limits.pod_faults(limit_range(**item), pod(requests={"cpu": "50m"}, limit={"cpu": "2"})) == [
        "minimum cpu usage per Container is 100m, but request is 50m",
        "maximum cpu usage per Container is 1, but limit is 2",
        "cpu max limit to request ratio per Container is 2, but provided ratio is 40.000000",
    ]
    assert limits.pod_faults(limit_range(type="Pod", max={"memory": "1Gi"}), pod()) == [
        "maximum memory usage per Pod is 1Gi.  No limit is specified"
    ]
    claim = {"spec": {"resources": {"requests": {"storage": "5Gi"}}}}
    found = limits.claim_faults(limit_range(type="PersistentVolumeClaim", min={"storage": "10Gi"}, max={"storage": "2Gi"}), claim)
    assert found == [
        "minimum storage usage per PersistentVolumeClaim is 10Gi, but request is 5Gi",
        "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 5Gi",
    ]
