"""The CSI drivers of this node, and how the cluster learns of them.

A driver that registers is asked for its name for this node, its topology and how many volumes it takes. That goes into the CSINode object (where the scheduler and
the attach/detach controller find it), the topology into the Node's labels too. A driver whose socket goes is taken out of the CSINode; its labels stay, as volumes
that demand them do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kubeling.api.errors import ApiError, is_already_exists, is_not_found
from kubeling.api.meta import annotations_of, copy_json, labels_of, spec_of
from kubeling.api.owner import make_owner_reference
from kubeling.api.resources import CSI_NODES, NODES
from kubeling.client.informer import Informer
from kubeling.client.rest import Client, retry_on_conflict
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger
from kubeling.kubelet.csi_client import Abilities, CSIClient, CSIFailure, NodeInfo
from kubeling.kubelet.plugins import PluginRefused

log = get_logger("kubelet.csi")

NODE_IDS = "csi.volume.kubernetes.io/nodeid"
Obj = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Driver:
    """A driver that can be called."""

    name: str
    client: CSIClient
    info: NodeInfo
    abilities: Abilities


class CSIDrivers:
    """A :class:`kubeling.kubelet.plugins.PluginHandler`. `changed` is called when a driver has come."""

    def __init__(self, client: Client, node: Informer, node_name: str, clock: Clock) -> None:
        self._client = client
        self._node = node
        self._name = node_name
        self._clock = clock
        self._drivers: dict[str, Driver] = {}
        self.changed: Callable[[], None] = lambda: None

    def get(self, name: str) -> Driver:
        """CSIFailure where there is none of that name."""
        found = self._drivers.get(name)
        if found is None:
            raise CSIFailure("NOT_FOUND", f"driver name {name} not found in the list of registered CSI drivers")
        return found

    async def close(self) -> None:
        for each in self._drivers.values():
            await each.client.close()
        self._drivers.clear()

    async def register(self, name: str, endpoint: str, versions: Sequence[str]) -> None:
        if not any(each.removeprefix("v").split(".")[0] == "1" for each in versions):
            raise PluginRefused(f"none of the CSI versions reported by the driver {name} are supported: {list(versions)}")
        client = CSIClient(endpoint)
        try:
            driver = Driver(name, client, await client.info(), await client.abilities())
            await retry_on_conflict(lambda: self._tell_node(driver), clock=self._clock)
            await retry_on_conflict(lambda: self._tell(name, driver), clock=self._clock)
        except BaseException:
            await client.close()
            raise
        old = self._drivers.get(name)
        self._drivers[name] = driver
        if old is not None:
            await old.client.close()
        log.info("a CSI driver is ready", name=name, node_id=driver.info.node_id)
        self.changed()

    async def deregister(self, name: str, endpoint: str) -> None:
        found = self._drivers.get(name)
        if found is None or found.client.endpoint != endpoint:
            return
        del self._drivers[name]
        await found.client.close()
        try:
            await retry_on_conflict(lambda: self._tell(name, None), clock=self._clock)
        except ApiError as error:
            log.warning("the CSINode could not be changed", driver=name, error=str(error))

    async def ensure_object(self) -> None:
        """Make the CSINode of a node that has no drivers yet, once the Node is there."""
        await self._node.synced.wait()
        if self._node.store.get(self._name) is not None:
            await retry_on_conflict(lambda: self._tell("", None), clock=self._clock)

    async def _tell_node(self, driver: Driver) -> None:
        node = await self._client.get(NODES, self._name)
        try:
            ids = dict(json.loads(annotations_of(node).get(NODE_IDS) or "{}"))
        except ValueError:
            ids = {}
        labels = {key: value for key, value in driver.info.topology.items() if labels_of(node).get(key) != value}
        if ids.get(driver.name) == driver.info.node_id and not labels:
            return
        meta: Obj = {"resourceVersion": node["metadata"]["resourceVersion"]}
        meta["annotations"] = {NODE_IDS: json.dumps({**ids, driver.name: driver.info.node_id})}
        if labels:
            meta["labels"] = labels
        await self._client.patch(NODES, self._name, {"metadata": meta})

    async def _tell(self, name: str, driver: Driver | None) -> None:
        """Put the driver into the CSINode, or take it out."""
        try:
            found = await self._client.get(CSI_NODES, self._name)
        except ApiError as error:
            if not is_not_found(error):
                raise
            found = {}
        drivers = [each for each in spec_of(found).get("drivers") or () if each.get("name") != name]
        if driver is not None:
            drivers.append(entry(driver))
        if not found:
            await self._create(drivers)
        elif drivers != (spec_of(found).get("drivers") or []):
            changed = copy_json(found)
            changed["spec"] = {"drivers": drivers}
            await self._client.update(CSI_NODES, changed)

    async def _create(self, drivers: list[Obj]) -> None:
        node = await self._client.get(NODES, self._name)
        meta = {"name": self._name, "ownerReferences": [make_owner_reference(node, "v1", "Node")]}
        try:
            await self._client.create(
                CSI_NODES, {"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": meta, "spec": {"drivers": drivers}}
            )
        except ApiError as error:
            if not is_already_exists(error) or drivers:
                raise


def entry(driver: Driver) -> Obj:
    """The driver as it stands in a CSINode."""
    made: Obj = {"name": driver.name, "nodeID": driver.info.node_id, "topologyKeys": sorted(driver.info.topology) or None}
    if driver.info.limit:
        made["allocatable"] = {"count": driver.info.limit}
    return {key: value for key, value in made.items() if value is not None}
