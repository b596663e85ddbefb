"""pods/eviction: a deletion that asks the disruption budget first.

A budget's allowance is taken by compare-and-set on its status, so that two evictions at once cannot both have the last one.
"""

from __future__ import annotations

from typing import Any

from kubeling.api import errors, labels, pods, resources
from kubeling.api.conditions import get_condition, set_condition
from kubeling.api.errors import ApiError
from kubeling.api.meta import Object
from kubeling.api.times import format_time
from kubeling.apiserver.admission import doors
from kubeling.apiserver.context import Context
from kubeling.apiserver.handlers import body, delete
from kubeling.apiserver.handlers.common import is_dry_run, store_of
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.registry.store import Change
from kubeling.apiserver.request import Request

_REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."


async def eviction(context: Context, request: Request, served: Served) -> None:
    """POST …/pods/x/eviction."""
    sent = await body.read_kind(request, "policy/v1", "Eviction")
    info = request.info
    name = (sent.get("metadata") or {}).get("name") or info.name
    if name != info.name:
        raise errors.bad_request("name in URL does not match name in Eviction object")
    options: dict[str, Any] = dict(sent.get("deleteOptions") or {})
    delete.check_options(options)
    dry_run = is_dry_run(request, options)
    if dry_run:
        options["dryRun"] = ["All"]
    store = store_of(served)
    pod = (await store.read(info.namespace, info.name)).object()
    await doors.admit(context, request, served, "CREATE", sent, ("policy/v1", "Eviction"), dry_run=dry_run)
    if _counts(pod):
        await _take_allowance(context, info.namespace, pod, dry_run)
        await _mark(context, served, info.namespace, info.name, dry_run)
    options.setdefault("preconditions", {}).setdefault("uid", pod["metadata"]["uid"])
    options["preconditions"].pop("resourceVersion", None)
    await delete.delete_object(context, request, served, info.namespace, info.name, options)
    await request.respond_json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201)


def _counts(pod: Object) -> bool:
    """Whether the pod is one that a budget protects: not over, not still to come, not going anyway."""
    return not pods.is_terminal(pod) and pods.phase_of(pod) != "Pending" and not pod["metadata"].get("deletionTimestamp")


async def _take_allowance(context: Context, namespace: str, pod: Object, dry_run: bool) -> None:
    store = context.kinds.store(resources.POD_DISRUPTION_BUDGETS)
    await store.cache.fresh()
    found = []
    for entry in store.cache.entries(store.collection(namespace)):
        budget = entry.object()
        selector = (budget.get("spec") or {}).get("selector")
        if labels.from_selector(selector).matches(pod["metadata"].get("labels")):
            found.append(budget)
    if len(found) > 1:
        raise errors.internal("This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.")
    if not found:
        return
    ready = pods.is_ready(pod)

    async def mutate(budget: Object) -> Change:
        if not ready and _free_when_unready(budget):
            return Change(budget)
        _check(budget)
        status = budget["status"]
        status["disruptionsAllowed"] -= 1
        status["disruptedPods"] = {
            **(status.get("disruptedPods") or {}),
            pod["metadata"]["name"]: format_time(context.clock.now()),
        }
        return Change(budget)

    await store.change(namespace, found[0]["metadata"]["name"], mutate, dry_run=dry_run)


def _free_when_unready(budget: Object) -> bool:
    """Whether a pod that is not ready may go without asking (KEP-3017)."""
    spec, status = budget.get("spec") or {}, budget.get("status") or {}
    if spec.get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    healthy, desired = status.get("currentHealthy") or 0, status.get("desiredHealthy") or 0
    return bool(healthy >= desired > 0)


def _check(budget: Object) -> None:
    """Raise 429 where the budget allows no disruption now."""
    name = budget["metadata"]["name"]
    status = budget.setdefault("status", {})
    if (status.get("observedGeneration") or 0) < (budget["metadata"].get("generation") or 0):
        raise _refusal(f"The disruption budget {name} is still being processed by the server.")
    if (status.get("disruptionsAllowed") or 0) <= 0:
        needs, has = status.get("desiredHealthy") or 0, status.get("currentHealthy") or 0
        raise _refusal(f"The disruption budget {name} needs {needs} healthy pods and has {has} currently")


def _refusal(why: str) -> ApiError:
    error = errors.too_many_requests(_REFUSED)
    error.status["details"] = {"causes": [{"reason": "DisruptionBudget", "message": why}]}
    return error


async def _mark(context: Context, served: Served, namespace: str, name: str, dry_run: bool) -> None:
    """Say in the pod's status why it goes."""

    async def mutate(pod: Object) -> Change:
        if get_condition(pod, "DisruptionTarget") is None:
            conditions = pod.setdefault("status", {}).setdefault("conditions", [])
            why = "Eviction API: evicting"
            set_condition(
                conditions, "DisruptionTarget", "True", context.clock.now(), reason="EvictionByEvictionAPI", message=why
            )
        return Change(pod)

    await store_of(served).change(namespace, name, mutate, dry_run=dry_run)
