"""Plugins about what must exist before a pod may be placed: bound claims."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kubeling.api.affinity import matches_node_selector
from kubeling.scheduler.nodeinfo import NodeInfo, Obj
from kubeling.scheduler.plugin import Plugin, Rows
from kubeling.scheduler.types import SKIP, Cycle, Depends, Rejection, Skip

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kubeling.scheduler.table import Table


class VolumeBinding(Plugin):
    """Claims must be bound, or may wait for their first consumer; a bound volume may demand certain nodes."""

    name = "VolumeBinding"
    cured_by = frozenset({"nodes", "persistentvolumeclaims", "persistentvolumes", "storageclasses"})
    filter_depends = Depends.NODE

    def __init__(
        self,
        get_claim: Callable[[str, str], Obj | None],
        get_volume: Callable[[str], Obj | None],
        get_class: Callable[[str], Obj | None],
    ) -> None:
        self._get_claim, self._get_volume, self._get_class = get_claim, get_volume, get_class

    def pre_filter(self, cycle: Cycle) -> Rejection | Skip | None:
        selectors: list[Obj] = []
        for volume in cycle.pod.spec.get("volumes") or []:
            name = self._claim_name(cycle, volume)
            if name is None:
                continue
            claim = self._get_claim(cycle.pod.namespace, name)
            if claim is None:
                return Rejection.of(f'persistentvolumeclaim "{name}" not found', unresolvable=True)
            if claim["metadata"].get("deletionTimestamp"):
                return Rejection.of(f'persistentvolumeclaim "{name}" is being deleted', unresolvable=True)
            bound = (claim.get("spec") or {}).get("volumeName")
            if not bound:
                if self._waits_for_consumer(claim):
                    continue
                return Rejection.of("pod has unbound immediate PersistentVolumeClaims", unresolvable=True)
            volume_object = self._get_volume(bound)
            if volume_object is None:
                return Rejection.of(f'persistentvolume "{bound}" not found', unresolvable=True)
            required = ((volume_object.get("spec") or {}).get("nodeAffinity") or {}).get("required")
            if required:
                selectors.append(required)
        cycle.state[self.name] = selectors
        return None if selectors else SKIP

    def filter(self, cycle: Cycle, node: NodeInfo) -> Rejection | None:
        if all(matches_node_selector(selector, node.node) for selector in cycle.state[self.name]):
            return None
        return Rejection.of("node(s) had volume node affinity conflict", unresolvable=True)

    def filter_rows(self, cycle: Cycle, table: Table, rows: Rows) -> NDArray[np.int32] | None:
        import numpy as np

        from kubeling.scheduler.plugins import selection

        fits = np.ones(table.size, dtype=bool)
        for selector in cycle.state[self.name]:
            fits &= selection.matches_selector(table, selector)
        code = table.codes.of(Rejection(("node(s) had volume node affinity conflict",), True, self.name))
        return np.where(fits, np.int32(0), np.int32(code))[rows]

    @staticmethod
    def _claim_name(cycle: Cycle, volume: Obj) -> str | None:
        if "ephemeral" in volume:
            return f"{cycle.pod.name}-{volume['name']}"
        named = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        return str(named) if named else None

    def _waits_for_consumer(self, claim: Obj) -> bool:
        name = (claim.get("spec") or {}).get("storageClassName")
        found = self._get_class(name) if name else None
        return found is not None and found.get("volumeBindingMode") == "WaitForFirstConsumer"
