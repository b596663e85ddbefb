"""Deployments, ReplicaSets, DaemonSets, StatefulSets and Jobs."""

from __future__ import annotations

from typing import Any

from kubeling.api.labels import from_selector
from kubeling.api.meta import controller_of
from kubeling.api.owner import is_controlled_by
from kubeling.api.resources import PODS, REPLICA_SETS
from kubeling.cli.describing.page import NONE, Page, moment
from kubeling.cli.describing.pods import template
from kubeling.client.rest import Client

Obj = dict[str, Any]

_REVISION = "deployment.kubernetes.io/revision"


async def workload(page: Page, client: Client, obj: Obj) -> None:
    body = {"Deployment": _deployment, "DaemonSet": _daemon_set, "StatefulSet": _stateful_set, "Job": _job}.get(obj["kind"])
    if body is not None:
        await body(page, client, obj)
    else:
        await _replica_set(page, client, obj)


def _head(page: Page, obj: Obj, *, created: bool = False, selector_first: bool = True) -> None:
    meta, spec = obj["metadata"], obj.get("spec") or {}
    selector = str(from_selector(spec["selector"])) if spec.get("selector") else "<unset>"
    page.field("Name", meta["name"])
    page.field("Namespace", meta.get("namespace", ""))
    if created:
        page.field("CreationTimestamp", moment(meta.get("creationTimestamp")))
    if selector_first:
        page.field("Selector", selector)
        if obj["kind"] == "DaemonSet":
            page.mapping("Node-Selector", ((spec.get("template") or {}).get("spec") or {}).get("nodeSelector"))
    page.mapping("Labels", meta.get("labels"))
    page.annotations(meta.get("annotations"))
    if not selector_first:
        page.field("Selector", selector)
    owner = controller_of(obj)
    if owner is not None:
        page.field("Controlled By", f"{owner['kind']}/{owner['name']}")


async def _deployment(page: Page, client: Client, obj: Obj) -> None:
    spec, state = obj.get("spec") or {}, obj.get("status") or {}
    _head(page, obj, created=True, selector_first=False)
    page.field(
        "Replicas",
        f"{spec.get('replicas', 1)} desired | {state.get('updatedReplicas', 0)} updated | {state.get('replicas', 0)} total | "
        f"{state.get('availableReplicas', 0)} available | {state.get('unavailableReplicas', 0)} unavailable",
    )
    strategy = spec.get("strategy") or {}
    page.field("StrategyType", strategy.get("type", ""))
    page.field("MinReadySeconds", spec.get("minReadySeconds", 0))
    if strategy.get("rollingUpdate"):
        rolling = strategy["rollingUpdate"]
        page.field(
            "RollingUpdateStrategy", f"{rolling.get('maxUnavailable')} max unavailable, {rolling.get('maxSurge')} max surge"
        )
    template(page, spec.get("template") or {})
    _conditions(page, state)
    old, new = await _replica_sets(client, obj)
    page.field("OldReplicaSets", ", ".join(map(_progress, old)) or NONE)
    page.field("NewReplicaSet", ", ".join(map(_progress, new)) or NONE)


def _conditions(page: Page, state: Obj) -> None:
    if state.get("conditions"):
        page.line("Conditions:")
        page.table(
            ["Type", "Status", "Reason"],
            [[f"{each['type']} ", each["status"], each.get("reason", "")] for each in state["conditions"]],
        )


async def _replica_sets(client: Client, obj: Obj) -> tuple[list[Obj], list[Obj]]:
    """A Deployment's earlier ReplicaSets, oldest first, and the one of now."""
    selector = str(from_selector(obj["spec"]["selector"]))
    listed = (await client.list(REPLICA_SETS, obj["metadata"].get("namespace"), label_selector=selector)).get("items") or []
    mine = [each for each in listed if is_controlled_by(each, obj)]
    revision = (obj["metadata"].get("annotations") or {}).get(_REVISION)
    new = [each for each in mine if (each["metadata"].get("annotations") or {}).get(_REVISION) == revision]
    old = sorted((each for each in mine if each not in new), key=lambda each: str(each["metadata"]["creationTimestamp"]))
    return old, new


