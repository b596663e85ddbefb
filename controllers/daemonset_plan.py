"""The decisions of a DaemonSet: on which nodes a pod belongs, which pods to make and delete, and how an update moves over the nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from kubeling.api import pods, taints
from kubeling.api.affinity import pod_matches_node
from kubeling.api.intstr import scaled
from kubeling.api.meta import generation_of, is_deleting, labels_of, name_of, spec_of, status_of
from kubeling.api.resources import DAEMON_SETS
from kubeling.controllers.children import oldest_first, pod_from_template
from kubeling.controllers.context import Obj
from kubeling.controllers.revisions import HASH_LABEL

GENERATION_LABEL = "pod-template-generation"
BURST = 250

_ALWAYS_TOLERATED = (
    (taints.NOT_READY, taints.NO_EXECUTE),
    (taints.UNREACHABLE, taints.NO_EXECUTE),
    (taints.DISK_PRESSURE, taints.NO_SCHEDULE),
    (taints.MEMORY_PRESSURE, taints.NO_SCHEDULE),
    (taints.PID_PRESSURE, taints.NO_SCHEDULE),
    (taints.UNSCHEDULABLE, taints.NO_SCHEDULE),
)


def daemon_pod(daemon_set: Obj, node: str, name: str, hashed: str) -> Obj:
    """The pod for a node: bound to it by affinity, tolerant of what a daemon has to live with."""
    pod = pod_from_template(spec_of(daemon_set).get("template") or {}, daemon_set, DAEMON_SETS, name)
    pod["metadata"]["labels"] |= {HASH_LABEL: hashed, GENERATION_LABEL: str(generation_of(daemon_set))}
    spec = pod["spec"]
    spec["affinity"] = _on_node(spec.get("affinity") or {}, node)
    wanted = list(_ALWAYS_TOLERATED)
    if spec.get("hostNetwork"):
        wanted.append((taints.NETWORK_UNAVAILABLE, taints.NO_SCHEDULE))
    tolerations = list(spec.get("tolerations") or ())
    for key, effect in wanted:
        toleration = {"key": key, "operator": "Exists", "effect": effect}
        if toleration not in tolerations:
            tolerations.append(toleration)
    spec["tolerations"] = tolerations
    return pod


def _on_node(affinity: Obj, node: str) -> Obj:
    """The affinity with `metadata.name` pinned in every required term, or in one where there are none."""
    here = [{"key": "metadata.name", "operator": "In", "values": [node]}]
    required = (affinity.get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = [{**each, "matchFields": here} for each in required.get("nodeSelectorTerms") or ()] or [{"matchFields": here}]
    node_affinity = {
        **(affinity.get("nodeAffinity") or {}),
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms},
    }
    return {**affinity, "nodeAffinity": node_affinity}


def target_node(pod: Obj) -> str:
    """The node it runs on, or is meant for by its affinity."""
    if pods.node_of(pod):
        return pods.node_of(pod)
    affinity = (spec_of(pod).get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for each in term.get("matchFields") or ():
            if each.get("key") == "metadata.name" and each.get("operator") == "In" and len(each.get("values") or ()) == 1:
                return str(each["values"][0])
    return ""


class Fit:
    """Where a DaemonSet's pods belong; made once for a step, asked for every node."""

    def __init__(self, daemon_set: Obj) -> None:
        # The template as it is, without the pin to a node: that would let it fit nowhere else.
        template = spec_of(daemon_set).get("template") or {}
        self._pod = {"metadata": template.get("metadata") or {}, "spec": template.get("spec") or {}}
        self._node = self._pod["spec"].get("nodeName")
        self._tolerations = daemon_pod(daemon_set, "", "x", "")["spec"]["tolerations"]

    def __call__(self, node: Obj) -> tuple[bool, bool]:
        """(should run there, may go on running there). A NoSchedule taint keeps new pods away, not those that run."""
        if self._node and self._node != name_of(node):
            return False, False
        if not pod_matches_node(self._pod, node):
            return False, False
        found = spec_of(node).get("taints")
        if not found or taints.untolerated(found, self._tolerations) is None:
            return True, True
        return False, taints.untolerated(found, self._tolerations, (taints.NO_EXECUTE,)) is None


@dataclass(slots=True)
class Plan:
    """What to do: nodes that get a pod, pods that go; nodes whose daemon failed, to be tried again with back-off."""

    create: list[str] = field(default_factory=list)
    delete: list[Obj] = field(default_factory=list)
    failed: list[tuple[str, Obj]] = field(default_factory=list)

    def merge(self, other: Plan) -> None:
        self.create += [each for each in other.create if each not in self.create]
        gone = {name_of(each) for each in self.delete}
        self.delete += [each for each in other.delete if name_of(each) not in gone]


