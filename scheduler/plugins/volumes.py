"""VolumeBinding: claims must be bound where the pod goes, or be bindable there (KEP-490).

A bound claim's volume may demand certain nodes. A claim whose class waits for its first consumer is given a volume that the node can reach, the smallest
that is large enough, or is left to the provisioner where its class has one that may provide for that node. What was chosen is set aside at *reserve* and
written at *pre_bind*: `claimRef` on the volume, or the annotation `selected-node` on the claim. Then the pod waits until the volume controller has bound
all its claims.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kubeling.api import errors, labels, quantity
from kubeling.api.affinity import matches_node_selector
from kubeling.api.meta import key_of, labels_of, namespace_of, spec_of
from kubeling.api.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from kubeling.client.rest import ConnectionFailed
from kubeling.scheduler.handle import Handle
from kubeling.scheduler.nodeinfo import NodeInfo, Obj, PodInfo
from kubeling.scheduler.plugin import Plugin, Rows
from kubeling.scheduler.types import SKIP, Cycle, Depends, Rejection, Skip

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kubeling.scheduler.table import Table

SELECTED_NODE = "volume.kubernetes.io/selected-node"
_NO_PROVISIONER = "kubernetes.io/no-provisioner"
_CONFLICT = "node(s) had volume node affinity conflict"
_NOTHING = "node(s) didn't find available persistent volumes to bind"


@dataclass(slots=True)
class _State:
    """The node selectors of bound volumes, the claims that wait for their first consumer, and what was chosen for the node that was taken."""

    selectors: list[Obj] = field(default_factory=list)
    waiting: list[Obj] = field(default_factory=list)
    volumes: dict[str, Obj] = field(default_factory=dict)
    provisioned: list[Obj] = field(default_factory=list)


def claims_of(pod: PodInfo) -> list[str]:
    """The names of the claims that a pod's volumes are about, generic ephemeral ones included."""
    found = []
    for volume in pod.volumes:
        if "ephemeral" in volume:
            found.append(f"{pod.name}-{volume['name']}")
        elif (volume.get("persistentVolumeClaim") or {}).get("claimName"):
            found.append(str(volume["persistentVolumeClaim"]["claimName"]))
    return found


def rows_one_by_one(plugin: Plugin, cycle: Cycle, table: Table, rows: Rows) -> NDArray[np.int32]:
    """The vector form of a plugin whose pods are few: its per-node form, asked of every node."""
    import numpy as np

    rejections = (plugin.filter(cycle, info) for info in table.infos)
    codes = [0 if each is None else table.codes.of(each.by(plugin.name)) for each in rejections]
    return np.array(codes, dtype=np.int32)[rows]


