"""What the apiserver does differently for a kind: which half of an object each door may change, generations, names, grace, and what selectors see.

The rules that all kinds share are in :class:`Strategy`; a kind adds hooks (:mod:`kubeling.api.hooks`) and flags. The apiserver sets name, namespace,
uid and creationTimestamp before `prepare_for_create`, and runs defaulting before and validation after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Literal

from kubeling.api import hooks, names, resources
from kubeling.api.meta import Object, metadata_of
from kubeling.api.names import Check
from kubeling.api.resources import Resource
from kubeling.api.selectable import SELECTABLE, Selectable
from kubeling.api.times import format_time, parse_time

Propagation = Literal["Background", "Foreground", "Orphan"]


@dataclass(frozen=True, slots=True)
class Strategy:
    """A kind's rules. Hooks change the object in place and are called with the clock's time where they need one."""

    resource: Resource
    name_check: Check = names.dns1123_subdomain
    #: `metadata.generation` is kept: 1 on creation, one more with every change of what `generation_of` returns.
    has_generation: bool = False
    generation_of: Callable[[Object], Any] = hooks.spec_only
    #: A client that creates may say what the status is (nodes register themselves with it).
    keeps_status_on_create: bool = False
    #: PUT on a name that does not exist creates it.
    allow_create_on_update: bool = False
    #: PUT without a resourceVersion overwrites whatever is there.
    allow_unconditional_update: bool = True
    default_propagation: Propagation = "Background"
    on_create: Callable[[Object, datetime], None] | None = None
    on_update: Callable[[Object, Object], None] | None = None
    on_status_update: Callable[[Object, Object], None] | None = None
    #: Called when an object is marked as being deleted, to put finalizers on it.
    on_delete: Callable[[Object, datetime], None] | None = None
    selectable: Selectable | None = None

    @property
    def has_status(self) -> bool:
        """Whether status is behind a door of its own."""
        return self.resource.subresource("status") is not None

    def prepare_for_create(self, obj: Object, now: datetime) -> None:
        """Take out what a creator may not set, put in what every object of the kind begins with."""
        metadata = obj.setdefault("metadata", {})
        for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"):
            metadata.pop(name, None)
        if self.has_status and not self.keeps_status_on_create:
            obj.pop("status", None)
        if self.has_generation:
            metadata["generation"] = 1
        if self.on_create:
            self.on_create(obj, now)

    def prepare_for_update(self, new: Object, old: Object) -> None:
        """An update through the main door: the status stays, and the generation moves if what counts has changed."""
        if self.has_status:
            _keep(new, old, "status")
        if self.on_update:
            self.on_update(new, old)
        generation = metadata_of(old).get("generation")
        if self.has_generation and self.generation_of(new) != self.generation_of(old):
            generation = (generation or 0) + 1
        _keep_system_fields(new, old, generation)

    def prepare_for_status_update(self, new: Object, old: Object) -> None:
        """An update through `/status`: nothing but the status and the soft metadata (labels, annotations, finalizers) may change."""
        for key in {*new, *old} - {"apiVersion", "kind", "metadata", "status"}:
            _keep(new, old, key)
        if self.on_status_update:
            self.on_status_update(new, old)
        _keep_system_fields(new, old, metadata_of(old).get("generation"))

    def prepare_for_subresource_update(self, subresource: str, new: Object, old: Object) -> None:
        """An update through any door: status, approval, finalize, ephemeralcontainers, resize; the empty name is the main one."""
        if not subresource:
            self.prepare_for_update(new, old)
            return
        if subresource == "status":
            self.prepare_for_status_update(new, old)
            return
        hooks.SUBRESOURCES[subresource](new, old)
        generation = metadata_of(old).get("generation")
        if generation and self.has_generation and self.generation_of(new) != self.generation_of(old):
            generation += 1
        _keep_system_fields(new, old, generation)

    def reset_fields(self, subresource: str = "") -> tuple[tuple[str, ...], ...]:
        """The paths that this door ignores, which therefore nobody comes to own by writing through it."""
        if not self.has_status:
            return ()
        return (("spec",),) if subresource in ("status", "approval") else (("status",),)

    def grace_period(self, obj: Object, requested: int | None) -> int:
        """Seconds for which a deleted object stays, marked: 0 for everything but pods that run somewhere."""
        if self.resource != resources.PODS:
            return 0
        return hooks.pod_grace_period(obj, requested)

    def mark_deleting(self, obj: Object, now: datetime, grace: int = 0) -> None:
        """Set deletionTimestamp in place. A second request may shorten the grace period, never lengthen it."""
        metadata = obj["metadata"]
        stamp = metadata.get("deletionTimestamp")
        if stamp:
            former = metadata.get("deletionGracePeriodSeconds") or 0
            if grace >= former:
                return
            metadata["deletionTimestamp"] = format_time(parse_time(stamp) + timedelta(seconds=grace - former))
        else:
            metadata["deletionTimestamp"] = format_time(now + timedelta(seconds=grace))
            if metadata.get("generation"):
                metadata["generation"] += 1
        metadata["deletionGracePeriodSeconds"] = grace

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        """What field selectors may ask for, with the object's values."""
        metadata = metadata_of(obj)
        found = {"metadata.name": metadata.get("name") or ""}
        if self.resource.namespaced:
            found["metadata.namespace"] = metadata.get("namespace") or ""
        if self.selectable:
            found.update(self.selectable(obj))
        return found

    @property
    def selectable_names(self) -> frozenset[str]:
        """The fields that selectors may name."""
        return _selectable_names(self)