def surge_and_unavailable(daemon_set: Obj, desired: int) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) of RollingUpdate as numbers."""
    rolling = (spec_of(daemon_set).get("updateStrategy") or {}).get("rollingUpdate") or {}
    surge = scaled(rolling.get("maxSurge", 0), desired, round_up=True)
    unavailable = scaled(rolling.get("maxUnavailable", 1 if not surge else 0), desired, round_up=True)
    return surge, unavailable if surge or unavailable else 1


def is_rolling(daemon_set: Obj) -> bool:
    return ((spec_of(daemon_set).get("updateStrategy") or {}).get("type") or "RollingUpdate") == "RollingUpdate"


def is_updated(pod: Obj, hashed: str) -> bool:
    return labels_of(pod).get(HASH_LABEL) == hashed


def place(
    daemon_set: Obj, nodes: Sequence[Obj], by_node: Mapping[str, Sequence[Obj]], hashed: str, available: Callable[[Obj], bool]
) -> Plan:
    """One pod on every node where one belongs, none where none may be. An update is not driven here."""
    plan = Plan()
    surge = surge_and_unavailable(daemon_set, len(nodes))[0] if is_rolling(daemon_set) else 0
    fit = Fit(daemon_set)
    for node in nodes:
        name = name_of(node)
        here = by_node.get(name, ())
        run, stay = fit(node)
        if not stay:
            plan.delete += [each for each in here if not is_deleting(each)]
            continue
        if run and not here:
            plan.create.append(name)
            continue
        running: list[Obj] = []
        for each in here:
            if is_deleting(each):
                continue
            if pods.is_terminal(each):
                plan.failed.append((name, each))
            else:
                running.append(each)
        plan.delete += _surplus(oldest_first(running), hashed, surge > 0, available)
    known = {name_of(each) for each in nodes}
    for name, here in by_node.items():
        if name and name not in known:
            # The node is gone; a pod that never started there has nobody else to delete it.
            plan.delete += [each for each in here if not pods.node_of(each) and not is_deleting(each)]
    return plan


def _surplus(running: Sequence[Obj], hashed: str, surging: bool, available: Callable[[Obj], bool]) -> list[Obj]:
    """The pods beyond the one that a node needs; while surging, beyond one old and one new."""
    if not surging:
        return list(running[1:])
    new = [each for each in running if is_updated(each, hashed)]
    old = [each for each in running if not is_updated(each, hashed)]
    surplus = [*new[1:], *old[1:]]
    if new and old and (available(new[0]) or not pods.is_ready(old[0])):
        surplus.append(old[0])
    return surplus


def update(
    daemon_set: Obj, nodes: Sequence[Obj], by_node: Mapping[str, Sequence[Obj]], hashed: str, available: Callable[[Obj], bool]
) -> Plan:
    """The next step of a RollingUpdate: old pods to delete, or (surging) nodes to get a new pod beside the old one."""
    fit = Fit(daemon_set)
    here = [name_of(each) for each in nodes if fit(each)[0]]
    surge, unavailable = surge_and_unavailable(daemon_set, len(here))
    plan = Plan()
    candidates: list[Obj] = []
    nodes_to_surge: list[str] = []
    spent = 0
    for name in here:
        living = [each for each in by_node.get(name, ()) if not is_deleting(each)]
        new = [each for each in living if is_updated(each, hashed)]
        old = [each for each in living if not is_updated(each, hashed)]
        if len(new) > 1 or len(old) > 1:
            spent += 1  # Placing cleans this up first.
        elif surge:
            spent += _surge_step(name, new, old, available, plan, nodes_to_surge)
        elif bool(new) == bool(old):
            spent += 1
        elif new:
            spent += not available(new[0])
        elif not available(old[0]):
            spent += 1
            plan.delete.append(old[0])
        else:
            candidates.append(old[0])
    if surge:
        plan.create += nodes_to_surge[: max(0, surge - spent)]
    else:
        plan.delete += candidates[: max(0, unavailable - spent)]
    return plan


def _surge_step(
    name: str, new: Sequence[Obj], old: Sequence[Obj], available: Callable[[Obj], bool], plan: Plan, nodes_to_surge: list[str]
) -> int:
    if not old:
        return 0
    if not new:
        if available(old[0]):
            nodes_to_surge.append(name)
        else:
            plan.create.append(name)  # Nothing is lost there.
        return 0
    if available(new[0]):
        plan.delete.append(old[0])
    return 1


def new_status(daemon_set: Obj, nodes: Sequence[Obj], by_node: Mapping[str, Sequence[Obj]], hashed: str, now: datetime) -> Obj:
    """The counts over the nodes."""
    counts = dict.fromkeys(
        (
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "updatedNumberScheduled",
            "numberAvailable",
        ),
        0,
    )
    min_ready = spec_of(daemon_set).get("minReadySeconds") or 0
    fit = Fit(daemon_set)
    for node in nodes:
        here = oldest_first(each for each in by_node.get(name_of(node), ()) if not pods.is_terminal(each))
        run, _ = fit(node)
        if not run:
            counts["numberMisscheduled"] += bool(here)
            continue
        counts["desiredNumberScheduled"] += 1
        if not here:
            continue
        counts["currentNumberScheduled"] += 1
        # While surging there are two: the ready one counts.
        ready = [each for each in here if pods.is_ready(each) and not is_deleting(each)]
        counts["numberReady"] += bool(ready)
        counts["numberAvailable"] += any(pods.is_available(each, min_ready, now) for each in ready)
        counts["updatedNumberScheduled"] += any(is_updated(each, hashed) for each in here)
    status: Obj = {
        **counts,
        "numberUnavailable": counts["desiredNumberScheduled"] - counts["numberAvailable"],
        "observedGeneration": generation_of(daemon_set),
    }
    for kept in ("collisionCount", "conditions"):
        if status_of(daemon_set).get(kept) is not None:
            status[kept] = status_of(daemon_set)[kept]
    return status
