"""Controllers of pods: Deployments and their kin, and disruption budgets. Jobs are in :mod:`kubeling.api.validation.jobs`."""

from __future__ import annotations

from kubeling.api.errors import forbidden_value, invalid_value, required_value, unsupported_value
from kubeling.api.meta import Object, name_of, spec_of
from kubeling.api.validation.common import (
    Errors,
    Map,
    at_most_whole,
    count_or_percent,
    is_zero,
    label_selector,
    not_negative,
    selects,
    unchanged,
)
from kubeling.api.validation.pod import template

_MISMATCH = "`selector` does not match template `labels`"


def _template_and_selector(spec: Map, called: str, *, path: str = "spec") -> Errors:
    """A selector that selects the pods of its own template."""
    selector = spec.get("selector")
    if selector is None:
        yield required_value(f"{path}.selector")
    else:
        yield from label_selector(f"{path}.selector", selector)
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            yield invalid_value(f"{path}.selector", selector, f"empty selector is invalid for {called}")
    found = spec.get("template")
    if found is None:
        yield required_value(f"{path}.template")
        return
    labels = (found.get("metadata") or {}).get("labels") or {}
    if selector and not selects(selector, labels):
        yield invalid_value(f"{path}.template.metadata.labels", labels, _MISMATCH)
    yield from template(f"{path}.template", found)
    kind = {"daemonset": "DaemonSet", "statefulset": "StatefulSet"}.get(called, "ReplicaSet")
    yield from _always(f"{path}.template.spec", found.get("spec") or {}, kind)


def _always(path: str, spec: Map, kind: str) -> Errors:
    restart = spec.get("restartPolicy") or ""
    if restart != "Always":
        yield unsupported_value(f"{path}.restartPolicy", restart, ("Always",))
    if spec.get("activeDeadlineSeconds") is not None:
        yield forbidden_value(f"{path}.activeDeadlineSeconds", f"activeDeadlineSeconds in {kind} is not Supported")


def _counts(spec: Map, *fields: str) -> Errors:
    for field in fields:
        yield from not_negative(f"spec.{field}", spec.get(field))


def deployment(obj: Object) -> Errors:
    """Deployment."""
    spec = spec_of(obj)
    yield from _counts(spec, "replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds")
    yield from _template_and_selector(spec, "deployment")
    strategy = spec.get("strategy") or {}
    path = "spec.strategy"
    if strategy.get("type") not in ("Recreate", "RollingUpdate"):
        yield unsupported_value(path, strategy, ("Recreate", "RollingUpdate"))
    rolling = strategy.get("rollingUpdate")
    if strategy.get("type") == "Recreate" and rolling is not None:
        detail = "may not be specified when strategy `type` is 'Recreate'"
        yield forbidden_value(f"{path}.rollingUpdate", detail)
    elif strategy.get("type") == "RollingUpdate":
        if rolling is None:
            yield required_value(f"{path}.rollingUpdate", "this should be defaulted and never be nil")
        else:
            yield from rolling_update(f"{path}.rollingUpdate", rolling)
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None and deadline <= (spec.get("minReadySeconds") or 0):
        yield invalid_value("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds")


def rolling_update(path: str, found: Map) -> Errors:
    """maxUnavailable and maxSurge, of which one at least lets the update move."""
    for field in ("maxUnavailable", "maxSurge"):
        yield from count_or_percent(f"{path}.{field}", found.get(field))
    if is_zero(found.get("maxUnavailable")) and is_zero(found.get("maxSurge")):
        yield invalid_value(f"{path}.maxUnavailable", found["maxUnavailable"], "may not be 0 when `maxSurge` is 0")
    yield from at_most_whole(f"{path}.maxUnavailable", found.get("maxUnavailable"))


def selector_update(new: Object, old: Object) -> Errors:
    """The selector of a Deployment, ReplicaSet or DaemonSet cannot change."""
    yield from unchanged("spec.selector", spec_of(new).get("selector"), spec_of(old).get("selector"))


def replica_set(obj: Object) -> Errors:
    """ReplicaSet."""
    yield from _counts(spec_of(obj), "replicas", "minReadySeconds")
    yield from _template_and_selector(spec_of(obj), "deployment")


