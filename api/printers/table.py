"""meta.k8s.io/v1 Table of objects of one resource."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

from kubeling.api import resources as r
from kubeling.api.meta import Object, metadata_of
from kubeling.api.printers import aggregation, cluster, network, others, workloads
from kubeling.api.printers.columns import Printer
from kubeling.api.printers.pod import POD, row_conditions
from kubeling.api.resources import Resource

Include = Literal["Metadata", "Object", "None"]

_PRINTERS: dict[Resource, Printer] = {
    r.PODS: POD,
    r.POD_TEMPLATES: workloads.POD_TEMPLATE,
    r.REPLICATION_CONTROLLERS: workloads.REPLICATION_CONTROLLER,
    r.DEPLOYMENTS: workloads.DEPLOYMENT,
    r.REPLICA_SETS: workloads.REPLICA_SET,
    r.DAEMON_SETS: workloads.DAEMON_SET,
    r.STATEFUL_SETS: workloads.STATEFUL_SET,
    r.CONTROLLER_REVISIONS: workloads.CONTROLLER_REVISION,
    r.JOBS: workloads.JOB,
    r.CRON_JOBS: workloads.CRON_JOB,
    r.HORIZONTAL_POD_AUTOSCALERS: workloads.AUTOSCALER,
    r.HORIZONTAL_POD_AUTOSCALERS_V1: workloads.AUTOSCALER,
    r.POD_DISRUPTION_BUDGETS: workloads.DISRUPTION_BUDGET,
    r.SERVICES: network.SERVICE,
    r.ENDPOINTS: network.ENDPOINTS,
    r.ENDPOINT_SLICES: network.ENDPOINT_SLICE,
    r.INGRESSES: network.INGRESS,
    r.INGRESS_CLASSES: network.INGRESS_CLASS,
    r.NETWORK_POLICIES: network.NETWORK_POLICY,
    r.IP_ADDRESSES: network.IP_ADDRESS,
    r.SERVICE_CIDRS: network.SERVICE_CIDR,
    r.NODES: cluster.NODE,
    r.EVENTS: cluster.EVENT,
    r.EVENTS_V1: cluster.EVENT,
    r.NAMESPACES: cluster.NAMESPACE,
    r.SECRETS: cluster.SECRET,
    r.CONFIG_MAPS: cluster.CONFIG_MAP,
    r.SERVICE_ACCOUNTS: cluster.SERVICE_ACCOUNT,
    r.LEASES: cluster.LEASE,
    r.RESOURCE_QUOTAS: cluster.QUOTA,
    r.PERSISTENT_VOLUMES: cluster.VOLUME,
    r.PERSISTENT_VOLUME_CLAIMS: cluster.CLAIM,
    r.STORAGE_CLASSES: cluster.STORAGE_CLASS,
    r.ROLE_BINDINGS: cluster.BINDING,
    r.CLUSTER_ROLE_BINDINGS: cluster.BINDING,
    r.CERTIFICATE_SIGNING_REQUESTS: others.SIGNING_REQUEST,
    r.PRIORITY_CLASSES: others.PRIORITY_CLASS,
    r.RUNTIME_CLASSES: others.RUNTIME_CLASS,
    r.VOLUME_ATTACHMENTS: others.VOLUME_ATTACHMENT,
    r.CSI_DRIVERS: others.CSI_DRIVER,
    r.CSI_NODES: others.CSI_NODE,
    r.CSI_STORAGE_CAPACITIES: others.CSI_CAPACITY,
    r.MUTATING_WEBHOOK_CONFIGURATIONS: others.WEBHOOKS,
    r.VALIDATING_WEBHOOK_CONFIGURATIONS: others.WEBHOOKS,
    r.VALIDATING_ADMISSION_POLICIES: others.ADMISSION_POLICY,
    r.VALIDATING_ADMISSION_POLICY_BINDINGS: others.ADMISSION_BINDING,
    r.FLOW_SCHEMAS: others.FLOW_SCHEMA,
    r.PRIORITY_LEVEL_CONFIGURATIONS: others.PRIORITY_LEVEL,
    r.COMPONENT_STATUSES: others.COMPONENT_STATUS,
    r.API_SERVICES: aggregation.API_SERVICE,
    r.NODE_METRICS: aggregation.NODE_METRICS,
    r.POD_METRICS: aggregation.POD_METRICS,
    r.STORAGE_VERSIONS: aggregation.STORAGE_VERSION,
    r.STORAGE_VERSION_MIGRATIONS: aggregation.MIGRATION,
}
_BUILTIN = frozenset(r.BUILTIN)


def printer_of(resource: Resource, subresource: str = "") -> Printer:
    """The printer of a resource: its own, name and creation time for a built-in one without, name and age for a custom one."""
    if subresource == "scale":
        return workloads.SCALE
    return _PRINTERS.get(resource) or (cluster.OTHER_BUILTIN if resource in _BUILTIN else cluster.CUSTOM)


def columns_of(resource: Resource, printer: Printer | None = None) -> list[dict[str, Any]]:
    """The `columnDefinitions`."""
    return [each.definition() for each in (printer or printer_of(resource)).columns]


def row_of(
    obj: Object, resource: Resource, now: datetime, include: Include = "Metadata", printer: Printer | None = None
) -> dict[str, Any]:
    """One row. `include` says what of the object goes with it."""
    printer = printer or printer_of(resource)
    row: dict[str, Any] = {"cells": printer.cells(obj, now)}
    if printer is POD:
        conditions = row_conditions(obj)
        if conditions:
            row["conditions"] = conditions
    if include == "Object":
        row["object"] = {"kind": resource.kind, "apiVersion": resource.group_version, **obj}
    elif include == "Metadata":
        row["object"] = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata_of(obj)}
    else:
        row["object"] = None
    return row


def table(
    objects: Iterable[Object],
    resource: Resource,
    now: datetime,
    include: Include = "Metadata",
    *,
    metadata: dict[str, Any] | None = None,
    printer: Printer | None = None,
    columns: bool = True,
) -> dict[str, Any]:
    """The Table of these objects. `metadata` is the list's (resourceVersion, continue, …); `columns` False leaves the definitions out, as later
    events of a watch may.
    """
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata or {},
        "columnDefinitions": columns_of(resource, printer) if columns else None,
        "rows": [row_of(each, resource, now, include, printer) for each in objects],
    }
