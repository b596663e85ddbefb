"""Node IPAM: each node gets a block of the cluster's pod addresses, of each family that the cluster has (`spec.podCIDRs`).

A block must never be given twice, not even by two controllers at once with stale copies. So what is given out is written down in one object, the
ConfigMap `kube-system/kubeling-node-ipam` (block → node and uid), by compare-and-set, *before* any node is told. After a crash between the two
writes the record says what the node was to get. All nodes that wait are served by one write of the record.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kubeling.api.errors import ApiError, is_invalid, is_not_found
from kubeling.api.meta import name_of, resource_version_of, spec_of, uid_of
from kubeling.api.resources import CONFIG_MAPS, NODES
from kubeling.client.batch import parallel
from kubeling.client.controller import Reconciler, Request
from kubeling.controllers.context import Context, Obj

RECORD, RECORD_NAMESPACE = "kubeling-node-ipam", "kube-system"
_ALL = Request("", "nodes")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Range:
    """Where the blocks of one family come from, and how long their prefixes are."""

    network: Network
    mask: int


def ranges_of(cluster_cidr: str, mask: int = 0, mask_v4: int = 24, mask_v6: int = 64) -> list[Range]:
    """The ranges that --cluster-cidr and --node-cidr-mask-size… name, the primary one first. ValueError with a remedy where they make no sense."""
    networks = [ipaddress.ip_network(each.strip()) for each in cluster_cidr.split(",")]
    if len({each.version for each in networks}) != len(networks):
        raise ValueError(
            f"--cluster-cidr={cluster_cidr}: one range of each family at most, such as 10.244.0.0/16,fd00:10:244::/56"
        )
    if mask and len(networks) > 1:
        raise ValueError("--node-cidr-mask-size is for one range: give --node-cidr-mask-size-ipv4 and --node-cidr-mask-size-ipv6")
    found = [Range(each, mask or (mask_v4 if each.version == 4 else mask_v6)) for each in networks]
    for each in found:
        if not 0 <= each.mask - each.network.prefixlen <= 16:
            lowest = each.network.prefixlen
            raise ValueError(
                f"the blocks of nodes in {each.network} must have prefixes of {lowest} to {lowest + 16}, not {each.mask}"
            )
    return found


def allocate(
    record: Mapping[str, str], nodes: Sequence[Obj], ranges: Sequence[Range]
) -> tuple[dict[str, str], dict[str, list[str]], list[str]]:
    """From the record (block → "name uid") and all nodes: the record as it should be, the blocks to tell (node → one of each range), and who gets none.

    Blocks of nodes that are gone are free again; a block that a node has is its own whatever the record says. A node that cannot have one of every range
    gets none, for what it has it keeps as it is for ever.
    """
    alive = {_owner(each) for each in nodes}
    mine: dict[str, dict[int, str]] = {}
    for block, owner in record.items():
        if owner in alive:
            mine.setdefault(owner, {})[ipaddress.ip_network(block).version] = block
    for node in nodes:
        for block in blocks_of(node):
            mine.setdefault(_owner(node), {})[ipaddress.ip_network(block).version] = block
    used = [ipaddress.ip_network(block) for blocks in mine.values() for block in blocks.values()]
    free: dict[int, Iterator[str]] = {each.network.version: _free_blocks(each.network, each.mask, used) for each in ranges}
    tell: dict[str, list[str]] = {}
    without: list[str] = []
    for node in sorted(nodes, key=lambda each: (each["metadata"].get("creationTimestamp") or "", name_of(each))):
        if blocks_of(node):
            continue
        has = mine.get(_owner(node), {})
        chosen = {version: has.get(version) or next(blocks, None) for version, blocks in free.items()}
        given: dict[int, str] = {version: block for version, block in chosen.items() if block is not None}
        if len(given) < len(free):
            without.append(name_of(node))
            continue
        mine[_owner(node)] = given
        tell[name_of(node)] = [given[each.network.version] for each in ranges]
    return {block: owner for owner, blocks in mine.items() for block in blocks.values()}, tell, without


def blocks_of(node: Obj) -> list[str]:
    """What a node has."""
    spec = spec_of(node)
    return list(spec.get("podCIDRs") or filter(None, [spec.get("podCIDR")]))


def _owner(node: Obj) -> str:
    return f"{name_of(node)} {uid_of(node)}"


def _free_blocks(
    network: Network,
    mask: int,
    used: Sequence[Network],
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
        options = ctx.options
        masks = (options.node_cidr_mask_size, options.node_cidr_mask_size_ipv4, options.node_cidr_mask_size_ipv6)
        self._ranges = ranges_of(options.cluster_cidr, *masks)
        self._nodes = ctx.informers.informer(NODES)
        self._events = ctx.recorder("node-ipam-controller")
        # One worker and one request: all that wait are served together.
        self._loop = Reconciler("node-ipam-controller", self.reconcile, workers=1, clock=ctx.clock, max_delay=5.0)
        self._loop.watches(self._nodes, self._waiting)
        self.run = self._loop.run

    def _waiting(self, node: Obj) -> Iterable[Request]:
        return () if blocks_of(node) else (_ALL,)

    async def reconcile(self, request: Request) -> float | None:
        """Write the record, then tell the nodes."""
        nodes = list(self._nodes.store)
        if all(blocks_of(each) for each in nodes):
            return None
        record = await self._read()
        before = {key.replace("_", "/").replace("-", ":"): owner for key, owner in (record.get("data") or {}).items()}
        after, tell, without = allocate(before, nodes, self._ranges)
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

    async def _tell(self, node: Obj, blocks: list[str]) -> None:
        body = {"metadata": {"uid": uid_of(node)}, "spec": {"podCIDR": blocks[0], "podCIDRs": blocks}}
        try:
            await self._client.patch(NODES, name_of(node), body)
        except ApiError as error:
            # Gone; or another controller told it the same, or it came with a block of its own: the informer will show which.
            if not (is_not_found(error) or is_invalid(error)):
                raise


def nodeipam(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller of nodes' pod address blocks."""
    return NodeIpamController(ctx).run
