"""Cluster addresses and node ports of Services, given out so that none is ever given twice.

Each address is a key of its own (an IPAddress object, as upstream has them since 1.31), and so is each node port. The keys are written in the same Txn as
the Service that holds them, on the condition that they do not exist; they go in the Txn in which it lets go of them. So there is nothing to lock, nothing to
leak, and it does not matter how many apiservers there are: which of them is quicker, the store decides. :meth:`ServiceAllocator.repair` mends what
other hands have broken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Any

import orjson

from kubeling.api import errors, resources
from kubeling.api.meta import Object, copy_json
from kubeling.api.names import Random
from kubeling.apiserver.cache.cache import Cache
from kubeling.apiserver.cache.entry import encode
from kubeling.apiserver.config import Network
from kubeling.apiserver.registry import families
from kubeling.apiserver.registry.store import Change, Store
from kubeling.apiserver.storage.kv import KV, Commit, Write
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger

log = get_logger("services")

PORTS_PREFIX = "/registry/kubeling.dev/nodeports/"
_MANAGER = "ipallocator.k8s.io"
_WITH_IP = ("ClusterIP", "NodePort", "LoadBalancer")
_WITH_PORTS = ("NodePort", "LoadBalancer")


class ServiceAllocator:
    """The companions of Services. `random` chooses; `cidrs` (one of each family, the primary one first) and `range_` (node ports) are the ranges."""

    def __init__(
        self,
        addresses: Store,
        ports: Cache,
        services: Store,
        kv: KV,
        cidrs: Sequence[Network],
        range_: tuple[int, int],
        random: Random,
        clock: Clock,
    ) -> None:
        self._addresses = addresses
        self._ports = ports
        self._services = services
        self._kv = kv
        self._cidrs = {f"IPv{each.version}": each for each in cidrs}
        self._range = range_
        self._random = random
        self._clock = clock

    async def on_create(self, obj: Object) -> Change:
        """Give what the Service needs; one without a name gets nothing, and will be refused."""
        if not obj["metadata"].get("name"):
            return Change(obj)
        self._settle(obj, None)
        return await self._propose(obj, copy_json(obj.get("spec") or {}), set())

    async def _propose(self, obj: Object, spec: dict[str, Any], taken: set[str]) -> Change:
        obj["spec"] = copy_json(spec)
        writes = await self._allocate(obj, {}, taken)

        async def again(commit: Commit) -> Change:
            for write, found in zip(writes, commit.current[1:], strict=True):
                if found is not None:
                    taken.add(write.key)
            return await self._propose(obj, spec, taken)

        return Change(obj, writes, again)

    async def on_update(self, new: Object, old: Object) -> Change:
        """Keep, give and take back."""
        held = self._held(old)
        self._settle(new, old)
        writes = await self._allocate(new, held, set())
        still = self._held(new)
        writes += await self._release([key for key in held if key not in still])
        return Change(new, writes)

    async def on_delete(self, old: Object) -> Change:
        """Take everything back."""
        return Change(None, await self._release(self._held(old)))

    def _settle(self, obj: Object, old: Object | None) -> None:
        if wrong := families.settle(obj, old, list(self._cidrs)):
            raise errors.invalid("Service", "", obj["metadata"].get("name") or "", wrong)

    def _held(self, obj: Object) -> dict[str, None]:
        """The keys of what a Service has."""
        spec = obj.get("spec") or {}
        keys = [self._addresses.prefix + each for each in _ips(spec)]
        keys += [f"{PORTS_PREFIX}{number}" for number in _node_ports(spec)]
        return dict.fromkeys(keys)

    async def _release(self, keys: Iterable[str]) -> list[Write]:
        """Deletions on the condition that nothing has touched the keys since they were read."""
        writes = []
        for key in keys:
            found, _ = await self._kv.get(key)
            if found is not None:
                writes.append(Write(key, None, found.revision))
        return writes

    async def _allocate(self, obj: Object, held: dict[str, None], taken: set[str]) -> list[Write]:
        spec = obj.setdefault("spec", {})
        asked = set(_node_ports(spec))
        writes: list[Write] = []
        if spec.get("type") in _WITH_IP:
            writes += await self._allocate_ip(obj, spec, held, taken)
        if spec.get("type") in _WITH_PORTS and not (
            spec["type"] == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is False
        ):
            await self._fill_ports(spec, held, taken)
        if (
            spec.get("type") == "LoadBalancer"
            and spec.get("externalTrafficPolicy") == "Local"
            and not spec.get("healthCheckNodePort")
        ):
            spec["healthCheckNodePort"] = await self._free_port(taken, {*_node_ports(spec)})
        for number in dict.fromkeys(_node_ports(spec)):
            key = f"{PORTS_PREFIX}{number}"
            if key not in held:
                if number in asked:
                    await self._check_port(obj, spec, number, key)
                # One that was chosen here, and is another's by now, is no fault of the client's: the write does not happen, and another is chosen.
                writes.append(Write(key, _port_record(obj, number), 0))
        return writes

    # Addresses

    async def _allocate_ip(self, obj: Object, spec: dict[str, Any], held: dict[str, None], taken: set[str]) -> list[Write]:
        asked = spec.get("clusterIPs") or []
        if asked[:1] == ["None"]:
            spec["clusterIP"] = "None"
            return []
        given: list[str] = []
        writes: list[Write] = []
        for at, family in enumerate(spec["ipFamilies"]):
            if at < len(asked):
                address = asked[at]
                if self._addresses.prefix + address not in held:
                    await self._check_ip(obj, address, at)
            else:
                address = await self._free_ip(family, taken)
            given.append(address)
            key = self._addresses.prefix + address
            if key not in held:
                writes.append(Write(key, self._address_record(obj, address), 0))
        spec["clusterIP"], spec["clusterIPs"] = given[0], given
        return writes

    async def _free_ip(self, family: str, taken: set[str]) -> str:
        """A random free address: from above the part that is left to those who ask for one, while there is any."""
        cache, cidr = self._addresses.cache, self._cidrs[family]
        await cache.ready()
        size = cidr.num_addresses
        first = min(max(16, size // 16), 256)
        last = size - 1 if cidr.version == 4 else size
        for low, high in ((min(first, last), last), (1, min(first, last))):
            if high <= low:
                continue
            start = self._random.randrange(high - low)
            for step in range(min(high - low, 1 << 20)):
                address = str(cidr[low + (start + step) % (high - low)])
                key = self._addresses.prefix + address
                if key not in taken and cache.get(key) is None:
                    return address
        raise errors.internal("failed to allocate a serviceIP: range is full")

    async def _check_ip(self, obj: Object, asked: str, at: int) -> None:
        """Raise 422 for an address that cannot be had."""
        address, cidr, why = ip_address(asked), self._cidrs.get(families.family_of(asked)), ""
        unusable = cidr and {cidr.network_address, *([cidr.broadcast_address] if cidr.version == 4 else [])}
        if cidr is None or not unusable or address not in cidr or address in unusable:
            why = f"failed to allocate IP {asked}: the provided IP ({asked}) is not in the valid range. The range of valid IPs is {cidr}"
        elif (await self._kv.get(self._addresses.prefix + asked))[0] is not None:
            why = f"failed to allocate IP {asked}: provided IP is already allocated"
        if why:
            path = "spec.clusterIPs" if at == 0 else f"spec.clusterIPs[{at}]"
            raise errors.invalid("Service", "", obj["metadata"].get("name") or "", [errors.invalid_value(path, [asked], why)])

    def _address_record(self, obj: Object, address: str) -> bytes:
        metadata = obj["metadata"]
        record = _record(resources.IP_ADDRESSES, address, self._clock, _uid(obj, address))
        record["metadata"]["labels"] = {
            "ipaddress.kubernetes.io/ip-family": families.family_of(address),
            "ipaddress.kubernetes.io/managed-by": _MANAGER,
        }
        parent = {"group": "", "resource": "services", "namespace": metadata["namespace"], "name": metadata["name"]}
        record["spec"] = {"parentRef": parent}
        return encode(record)

    # Node ports

    async def _fill_ports(self, spec: dict[str, Any], held: dict[str, None], taken: set[str]) -> None:
        used = set(_node_ports(spec))
        given: dict[tuple[int, str], int] = {}
        for port in spec.get("ports") or ():
            if port.get("nodePort"):
                given[port.get("port", 0), port.get("protocol", "TCP")] = port["nodePort"]
        for port in spec.get("ports") or ():
            if port.get("nodePort"):
                continue
            # The same port under another protocol (DNS over TCP and UDP) gets the same number.
            twins = [
                number
                for (each, protocol), number in given.items()
                if each == port.get("port") and protocol != port.get("protocol")
            ]
            number = twins[0] if twins else await self._free_port(taken, used)
            port["nodePort"] = number
            used.add(number)
            given[port.get("port", 0), port.get("protocol", "TCP")] = number

    async def _free_port(self, taken: set[str], used: set[int]) -> int:
        await self._ports.ready()
        low, high = self._range
        size = high - low + 1
        start = self._random.randrange(size)
        for step in range(size):
            number = low + (start + step) % size
            key = f"{PORTS_PREFIX}{number}"
            if number not in used and key not in taken and self._ports.get(key) is None:
                return number
        raise errors.internal("failed to allocate a nodePort: range is full")

    async def _check_port(self, obj: Object, spec: dict[str, Any], number: int, key: str) -> None:
        """Raise 422 for a port that cannot be had."""
        low, high = self._range
        if not low <= number <= high:
            why = f"provided port is not in the valid range. The range of valid ports is {low}-{high}"
        elif (await self._kv.get(key))[0] is not None:
            why = "provided port is already allocated"
        else:
            return
        path = "spec.healthCheckNodePort"
        for index, port in enumerate(spec.get("ports") or ()):
            if port.get("nodePort") == number:
                path = f"spec.ports[{index}].nodePort"
        raise errors.invalid("Service", "", obj["metadata"].get("name") or "", [errors.invalid_value(path, number, why)])

    # Repair

    async def repair(self) -> None:
        """Give back to Services what was taken from them by other hands, and free what belongs to none."""
        services, addresses, ports = self._services.cache, self._addresses.cache, self._ports
        for cache in (services, addresses, ports):
            await cache.fresh()
        owned: dict[str, Object] = {}
        for entry in services.entries():
            obj = entry.object()
            owned.update((key, obj) for key in self._held(obj))
        for key, obj in owned.items():
            cache = ports if key.startswith(PORTS_PREFIX) else addresses
            if cache.get(key) is None:
                await self._restore(key, obj)
        for cache in (addresses, ports):
            for entry in list(cache.entries()):
                if entry.key not in owned and (cache is ports or _MANAGER in entry.labels.values()):
                    await self._free(entry.key, entry.revision)

    async def _restore(self, key: str, obj: Object) -> None:
        last = key.rpartition("/")[2]
        record = _port_record(obj, int(last)) if key.startswith(PORTS_PREFIX) else self._address_record(obj, last)
        service = self._services.key(obj["metadata"]["namespace"], obj["metadata"]["name"])
        same = Write(service, None, int(obj["metadata"]["resourceVersion"]), check=True)
        commit = await self._kv.commit([same, Write(key, record, 0)])
        if commit.done:
            log.warning("a Service's address or port had gone missing and is its own again", key=key)

    async def _free(self, key: str, revision: int) -> None:
        commit = await self._kv.commit([Write(key, None, revision)])
        if commit.done:
            log.warning("an address or port that belonged to no Service is free again", key=key)


def _ips(spec: dict[str, Any]) -> Sequence[str]:
    if spec.get("type") not in _WITH_IP:
        return ()
    return [each for each in spec.get("clusterIPs") or [spec.get("clusterIP")] if each and each != "None"]


def _node_ports(spec: dict[str, Any]) -> list[int]:
    numbers = [port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")]
    return [*numbers, spec["healthCheckNodePort"]] if spec.get("healthCheckNodePort") else numbers


def _uid(obj: Object, name: str) -> str:
    """Of the record: made from the Service's, so that a write that is sent twice is the same write."""
    import uuid

    return str(uuid.uuid5(uuid.UUID(obj["metadata"]["uid"]), name))


def _record(resource: resources.Resource, name: str, clock: Clock, uid: str) -> Object:
    from kubeling.api.times import format_time

    metadata = {"name": name, "uid": uid, "creationTimestamp": format_time(clock.now())}
    return {"apiVersion": resource.group_version, "kind": resource.kind, "metadata": metadata}


def _port_record(obj: Object, number: int) -> bytes:
    metadata = obj["metadata"]
    service = f"{metadata['namespace']}/{metadata['name']}"
    record = {"name": str(number), "uid": _uid(obj, str(number))}
    return orjson.dumps({"apiVersion": "kubeling.dev/v1", "kind": "NodePort", "metadata": record, "spec": {"service": service}})
