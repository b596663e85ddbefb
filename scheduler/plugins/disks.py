"""VolumeZone, VolumeRestrictions and NodeVolumeLimits: where a volume is, who else has it, and how many a node can hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubeling.api.meta import spec_of
from kubeling.scheduler.handle import Handle
from kubeling.scheduler.nodeinfo import NodeInfo, Obj, PodInfo
from kubeling.scheduler.plugin import Plugin, Rows
from kubeling.scheduler.plugins.volumes import claims_of, rows_one_by_one
from kubeling.scheduler.types import SKIP, Cycle, Depends, Rejection, Skip

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kubeling.scheduler.table import Table

#: Each label with its older name: a node that has either has a place.
_PLACES = (
    ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"),
)
_OTHER = {name: other for pair in _PLACES for name, other in (pair, pair[::-1])}
_RWOP = "ReadWriteOncePod"


class VolumeZone(Plugin):
    """A bound volume that is labelled with a zone or region can be used on nodes there."""

    name = "VolumeZone"
    cured_by = frozenset({"nodes", "persistentvolumeclaims", "persistentvolumes", "storageclasses"})
    filter_depends = Depends.NODE

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def pre_filter(self, cycle: Cycle) -> Skip | None:
        wanted: list[tuple[str, frozenset[str]]] = []
        for name in claims_of(cycle.pod):
            claim = self._handle.get_claim(cycle.pod.namespace, name) or {}
            volume = self._handle.get_volume(spec_of(claim).get("volumeName") or "") or {}
            for label, value in ((volume.get("metadata") or {}).get("labels") or {}).items():
                if label in _OTHER:
                    wanted.append((label, frozenset(value.split("__"))))
        cycle.state[self.name] = wanted
        return None if wanted else SKIP

    def filter(self, cycle: Cycle, node: NodeInfo) -> Rejection | None:
        if not any(label in node.labels for label in _OTHER):
            return None
        for label, values in cycle.state[self.name]:
            if node.labels.get(label, node.labels.get(_OTHER[label])) not in values:
                return Rejection.of("node(s) had no available volume zone", unresolvable=True)
        return None

    def filter_rows(self, cycle: Cycle, table: Table, rows: Rows) -> NDArray[np.int32] | None:
        return rows_one_by_one(self, cycle, table, rows)


@dataclass(slots=True)
class _Restrictions:
    """The pod's ReadWriteOncePod claims, how many other pods use one of them, and its disks that allow one user."""

    claims: frozenset[str]
    users: int
    disks: list[Obj]

    def clone(self) -> _Restrictions:
        return _Restrictions(self.claims, self.users, self.disks)


class VolumeRestrictions(Plugin):
    """A ReadWriteOncePod claim has one user in the cluster, a disk of the old in-tree kinds one writer on a node."""

    name = "VolumeRestrictions"
    cured_by = frozenset({"nodes", "pods/delete", "persistentvolumeclaims"})
    filter_depends = Depends.CLUSTER

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def pre_filter(self, cycle: Cycle) -> Skip | None:
        pod = cycle.pod
        single = frozenset(
            name
            for name in claims_of(pod)
            if _RWOP in (spec_of(self._handle.get_claim(pod.namespace, name) or {}).get("accessModes") or ())
        )
        disks = [
            volume
            for volume in pod.volumes
            if any(kind in volume for kind in ("gcePersistentDisk", "awsElasticBlockStore", "iscsi", "rbd"))
        ]
        if not single and not disks:
            return SKIP
        users = (
            sum(self._uses(single, pod, other) for node in cycle.nodes.values() for other in node.pods.values()) if single else 0
        )
        cycle.state[self.name] = _Restrictions(single, users, disks)
        return None

    @staticmethod
    def _uses(claims: frozenset[str], pod: PodInfo, other: PodInfo) -> int:
        return int(other.namespace == pod.namespace and bool(other.volumes) and not claims.isdisjoint(claims_of(other)))

    def add_pod(self, cycle: Cycle, pod: PodInfo, node: NodeInfo) -> None:
        state: _Restrictions = cycle.state[self.name]
        state.users += self._uses(state.claims, cycle.pod, pod)

    def remove_pod(self, cycle: Cycle, pod: PodInfo, node: NodeInfo) -> None:
        state: _Restrictions = cycle.state[self.name]
        state.users -= self._uses(state.claims, cycle.pod, pod)

    def filter(self, cycle: Cycle, node: NodeInfo) -> Rejection | None:
        state: _Restrictions = cycle.state[self.name]
        if any(_share_badly(mine, theirs) for mine in state.disks for other in node.pods.values() for theirs in other.volumes):
            return Rejection.of("node(s) had no available disk")
        if state.users > 0:
            return Rejection.of("node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode")
        return None

    def filter_rows(self, cycle: Cycle, table: Table, rows: Rows) -> NDArray[np.int32] | None:
        return rows_one_by_one(self, cycle, table, rows)


