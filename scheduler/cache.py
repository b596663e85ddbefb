"""What the scheduler believes: nodes, the pods on them, and the pods that it has just put there but not yet seen bound.

An *assumed* pod counts at once, so that the next cycle does not give its room away. It becomes an ordinary one when the watch shows it bound, and is
forgotten when binding fails. One whose binding went through but which the watch never shows is given up after a while, as upstream does: the apiserver
would refuse a second binding anyway, so nothing is lost by looking again.

From `vector_from` nodes on the same facts are kept as arrays too (:class:`~kubeling.scheduler.table.Table`); numpy is not even loaded before that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from kubeling.api import pods
from kubeling.api.meta import name_of, uid_of
from kubeling.scheduler.nodeinfo import NodeInfo, Obj, PodInfo
from kubeling.scheduler.types import Cycle

if TYPE_CHECKING:
    from kubeling.scheduler.table import Table

#: Below this many nodes asking them one by one costs less than numpy's 14 MiB and 0.1 s are worth.
VECTOR_FROM = 64
#: How long a bound pod may stay assumed before the watch shows it (seconds).
ASSUMED_SECONDS = 900.0


class Cache:
    """Use it from one event loop; a cycle reads `nodes` directly."""

    def __init__(
        self,
        *,
        vector_from: int | None = VECTOR_FROM,
        spaces: Callable[[], Mapping[str, Mapping[str, str]]] = dict,
    ) -> None:
        #: The nodes that exist. A node's pods survive its absence in `_orphans`, since events of both kinds come in no fixed order.
        self.nodes: dict[str, NodeInfo] = {}
        self.table: Table | None = None
        self._vector_from = vector_from
        self._spaces = spaces
        self._orphans: dict[str, dict[str, PodInfo]] = {}
        self._place: dict[str, str] = {}
        #: uid → when it is given up; None while its binding is on the way.
        self._assumed: dict[str, float | None] = {}
        self._nominated: dict[str, dict[str, PodInfo]] = {}
        self._nominee: dict[str, str] = {}

    # -- nodes ---------------------------------------------------------------------------------------------------------------------

    def set_node(self, node: Obj) -> None:
        """A node appeared or changed."""
        name = name_of(node)
        info = self.nodes.get(name)
        if info is not None:
            info.set_node(node)
        else:
            info = self.nodes[name] = NodeInfo(node)
            for pod in self._orphans.pop(name, {}).values():
                info.add(pod)
        if self.table is not None:
            self.table.set_node(info)

    def remove_node(self, name: str) -> None:
        """A node is gone; its pods are kept for its return until they go as well."""
        info = self.nodes.pop(name, None)
        if info is None:
            return
        if info.pods:
            self._orphans[name] = info.pods
        if self.table is not None:
            self.table.remove_node(name)
            if self._vector_from is not None and len(self.nodes) < self._vector_from // 2:
                self.table = None

    # -- pods ----------------------------------------------------------------------------------------------------------------------

    def set_pod(self, pod: Obj) -> None:
        """A bound pod appeared or changed; one that has ended no longer counts."""
        uid = uid_of(pod)
        if pods.is_terminal(pod):
            self.remove_pod(uid)
            return
        node = pods.node_of(pod)
        self._assumed.pop(uid, None)
        self.nominate(uid, None)
        place = self._place.get(uid)
        info = PodInfo(pod)
        if place == node and node in self.nodes:
            known = self.nodes[node].pods.get(uid)
            if known is not None and _counts_alike(known, info):
                # Only its status changed: nothing that is counted. The newest object is kept for preemption, which looks at start times.
                known.renew(info)
                return
        if place is not None:
            self.remove_pod(uid)
        self._put(info, node)

    def remove_pod(self, uid: str) -> None:
        """A pod is gone."""
        self._assumed.pop(uid, None)
        self.nominate(uid, None)
        node = self._place.pop(uid, None)
        if node is None:
            return
        info = self.nodes.get(node)
        if info is not None:
            gone = info.remove(uid)
            if gone is not None and self.table is not None:
                self.table.pod_changed(info, gone, -1)
        elif node in self._orphans:
            self._orphans[node].pop(uid, None)
            if not self._orphans[node]:
                del self._orphans[node]

    def assume(self, pod: PodInfo, node: str) -> None:
        """Count `pod` on `node` before the apiserver knows."""
        self._assumed[pod.uid] = None
        self.nominate(pod.uid, None)
        self._put(pod, node)

    def bound(self, uid: str, now: float) -> None:
        """Its binding went through at `now`: from now on the watch has a limited time to show it."""
        if uid in self._assumed:
            self._assumed[uid] = now + ASSUMED_SECONDS

    def expire(self, now: float) -> list[str]:
        """Give up the assumed pods whose time is over; returns their uids."""
        late = [uid for uid, until in self._assumed.items() if until is not None and until <= now]
        for uid in late:
            self.remove_pod(uid)
        return late

    def forget(self, uid: str) -> None:
        """Binding failed: an assumed pod no longer counts. One that was seen bound meanwhile stays."""
        if uid in self._assumed:
            self.remove_pod(uid)

    def is_placed(self, uid: str) -> bool:
        """Whether the pod counts on some node."""
        return uid in self._place

    def place_of(self, uid: str) -> str:
        """The node on which the pod counts; "" where on none."""
        return self._place.get(uid, "")

    def is_assumed(self, uid: str) -> bool:
        return uid in self._assumed

    # -- nominations ---------------------------------------------------------------------------------------------------------------

    def nominate(self, uid: str, pod: PodInfo | None, node: str = "") -> None:
        """Promise `pod` room on `node`; None takes the promise back."""
        before = self._nominee.pop(uid, None)
        if before is not None:
            self._nominated[before].pop(uid)
            if not self._nominated[before]:
                del self._nominated[before]
            self._touch(before)
        if pod is not None and node:
            self._nominee[uid] = node
            self._nominated.setdefault(node, {})[uid] = pod
            self._touch(node)

    def nominated_node(self, uid: str) -> str:
        """Where the pod was promised room; "" where nowhere."""
        return self._nominee.get(uid, "")

    @property
    def nominated(self) -> Mapping[str, Mapping[str, PodInfo]]:
        """Node → the pods that were promised room there, where there are any."""
        return self._nominated

    # -- cycles --------------------------------------------------------------------------------------------------------------------

    def cycle(self, pod: PodInfo) -> Cycle:
        """A new attempt for `pod` on the state as it is."""
        if self.table is None and self._vector_from is not None and len(self.nodes) >= self._vector_from:
            from kubeling.scheduler.table import Table

            self.table = Table(self.nodes.values(), self._spaces)
        return Cycle(pod, self.nodes, self.table, self._nominated, self._nominee.get(pod.uid, ""))

    def forget_columns(self) -> None:
        """Something changed on which plugins rest besides nodes and pods."""
        if self.table is not None:
            self.table.forget()

    def _touch(self, node: str) -> None:
        if self.table is not None:
            self.table.touch(node)

    def _put(self, pod: PodInfo, node: str) -> None:
        self._place[pod.uid] = node
        info = self.nodes.get(node)
        if info is None:
            self._orphans.setdefault(node, {})[pod.uid] = pod
            return
        before = info.remove(pod.uid)
        if before is not None and self.table is not None:
            self.table.pod_changed(info, before, -1)
        info.add(pod)
        if self.table is not None:
            self.table.pod_changed(info, pod, 1)


def _counts_alike(before: PodInfo, after: PodInfo) -> bool:
    return (
        before.group == after.group
        and before.requests_key == after.requests_key
        and before.priority == after.priority
        and before.host_ports == after.host_ports
        and before.is_terminating == after.is_terminating
        and before.spec.get("affinity") == after.spec.get("affinity")
        and before.volumes == after.volumes
    )
