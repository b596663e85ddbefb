"""The ConfigMap `kube-system/cluster-autoscaler-status`: how the autoscaler stands, in upstream's form, for people and their tools.

It is written when something in it has changed. It is a report and nothing is read back from it: what must outlive us stands on the nodes and at the cloud.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import yaml

from kubeling.api.errors import ApiError, is_not_found
from kubeling.api.resources import CONFIG_MAPS
from kubeling.api.times import format_time
from kubeling.client.rest import Client
from kubeling.cloud.autoscaler import nodes
from kubeling.cloud.autoscaler.picture import Picture
from kubeling.cloud.autoscaler.settings import Settings
from kubeling.cloud.provider import NodeGroup, Obj

NAME = "cluster-autoscaler-status"
NAMESPACE = "kube-system"
LAST_UPDATED = "cluster-autoscaler.kubernetes.io/last-updated"


def report(picture: Picture, settings: Settings, backed_off: Callable[[NodeGroup], bool], candidates: Mapping[str, int]) -> Obj:
    """The whole report but for the time; `candidates`: how many nodes of each group may go."""
    coming = {machine.provider_id for _, machine in picture.upcoming(settings)}
    per_group = [_group(group, picture, coming, backed_off(group), candidates.get(group.name, 0)) for group in picture.groups]
    ready = sum(1 for each in picture.nodes.values() if nodes.is_ready(each))
    total = sum(candidates.values())
    growing = any(each["scaleUp"]["status"] == "InProgress" for each in per_group)
    return {
        "autoscalerStatus": "Running",
        "clusterWide": {
            "health": {
                "status": "Healthy" if ready or not picture.nodes else "Unhealthy",
                "nodeCounts": {
                    "registered": {
                        "total": len(picture.nodes),
                        "ready": ready,
                        "notStarted": sum(1 for each in coming if _registered(each, picture)),
                        "beingDeleted": sum(
                            1 for each in picture.nodes.values() if nodes.mark_of(each, nodes.TO_BE_DELETED) is not None
                        ),
                    },
                    "unregistered": sum(1 for each in coming if not _registered(each, picture)),
                },
            },
            "scaleUp": {"status": "InProgress" if growing else "NoActivity"},
            "scaleDown": {"status": "CandidatesPresent" if total else "NoCandidates", **({"candidates": total} if total else {})},
        },
        "nodeGroups": per_group,
    }


def _registered(provider_id: str, picture: Picture) -> bool:
    machine = next(each for group in picture.groups for each in group.machines if each.provider_id == provider_id)
    return nodes.node_of(machine, picture.nodes) is not None


def _group(group: NodeGroup, picture: Picture, coming: set[str], backed_off: bool, candidates: int) -> Obj:
    found = [nodes.node_of(each, picture.nodes) for each in group.machines]
    there = [each for each in found if each is not None]
    growing = any(each.provider_id in coming for each in group.machines)
    return {
        "name": group.name,
        "health": {
            "status": "Healthy",
            "nodeCounts": {
                "registered": {"total": len(there), "ready": sum(1 for each in there if nodes.is_ready(each))},
                "unregistered": len(found) - len(there),
            },
            "cloudProviderTarget": group.size,
            "minSize": group.minimum,
            "maxSize": group.maximum,
        },
        "scaleUp": {"status": "Backoff" if backed_off else "InProgress" if growing else "NoActivity"},
        "scaleDown": {
            "status": "CandidatesPresent" if candidates else "NoCandidates",
            **({"candidates": candidates} if candidates else {}),
        },
    }


class StatusWriter:
    """Writes reports; the same one twice is written once."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._written: Obj | None = None

    async def write(self, found: Obj, now: float) -> None:
        """Show `found` as of `now`."""
        if found == self._written:
            return
        moment = format_time(datetime.fromtimestamp(now, UTC))
        text = yaml.safe_dump({"time": moment, **found}, sort_keys=False)
        meta = {"name": NAME, "namespace": NAMESPACE, "annotations": {LAST_UPDATED: moment}}
        wanted: Obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"status": text}}
        try:
            before = await self._client.get(CONFIG_MAPS, NAME, NAMESPACE)
            await self._client.update(CONFIG_MAPS, {**before, "data": wanted["data"], "metadata": {**before["metadata"], **meta}})
        except ApiError as error:
            if not is_not_found(error):
                raise
            await self._client.create(CONFIG_MAPS, wanted, NAMESPACE)
        self._written = found
