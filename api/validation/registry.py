"""Which validators a kind has.

They are named and not imported: a kind's module is loaded when the first object of the kind is written, so that a server starts without any.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

from kubeling.api import resources as r
from kubeling.api.errors import FieldError
from kubeling.api.meta import Object
from kubeling.api.names import Check
from kubeling.api.resources import Resource
from kubeling.api.strategies import strategy_of
from kubeling.api.validation.objectmeta import validate_metadata, validate_metadata_update

_CREATE: dict[Resource, str] = {
    r.PODS: "pod.pod",
    r.POD_TEMPLATES: "workloads.pod_template",
    r.REPLICATION_CONTROLLERS: "workloads.replication_controller",
    r.DEPLOYMENTS: "workloads.deployment",
    r.REPLICA_SETS: "workloads.replica_set",
    r.DAEMON_SETS: "workloads.daemon_set",
    r.STATEFUL_SETS: "workloads.stateful_set",
    r.JOBS: "jobs.job",
    r.CRON_JOBS: "jobs.cron_job",
    r.HORIZONTAL_POD_AUTOSCALERS: "autoscaling.autoscaler",
    r.HORIZONTAL_POD_AUTOSCALERS_V1: "autoscaling.autoscaler",
    r.POD_DISRUPTION_BUDGETS: "workloads.disruption_budget",
    r.SERVICES: "services.service",
    r.ENDPOINTS: "endpoints.endpoints",
    r.ENDPOINT_SLICES: "endpoints.endpoint_slice",
    r.INGRESSES: "networking.ingress",
    r.NETWORK_POLICIES: "networking.network_policy",
    r.LEASES: "endpoints.lease",
    r.CONFIG_MAPS: "cluster.config_map",
    r.SECRETS: "cluster.secret",
    r.NAMESPACES: "cluster.namespace",
    r.NODES: "cluster.node",
    r.RESOURCE_QUOTAS: "quotas.resource_quota",
    r.LIMIT_RANGES: "limits.limit_range",
    r.ROLES: "rbac.role",
    r.CLUSTER_ROLES: "rbac.cluster_role",
    r.ROLE_BINDINGS: "rbac.role_binding",
    r.CLUSTER_ROLE_BINDINGS: "rbac.cluster_role_binding",
    r.PRIORITY_CLASSES: "cluster.priority_class",
    r.STORAGE_CLASSES: "storage.storage_class",
    r.PERSISTENT_VOLUMES: "storage.persistent_volume",
    r.PERSISTENT_VOLUME_CLAIMS: "storage.persistent_volume_claim",
    r.EVENTS: "events.event",
    r.EVENTS_V1: "events.event",
    r.CERTIFICATE_SIGNING_REQUESTS: "certificates.signing_request",
    r.INGRESS_CLASSES: "networking.ingress_class",
    r.RUNTIME_CLASSES: "cluster.runtime_class",
    r.VALIDATING_ADMISSION_POLICIES: "policies.policy",
    r.VALIDATING_ADMISSION_POLICY_BINDINGS: "policies.binding",
    r.MUTATING_WEBHOOK_CONFIGURATIONS: "webhooks.mutating_webhooks",
    r.VALIDATING_WEBHOOK_CONFIGURATIONS: "webhooks.validating_webhooks",
    r.CUSTOM_RESOURCE_DEFINITIONS: "definitions.definition",
    r.API_SERVICES: "aggregation.api_service",
    r.FLOW_SCHEMAS: "flowcontrol.flow_schema",
    r.PRIORITY_LEVEL_CONFIGURATIONS: "flowcontrol.priority_level",
    r.CSI_DRIVERS: "csi.csi_driver",
    r.CSI_NODES: "csi.csi_node",
    r.CSI_STORAGE_CAPACITIES: "csi.csi_storage_capacity",
    r.VOLUME_ATTACHMENTS: "csi.volume_attachment",
    r.CONTROLLER_REVISIONS: "cluster.controller_revision",
    r.SERVICE_CIDRS: "networking.service_cidr",
    r.IP_ADDRESSES: "networking.ip_address",
    r.STORAGE_VERSION_MIGRATIONS: "migrations.migration",
}
#: Kinds whose updates are held against the old object as well; all but those of `_ALONE` are validated as on creation first.
_UPDATE: dict[Resource, str] = {
    r.PODS: "podupdate.pod_update",
    r.DEPLOYMENTS: "workloads.selector_update",
    r.REPLICA_SETS: "workloads.selector_update",
    r.DAEMON_SETS: "workloads.selector_update",
    r.STATEFUL_SETS: "workloads.stateful_set_update",
    r.JOBS: "jobs.job_update",
    r.CRON_JOBS: "jobs.cron_job_update",
    r.INGRESSES: "networking.ingress_update",
    r.SERVICES: "services.service_update",
    r.ENDPOINT_SLICES: "endpoints.endpoint_slice_update",
    r.CONFIG_MAPS: "cluster.config_map_update",
    r.SECRETS: "cluster.secret_update",
    r.NODES: "cluster.node_update",
    r.RESOURCE_QUOTAS: "quotas.resource_quota_update",
    r.ROLE_BINDINGS: "rbac.binding_update",
    r.CLUSTER_ROLE_BINDINGS: "rbac.binding_update",
    r.PRIORITY_CLASSES: "cluster.priority_class_update",
    r.STORAGE_CLASSES: "storage.storage_class_update",
    r.PERSISTENT_VOLUMES: "storage.persistent_volume_update",
    r.PERSISTENT_VOLUME_CLAIMS: "storage.persistent_volume_claim_update",
    r.CERTIFICATE_SIGNING_REQUESTS: "certificates.signing_request_update",
    r.RUNTIME_CLASSES: "cluster.runtime_class_update",
    r.CUSTOM_RESOURCE_DEFINITIONS: "definitions.definition_update",
    r.INGRESS_CLASSES: "networking.ingress_class_update",
    r.CSI_DRIVERS: "csi.csi_driver_update",
    r.CSI_NODES: "csi.csi_node_update",
    r.CSI_STORAGE_CAPACITIES: "csi.csi_storage_capacity_update",
    r.VOLUME_ATTACHMENTS: "csi.volume_attachment_update",
    r.CONTROLLER_REVISIONS: "cluster.controller_revision_update",
    r.SERVICE_CIDRS: "networking.service_cidr_update",
    r.IP_ADDRESSES: "networking.ip_address_update",
    r.STORAGE_VERSION_MIGRATIONS: "migrations.migration_update",
}

#: What comes through /status or another door.
_STATUS: dict[Resource, str] = {
    r.PODS: "podupdate.pod_door_update",
    r.CUSTOM_RESOURCE_DEFINITIONS: "definitions.stored_versions",
    r.CERTIFICATE_SIGNING_REQUESTS: "certificates.signing_request_status",
    r.VOLUME_ATTACHMENTS: "csi.volume_attachment_status",
    r.JOBS: "jobstatus.job_status",
    r.DEPLOYMENTS: "statuses.replicas",
    r.REPLICA_SETS: "statuses.replicas",
    r.REPLICATION_CONTROLLERS: "statuses.replicas",
    r.STATEFUL_SETS: "statuses.stateful_set",
    r.DAEMON_SETS: "statuses.daemon_set",
    r.HORIZONTAL_POD_AUTOSCALERS: "statuses.autoscaler",
    r.HORIZONTAL_POD_AUTOSCALERS_V1: "statuses.autoscaler",
    r.POD_DISRUPTION_BUDGETS: "statuses.disruption_budget",
    r.NAMESPACES: "statuses.namespace",
    r.NODES: "cluster.node_status",
    r.RESOURCE_QUOTAS: "statuses.resource_quota",
    r.PERSISTENT_VOLUME_CLAIMS: "statuses.volume_claim",
    r.SERVICES: "statuses.service",
    r.INGRESSES: "statuses.ingress",
    r.STORAGE_VERSIONS: "migrations.storage_version_status",
    r.STORAGE_VERSION_MIGRATIONS: "migrations.migration_status",
}
#: What authors are warned of, with the old object or None.
_NOTICES: dict[Resource, str] = {
    r.PODS: "podnotices.pod",
    r.POD_TEMPLATES: "notices.pod_template",
    r.REPLICATION_CONTROLLERS: "notices.workload",
    r.DEPLOYMENTS: "notices.workload",
    r.REPLICA_SETS: "notices.workload",
    r.DAEMON_SETS: "notices.templated",
    r.STATEFUL_SETS: "notices.stateful_set",
    r.JOBS: "notices.job",
    r.CRON_JOBS: "notices.cron_job",
    r.SERVICES: "notices.service",
    r.INGRESSES: "notices.ingress",
    r.NETWORK_POLICIES: "notices.network_policy",
    r.PERSISTENT_VOLUMES: "notices.persistent_volume",
    r.PERSISTENT_VOLUME_CLAIMS: "notices.persistent_volume_claim",
    r.RUNTIME_CLASSES: "notices.runtime_class",
    r.STORAGE_CLASSES: "notices.storage_class",
}
#: An update of these says everything itself: what an older server let in may stay.
_ALONE = frozenset({r.PODS, r.NAMESPACES, r.JOBS, r.CRON_JOBS, r.INGRESSES, r.ENDPOINT_SLICES, r.CUSTOM_RESOURCE_DEFINITIONS})


@cache
def _named(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(".")
    return getattr(importlib.import_module(f"kubeling.api.validation.{module}"), function)  # type: ignore[no-any-return]


def validate_create(obj: Object, resource: Resource, name_check: Check | None = None) -> list[FieldError]:
    """What is wrong with an object that is to be created; empty where nothing is. `name_check` is for resources that are not built in."""
    check = name_check or strategy_of(resource).name_check
    found = list(validate_metadata(obj, resource.namespaced, check))
    if resource in _CREATE:
        found += _named(_CREATE[resource])(obj)
    return found


def validate_update(new: Object, old: Object, resource: Resource) -> list[FieldError]:
    """What is wrong with an update through the main door."""
    found = list(validate_metadata_update(new, old))
    if resource in _CREATE and resource not in _ALONE and new is not old:
        found += _named(_CREATE[resource])(new)
    if resource in _UPDATE:
        found += _named(_UPDATE[resource])(new, old)
    return found


def validate_status_update(new: Object, old: Object, resource: Resource) -> list[FieldError]:
    """What is wrong with an update through `/status` or another door."""
    found = list(validate_metadata_update(new, old))
    if resource in _STATUS:
        found += _named(_STATUS[resource])(new, old)
    return found


def notices_of(new: Object, old: Object | None, resource: Resource) -> list[str]:
    """What to warn of in an object that was found valid, through the main door; `old` is None on creation."""
    return list(_named(_NOTICES[resource])(new, old)) if resource in _NOTICES else []


def validators() -> list[str]:
    """The names of all validators, for those who want them loaded."""
    return sorted({*_CREATE.values(), *_UPDATE.values(), *_STATUS.values(), *_NOTICES.values()})
