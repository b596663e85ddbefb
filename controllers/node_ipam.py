"""Node IPAM: each node gets a block of the cluster's pod addresses (`spec.podCIDR`).

A block must never be given twice, not even by two controllers at once with stale copies. So what is given out is written down in one object, the
ConfigMap `kube-system/kubeling-node-ipam` (block → node and uid), by compare-and-set, *before* any node is told. After a crash between the two
writes the record says what the node was to get. All nodes that wait are served by one write of the record.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

from kubeling.api.errors import ApiError, is_invalid, is_not_found
from kubeling.api.meta import name_of, resource_version_of, spec_of, uid_of
from kubeling.api.resources import CONFIG_MAPS, NODES
from kubeling.client.batch import parallel
from kubeling.client.controller import Reconciler, Request
from kubeling.controllers.context import Context, Obj

RECORD, RECORD_NAMESPACE = "kubeling-node-ipam", "kube-system"
_ALL = Request("", "nodes")


def allocate(
    record: Mapping[str, str], nodes: Sequence[Obj], cluster: str, mask: int
) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """From the record (block → "name uid") and all nodes: the record as it should be, the blocks to tell (node → block), and who gets none.

    Blocks of nodes that are gone are free again; a block that a node has is its own whatever the record says.
    """
    alive = {_owner(each): each for each in nodes}
    after: dict[str, str] = {block: owner for block, owner in record.items() if owner in alive}
    has = {owner: block for block, owner in after.items()}
    for owner, node in alive.items():
        block = spec_of(node).get("podCIDR")
        if block:
            if has.get(owner) not in (None, block):
                after.pop(has[owner], None)
            after[block] = owner
            has[owner] = block
    used = [ipaddress.ip_network(block) for block in after]
    network = ipaddress.ip_network(cluster)
    free = _free_blocks(network, mask, used)
    tell: dict[str, str] = {}
    without: list[str] = []
    for node in sorted(nodes, key=lambda each: (each["metadata"].get("creationTimestamp") or "", name_of(each))):
        if spec_of(node).get("podCIDR"):
            continue
        owner = _owner(node)
        chosen = has.get(owner) or next(free, None)
        if chosen is None:
            without.append(name_of(node))
            continue
        after[chosen] = owner
        tell[name_of(node)] = chosen
    return after, tell, without


def _owner(node: Obj) -> str:
    return f"{name_of(node)} {uid_of(node)}"


def _free_blocks(
    network: ipaddress.IPv4Network | ipaddress.IPv6Network,
    mask: int,
    used: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network],
) -> Iterator[str]:
    exact = {str(each) for each in used if each.prefixlen == mask}
    others = [each for each in used if each.prefixlen != mask and each.version == network.version]
    for block in network.subnets(new_prefix=mask):
        if str(block) not in exact and not any(block.overlaps(each) for each in others):
            yield str(block)


class NodeIpamController:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._client = ctx.client
        self._nodes = ctx.informers.informer(NODES)
        self._events = ctx.recorder("node-ipam-controller")
        # One worker and one request: all that wait are served together.
        self._loop = Reconciler("node-ipam-controller", self.reconcile, workers=1, clock=ctx.clock, max_delay=5.0)
        self._loop.watches(self._nodes, self._waiting)
        self.run = self._loop.run

    def _waiting(self, node: Obj) -> Iterable[Request]:
        return (_ALL,) if not spec_of(node).get("podCIDR") else ()

    async def reconcile(self, request: Request) -> float | None:
        """Write the record, then tell the nodes."""
        nodes = list(self._nodes.store)
        if all(spec_of(each).get("podCIDR") for each in nodes):
            return None
        record = await self._read()
        before = {key.replace("_", "/").replace("-", ":"): owner for key, owner in (record.get("data") or {}).items()}
        options = self._ctx.options
        after, tell, without = allocate(before, nodes, options.cluster_cidr, options.node_cidr_mask_size)
        if after != before:
            await self._write(
                {**record, "data": {block.replace("/", "_").replace(":", "-"): owner for block, owner in after.items()}}
            )
        await parallel([each for each in nodes if name_of(each) in tell], lambda node: self._tell(node, tell[name_of(node)]))
        for node in nodes:
            if name_of(node) in without:
                self._events.event(node, "Normal", "CIDRNotAvailable", f"Node {name_of(node)} status is now: CIDRNotAvailable")
        return 30.0 if without else None

    async def _read(self) -> Obj:
        try:
            return await self._client.get(CONFIG_MAPS, RECORD, RECORD_NAMESPACE)
        except ApiError as error:
            if not is_not_found(error):
                raise
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": RECORD, "namespace": RECORD_NAMESPACE}}

    async def _write(self, record: Obj) -> None:
        if resource_version_of(record):
            await self._client.update(CONFIG_MAPS, record)
        else:
            await self._client.create(CONFIG_MAPS, record, RECORD_NAMESPACE)

    async def _tell(self, node: Obj, block: str) -> None:
        body = {"metadata": {"uid": uid_of(node)}, "spec": {"podCIDR": block, "podCIDRs": [block]}}
        try:
            await self._client.patch(NODES, name_of(node), body)
        except ApiError as error:
            # Gone; or another controller told it the same, or it came with a block of its own: the informer will show which.
            if not (is_not_found(error) or is_invalid(error)):
                raise


def nodeipam(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller of nodes' pod address blocks."""
    return NodeIpamController(ctx).run
