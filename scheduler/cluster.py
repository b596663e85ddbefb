"""What the informers see, brought to the cache and the queue; and the questions that plugins ask of the informers.

Only changes that can matter to scheduling become a :class:`ClusterChange`: heartbeats and status reports of running pods do not wake anybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kubeling.api import pods
from kubeling.api.labels import Selector, from_labels, from_selector
from kubeling.api.meta import controller_of, key_of, labels_of, namespace_of, spec_of, uid_of
from kubeling.api.resources import (
    CSI_NODES,
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    SERVICES,
    STATEFUL_SETS,
    STORAGE_CLASSES,
)
from kubeling.client.informer import Change, InformerFactory
from kubeling.scheduler.cache import Cache
from kubeling.scheduler.nodeinfo import Obj, PodInfo
from kubeling.scheduler.queue import SchedulingQueue
from kubeling.scheduler.types import ClusterChange


class ClusterView:
    """The informers. :meth:`connect` ties them to a cache and a queue."""

    def __init__(self, informers: InformerFactory) -> None:
        self._nodes = informers.informer(NODES)
        self._pods = informers.informer(PODS)
        self._namespaces = informers.informer(NAMESPACES)
        self._services = informers.informer(SERVICES)
        self._owners = {
            "ReplicaSet": informers.informer(REPLICA_SETS),
            "StatefulSet": informers.informer(STATEFUL_SETS),
            "ReplicationController": informers.informer(REPLICATION_CONTROLLERS),
        }
        self._claims = informers.informer(PERSISTENT_VOLUME_CLAIMS)
        self._volumes = informers.informer(PERSISTENT_VOLUMES)
        self._classes = informers.informer(STORAGE_CLASSES)
        self._budgets = informers.informer(POD_DISRUPTION_BUDGETS)
        self._csi_nodes = informers.informer(CSI_NODES)
        self._claim_waiters: set[asyncio.Event] = set()
        self._claims.add_handler(self._on_claim)
        self._labels: dict[str, dict[str, str]] = {}
        self._namespaces.add_handler(self._on_namespace)
        self._forget: Callable[[], None] = _nothing

    # -- questions -----------------------------------------------------------------------------------------------------------------

    def namespace_labels(self) -> Mapping[str, Mapping[str, str]]:
        return self._labels

    def default_selector(self, pod: Obj) -> Selector | None:
        """What the Services that select `pod` and the controller that owns it select, together; None where that is nothing."""
        labels, namespace = labels_of(pod), namespace_of(pod)
        merged: dict[str, str] = {}
        for service in self._services.store.in_namespace(namespace):
            selector = spec_of(service).get("selector")
            if selector and from_labels(selector).matches(labels):
                merged.update(selector)
        requirements = from_labels(merged).requirements
        owner = controller_of(pod)
        informer = self._owners.get(owner["kind"]) if owner else None
        found = informer.store.get(owner["name"], namespace) if informer and owner else None
        if found is not None:
            selector = spec_of(found).get("selector") or {}
            parsed = from_labels(selector) if owner and owner["kind"] == "ReplicationController" else from_selector(selector)
            requirements = (*requirements, *parsed.requirements)
        return Selector(requirements) if requirements else None

    def get_claim(self, namespace: str, name: str) -> Obj | None:
        return self._claims.store.get(name, namespace)

    def get_volume(self, name: str) -> Obj | None:
        return self._volumes.store.get(name)

    def volumes(self) -> Iterable[Obj]:
        return self._volumes.store

    def get_class(self, name: str) -> Obj | None:
        return self._classes.store.get(name)

    def budgets(self, namespace: str) -> Iterable[Obj]:
        return self._budgets.store.in_namespace(namespace)

    def get_csi_node(self, name: str) -> Obj | None:
        return self._csi_nodes.store.get(name)

    async def claims_until(self, done: Callable[[], bool]) -> None:
        """Wait until `done`, which is asked at every change of a claim."""
        changed = asyncio.Event()
        self._claim_waiters.add(changed)
        try:
            while not done():
                changed.clear()
                await changed.wait()
        finally:
            self._claim_waiters.discard(changed)

    def _on_claim(self, _change: Change) -> None:
        for each in self._claim_waiters:
            each.set()

    def get_pod(self, namespace: str, name: str) -> Obj | None:
        return self._pods.store.get(name, namespace)

    def pods(self, namespace: str) -> Iterable[Obj]:
        return self._pods.store.in_namespace(namespace)

    # -- changes -------------------------------------------------------------------------------------------------------------------

    def connect(self, cache: Cache, queue: SchedulingQueue, mine: Callable[[Obj], bool], gone: Callable[[str], None]) -> None:
        """From now on what changes reaches the cache and the queue. `mine`: whether a pod asks for one of our profiles; `gone`: told uids."""
        self._forget = cache.forget_columns

        def on_node(change: Change) -> None:
            if change.new is None:
                cache.remove_node(change.obj["metadata"]["name"])
            elif change.old is None or _node_view(change.old) != _node_view(change.new):
                cache.set_node(change.new)
                queue.cluster_changed(ClusterChange("nodes", "add" if change.old is None else "update", change.old, change.new))

        def on_pod(change: Change) -> None:
            pod = change.obj
            uid = uid_of(pod)
            if change.new is None:
                gone(uid)
                queue.remove(key_of(pod))
                had_room = cache.is_placed(uid)
                promised = cache.nominated_node(uid)
                cache.remove_pod(uid)
                if had_room or promised:
                    queue.cluster_changed(ClusterChange("pods", "delete", pod, None))
            elif pods.node_of(pod):
                known = cache.is_placed(uid)
                queue.remove(key_of(pod))
                cache.set_pod(pod)
                if pods.is_terminal(pod):
                    if known:
                        queue.cluster_changed(ClusterChange("pods", "delete", pod, None))
                elif change.old is None or not pods.node_of(change.old):
                    queue.cluster_changed(ClusterChange("pods", "add", None, pod))
                elif _pod_view(change.old) != _pod_view(pod):
                    queue.cluster_changed(ClusterChange("pods", "update", change.old, pod))
            elif pods.is_terminal(pod):
                queue.remove(key_of(pod))
                cache.nominate(uid, None)
            elif mine(pod):
                promised = (pod.get("status") or {}).get("nominatedNodeName") or ""
                if change.old is None and promised and not cache.is_placed(uid):
                    cache.nominate(uid, PodInfo(pod), promised)
                if not cache.is_placed(uid):
                    queue.update(pod)

        self._nodes.add_handler(on_node)
        self._pods.add_handler(on_pod)
        for informer, name in (
            (self._claims, "persistentvolumeclaims"),
            (self._volumes, "persistentvolumes"),
            (self._classes, "storageclasses"),
            (self._csi_nodes, "csinodes"),
            (self._namespaces, "namespaces"),
        ):
            informer.add_handler(_teller(queue, name))

    def _on_namespace(self, change: Change) -> None:
        name = change.obj["metadata"]["name"]
        before = self._labels.get(name)
        if change.new is None:
            self._labels.pop(name, None)
        else:
            self._labels[name] = labels_of(change.new)
        if before != self._labels.get(name) and (before or self._labels.get(name)):
            self._forget()  # What affinity terms with a namespaceSelector select has changed.


def _teller(queue: SchedulingQueue, name: str) -> Callable[[Change], None]:
    return lambda change: queue.cluster_changed(ClusterChange(name, change.type, change.old, change.new))


def _nothing() -> None:
    return None


def _node_view(node: Obj) -> tuple[Any, ...]:
    """What of a node can make a difference to scheduling: heartbeats do not."""
    status, spec = node.get("status") or {}, node.get("spec") or {}
    return (labels_of(node), spec.get("taints"), spec.get("unschedulable"), status.get("allocatable"), status.get("images"))


def _pod_view(pod: Obj) -> tuple[Any, ...]:
    """What of a bound pod can make a difference to others."""
    return (labels_of(pod), pod["spec"], pod["metadata"].get("deletionTimestamp") is None)
