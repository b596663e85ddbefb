"""The arithmetic of a Deployment: surge and unavailability, which ReplicaSet is the new one, how a rollout and a scaling step move the numbers.

Everything here is a function of the Deployment and its ReplicaSets as they are; nothing is remembered. Sizes are given back as a mapping from a
ReplicaSet's name to its new `spec.replicas`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kubeling.api.hashing import canonical_json
from kubeling.api.intstr import scaled
from kubeling.api.meta import annotations_of, copy_json, name_of, spec_of, status_of
from kubeling.controllers.children import oldest_first
from kubeling.controllers.context import Obj

REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAX = "deployment.kubernetes.io/max-replicas"
HASH_LABEL = "pod-template-hash"
#: A Deployment's annotations that its ReplicaSets do not get.
NOT_COPIED = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        REVISION,
        REVISION_HISTORY,
        DESIRED,
        MAX,
        "deprecated.deployment.rollback.to",
    }
)

Sizes = dict[str, int]


def replicas_of(obj: Obj) -> int:
    """`spec.replicas`, 1 where absent."""
    found = spec_of(obj).get("replicas")
    return 1 if found is None else int(found)


def available_of(replica_set: Obj) -> int:
    return int(status_of(replica_set).get("availableReplicas") or 0)


def is_rolling(deployment: Obj) -> bool:
    """The strategy is RollingUpdate, which is also the default."""
    return ((spec_of(deployment).get("strategy") or {}).get("type") or "RollingUpdate") == "RollingUpdate"


def bounds(deployment: Obj) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) as numbers: surge rounded up, unavailability down, and never both 0, or nothing could move."""
    if not is_rolling(deployment):
        return 0, 0
    total = replicas_of(deployment)
    rolling = (spec_of(deployment).get("strategy") or {}).get("rollingUpdate") or {}
    surge = scaled(rolling.get("maxSurge", "25%"), total, round_up=True)
    unavailable = scaled(rolling.get("maxUnavailable", "25%"), total, round_up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, min(unavailable, total)


def same_template(left: Obj, right: Obj) -> bool:
    """Equal but for the hash label."""
    return _without_hash(left) == _without_hash(right)


def _without_hash(template: Obj) -> bytes:
    meta = {key: value for key, value in (template.get("metadata") or {}).items() if key != "creationTimestamp"}
    meta["labels"] = {key: value for key, value in (meta.get("labels") or {}).items() if key != HASH_LABEL}
    return canonical_json({**template, "metadata": meta})


def find_new(deployment: Obj, replica_sets: Iterable[Obj]) -> Obj | None:
    """The ReplicaSet of the Deployment's present template; the oldest, should there be two."""
    template = spec_of(deployment).get("template") or {}
    return next(
        (each for each in oldest_first(replica_sets) if same_template(spec_of(each).get("template") or {}, template)), None
    )


def revision_of(obj: Obj) -> int:
    """The revision annotation, 0 where there is none that is a number."""
    try:
        return int(annotations_of(obj).get(REVISION) or 0)
    except ValueError:
        return 0


def revision_annotations(deployment: Obj, existing: Obj | None, revision: int) -> dict[str, str]:
    """What the new ReplicaSet's annotations should be: the Deployment's, the revision, and the revisions that it had before (after a rollback)."""
    wanted = dict(annotations_of(existing)) if existing else {}
    wanted |= {key: value for key, value in annotations_of(deployment).items() if key not in NOT_COPIED}
    old = revision_of(existing) if existing else 0
    if old < revision:
        if old:
            history = [each for each in wanted.get(REVISION_HISTORY, "").split(",") if each]
            wanted[REVISION_HISTORY] = ",".join([*history, str(old)])
        wanted[REVISION] = str(revision)
    return wanted


def size_annotations(deployment: Obj) -> dict[str, str]:
    """What a ReplicaSet remembers about the size that its Deployment had: proportional scaling rests on it."""
    surge, _ = bounds(deployment)
    return {DESIRED: str(replicas_of(deployment)), MAX: str(replicas_of(deployment) + surge)}


def _desired(replica_set: Obj) -> int | None:
    try:
        return int(annotations_of(replica_set)[DESIRED])
    except (KeyError, ValueError):
        return None


def was_resized(deployment: Obj, replica_sets: Iterable[Obj]) -> bool:
    """The Deployment's `replicas` changed since its ReplicaSets were given their sizes."""
    active = [each for each in replica_sets if replicas_of(each) > 0]
    return any((desired := _desired(each)) is not None and desired != replicas_of(deployment) for each in active)


def new_size(deployment: Obj, replica_sets: Sequence[Obj], current: int) -> int:
    """To how many the new ReplicaSet, now at `current`, may grow."""
    total = replicas_of(deployment)
    if not is_rolling(deployment):
        return total
    surge, _ = bounds(deployment)
    room = total + surge - sum(replicas_of(each) for each in replica_sets)
    return current if room <= 0 else current + min(room, total - current)


def roll_up(deployment: Obj, replica_sets: Sequence[Obj], new: Obj) -> int | None:
    """The new ReplicaSet's next size; None where it has it."""
    total, current = replicas_of(deployment), replicas_of(new)
    if current == total:
        return None
    size = total if current > total else new_size(deployment, replica_sets, current)
    return size if size != current else None


def roll_down(deployment: Obj, replica_sets: Sequence[Obj], new: Obj, old: Sequence[Obj]) -> Sizes:
    """The old ones' next sizes: first what is not available anyway, then as many available pods as may be missing."""
    if not any(replicas_of(each) for each in old):
        return {}
    _, max_unavailable = bounds(deployment)
    must_be_there = replicas_of(deployment) - max_unavailable
    everything = sum(replicas_of(each) for each in replica_sets)
    allowed = everything - must_be_there - (replicas_of(new) - available_of(new))
    if allowed <= 0:
        return {}
    sizes: Sizes = {name_of(each): replicas_of(each) for each in old}
    spent = 0
    for each in oldest_first(old):
        name = name_of(each)
        unhealthy = min(allowed - spent, max(0, sizes[name] - available_of(each)))
        sizes[name] -= unhealthy
        spent += unhealthy
    spare = sum(available_of(each) for each in replica_sets) - must_be_there
    for each in oldest_first(old):
        name = name_of(each)
        fewer = min(max(0, spare), sizes[name])
        sizes[name] -= fewer
        spare -= fewer
    return {name_of(each): sizes[name_of(each)] for each in old if sizes[name_of(each)] != replicas_of(each)}


def scale(deployment: Obj, new: Obj | None, old: Sequence[Obj]) -> Sizes:
    """The sizes after the Deployment's own number changed (or while it is paused), without rolling on."""
    everything = [*old, *([new] if new else [])]
    active = [each for each in everything if replicas_of(each) > 0]
    total = replicas_of(deployment)
    if len(active) <= 1:
        chosen = active[0] if active else new or (max(old, key=lambda each: (revision_of(each), name_of(each))) if old else None)
        return {name_of(chosen): total} if chosen is not None else {}
    if new is not None and _is_saturated(deployment, new):
        return {name_of(each): 0 for each in old if replicas_of(each) > 0}
    return _proportional(deployment, active) if is_rolling(deployment) else {}


def _is_saturated(deployment: Obj, replica_set: Obj) -> bool:
    total = replicas_of(deployment)
    return replicas_of(replica_set) == total and _desired(replica_set) == total and available_of(replica_set) == total


def _proportional(deployment: Obj, active: Sequence[Obj]) -> Sizes:
    """Share what is to be added or removed among the ReplicaSets by their sizes; what rounding leaves goes to the largest."""
    total = replicas_of(deployment)
    surge, _ = bounds(deployment)
    have = sum(replicas_of(each) for each in active)
    to_add = (total + surge if total > 0 else 0) - have
    newer_first = list(reversed(oldest_first(active)))
    # Of two of one size the newer one grows first, and the older one shrinks first.
    order = sorted(newer_first if to_add > 0 else oldest_first(active), key=replicas_of, reverse=True)
    sizes: Sizes = {}
    added = 0
    for each in order:
        share = 0
        if to_add:
            share = _share(deployment, each, surge)
            share = min(share, to_add - added) if to_add > 0 else max(share, to_add - added)
        sizes[name_of(each)] = replicas_of(each) + share
        added += share
    largest = name_of(order[0])
    sizes[largest] = max(0, sizes[largest] + to_add - added)
    return sizes


def _share(deployment: Obj, replica_set: Obj, surge: int) -> int:
    total, size = replicas_of(deployment), replicas_of(replica_set)
    if total == 0:
        return -size
    try:
        reference = int(annotations_of(replica_set)[MAX])
    except (KeyError, ValueError):
        reference = int(status_of(deployment).get("replicas") or 0)
    if reference <= 0:
        return 0
    # Rounded half away from zero.
    return (2 * size * (total + surge) + reference) // (2 * reference) - size


def history_to_drop(deployment: Obj, old: Iterable[Obj]) -> list[Obj]:
    """The old ReplicaSets beyond `revisionHistoryLimit`, oldest revisions first; only those that hold nothing."""
    limit = spec_of(deployment).get("revisionHistoryLimit")
    limit = 10 if limit is None else int(limit)
    candidates = [each for each in old if not each["metadata"].get("deletionTimestamp")]
    candidates.sort(key=lambda each: (revision_of(each), each["metadata"].get("creationTimestamp") or ""))
    excess = candidates[: max(0, len(candidates) - limit)]
    return [each for each in excess if _is_empty(each)]


def _is_empty(replica_set: Obj) -> bool:
    status = status_of(replica_set)
    seen = (status.get("observedGeneration") or 0) >= (replica_set["metadata"].get("generation") or 0)
    return not replicas_of(replica_set) and not (status.get("replicas") or 0) and seen


def new_replica_set(deployment: Obj, replica_sets: Sequence[Obj], hashed: str, revision: int) -> Obj:
    """The body of the ReplicaSet for the present template."""
    template = copy_json(spec_of(deployment).get("template") or {})
    meta = template.setdefault("metadata", {}) or {}
    labels = {**(meta.get("labels") or {}), HASH_LABEL: hashed}
    template["metadata"] = {**meta, "labels": labels}
    selector = copy_json(spec_of(deployment).get("selector") or {})
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH_LABEL: hashed}
    spec: Obj = {"replicas": new_size(deployment, replica_sets, 0), "selector": selector, "template": template}
    if spec_of(deployment).get("minReadySeconds"):
        spec["minReadySeconds"] = spec_of(deployment)["minReadySeconds"]
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{name_of(deployment)}-{hashed}",
            "namespace": deployment["metadata"]["namespace"],
            "labels": labels,
            "annotations": {**revision_annotations(deployment, None, revision), **size_annotations(deployment)},
        },
        "spec": spec,
    }
