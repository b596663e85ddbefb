"""What the scheduler believes: nodes, the pods on them, and the pods that it has just put there but not yet seen bound.

An *assumed* pod counts at once, so that the next cycle does not give its room away. It becomes an ordinary one when the watch shows it bound, and is
forgotten when binding fails.
"""

from __future__ import annotations

from kubeling.api import pods
from kubeling.api.meta import name_of, uid_of
from kubeling.scheduler.nodeinfo import NodeInfo, Obj, PodInfo


class Cache:
    """Use it from one event loop; a cycle reads `nodes` directly."""

    def __init__(self) -> None:
        #: The nodes that exist. A node's pods survive its absence in `_orphans`, since events of both kinds come in no fixed order.
        self.nodes: dict[str, NodeInfo] = {}
        self._orphans: dict[str, dict[str, PodInfo]] = {}
        self._place: dict[str, str] = {}
        self._assumed: set[str] = set()

    def set_node(self, node: Obj) -> None:
        """A node appeared or changed."""
        name = name_of(node)
        known = self.nodes.get(name)
        if known is not None:
            known.set_node(node)
            return
        info = self.nodes[name] = NodeInfo(node)
        for pod in self._orphans.pop(name, {}).values():
            info.add(pod)

    def remove_node(self, name: str) -> None:
        """A node is gone; its pods are kept for its return until they go as well."""
        info = self.nodes.pop(name, None)
        if info is not None and info.pods:
            self._orphans[name] = info.pods

    def set_pod(self, pod: Obj) -> None:
        """A bound pod appeared or changed; one that has ended no longer counts."""
        if pods.is_terminal(pod):
            self.remove_pod(uid_of(pod))
            return
        node = pods.node_of(pod)
        self._assumed.discard(uid_of(pod))
        if self._place.get(uid_of(pod)) not in (None, node):
            self.remove_pod(uid_of(pod))
        self._put(PodInfo(pod), node)

    def remove_pod(self, uid: str) -> None:
        """A pod is gone."""
        self._assumed.discard(uid)
        node = self._place.pop(uid, None)
        if node is None:
            return
        if node in self.nodes:
            self.nodes[node].remove(uid)
        elif node in self._orphans:
            self._orphans[node].pop(uid, None)
            if not self._orphans[node]:
                del self._orphans[node]

    def assume(self, pod: PodInfo, node: str) -> None:
        """Count `pod` on `node` before the apiserver knows."""
        self._assumed.add(pod.uid)
        self._put(pod, node)

    def forget(self, uid: str) -> None:
        """Binding failed: an assumed pod no longer counts. One that was seen bound meanwhile stays."""
        if uid in self._assumed:
            self.remove_pod(uid)

    def is_placed(self, uid: str) -> bool:
        """Whether the pod counts on some node."""
        return uid in self._place

    def _put(self, pod: PodInfo, node: str) -> None:
        self._place[pod.uid] = node
        if node in self.nodes:
            self.nodes[node].add(pod)
        else:
            self._orphans.setdefault(node, {})[pod.uid] = pod
