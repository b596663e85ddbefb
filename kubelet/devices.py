"""Which devices there are, and which container has which: the accounts of the device manager. No I/O but its checkpoint.

A device belongs to one container of one pod, from before its sandbox is made until the pod is over; a container that is started again has the same ones. Init
containers hand theirs on to what runs after them. What the plugin said that a container needs for its devices is kept with them, so a new kubelet can start the
container again before the plugin has come back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kubeling.api import quantity
from kubeling.api.meta import Object
from kubeling.api.pods import containers_of, init_containers_of, is_sidecar
from kubeling.daemon.log import get_logger
from kubeling.kubelet import checkpoint
from kubeling.kubelet.topology import Hint, hints

log = get_logger("kubelet.devices")


class DeviceProblem(Exception):
    """A pod cannot have the devices that it asks for; the words are those of its rejection."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The devices of one resource that a container has, and what it needs for them."""

    devices: tuple[str, ...]
    envs: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    #: (path in the container, path on the node, read only)
    mounts: tuple[tuple[str, str, bool], ...] = ()
    #: (path in the container, path on the node, permissions)
    nodes: tuple[tuple[str, str, str], ...] = ()
    cdi: tuple[str, ...] = ()


def grant_from(raw: Mapping[str, Any]) -> Grant:
    """The inverse of `asdict`, through JSON."""
    return Grant(
        tuple(raw["devices"]),
        dict(raw.get("envs") or {}),
        dict(raw.get("annotations") or {}),
        tuple((str(a), str(b), bool(c)) for a, b, c in raw.get("mounts") or ()),
        tuple((str(a), str(b), str(c)) for a, b, c in raw.get("nodes") or ()),
        tuple(raw.get("cdi") or ()),
    )


@dataclass(slots=True)
class Offer:
    """What a plugin has: device → healthy, and the NUMA nodes that each is near to."""

    healthy: dict[str, bool] = field(default_factory=dict)
    near: dict[str, tuple[int, ...]] = field(default_factory=dict)


#: uid → container → resource → grant
Grants = dict[str, dict[str, dict[str, Grant]]]


class DeviceAccounts:
    """Kept in the file at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.offers: dict[str, Offer] = {}
        found = checkpoint.load(path) or {}
        self._grants: Grants = {
            uid: {name: {resource: grant_from(each) for resource, each in held.items()} for name, held in containers.items()}
            for uid, containers in (found.get("grants") or {}).items()
        }
        #: Resources that were offered once: shown as 0 until their plugin is back.
        self._known: set[str] = set(found.get("resources") or ())

    def offer(self, resource: str, offer: Offer) -> None:
        """The plugin of that resource says which devices there are."""
        self.offers[resource] = offer
        if resource not in self._known:
            self._known.add(resource)
            self._save()

    def withdraw(self, resource: str, *, forget: bool) -> None:
        """The plugin is away: its devices are unhealthy, and after a while no more."""
        offer = self.offers.get(resource)
        if forget:
            self.offers.pop(resource, None)
        elif offer is not None:
            offer.healthy = dict.fromkeys(offer.healthy, False)

    def capacity(self) -> dict[str, str]:
        return {name: str(len(self.offers[name].healthy)) if name in self.offers else "0" for name in sorted(self._known)}

    def allocatable(self) -> dict[str, str]:
        return {
            name: str(sum(self.offers[name].healthy.values())) if name in self.offers else "0" for name in sorted(self._known)
        }

    def handles(self, resource: str) -> bool:
        return resource in self._known

    # -- who has what --------------------------------------------------------------------------------------------------------------

    def grants(self, uid: str, container: str) -> dict[str, Grant]:
        """What a container has, by resource."""
        return self._grants.get(uid, {}).get(container, {})

    def granted(self, uid: str) -> set[tuple[str, str]]:
        """(container, resource) of all that the pod has."""
        return {(name, resource) for name, held in self._grants.get(uid, {}).items() for resource in held}

    def taken(self, resource: str, *, but: str = "") -> set[str]:
        """The devices that pods have, but for the pod with that uid."""
        return {
            device
            for uid, containers in self._grants.items()
            if uid != but
            for held in containers.values()
            if resource in held
            for device in held[resource].devices
        }

    def wants(self, pod: Object) -> list[tuple[str, str, int, bool]]:
        """(container, resource, how many, whether it hands them on) of all devices that the pod asks for, init containers first."""
        found = []
        for each in [*init_containers_of(pod), *containers_of(pod)]:
            limits = (each.get("resources") or {}).get("limits") or {}
            hands_on = any(each is init for init in init_containers_of(pod)) and not is_sidecar(each)
            for resource, amount in sorted(limits.items()):
                if self.handles(resource) and quantity.units(amount) > 0:
                    found.append((each["name"], resource, quantity.units(amount), hands_on))
        return found

    def hints(self, uid: str, container: str, resource: str, count: int) -> list[Hint] | None:
        """Near to which NUMA nodes the container could have its devices; None where their plugin does not say, or it has them already."""
        offer = self.offers.get(resource)
        if offer is None or resource in self.grants(uid, container) or not any(offer.near.values()):
            return None
        # What is near to no node in particular is near to all.
        everywhere = tuple({node for of in offer.near.values() for node in of})
        near = {device: offer.near.get(device) or everywhere for device in offer.healthy}
        return hints(near, self.free(resource, uid, ()), count)

    def near(self, resource: str, device: str, nodes: frozenset[int]) -> bool:
        offer = self.offers.get(resource)
        return offer is not None and bool(set(offer.near.get(device, ())) & nodes)

    def free(self, resource: str, uid: str, own: Iterable[str]) -> list[str]:
        """The healthy devices that the pod may take, in order, those first that it has for another container to hand on."""
        offer = self.offers.get(resource)
        if offer is None:
            return []
        handed = [each for each in own if offer.healthy.get(each)]
        held = self.taken(resource)
        return [*handed, *(each for each in sorted(offer.healthy) if offer.healthy[each] and each not in held)]

    def record(self, uid: str, container: str, resource: str, grant: Grant) -> None:
        """The container has these from now on."""
        self._grants.setdefault(uid, {}).setdefault(container, {})[resource] = grant
        self._save()

    def forget(self, uid: str) -> None:
        """The pod is over."""
        if self._grants.pop(uid, None) is not None:
            self._save()

    def keep_only(self, uids: set[str]) -> None:
        """Forget pods that are not here any more."""
        gone = set(self._grants) - uids
        for uid in gone:
            del self._grants[uid]
        if gone:
            self._save()

    def _save(self) -> None:
        grants = {
            uid: {name: {resource: asdict(grant) for resource, grant in held.items()} for name, held in containers.items()}
            for uid, containers in self._grants.items()
        }
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            checkpoint.save(self._path, {"grants": grants, "resources": sorted(self._known)})
        except OSError as error:
            log.warning("who has which device could not be written down", error=str(error))


def shortage(resource: str, wanted: int, available: int) -> DeviceProblem:
    """In upstream's words."""
    return DeviceProblem(
        f"Allocate failed due to requested number of devices unavailable for {resource}. "
        f"Requested: {wanted}, Available: {available}, which is unexpected"
    )
