"""In-place resize (KEP-1287): what a pod asks for, what it has been given, and what its containers run with.

A pod's spec is a wish. What the node has *allocated* to it is what counts, for other pods and for its own containers, and it follows the wish only when that
fits; until then the resize is pending: `Deferred` while others are in the way, `Infeasible` when it is more than the node has. What a container was started or last
updated with is *actuated*; while that differs from what is allocated, the resize is in progress. A kubelet that starts again knows both.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubeling.api.meta import Object, copy_json, spec_of, uid_of
from kubeling.api.pods import requests_of
from kubeling.daemon.log import get_logger
from kubeling.kubelet import checkpoint
from kubeling.kubelet.admission import allocatable_of
from kubeling.kubelet.manifests import is_static
from kubeling.kubelet.podstate import PodRuntime

log = get_logger("kubelet.allocation")

RESIZABLE = ("cpu", "memory")
Resources = dict[str, Any]
#: Container → its `resources`.
PerContainer = dict[str, Resources]


@dataclass(frozen=True, slots=True)
class Resize:
    """How a pod's resize stands: (reason, message) of PodResizePending, and whether containers still have to follow."""

    pending: tuple[str, str] | None = None
    in_progress: bool = False
    #: What went wrong when the runtime was asked to follow.
    error: str = ""
    #: What each container runs with.
    actuated: PerContainer = field(default_factory=dict)


def containers_in(pod: Object) -> list[dict[str, Any]]:
    """Those whose resources may change: containers and init containers."""
    spec = spec_of(pod)
    return [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


def resources_in(pod: Object) -> PerContainer:
    return {each["name"]: copy_json(each.get("resources") or {}) for each in containers_in(pod)}


def with_resources(pod: Object, resources: PerContainer) -> Object:
    """The pod with these resources in the place of its own; the same object where they are the same."""
    if all(
        (each.get("resources") or {}) == resources.get(each["name"], each.get("resources") or {}) for each in containers_in(pod)
    ):
        return pod
    spec = dict(spec_of(pod))
    for kind in ("initContainers", "containers"):
        if spec.get(kind):
            spec[kind] = [{**each, "resources": resources.get(each["name"], each.get("resources") or {})} for each in spec[kind]]
    return {**pod, "spec": spec}


def differs(wanted: Resources, actual: Resources) -> list[str]:
    """The resources, of those that can be changed in place, of which a container has something else."""
    return [
        name
        for name in RESIZABLE
        if any((wanted.get(kind) or {}).get(name) != (actual.get(kind) or {}).get(name) for kind in ("requests", "limits"))
    ]


def restarts(container: dict[str, Any], changed: Iterable[str]) -> bool:
    """Whether one of the resources that change has the policy RestartContainer."""
    policies = {each.get("resourceName"): each.get("restartPolicy") for each in container.get("resizePolicy") or ()}
    return any(policies.get(name) == "RestartContainer" for name in changed)


def fits(pod: Object, others: Iterable[Object], node: Object | None) -> tuple[str, str] | None:
    """Why what the pod wishes cannot be given to it, as (reason, message); None where it can."""
    if is_static(pod):
        return "Infeasible", "In-place resize of static-pods is not supported"
    if node is None:
        return "Deferred", "The node is not known yet"
    allocatable, wanted = allocatable_of(node), requests_of(pod)
    for name in RESIZABLE:
        if wanted.get(name, 0) > allocatable.get(name, 0):
            have = allocatable.get(name, 0)
            return "Infeasible", f"Node didn't have enough capacity: {name}, requested: {wanted[name]}, capacity: {have}"
    used = dict.fromkeys(RESIZABLE, 0)
    for each in others:
        held = requests_of(each)
        for name in RESIZABLE:
            used[name] += held.get(name, 0)
    for name in RESIZABLE:
        if wanted.get(name, 0) + used[name] > allocatable.get(name, 0):
            amounts = f"requested: {wanted.get(name, 0)}, used: {used[name]}, capacity: {allocatable.get(name, 0)}"
            return "Deferred", f"Node didn't have enough resource: {name}, {amounts}"
    return None


class Allocations:
    """The record of both. What a container was started with stands in its own annotations; only what came after that is in the file at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        found = checkpoint.load(path) or {}
        self._allocated: dict[str, PerContainer] = found.get("allocated") or {}
        #: Pod → container ID → what it was updated with.
        self._updated: dict[str, PerContainer] = found.get("updated") or {}
        self._kept = {*self._allocated, *self._updated}
        #: Pods whose resize waits for room.
        self.deferred: set[str] = set()

    def effective(self, pod: Object) -> Object:
        """The pod with what it was given, in the place of what it wishes."""
        given = self._allocated.get(uid_of(pod))
        return pod if given is None else with_resources(pod, given)

    def admit(self, pod: Object, runtime: PodRuntime) -> None:
        """What it asks for is given to a pod that is new; one that runs already has what its containers were started with."""
        if uid_of(pod) not in self._allocated:
            actuated = self.actuated(runtime)
            self._allocated[uid_of(pod)] = {name: actuated.get(name, wished) for name, wished in resources_in(pod).items()}

    def consider(self, pod: Object, others: Iterable[Object], node: Object | None) -> tuple[str, str] | None:
        """Give the pod what it wishes, if it can be had; why not, where it cannot."""
        uid, wished = uid_of(pod), resources_in(pod)
        given = self._allocated.get(uid)
        if given is None or given == wished:
            self.deferred.discard(uid)
            return None
        refusal = fits(pod, (self.effective(each) for each in others), node)
        if refusal is None:
            log.info("a pod is given what it wishes", uid=uid)
            self._allocated[uid] = wished
            self.deferred.discard(uid)
            self._save(uid)
        elif refusal[0] == "Deferred":
            self.deferred.add(uid)
        else:
            self.deferred.discard(uid)
        return refusal

    def actuated(self, runtime: PodRuntime) -> PerContainer:
        """What the newest container of each name runs with, as far as that is known."""
        updated = self._updated.get(runtime.uid, {})
        found: PerContainer = {}
        for record in reversed(runtime.containers):
            known = updated.get(record.id)
            if known is None and record.resources:
                known = json.loads(record.resources)
            if known is not None:
                found[record.name] = known
        return found

    def actuate(self, uid: str, container_id: str, resources: Resources) -> None:
        """The container was updated with these."""
        self._updated.setdefault(uid, {})[container_id] = copy_json(resources)
        self._save(uid)

    def forget(self, uid: str) -> None:
        """Nothing is left of the pod."""
        self.deferred.discard(uid)
        self._allocated.pop(uid, None)
        self._updated.pop(uid, None)
        if uid in self._kept:
            self._kept.discard(uid)
            self._write()

    def _save(self, uid: str) -> None:
        self._kept.add(uid)
        self._write()

    def _write(self) -> None:
        def kept(of: dict[str, PerContainer]) -> dict[str, PerContainer]:
            return {uid: each for uid, each in of.items() if uid in self._kept}

        try:
            checkpoint.save(self._path, {"allocated": kept(self._allocated), "updated": kept(self._updated)})
        except OSError as error:
            log.warning("what was allocated could not be written down", error=str(error))
