"""Controllers of pods: Deployments and their kin, Jobs, autoscalers."""

from __future__ import annotations

from typing import Any

from kubeling.api.defaults.pod import pod_spec, template

Map = dict[str, Any]


def _set(target: Map, **values: Any) -> None:
    for name, value in values.items():
        if target.get(name) is None:
            target[name] = value


def _spec(obj: Map) -> Map:
    if obj.get("spec") is None:
        obj["spec"] = {}
    return obj["spec"]  # type: ignore[no-any-return]


def pod_template(obj: Map) -> None:
    """PodTemplate."""
    template(obj)


def replication_controller(obj: Map) -> None:
    """ReplicationController: selector and labels are the template's."""
    spec = _spec(obj)
    template(spec)
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if labels:
        if not spec.get("selector"):
            spec["selector"] = dict(labels)
        if not (obj.get("metadata") or {}).get("labels"):
            obj.setdefault("metadata", {})["labels"] = dict(labels)
    _set(spec, replicas=1)


def replica_set(obj: Map) -> None:
    """ReplicaSet."""
    spec = _spec(obj)
    template(spec)
    _set(spec, replicas=1)


def deployment(obj: Map) -> None:
    """Deployment: a rolling update of a quarter at a time."""
    spec = _spec(obj)
    template(spec)
    _set(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600, strategy={})
    strategy = spec["strategy"]
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        _set(strategy, rollingUpdate={})
        _set(strategy["rollingUpdate"], maxUnavailable="25%", maxSurge="25%")


def daemon_set(obj: Map) -> None:
    """DaemonSet."""
    spec = _spec(obj)
    template(spec)
    _set(spec, revisionHistoryLimit=10, updateStrategy={})
    strategy = spec["updateStrategy"]
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        _set(strategy, rollingUpdate={})
        _set(strategy["rollingUpdate"], maxUnavailable=1, maxSurge=0)


def stateful_set(obj: Map) -> None:
    """StatefulSet."""
    spec = _spec(obj)
    template(spec)
    if not spec.get("podManagementPolicy"):
        spec["podManagementPolicy"] = "OrderedReady"
    _set(spec, replicas=1, revisionHistoryLimit=10, updateStrategy={}, persistentVolumeClaimRetentionPolicy={})
    policy = spec["persistentVolumeClaimRetentionPolicy"]
    for name in ("whenDeleted", "whenScaled"):
        if not policy.get(name):
            policy[name] = "Retain"
    strategy = spec["updateStrategy"]
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        _set(strategy, rollingUpdate={})
        _set(strategy["rollingUpdate"], partition=0)
    for claim in spec.get("volumeClaimTemplates") or ():
        _set(claim, apiVersion="v1", kind="PersistentVolumeClaim", status={"phase": "Pending"})
        _set(_spec(claim), volumeMode="Filesystem")


def job(obj: Map) -> None:
    """Job. One that says neither how many nor how many at once is a single run."""
    spec = _spec(obj)
    template(spec)
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    backoff = 2**31 - 1 if spec.get("backoffLimitPerIndex") is not None else 6
    _set(spec, parallelism=1, backoffLimit=backoff, completionMode="NonIndexed", suspend=False, manualSelector=False)
    _set(spec, podReplacementPolicy="Failed" if spec.get("podFailurePolicy") else "TerminatingOrFailed")
    for rule in (spec.get("podFailurePolicy") or {}).get("rules") or ():
        for pattern in rule.get("onPodConditions") or ():
            if not pattern.get("status"):
                pattern["status"] = "True"
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if labels and not (obj.get("metadata") or {}).get("labels"):
        obj.setdefault("metadata", {})["labels"] = dict(labels)


def cron_job(obj: Map) -> None:
    """CronJob."""
    spec = _spec(obj)
    inner = ((spec.get("jobTemplate") or {}).get("spec") or {}).get("template") or {}
    if inner.get("spec") is not None:
        pod_spec(inner["spec"])
    if not spec.get("concurrencyPolicy"):
        spec["concurrencyPolicy"] = "Allow"
    _set(spec, suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)


def autoscaler(obj: Map) -> None:
    """HorizontalPodAutoscaler, autoscaling/v2: 80 % of the requested CPU where no metric is named."""
    spec = _spec(obj)
    _set(spec, minReplicas=1)
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    behavior = spec.get("behavior")
    if behavior is not None:
        fast = [{"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]
        _set(behavior, scaleUp={}, scaleDown={})
        _rules(behavior["scaleUp"], fast, stabilizationWindowSeconds=0)
        _rules(behavior["scaleDown"], [{"type": "Percent", "value": 100, "periodSeconds": 15}])


def _rules(rules: Map, policies: list[Map], **more: Any) -> None:
    _set(rules, selectPolicy="Max", **more)
    if not rules.get("policies"):
        rules["policies"] = policies


def autoscaler_v1(obj: Map) -> None:
    """HorizontalPodAutoscaler, autoscaling/v1."""
    _set(_spec(obj), minReplicas=1, targetCPUUtilizationPercentage=80)
