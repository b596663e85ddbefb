"""The machines of the local cloud: nodes of this cluster, which its supervisor makes and removes.

What the supervisor last told is kept and brought up to date by :meth:`Machines.changes`, which waits at the supervisor for something to change; so the
controllers ask as often as they like at no cost, and nobody polls. A provider id is ``kubeling://CLUSTER/NODE/MACHINE``; the last part is never given out
twice, so a new machine under an old name is not taken for the one before.
"""

from __future__ import annotations

from collections.abc import Sequence

from kubeling.api.meta import name_of, spec_of
from kubeling.cloud.provider import Machine, Metadata, NodeGroup, Obj, Outdated, ProviderError
from kubeling.cloud.providers.supervisor import CHANGE_SECONDS, Supervisor

SCHEME = "kubeling://"
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
#: One question for news waits at most this long at the supervisor (seconds).
_WAIT = 240.0


class Machines:
    """See :class:`kubeling.cloud.provider.Instances` and :class:`kubeling.cloud.provider.NodeGroups`."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._known: Obj | None = None
        self._told = 0

    async def _now(self, *, fresh: bool = False) -> Obj:
        if self._known is None or fresh:
            self._known = await self._supervisor.ask("machines")
        return self._known

    async def changes(self) -> None:
        """See :class:`kubeling.cloud.provider.Provider`."""
        while True:
            found = await self._supervisor.ask("machines", _WAIT + 30, after=self._told, timeout=_WAIT)
            self._known, before, self._told = found, self._told, int(found["version"])
            if self._told != before:
                return

    # -- instances -----------------------------------------------------------------------------------------------------------------

    def covers(self, node: Obj) -> bool:
        """A node that has been told which machine it is, or waits for that."""
        provider_id = spec_of(node).get("providerID") or ""
        return (
            provider_id.startswith(SCHEME)
            if provider_id
            else any(
                each.get("key") == "node.cloudprovider.kubernetes.io/uninitialized" for each in spec_of(node).get("taints") or ()
            )
        )

    async def exists(self, node: Obj) -> bool:
        if await self._find(node) is not None:
            return True
        return await self._find(node, fresh=True) is not None

    async def is_shut_down(self, node: Obj) -> bool:
        found = await self._find(node, fresh=True)
        return found is not None and found["state"] == "stopped"

    async def metadata(self, node: Obj) -> Metadata:
        found = await self._find(node) or await self._find(node, fresh=True)
        if found is None:
            raise ProviderError(f"there is no machine for the node {name_of(node)}")
        now = await self._now()
        group: Obj = next((each for each in now["groups"] if each["name"] == found["group"]), {})
        return Metadata(
            self._id(now, found),
            (group.get("template") or {}).get("labels", {}).get(INSTANCE_TYPE, ""),
            tuple({"type": "InternalIP", "address": each} for each in found["addresses"]),
            group.get("zone") or "",
            group.get("region") or "",
        )

    @staticmethod
    def _id(now: Obj, machine: Obj) -> str:
        return f"{SCHEME}{now['cluster']}/{machine['node']}/{machine['machine']}"

    async def _find(self, node: Obj, *, fresh: bool = False) -> Obj | None:
        now = await self._now(fresh=fresh)
        wanted = spec_of(node).get("providerID")
        for each in now["machines"]:
            if each["machine"] and (self._id(now, each) == wanted if wanted else each["node"] == name_of(node)):
                found: Obj = each
                return found
        return None

    # -- groups --------------------------------------------------------------------------------------------------------------------

    async def list(self) -> Sequence[NodeGroup]:
        now = await self._now(fresh=True)
        return [self._group(now, each) for each in now["groups"]]

    def _group(self, now: Obj, found: Obj) -> NodeGroup:
        machines = tuple(
            Machine(self._id(now, each), each["node"], float(each["created"]))
            for each in now["machines"]
            if each["group"] == found["name"]
        )
        shown = found["template"]
        template: Obj = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": f"template-{found['name']}",
                "labels": {"kubernetes.io/os": "linux", "beta.kubernetes.io/os": "linux", **shown["labels"]},
            },
            "spec": {"taints": shown["taints"]},
            "status": {"allocatable": shown["allocatable"], "capacity": shown["allocatable"]},
        }
        return NodeGroup(found["name"], found["minimum"], found["maximum"], found["size"], machines, template)

    async def grow(self, group: str, before: int, after: int) -> None:
        try:
            await self._supervisor.ask("group-resize", CHANGE_SECONDS, group=group, before=before, size=after)
        except ProviderError as error:
            if str(error).endswith("look again"):
                raise Outdated(str(error)) from error
            raise

    async def remove(self, group: str, machine: Machine) -> None:
        await self._supervisor.ask("machine-remove", CHANGE_SECONDS, machine=machine.provider_id.rpartition("/")[2])
