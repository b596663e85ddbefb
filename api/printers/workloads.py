"""Rows of the controllers of pods."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kubeling.api.conditions import find_condition
from kubeling.api.labels import format_labels
from kubeling.api.meta import Object, controller_of, is_deleting, spec_of, status_of
from kubeling.api.printers.columns import (
    AGE,
    CONTAINERS,
    IMAGES,
    NAME,
    NONE,
    SELECTOR,
    UNKNOWN,
    UNSET,
    Cells,
    Column,
    Printer,
    boolean,
    container_cells,
    name,
    selector_text,
    since,
    template_cells,
)
from kubeling.api.times import age, human_duration, parse_time

_TEMPLATE = (CONTAINERS, IMAGES, SELECTOR)


def _integer(title: str, description: str) -> Column:
    return Column(title, description, "integer")


def _deployment(obj: Object, now: datetime) -> Cells:
    spec, status = spec_of(obj), status_of(obj)
    return [
        name(obj),
        f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}",
        status.get("updatedReplicas") or 0,
        status.get("availableReplicas") or 0,
        since(obj, now),
        *template_cells(spec),
        selector_text(spec.get("selector")),
    ]


DEPLOYMENT = Printer(
    (
        NAME,
        Column("Ready", "How many pods are ready, of how many wished for."),
        _integer("Up-to-date", "Pods of the newest template."),
        _integer("Available", "Pods that have been ready for long enough."),
        AGE,
        *_TEMPLATE,
    ),
    _deployment,
)

_REPLICAS = (
    NAME,
    _integer("Desired", "Pods wished for."),
    _integer("Current", "Pods that there are."),
    _integer("Ready", "Pods that are ready."),
    AGE,
    *_TEMPLATE,
)


def _replicas(obj: Object, now: datetime) -> Cells:
    spec, status = spec_of(obj), status_of(obj)
    selector = spec.get("selector")
    plain = obj.get("kind") == "ReplicationController" or _is_plain(selector)
    return [
        name(obj),
        spec.get("replicas") or 0,
        status.get("replicas") or 0,
        status.get("readyReplicas") or 0,
        since(obj, now),
        *template_cells(spec),
        format_labels(selector) if plain else selector_text(selector),
    ]


def _is_plain(selector: dict[str, Any] | None) -> bool:
    return any(isinstance(value, str) for value in (selector or {}).values())


REPLICA_SET = Printer(_REPLICAS, _replicas)
REPLICATION_CONTROLLER = Printer(_REPLICAS, _replicas)


def _daemon_set(obj: Object, now: datetime) -> Cells:
    spec, status = spec_of(obj), status_of(obj)
    counts = ("desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled", "numberAvailable")
    chosen = ((spec.get("template") or {}).get("spec") or {}).get("nodeSelector")
    return [
        name(obj),
        *(status.get(each) or 0 for each in counts),
        format_labels(chosen),
        since(obj, now),
        *template_cells(spec),
        selector_text(spec.get("selector")),
    ]


DAEMON_SET = Printer(
    (
        NAME,
        _integer("Desired", "Nodes that shall run a pod."),
        _integer("Current", "Nodes that run one."),
        _integer("Ready", "Nodes on which it is ready."),
        _integer("Up-to-date", "Nodes whose pod is of the newest template."),
        _integer("Available", "Nodes on which it has been ready for long enough."),
        Column("Node Selector", "Labels of the nodes that it is for."),
        AGE,
        *_TEMPLATE,
    ),
    _daemon_set,
)


def _stateful_set(obj: Object, now: datetime) -> Cells:
    spec, status = spec_of(obj), status_of(obj)
    ready = f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}"
    return [name(obj), ready, since(obj, now), *template_cells(spec)]


STATEFUL_SET = Printer(
    (NAME, Column("Ready", "How many pods are ready, of how many wished for."), AGE, CONTAINERS, IMAGES), _stateful_set
)

_JOB_STATES = (("Suspended", "Suspended"), ("FailureTarget", "FailureTarget"), ("SuccessCriteriaMet", "SuccessCriteriaMet"))


def _job_state(obj: Object) -> str:
    conditions = status_of(obj).get("conditions")

    def holds(kind: str) -> bool:
        return (find_condition(conditions, kind) or {}).get("status") == "True"

    if holds("Complete"):
        return "Complete"
    if holds("Failed"):
        return "Failed"
    if is_deleting(obj):
        return "Terminating"
    return next((shown for kind, shown in _JOB_STATES if holds(kind)), "Running")


def _job(obj: Object, now: datetime) -> Cells:
    spec, status = spec_of(obj), status_of(obj)
    done, parallel = status.get("succeeded") or 0, spec.get("parallelism") or 0
    if spec.get("completions") is not None:
        completions = f"{done}/{spec['completions']}"
    else:
        completions = f"{done}/1 of {parallel}" if parallel > 1 else f"{done}/1"
    begun, ended = status.get("startTime"), status.get("completionTime")
    took = ""
    if begun:
        took = human_duration((parse_time(ended) if ended else now) - parse_time(begun))
    return [
        name(obj),
        _job_state(obj),
        completions,
        took,
        since(obj, now),
        *template_cells(spec),
        selector_text(spec.get("selector")),
    ]


JOB = Printer(
    (
        NAME,
        Column("Status", "What the job is doing."),
        Column("Completions", "How many pods have succeeded, of how many wished for."),
        Column("Duration", "How long it has run, or ran."),
        AGE,
        *_TEMPLATE,
    ),
    _job,
)


def _cron_job(obj: Object, now: datetime) -> Cells:
    spec, status = spec_of(obj), status_of(obj)
    inner = (spec.get("jobTemplate") or {}).get("spec") or {}
    last = status.get("lastScheduleTime")
    return [
        name(obj),
        spec.get("schedule") or "",
        spec.get("timeZone") or NONE,
        boolean(spec.get("suspend")),
        len(status.get("active") or ()),
        age(last, now) if last else NONE,
        since(obj, now),
        *template_cells(inner),
        selector_text(inner.get("selector")),
    ]


CRON_JOB = Printer(
    (
        NAME,
        Column("Schedule", "When it runs, in cron's notation."),
        Column("Timezone", "Time zone of the schedule."),
        Column("Suspend", "Whether no more runs are begun.", "boolean"),
        _integer("Active", "Runs that are at work."),
        Column("Last Schedule", "How long ago the last run was begun."),
        AGE,
        *_TEMPLATE,
    ),
    _cron_job,
)


def _pod_template(obj: Object, now: datetime) -> Cells:
    template = obj.get("template") or {}
    return [name(obj), *container_cells(template.get("spec")), format_labels((template.get("metadata") or {}).get("labels"))]


POD_TEMPLATE = Printer(
    (
        NAME,
        Column("Containers", "Names of the containers in the template."),
        Column("Images", "Images of the containers in the template."),
        Column("Pod Labels", "Labels of the template."),
    ),
    _pod_template,
)


def _controller_revision(obj: Object, now: datetime) -> Cells:
    owner = controller_of(obj)
    called = NONE
    if owner:
        group = (owner.get("apiVersion") or "").rpartition("/")[0]
        called = f"{owner.get('kind', '').lower()}{'.' + group if group else ''}/{owner.get('name')}"
    return [name(obj), called, obj.get("revision") or 0, since(obj, now)]


CONTROLLER_REVISION = Printer(
    (NAME, Column("Controller", "Whose revision it is."), Column("Revision", "Number of the revision."), AGE),
    _controller_revision,
)


def _budget(obj: Object, now: datetime) -> Cells:
    spec, status = spec_of(obj), status_of(obj)
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    shown = ["N/A" if each is None else str(each) for each in (least, most)]
    return [name(obj), *shown, status.get("disruptionsAllowed") or 0, since(obj, now)]


DISRUPTION_BUDGET = Printer(
    (
        NAME,
        Column("Min Available", "Pods that must stay available."),
        Column("Max Unavailable", "Pods that may be unavailable."),
        _integer("Allowed Disruptions", "Pods that may be evicted right now."),
        AGE,
    ),
    _budget,
)


def _autoscaler(obj: Object, now: datetime) -> Cells:
    spec, status = spec_of(obj), status_of(obj)
    target = spec.get("scaleTargetRef") or {}
    least = spec.get("minReplicas")
    return [
        name(obj),
        f"{target.get('kind')}/{target.get('name')}",
        _targets(spec, status),
        UNSET if least is None else str(least),
        spec.get("maxReplicas") or 0,
        status.get("currentReplicas") or 0,
        since(obj, now),
    ]


_SOURCES = {
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "Pods": "pods",
    "Object": "object",
    "External": "external",
}


def _targets(spec: dict[str, Any], status: dict[str, Any]) -> str:
    if "metrics" not in spec and "targetCPUUtilizationPercentage" in spec:
        now_at = status.get("currentCPUUtilizationPercentage")
        shown = UNKNOWN if now_at is None else f"{now_at}%"
        return f"cpu: {shown}/{spec['targetCPUUtilizationPercentage']}%"
    metrics = spec.get("metrics") or []
    if not metrics:
        return NONE
    current = status.get("currentMetrics") or []
    shown_all = [_target(each, current[at] if at < len(current) else {}) for at, each in enumerate(metrics)]
    text = ", ".join(shown_all[:2])
    return f"{text} + {len(shown_all) - 2} more..." if len(shown_all) > 2 else text


def _target(metric: dict[str, Any], status: dict[str, Any]) -> str:
    field = _SOURCES.get(metric.get("type") or "", "")
    source = metric.get(field) or {}
    wished = source.get("target") or {}
    current = (status.get(field) or {}).get("current") or {}
    suffix = " (avg)" if metric.get("type") in ("Object", "External") and wished.get("averageValue") is not None else ""
    prefix = f"{source.get('name')}: " if field in ("resource", "containerResource") else ""
    for key, unit in (("averageValue", ""), ("averageUtilization", "%"), ("value", "")):
        if wished.get(key) is not None:
            at = current.get(key)
            return f"{prefix}{UNKNOWN if at is None else f'{at}{unit}'}/{wished[key]}{unit}{suffix}"
    return f"{prefix}{UNKNOWN}/<auto>"


AUTOSCALER = Printer(
    (
        NAME,
        Column("Reference", "What is scaled."),
        Column("Targets", "Where the metrics are, and where they shall be."),
        Column("MinPods", "Fewest pods."),
        Column("MaxPods", "Most pods."),
        Column("Replicas", "Pods that there are."),
        AGE,
    ),
    _autoscaler,
)


def _scale(obj: Object, now: datetime) -> Cells:
    return [name(obj), spec_of(obj).get("replicas") or 0, status_of(obj).get("replicas") or 0, since(obj, now)]


SCALE = Printer((NAME, _integer("Desired", "Pods wished for."), _integer("Available", "Pods that there are."), AGE), _scale)
