"""Whether a node may go, as far as its own pods say: none that must not be moved, none whose budget is used up; and how much of it is in use.

The reasons are upstream's words, as its status and logs show them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from kubeling.api import pods as podlib
from kubeling.api.labels import from_selector
from kubeling.api.meta import annotations_of, controller_of, is_deleting, labels_of, namespace_of, spec_of, status_of
from kubeling.cloud.autoscaler.daemons import is_daemon, stays
from kubeling.cloud.autoscaler.settings import Settings
from kubeling.cloud.provider import Obj

SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"
SAFE_VOLUMES = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"

Budgets = Callable[[str], Iterable[Obj]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`blocked` is empty where the pods let the node go; then `movable` have to go elsewhere before."""

    blocked: str = ""
    movable: tuple[Obj, ...] = ()


def live(pods: Iterable[Obj]) -> list[Obj]:
    """The pods that are to be moved: not those that are over or going, nor those that belong to the node."""
    return [each for each in pods if podlib.is_active(each) and not stays(each)]


def utilization(node: Obj, pods: Iterable[Obj], settings: Settings) -> float:
    """The greater share of cpu and memory that is requested, from 0 on."""
    counted = [
        each
        for each in pods
        if not podlib.is_terminal(each)
        and not (settings.ignore_daemonsets and is_daemon(each))
        and not (settings.ignore_mirrors and podlib.is_mirror(each))
    ]
    allocatable = status_of(node).get("allocatable") or {}
    shares = []
    for name in ("cpu", "memory"):
        there = podlib.amount_of(name, allocatable.get(name, 0))
        used = sum(podlib.requests_of(each).get(name, 0) for each in counted)
        shares.append(used / there if there else 0.0)
    return max(shares)


def verdict(pods: Iterable[Obj], budgets: Budgets, settings: Settings) -> Verdict:
    """What the pods of a node say."""
    movable = live(pods)
    for pod in movable:
        reason = _blocks(pod, budgets, settings)
        if reason:
            return Verdict(f"{reason}: {namespace_of(pod)}/{pod['metadata']['name']}")
    short = _short_budget(movable, budgets)
    return Verdict(short) if short else Verdict(movable=tuple(movable))


def _blocks(pod: Obj, budgets: Budgets, settings: Settings) -> str:
    said = annotations_of(pod).get(SAFE_TO_EVICT)
    if said == "true" or _is_expendable(pod, settings):
        return ""
    if said == "false":
        return "NotSafeToEvictAnnotation"
    if controller_of(pod) is None:
        return "NotReplicated"
    if settings.skip_system_pods and namespace_of(pod) == "kube-system" and not list(covering(pod, budgets)):
        return "UnmovableKubeSystemPod"
    return "LocalStorageRequested" if settings.skip_local_storage and _local_volumes(pod) else ""


def _is_expendable(pod: Obj, settings: Settings) -> bool:
    return int(spec_of(pod).get("priority") or 0) < settings.expendable_priority


def needs_place(pods: Iterable[Obj], settings: Settings) -> list[Obj]:
    """Those of them that must fit elsewhere: not what may be lost."""
    return [each for each in pods if not _is_expendable(each, settings)]


def _local_volumes(pod: Obj) -> bool:
    safe = {each.strip() for each in (annotations_of(pod).get(SAFE_VOLUMES) or "").split(",")}
    return any(
        each.get("name") not in safe
        and ("hostPath" in each or ("emptyDir" in each and (each.get("emptyDir") or {}).get("medium") != "Memory"))
        for each in spec_of(pod).get("volumes") or ()
    )


def covering(pod: Obj, budgets: Budgets) -> Iterable[Obj]:
    """The budgets that select the pod."""
    for each in budgets(namespace_of(pod)):
        selector = spec_of(each).get("selector")
        if selector is not None and not is_deleting(each) and from_selector(selector).matches(labels_of(pod)):
            yield each


def _short_budget(movable: Sequence[Obj], budgets: Budgets) -> str:
    """The budget that lets fewer pods go than would have to; a pod that is not ready counts too, as upstream has it."""
    needed: dict[tuple[str, str], int] = {}
    for pod in movable:
        for each in covering(pod, budgets):
            key = (namespace_of(each), each["metadata"]["name"])
            needed[key] = needed.get(key, 0) + 1
            if needed[key] > int(status_of(each).get("disruptionsAllowed") or 0):
                return f"NotEnoughPdb: {namespace_of(pod)}/{pod['metadata']['name']}"
    return ""