def _share_badly(mine: Obj, theirs: Obj) -> bool:
    for kind, name in (("gcePersistentDisk", "pdName"), ("awsElasticBlockStore", "volumeID"), ("iscsi", "iqn")):
        left, right = mine.get(kind), theirs.get(kind)
        if left and right and left.get(name) == right.get(name):
            # Readers may share, but for one kind that allows no second user at all.
            return kind == "awsElasticBlockStore" or not (left.get("readOnly") and right.get("readOnly"))
    left, right = mine.get("rbd"), theirs.get("rbd")
    if left and right and set(left.get("monitors") or ()) & set(right.get("monitors") or ()):
        same = all(left.get(name) == right.get(name) for name in ("pool", "image"))
        return same and not (left.get("readOnly") and right.get("readOnly"))
    return False


class NodeVolumeLimits(Plugin):
    """A node holds as many volumes of a CSI driver as its CSINode says."""

    name = "NodeVolumeLimits"
    cured_by = frozenset({"nodes", "pods/delete", "csinodes", "persistentvolumeclaims"})
    filter_depends = Depends.CLUSTER

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def pre_filter(self, cycle: Cycle) -> Skip | None:
        wanted = set(self._volumes(cycle.pod))
        cycle.state[self.name] = wanted
        return None if wanted else SKIP

    def filter(self, cycle: Cycle, node: NodeInfo) -> Rejection | None:
        found = self._handle.get_csi_node(node.name)
        limits = {
            each["name"]: each["allocatable"]["count"]
            for each in spec_of(found or {}).get("drivers") or ()
            if (each.get("allocatable") or {}).get("count") is not None
        }
        wanted: set[tuple[str, str]] = cycle.state[self.name]
        if not any(driver in limits for driver, _ in wanted):
            return None
        there = {each for pod in node.pods.values() for each in self._volumes(pod)}
        for driver, limit in limits.items():
            new = sum(1 for each in wanted - there if each[0] == driver)
            if new and new + sum(1 for each in there if each[0] == driver) > limit:
                return Rejection.of("node(s) exceed max volume count")
        return None

    def filter_rows(self, cycle: Cycle, table: Table, rows: Rows) -> NDArray[np.int32] | None:
        return rows_one_by_one(self, cycle, table, rows)

    def _volumes(self, pod: PodInfo) -> Iterator[tuple[str, str]]:
        """(driver, what tells the volume apart) of the pod's CSI volumes; a claim that is to be provisioned counts under its own name."""
        if not pod.volumes:
            return
        for name in claims_of(pod):
            claim = self._handle.get_claim(pod.namespace, name)
            if claim is None:
                continue
            volume = self._handle.get_volume(spec_of(claim).get("volumeName") or "")
            csi = spec_of(volume or {}).get("csi")
            if csi:
                yield csi["driver"], csi.get("volumeHandle") or ""
            elif volume is None:
                found = self._handle.get_class(spec_of(claim).get("storageClassName") or "") or {}
                if found.get("provisioner"):
                    yield found["provisioner"], f"{pod.namespace}/{name}"