def replication_controller(obj: Object) -> Errors:
    """ReplicationController."""
    spec = spec_of(obj)
    yield from _counts(spec, "replicas", "minReadySeconds")
    if not spec.get("selector"):
        yield required_value("spec.selector")
    found = spec.get("template")
    if found is None:
        yield required_value("spec.template")
        return
    labels = (found.get("metadata") or {}).get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("selector") or {}).items()):
        yield invalid_value("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    yield from template("spec.template", found)
    yield from _always("spec.template.spec", found.get("spec") or {}, "ReplicationController")


def daemon_set(obj: Object) -> Errors:
    """DaemonSet."""
    spec = spec_of(obj)
    yield from _counts(spec, "minReadySeconds", "revisionHistoryLimit")
    yield from _template_and_selector(spec, "daemonset")
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type") not in ("OnDelete", "RollingUpdate"):
        yield unsupported_value("spec.updateStrategy", strategy, ("RollingUpdate", "OnDelete"))
    elif strategy["type"] == "RollingUpdate":
        rolling = strategy.get("rollingUpdate") or {}
        path = "spec.updateStrategy.rollingUpdate"
        for field in ("maxUnavailable", "maxSurge"):
            yield from count_or_percent(f"{path}.{field}", rolling.get(field))
            yield from at_most_whole(f"{path}.{field}", rolling.get(field))
        unavailable, surge = not is_zero(rolling.get("maxUnavailable")), not is_zero(rolling.get("maxSurge"))
        if unavailable and surge:
            yield invalid_value(f"{path}.maxSurge", rolling.get("maxSurge"), "may not be set when maxUnavailable is non-zero")
        elif not unavailable and not surge:
            yield required_value(f"{path}.maxUnavailable", "cannot be 0 when maxSurge is 0")


_STATEFUL = ("replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit", "persistentVolumeClaimRetentionPolicy")


def stateful_set(obj: Object) -> Errors:
    """StatefulSet."""
    spec = spec_of(obj)
    yield from _counts(spec, "replicas", "minReadySeconds", "revisionHistoryLimit")
    management = spec.get("podManagementPolicy")
    if not management:
        yield required_value("spec.podManagementPolicy")
    elif management not in ("OrderedReady", "Parallel"):
        yield invalid_value("spec.podManagementPolicy", management, "must be 'OrderedReady' or 'Parallel'")
    strategy = spec.get("updateStrategy") or {}
    if not strategy.get("type"):
        yield required_value("spec.updateStrategy")
    elif strategy["type"] not in ("OnDelete", "RollingUpdate"):
        yield invalid_value("spec.updateStrategy", strategy, "must be 'RollingUpdate' or 'OnDelete'")
    rolling = strategy.get("rollingUpdate")
    if strategy.get("type") == "OnDelete" and rolling is not None:
        yield invalid_value("spec.updateStrategy.rollingUpdate", rolling, "only allowed for updateStrategy 'RollingUpdate'")
    yield from not_negative("spec.updateStrategy.rollingUpdate.partition", (rolling or {}).get("partition"))
    policy = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    for field in ("whenDeleted", "whenScaled"):
        if policy and policy.get(field) not in ("Retain", "Delete"):
            yield unsupported_value(
                f"spec.persistentVolumeClaimRetentionPolicy.{field}", policy.get(field) or "", ("Retain", "Delete")
            )
    yield from not_negative("spec.ordinals.start", (spec.get("ordinals") or {}).get("start"))
    yield from _template_and_selector(_with_claims(spec), "statefulset")


def _with_claims(spec: Map) -> Map:
    """The spec as its pods will be: each claim template is a volume of theirs too."""
    made = spec.get("template") or {}
    pod = made.get("spec") or {}
    there = {each.get("name") for each in pod.get("volumes") or ()}
    names = [name_of(each) for each in spec.get("volumeClaimTemplates") or ()]
    more = [{"name": each, "persistentVolumeClaim": {"claimName": each}} for each in names if each and each not in there]
    if not more:
        return spec
    return {**spec, "template": {**made, "spec": {**pod, "volumes": [*(pod.get("volumes") or ()), *more]}}}


def stateful_set_update(new: Object, old: Object) -> Errors:
    """What names and stores the pods cannot change."""
    allowed = {*_STATEFUL, "minReadySeconds"}
    after, before = spec_of(new), spec_of(old)
    if any(after.get(key) != before.get(key) for key in {*after, *before} - allowed):
        shown = ", ".join(f"'{each}'" for each in _STATEFUL)
        detail = f"updates to statefulset spec for fields other than {shown} and 'minReadySeconds' are forbidden"
        yield forbidden_value("spec", detail)


def disruption_budget(obj: Object) -> Errors:
    """PodDisruptionBudget."""
    spec = spec_of(obj)
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        yield invalid_value("spec", spec, "minAvailable and maxUnavailable cannot be both set")
    for field in ("minAvailable", "maxUnavailable"):
        yield from count_or_percent(f"spec.{field}", spec.get(field))
        yield from at_most_whole(f"spec.{field}", spec.get(field))
    yield from label_selector("spec.selector", spec.get("selector"))
    policy = spec.get("unhealthyPodEvictionPolicy")
    if policy is not None and policy not in ("IfHealthyBudget", "AlwaysAllow"):
        yield unsupported_value("spec.unhealthyPodEvictionPolicy", policy, ("AlwaysAllow", "IfHealthyBudget"))


def pod_template(obj: Object) -> Errors:
    """PodTemplate."""
    yield from template("template", obj.get("template"))