def _progress(replica_set: Obj) -> str:
    made, wanted = (replica_set.get("status") or {}).get("replicas", 0), (replica_set.get("spec") or {}).get("replicas", 0)
    return f"{replica_set['metadata']['name']} ({made}/{wanted} replicas created)"


async def _pods_status(page: Page, client: Client, obj: Obj) -> None:
    selector = str(from_selector(obj["spec"]["selector"]))
    listed = (await client.list(PODS, obj["metadata"].get("namespace"), label_selector=selector)).get("items") or []
    phases = [(each.get("status") or {}).get("phase") for each in listed if is_controlled_by(each, obj)]
    counts = [(word, phases.count(phase)) for word, phase in _PHASES]
    page.field("Pods Status", " / ".join(f"{count} {word}" for word, count in counts))


_PHASES = (("Running", "Running"), ("Waiting", "Pending"), ("Succeeded", "Succeeded"), ("Failed", "Failed"))


async def _replica_set(page: Page, client: Client, obj: Obj) -> None:
    _head(page, obj)
    spec, state = obj.get("spec") or {}, obj.get("status") or {}
    page.field("Replicas", f"{state.get('replicas', 0)} current / {spec.get('replicas', 1)} desired")
    await _pods_status(page, client, obj)
    template(page, spec.get("template") or {})
    _conditions(page, state)


async def _daemon_set(page: Page, client: Client, obj: Obj) -> None:
    _head(page, obj)
    state = obj.get("status") or {}
    for title, key in (
        ("Desired Number of Nodes Scheduled", "desiredNumberScheduled"),
        ("Current Number of Nodes Scheduled", "currentNumberScheduled"),
        ("Number of Nodes Scheduled with Up-to-date Pods", "updatedNumberScheduled"),
        ("Number of Nodes Scheduled with Available Pods", "numberAvailable"),
        ("Number of Nodes Misscheduled", "numberMisscheduled"),
    ):
        page.field(title, state.get(key, 0))
    await _pods_status(page, client, obj)
    template(page, (obj.get("spec") or {}).get("template") or {})


async def _stateful_set(page: Page, client: Client, obj: Obj) -> None:
    _head(page, obj, created=True)
    spec, state = obj.get("spec") or {}, obj.get("status") or {}
    page.field("Replicas", f"{spec.get('replicas', 1)} desired | {state.get('replicas', 0)} total")
    strategy = spec.get("updateStrategy") or {}
    page.field("Update Strategy", strategy.get("type", ""))
    if (strategy.get("rollingUpdate") or {}).get("partition") is not None:
        page.field("Partition", strategy["rollingUpdate"]["partition"], 1)
    await _pods_status(page, client, obj)
    template(page, spec.get("template") or {})
    claims = [each["metadata"]["name"] for each in spec.get("volumeClaimTemplates") or []]
    page.field("Volume Claims", ", ".join(claims) or NONE)


async def _job(page: Page, client: Client, obj: Obj) -> None:
    _head(page, obj)
    spec, state = obj.get("spec") or {}, obj.get("status") or {}
    page.field("Parallelism", spec.get("parallelism", 1))
    page.field("Completions", spec.get("completions", "<unset>"))
    page.field("Completion Mode", spec.get("completionMode", "NonIndexed"))
    for key, title in (("startTime", "Start Time"), ("completionTime", "Completed At")):
        if state.get(key):
            page.field(title, moment(state[key]))
    counts = f"{state.get('active', 0)} Active ({state.get('ready', 0)} Ready) / {state.get('succeeded', 0)} Succeeded"
    page.field("Pods Statuses", f"{counts} / {state.get('failed', 0)} Failed")
    template(page, spec.get("template") or {})