class VolumeBinding(Plugin):
    name = "VolumeBinding"
    cured_by = frozenset({"nodes", "persistentvolumeclaims", "persistentvolumes", "storageclasses"})
    filter_depends = Depends.NODE

    def __init__(self, handle: Handle, bind_seconds: float = 600.0) -> None:
        self._handle, self._seconds = handle, bind_seconds
        #: Volume -> key of the claim that it was set aside for.
        self._assumed: dict[str, str] = {}

    def pre_filter(self, cycle: Cycle) -> Rejection | Skip | None:
        state, pod = _State(), cycle.pod
        for name in claims_of(pod):
            claim = self._handle.get_claim(pod.namespace, name)
            if claim is None:
                return Rejection.of(f'persistentvolumeclaim "{name}" not found', unresolvable=True)
            if claim["metadata"].get("deletionTimestamp"):
                return Rejection.of(f'persistentvolumeclaim "{name}" is being deleted', unresolvable=True)
            if (claim.get("status") or {}).get("phase") == "Lost":
                return Rejection.of(f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume', unresolvable=True)
            bound = spec_of(claim).get("volumeName")
            if not bound:
                if not self._waits_for_consumer(claim):
                    return Rejection.of("pod has unbound immediate PersistentVolumeClaims", unresolvable=True)
                state.waiting.append(claim)
                continue
            volume = self._handle.get_volume(bound)
            if volume is None:
                return Rejection.of(f'persistentvolume "{bound}" not found', unresolvable=True)
            required = (spec_of(volume).get("nodeAffinity") or {}).get("required")
            if required:
                state.selectors.append(required)
        cycle.state[self.name] = state
        return None if state.selectors or state.waiting else SKIP

    def _waits_for_consumer(self, claim: Obj) -> bool:
        name = spec_of(claim).get("storageClassName")
        found = self._handle.get_class(name) if name else None
        return found is not None and found.get("volumeBindingMode") == "WaitForFirstConsumer"

    def filter(self, cycle: Cycle, node: NodeInfo) -> Rejection | None:
        state: _State = cycle.state[self.name]
        reasons = []
        if not all(matches_node_selector(selector, node.node) for selector in state.selectors):
            reasons.append(_CONFLICT)
        if state.waiting and self._choose(state.waiting, node) is None:
            reasons.append(_NOTHING)
        return Rejection(tuple(reasons), True) if reasons else None

    def filter_rows(self, cycle: Cycle, table: Table, rows: Rows) -> NDArray[np.int32] | None:
        return rows_one_by_one(self, cycle, table, rows)

    # -- choosing ------------------------------------------------------------------------------------------------------------------

    def _choose(self, waiting: list[Obj], node: NodeInfo) -> tuple[dict[str, Obj], list[Obj]] | None:
        """(claim key -> volume, the claims to provision) on that node; None where some claim finds nothing. Large claims choose last."""
        chosen: dict[str, Obj] = {}
        provisioned: list[Obj] = []
        for claim in sorted(waiting, key=_size_wanted):
            selected = (claim["metadata"].get("annotations") or {}).get(SELECTED_NODE)
            if selected and selected != node.name:
                return None
            taken = {volume["metadata"]["name"] for volume in chosen.values()}
            fitting = [
                each for each in self._handle.volumes() if each["metadata"]["name"] not in taken and self._fits(each, claim, node)
            ]
            if fitting and not selected:
                chosen[key_of(claim)] = min(fitting, key=lambda each: (_capacity(each), each["metadata"]["name"]))
            elif self._may_provision(claim, node):
                provisioned.append(claim)
            else:
                return None
        return chosen, provisioned

    def _fits(self, volume: Obj, claim: Obj, node: NodeInfo) -> bool:
        spec, wanted = spec_of(volume), spec_of(claim)
        holder = spec.get("claimRef")
        if holder:
            return (holder.get("namespace"), holder.get("name")) == (
                namespace_of(claim),
                claim["metadata"]["name"],
            ) and holder.get("uid") in (None, "", claim["metadata"].get("uid"))
        selector = wanted.get("selector")
        return (
            not volume["metadata"].get("deletionTimestamp")
            and (volume.get("status") or {}).get("phase") in (None, "", "Available")
            and self._assumed.get(volume["metadata"]["name"], key_of(claim)) == key_of(claim)
            and (spec.get("storageClassName") or "") == (wanted.get("storageClassName") or "")
            and (spec.get("volumeMode") or "Filesystem") == (wanted.get("volumeMode") or "Filesystem")
            and set(wanted.get("accessModes") or ()) <= set(spec.get("accessModes") or ())
            and _capacity(volume) >= _size_wanted(claim)
            and (selector is None or labels.from_selector(selector).matches(labels_of(volume)))
            and matches_node_selector((spec.get("nodeAffinity") or {}).get("required"), node.node)
        )

    def _may_provision(self, claim: Obj, node: NodeInfo) -> bool:
        found = self._handle.get_class(spec_of(claim).get("storageClassName") or "") or {}
        if (found.get("provisioner") or _NO_PROVISIONER) == _NO_PROVISIONER:
            return False
        terms = found.get("allowedTopologies") or []
        return not terms or any(
            all(node.labels.get(each["key"]) in (each.get("values") or ()) for each in term.get("matchLabelExpressions") or ())
            for term in terms
        )

    # -- binding -------------------------------------------------------------------------------------------------------------------

    def reserve(self, cycle: Cycle, node: str) -> Rejection | None:
        state: _State | None = cycle.state.get(self.name)
        if state is None or not state.waiting:
            return None
        found = self._choose(state.waiting, cycle.nodes[node])
        if found is None:
            return Rejection.of(_NOTHING, unresolvable=True)
        state.volumes, state.provisioned = found
        for claim, volume in state.volumes.items():
            self._assumed[volume["metadata"]["name"]] = claim
        cycle.slow = True
        return None

    def unreserve(self, cycle: Cycle, node: str) -> None:
        self._release(cycle)

    async def post_bind(self, cycle: Cycle, node: str) -> None:
        self._release(cycle)

    def _release(self, cycle: Cycle) -> None:
        state: _State | None = cycle.state.get(self.name)
        for claim, volume in (state.volumes if state else {}).items():
            if self._assumed.get(volume["metadata"]["name"]) == claim:
                del self._assumed[volume["metadata"]["name"]]

    async def pre_bind(self, cycle: Cycle, node: str) -> None:
        state: _State | None = cycle.state.get(self.name)
        if state is None or not state.waiting:
            return
        for claim in state.waiting:
            if key_of(claim) in state.volumes:
                await self._write_claim_ref(state.volumes[key_of(claim)], claim)
        for claim in state.provisioned:
            await self._write_selected_node(claim, node)
        names = [(namespace_of(claim), claim["metadata"]["name"]) for claim in state.waiting]
        try:
            async with asyncio.timeout(self._seconds):
                await self._handle.claims_until(lambda: all(self._is_bound(*name) for name in names))
        except TimeoutError as error:
            raise ConnectionFailed("timed out waiting for the claims to be bound") from error

    def _is_bound(self, namespace: str, name: str) -> bool:
        claim = self._handle.get_claim(namespace, name)
        if claim is None:
            raise errors.not_found("", "persistentvolumeclaims", name)
        return bool(spec_of(claim).get("volumeName")) and (claim.get("status") or {}).get("phase") == "Bound"

    async def _write_claim_ref(self, volume: Obj, claim: Obj) -> None:
        """A compare-and-set on the volume's version: whoever else wanted it is refused, or refuses us."""
        if (spec_of(volume).get("claimRef") or {}).get("uid"):
            return
        meta = claim["metadata"]
        holder = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta["uid"],
        }
        client = self._handle.client
        assert client is not None, "a scheduler that binds has a client"
        body = {"metadata": {"resourceVersion": volume["metadata"]["resourceVersion"]}, "spec": {"claimRef": holder}}
        await client.patch(PERSISTENT_VOLUMES, volume["metadata"]["name"], body, patch_type="merge")

    async def _write_selected_node(self, claim: Obj, node: str) -> None:
        client = self._handle.client
        assert client is not None, "a scheduler that binds has a client"
        meta = claim["metadata"]
        body: dict[str, Any] = {"metadata": {"uid": meta["uid"], "annotations": {SELECTED_NODE: node}}}
        await client.patch(PERSISTENT_VOLUME_CLAIMS, meta["name"], body, meta["namespace"], patch_type="merge")


def _capacity(volume: Obj) -> int:
    return quantity.units((spec_of(volume).get("capacity") or {}).get("storage"))


def _size_wanted(claim: Obj) -> int:
    return quantity.units(((spec_of(claim).get("resources") or {}).get("requests") or {}).get("storage"))