@lru_cache(maxsize=512)
def _selectable_names(strategy: Strategy) -> frozenset[str]:
    return frozenset(strategy.selectable_fields({"metadata": {}}))


def _keep(new: Object, old: Object, key: str) -> None:
    if key in old:
        new[key] = old[key]
    else:
        new.pop(key, None)


def _keep_system_fields(new: Object, old: Object, generation: int | None) -> None:
    """What no client sets: it is put back rather than refused."""
    before, after = metadata_of(old), new.setdefault("metadata", {})
    for name in ("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
        if name in before:
            after[name] = before[name]
        else:
            after.pop(name, None)
    if before.get("uid"):
        after.setdefault("uid", before["uid"])
    if generation is not None:
        after["generation"] = generation
    else:
        after.pop("generation", None)


_UPSERT = frozenset(
    {
        resources.ENDPOINTS,
        resources.EVENTS,
        resources.EVENTS_V1,
        resources.LIMIT_RANGES,
        resources.POD_TEMPLATES,
        resources.SERVICES,
        resources.ROLES,
        resources.ROLE_BINDINGS,
        resources.CLUSTER_ROLES,
        resources.CLUSTER_ROLE_BINDINGS,
        resources.LEASES,
    }
)
_CONDITIONAL = frozenset(
    {
        resources.LEASES,
        resources.POD_DISRUPTION_BUDGETS,
        resources.MUTATING_WEBHOOK_CONFIGURATIONS,
        resources.VALIDATING_WEBHOOK_CONFIGURATIONS,
        resources.VALIDATING_ADMISSION_POLICIES,
        resources.VALIDATING_ADMISSION_POLICY_BINDINGS,
        resources.CSI_DRIVERS,
        resources.CSI_NODES,
        resources.CSI_STORAGE_CAPACITIES,
        resources.VOLUME_ATTACHMENTS,
        resources.RUNTIME_CLASSES,
        resources.CUSTOM_RESOURCE_DEFINITIONS,
        resources.API_SERVICES,
    }
)
_ORPHANS = frozenset({resources.REPLICATION_CONTROLLERS, resources.JOBS})
_NAMES: dict[Resource, Check] = {
    resources.SERVICES: names.dns1035_label,
    resources.NAMESPACES: names.dns1123_label,
    resources.ROLES: names.path_segment,
    resources.ROLE_BINDINGS: names.path_segment,
    resources.CLUSTER_ROLES: names.path_segment,
    resources.CLUSTER_ROLE_BINDINGS: names.path_segment,
    resources.IP_ADDRESSES: names.ip_address,
    resources.API_SERVICES: names.path_segment,
}
_GENERATION: dict[Resource, Callable[[Object], Any]] = {
    resources.PODS: hooks.spec_only,
    resources.DEPLOYMENTS: hooks.spec_and_annotations,
    resources.REPLICA_SETS: hooks.spec_only,
    resources.REPLICATION_CONTROLLERS: hooks.spec_only,
    resources.DAEMON_SETS: hooks.spec_only,
    resources.STATEFUL_SETS: hooks.spec_only,
    resources.JOBS: hooks.spec_only,
    resources.CRON_JOBS: hooks.spec_only,
    resources.POD_DISRUPTION_BUDGETS: hooks.spec_only,
    resources.INGRESSES: hooks.spec_only,
    resources.INGRESS_CLASSES: hooks.spec_only,
    resources.NETWORK_POLICIES: hooks.spec_only,
    resources.POD_TEMPLATES: lambda obj: obj.get("template"),
    resources.ENDPOINT_SLICES: hooks.all_but_metadata,
    resources.MUTATING_WEBHOOK_CONFIGURATIONS: lambda obj: obj.get("webhooks"),
    resources.VALIDATING_WEBHOOK_CONFIGURATIONS: lambda obj: obj.get("webhooks"),
    resources.VALIDATING_ADMISSION_POLICIES: hooks.spec_only,
    resources.VALIDATING_ADMISSION_POLICY_BINDINGS: hooks.spec_only,
    resources.FLOW_SCHEMAS: hooks.spec_only,
    resources.PRIORITY_LEVEL_CONFIGURATIONS: hooks.spec_only,
    resources.PRIORITY_CLASSES: lambda obj: None,
    resources.CUSTOM_RESOURCE_DEFINITIONS: hooks.spec_only,
}


@lru_cache(maxsize=512)
def strategy_of(resource: Resource) -> Strategy:
    """The strategy of a built-in resource."""
    return Strategy(
        resource,
        name_check=_NAMES.get(resource, names.dns1123_subdomain),
        has_generation=resource in _GENERATION,
        generation_of=_GENERATION.get(resource, hooks.spec_only),
        keeps_status_on_create=resource == resources.NODES,
        allow_create_on_update=resource in _UPSERT,
        allow_unconditional_update=resource not in _CONDITIONAL,
        default_propagation="Orphan" if resource in _ORPHANS else "Background",
        on_create=hooks.CREATE.get(resource),
        on_update=hooks.UPDATE.get(resource),
        on_status_update=hooks.STATUS_UPDATE.get(resource),
        on_delete=hooks.DELETE.get(resource),
        selectable=SELECTABLE.get(resource),
    )


def custom_strategy(resource: Resource, selectable: Selectable | None = None) -> Strategy:
    """The strategy of a custom resource. PUT needs a resourceVersion; the generation counts changes of everything but the metadata, and but the status
    where that has a door of its own.
    """
    return Strategy(
        resource,
        has_generation=True,
        generation_of=hooks.all_but_status if resource.subresource("status") else hooks.all_but_identity,
        allow_unconditional_update=False,
        on_status_update=hooks.keep_metadata,
        selectable=selectable,
    )
