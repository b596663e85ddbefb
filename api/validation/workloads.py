"""Controllers of pods: Deployments and their kin, Jobs, CronJobs, autoscalers, disruption budgets."""

from __future__ import annotations

import zoneinfo

from kubeling.api import cron
from kubeling.api.errors import forbidden_value, invalid_value, required_value
from kubeling.api.meta import Object, copy_json, name_of, spec_of
from kubeling.api.validation.common import (
    IMMUTABLE,
    Errors,
    Map,
    at_most_whole,
    count_or_percent,
    is_zero,
    label_selector,
    not_negative,
    one_of,
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
    yield from _always(f"{path}.template.spec", found.get("spec") or {})


def _always(path: str, spec: Map) -> Errors:
    if spec.get("restartPolicy") in ("Never", "OnFailure"):
        yield from one_of(f"{path}.restartPolicy", spec["restartPolicy"], ("Always",))
    if spec.get("activeDeadlineSeconds") is not None:
        yield forbidden_value(f"{path}.activeDeadlineSeconds", "activeDeadlineSeconds in ReplicaSet is not Supported")


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
    yield from one_of(f"{path}.type", strategy.get("type"), ("Recreate", "RollingUpdate"))
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
    yield from _always("spec.template.spec", found.get("spec") or {})


def daemon_set(obj: Object) -> Errors:
    """DaemonSet."""
    spec = spec_of(obj)
    yield from _counts(spec, "minReadySeconds", "revisionHistoryLimit")
    yield from _template_and_selector(spec, "daemonset")
    strategy = spec.get("updateStrategy") or {}
    yield from one_of("spec.updateStrategy.type", strategy.get("type"), ("OnDelete", "RollingUpdate"))
    if strategy.get("type") == "RollingUpdate":
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
    yield from one_of("spec.podManagementPolicy", spec.get("podManagementPolicy"), ("OrderedReady", "Parallel"))
    strategy = spec.get("updateStrategy") or {}
    yield from one_of("spec.updateStrategy.type", strategy.get("type"), ("OnDelete", "RollingUpdate"))
    rolling = strategy.get("rollingUpdate")
    if strategy.get("type") == "OnDelete" and rolling is not None:
        yield invalid_value("spec.updateStrategy.rollingUpdate", rolling, "only allowed for updateStrategy 'RollingUpdate'")
    yield from not_negative("spec.updateStrategy.rollingUpdate.partition", (rolling or {}).get("partition"))
    policy = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    for field in ("whenDeleted", "whenScaled"):
        yield from one_of(f"spec.persistentVolumeClaimRetentionPolicy.{field}", policy.get(field), ("Delete", "Retain"))
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


_JOB_COUNTS = (
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
    "backoffLimitPerIndex",
)


def job(obj: Object) -> Errors:
    """Job."""
    spec = spec_of(obj)
    yield from _job_spec("spec", spec)
    selector = spec.get("selector")
    if selector is None:
        yield required_value("spec.selector")
    else:
        yield from label_selector("spec.selector", selector)
        labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
        if not selects(selector, labels):
            yield invalid_value("spec.template.metadata.labels", labels, _MISMATCH)


def _job_spec(path: str, spec: Map) -> Errors:
    for field in _JOB_COUNTS:
        yield from not_negative(f"{path}.{field}", spec.get(field))
    yield from one_of(f"{path}.completionMode", spec.get("completionMode"), ("Indexed", "NonIndexed"), required=False)
    if spec.get("completionMode") == "Indexed" and spec.get("completions") is None:
        yield required_value(f"{path}.completions", "when completion mode is Indexed")
    if spec.get("backoffLimitPerIndex") is not None and spec.get("completionMode") != "Indexed":
        detail = "requires indexed completion mode"
        yield invalid_value(f"{path}.backoffLimitPerIndex", spec["backoffLimitPerIndex"], detail)
    found = spec.get("template") or {}
    yield from template(f"{path}.template", found)
    restart = (found.get("spec") or {}).get("restartPolicy")
    allowed = ("OnFailure", "Never")
    if restart in ("", None, "Always"):
        yield required_value(f"{path}.template.spec.restartPolicy", 'valid values: "OnFailure", "Never"')
    else:
        yield from one_of(f"{path}.template.spec.restartPolicy", restart, allowed)
    if spec.get("podFailurePolicy") and restart != "Never":
        detail = 'only "Never" is supported when podFailurePolicy is specified'
        yield invalid_value(f"{path}.template.spec.restartPolicy", restart, detail)


def job_update(new: Object, old: Object) -> Errors:
    """A job's work cannot change; its pods' placement can while it is suspended and has not begun."""
    after, before = spec_of(new), spec_of(old)
    for field in ("selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex"):
        yield from unchanged(f"spec.{field}", after.get(field), before.get(field))
    elastic = after.get("completionMode") == "Indexed" and after.get("completions") == after.get("parallelism")
    if after.get("completions") != before.get("completions") and not elastic:
        yield invalid_value("spec.completions", after.get("completions"), IMMUTABLE)
    found, held = after.get("template"), before.get("template")
    if found != held and before.get("suspend") and not (old.get("status") or {}).get("startTime"):
        found, held = _unplaced(found or {}), _unplaced(held or {})
    if found != held:
        yield invalid_value("spec.template", after.get("template"), IMMUTABLE)


def _unplaced(found: Map) -> Map:
    """The template without what decides where its pods run."""
    bare: Map = copy_json(found)
    for field in ("nodeSelector", "tolerations", "schedulingGates", "affinity"):
        (bare.get("spec") or {}).pop(field, None)
    for field in ("labels", "annotations"):
        (bare.get("metadata") or {}).pop(field, None)
    return bare


def cron_job(obj: Object) -> Errors:
    """CronJob."""
    if len(name_of(obj)) > 52:
        yield invalid_value("metadata.name", name_of(obj), "must be no more than 52 characters")
    spec = spec_of(obj)
    schedule = spec.get("schedule")
    if not schedule:
        yield required_value("spec.schedule")
    elif "TZ" in schedule:
        yield invalid_value("spec.schedule", schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead")
    else:
        try:
            cron.parse(schedule)
        except ValueError as error:
            yield invalid_value("spec.schedule", schedule, str(error))
    zone = spec.get("timeZone")
    if zone is not None and not _known_zone(zone):
        yield invalid_value("spec.timeZone", zone, f"unknown time zone {zone}")
    yield from one_of("spec.concurrencyPolicy", spec.get("concurrencyPolicy"), ("Allow", "Forbid", "Replace"))
    yield from _counts(spec, "startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit")
    inner = (spec.get("jobTemplate") or {}).get("spec") or {}
    yield from _job_spec("spec.jobTemplate.spec", inner)
    if inner.get("manualSelector"):
        allowed = ("nil", "false")
        yield from one_of("spec.jobTemplate.spec.manualSelector", "true", allowed)


def _known_zone(zone: str) -> bool:
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return zone == "UTC"
    return True


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
    yield from one_of("spec.unhealthyPodEvictionPolicy", policy, ("AlwaysAllow", "IfHealthyBudget"), required=False)


def pod_template(obj: Object) -> Errors:
    """PodTemplate."""
    yield from template("template", obj.get("template"))
