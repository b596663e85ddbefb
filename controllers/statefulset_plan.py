"""The decisions of a StatefulSet: which ordinals are missing, which pods go, in which order, and on which revision each is.

Ordered management moves one pod at a time: pods are made from the lowest ordinal up, each after its predecessors are available, and taken away from the
highest down. Parallel management makes and deletes all at once; updates go one by one either way (or as many as `maxUnavailable` allows).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from kubeling.api import pods
from kubeling.api.intstr import scaled
from kubeling.api.meta import (
    copy_json,
    generation_of,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    owner_references_of,
    spec_of,
    status_of,
    uid_of,
)
from kubeling.api.owner import make_owner_reference
from kubeling.api.resources import STATEFUL_SETS
from kubeling.controllers.children import pod_from_template
from kubeling.controllers.context import Obj
from kubeling.controllers.replicas_plan import wanted_replicas
from kubeling.controllers.revisions import HASH_LABEL

POD_NAME, POD_INDEX = "statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index"


@dataclass(slots=True)
class Step:
    """What to do now: (ordinal, on the update revision?) to create, pods to delete (the flag says that the set shrinks), and the new status."""

    status: Obj
    create: list[tuple[int, bool]] = field(default_factory=list)
    delete: list[Obj] = field(default_factory=list)
    condemned: list[Obj] = field(default_factory=list)
    look_again: float | None = None


def ordinal_of(stateful_set: Obj, pod: Obj) -> int | None:
    """The number in the pod's name; None where the name is not one of this set's."""
    parent, _, number = name_of(pod).rpartition("-")
    return int(number) if parent == name_of(stateful_set) and number.isdecimal() else None


def first_ordinal(stateful_set: Obj) -> int:
    return int((spec_of(stateful_set).get("ordinals") or {}).get("start") or 0)


def is_ordered(stateful_set: Obj) -> bool:
    return (spec_of(stateful_set).get("podManagementPolicy") or "OrderedReady") != "Parallel"


def rolling(stateful_set: Obj) -> tuple[int, int] | None:
    """(partition, maxUnavailable) of RollingUpdate; None for OnDelete."""
    strategy = spec_of(stateful_set).get("updateStrategy") or {}
    if (strategy.get("type") or "RollingUpdate") != "RollingUpdate":
        return None
    found = strategy.get("rollingUpdate") or {}
    unavailable = scaled(found.get("maxUnavailable"), wanted_replicas(stateful_set), round_up=True, default=1)
    return int(found.get("partition") or 0), max(1, unavailable)


def claim_name(template: Obj, stateful_set: Obj, ordinal: int) -> str:
    """The PersistentVolumeClaim of a pod: it outlives the pod, and its successor finds it by this name."""
    return f"{name_of(template)}-{name_of(stateful_set)}-{ordinal}"


def claims(stateful_set: Obj, ordinal: int) -> list[Obj]:
    """The claims of one ordinal, as `volumeClaimTemplates` describe them."""
    found: list[Obj] = []
    labels = (spec_of(stateful_set).get("selector") or {}).get("matchLabels") or {}
    for template in spec_of(stateful_set).get("volumeClaimTemplates") or ():
        meta = {key: value for key, value in (template.get("metadata") or {}).items() if key in ("labels", "annotations")}
        meta |= {"name": claim_name(template, stateful_set, ordinal), "namespace": namespace_of(stateful_set)}
        meta["labels"] = {**(meta.get("labels") or {}), **labels}
        found.append(
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": copy_json(template.get("spec") or {})}
        )
    return found


def claim_owners(stateful_set: Obj, pod: Obj, claim: Obj, *, condemned: bool) -> list[Obj] | None:
    """Whose a claim is to be by the retention policy: the set's, so that it goes with it, or a pod's that goes for good; None where that is so already.

    A claim that somebody else controls is left alone.
    """
    policy = spec_of(stateful_set).get("persistentVolumeClaimRetentionPolicy") or {}
    scaled_away, deleted = (policy.get(each) == "Delete" for each in ("whenScaled", "whenDeleted"))
    ours = {uid_of(stateful_set), uid_of(pod)}
    held = owner_references_of(claim)
    if any(each.get("controller") and each.get("uid") not in ours for each in held):
        return None
    # An earlier pod of that name that owned it is no more, and would take it along.
    kept = [
        each
        for each in held
        if each.get("uid") not in ours and not (each.get("kind") == "Pod" and each.get("name") == name_of(pod))
    ]
    if scaled_away and condemned:
        kept.append(make_owner_reference(pod, "v1", "Pod"))
    elif deleted:
        kept.append(make_owner_reference(stateful_set, STATEFUL_SETS.group_version, STATEFUL_SETS.kind))
    return None if _owners(kept) == _owners(held) else kept


def _owners(references: Sequence[Obj]) -> set[str]:
    return {each.get("uid", "") for each in references}


def stateful_pod(stateful_set: Obj, template: Obj, revision: str, ordinal: int) -> Obj:
    """The pod of an ordinal on a revision, with the identity that its successors will have too."""
    name = f"{name_of(stateful_set)}-{ordinal}"
    pod = pod_from_template(template, stateful_set, STATEFUL_SETS, name)
    pod["metadata"]["labels"] |= {HASH_LABEL: revision, POD_NAME: name, POD_INDEX: str(ordinal)}
    spec = pod["spec"]
    spec["hostname"] = name
    if spec_of(stateful_set).get("serviceName"):
        spec["subdomain"] = spec_of(stateful_set)["serviceName"]
    volumes = {
        name_of(each): {"name": name_of(each), "persistentVolumeClaim": {"claimName": claim_name(each, stateful_set, ordinal)}}
        for each in spec_of(stateful_set).get("volumeClaimTemplates") or ()
    }
    kept = [each for each in spec.get("volumes") or () if each.get("name") not in volumes]
    if volumes or kept:
        spec["volumes"] = [*kept, *volumes.values()]
    return pod


def revision_of(pod: Obj) -> str:
    return labels_of(pod).get(HASH_LABEL) or ""


def plan(stateful_set: Obj, mine: Sequence[Obj], current: str, update: str, now: datetime) -> Step:
    """One step. `current` and `update` are the names of the revisions from which and to which the set moves."""
    start, wanted = first_ordinal(stateful_set), wanted_replicas(stateful_set)
    by_ordinal = {ordinal: each for each in mine if (ordinal := ordinal_of(stateful_set, each)) is not None}
    step = Step(_status(stateful_set, mine, current, update, now))
    if is_deleting(stateful_set):
        return step
    inside = range(start, start + wanted)
    if _build(stateful_set, step, by_ordinal, inside, now):
        return step
    if _shrink(stateful_set, step, by_ordinal, inside, now):
        return step
    _update(stateful_set, step, by_ordinal, inside, update, now)
    return step


def _on_update(stateful_set: Obj, ordinal: int) -> bool:
    """Whether a pod that is made now is of the update revision: those below the partition, or not yet rolled to, are not."""
    strategy = spec_of(stateful_set).get("updateStrategy") or {}
    if rolling(stateful_set) is None:
        return True
    place = ordinal - first_ordinal(stateful_set)
    if strategy.get("rollingUpdate") is not None:
        return place >= int(strategy["rollingUpdate"].get("partition") or 0)
    return place >= int(status_of(stateful_set).get("currentReplicas") or 0)


def _build(stateful_set: Obj, step: Step, by_ordinal: Mapping[int, Obj], inside: range, now: datetime) -> bool:
    """Make what is missing and replace what has ended. True: nothing else is to be done before that is well."""
    ordered = is_ordered(stateful_set)
    acted = False
    for ordinal in inside:
        pod = by_ordinal.get(ordinal)
        if pod is None:
            step.create.append((ordinal, _on_update(stateful_set, ordinal)))
            acted = True
        elif pods.is_terminal(pod) and not is_deleting(pod):
            step.delete.append(pod)
            acted = True
        elif ordered and not _is_available(stateful_set, pod, now, step):
            return True
        if acted and ordered:
            return True
    return acted and ordered


def _shrink(stateful_set: Obj, step: Step, by_ordinal: Mapping[int, Obj], inside: range, now: datetime) -> bool:
    """Take away what is outside, the highest first."""
    ordered = is_ordered(stateful_set)
    outside = sorted((each for each in by_ordinal if each not in inside), reverse=True)
    for ordinal in outside:
        pod = by_ordinal[ordinal]
        if is_deleting(pod):
            if ordered:
                return True
            continue
        step.condemned.append(pod)
        if ordered:
            return True
    return bool(outside) and ordered


def _update(stateful_set: Obj, step: Step, by_ordinal: Mapping[int, Obj], inside: range, update: str, now: datetime) -> None:
    """Delete the highest pods of an older revision, as long as not too many are unavailable."""
    moving = rolling(stateful_set)
    if moving is None:
        return
    partition, allowed = moving
    lowest = inside.start + partition
    unavailable = sum(
        1 for each in inside if each not in by_ordinal or not _is_available(stateful_set, by_ordinal[each], now, step)
    )
    gone = {name_of(each) for each in step.delete}
    for ordinal in reversed(inside):
        pod = by_ordinal.get(ordinal)
        if ordinal < lowest or pod is None:
            continue
        if revision_of(pod) == update or is_deleting(pod) or name_of(pod) in gone:
            continue
        broken = not _is_available(stateful_set, pod, now, step)
        # A pod that is unavailable anyway, of an old revision, costs nothing.
        if not broken and unavailable >= allowed:
            return
        unavailable += not broken
        step.delete.append(pod)
        if unavailable >= allowed:
            return


def _is_available(stateful_set: Obj, pod: Obj, now: datetime, step: Step) -> bool:
    if is_deleting(pod) or not pods.is_ready(pod):
        return False
    wait = pods.seconds_until_available(pod, spec_of(stateful_set).get("minReadySeconds") or 0, now)
    if wait > 0:
        step.look_again = wait if step.look_again is None else min(wait, step.look_again)
    return wait == 0


def _status(stateful_set: Obj, mine: Sequence[Obj], current: str, update: str, now: datetime) -> Obj:
    min_ready = spec_of(stateful_set).get("minReadySeconds") or 0
    living = [each for each in mine if not is_deleting(each)]
    ready = [each for each in mine if pods.is_ready(each)]
    status: Obj = {
        "observedGeneration": generation_of(stateful_set),
        "replicas": len(mine),
        "readyReplicas": len(ready),
        "availableReplicas": sum(1 for each in ready if pods.is_available(each, min_ready, now)),
        "currentReplicas": sum(1 for each in living if revision_of(each) == current),
        "updatedReplicas": sum(1 for each in living if revision_of(each) == update),
        "currentRevision": current,
        "updateRevision": update,
    }
    for kept in ("collisionCount", "conditions"):
        if status_of(stateful_set).get(kept) is not None:
            status[kept] = status_of(stateful_set)[kept]
    wanted = wanted_replicas(stateful_set)
    done = status["updatedReplicas"] == status["replicas"] == status["readyReplicas"] == wanted
    if rolling(stateful_set) is not None and done:
        status |= {"currentRevision": update, "currentReplicas": status["updatedReplicas"]}
    return status
