"""The kinds' own steps on creation and update, called by :class:`kubeling.api.strategies.Strategy`. Each changes the new object in place."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from kubeling.api import pods, resources
from kubeling.api.meta import Object, annotations_of, ensure, metadata_of, name_of, spec_of, status_of, uid_of
from kubeling.api.resources import Resource
from kubeling.api.times import format_time


def spec_only(obj: Object) -> Any:
    """What counts for the generation of most kinds."""
    return obj.get("spec")


def spec_and_annotations(obj: Object) -> Any:
    """Deployments: annotations count too."""
    return obj.get("spec"), annotations_of(obj)


def all_but_metadata(obj: Object) -> Any:
    """EndpointSlices: everything, labels included."""
    return {**{key: value for key, value in obj.items() if key != "metadata"}, "labels": metadata_of(obj).get("labels") or {}}


def all_but_identity(obj: Object) -> Any:
    """Custom resources without a door for their status."""
    return {key: value for key, value in obj.items() if key not in ("metadata", "apiVersion", "kind")}


def all_but_status(obj: Object) -> Any:
    """Custom resources with one."""
    return {key: value for key, value in obj.items() if key not in ("metadata", "status", "apiVersion", "kind")}


def keep_metadata(new: Object, old: Object) -> None:
    """A status update of custom resources and some others changes no metadata at all but managedFields and resourceVersion, which the server minds."""
    after, before = metadata_of(new), metadata_of(old)
    kept = {key: after[key] for key in ("managedFields", "resourceVersion", "uid") if key in after}
    new["metadata"] = {**{key: value for key, value in before.items() if key != "managedFields"}, **kept}


def pod_grace_period(pod: Object, requested: int | None) -> int:
    """None of it where nothing runs; a negative wish means one second."""
    if not pods.node_of(pod) or pods.is_terminal(pod):
        return 0
    period = requested if requested is not None else (spec_of(pod).get("terminationGracePeriodSeconds") or 0)
    return 1 if period < 0 else int(period)


def _create_pod(pod: Object, now: datetime) -> None:
    status: dict[str, Any] = {"phase": "Pending", "qosClass": pods.qos_class(pod)}
    if spec_of(pod).get("schedulingGates"):
        status["conditions"] = [
            {
                "type": "PodScheduled",
                "status": "False",
                "lastTransitionTime": format_time(now),
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }
        ]
    pod["status"] = status


def _pod_status(new: Object, old: Object) -> None:
    """Owners are not the kubelet's business; the class of service is settled at creation."""
    before, after = metadata_of(old), new.setdefault("metadata", {})
    if "ownerReferences" in before:
        after["ownerReferences"] = before["ownerReferences"]
    else:
        after.pop("ownerReferences", None)
    if status_of(old).get("qosClass"):
        ensure(new, "status")["qosClass"] = status_of(old)["qosClass"]


def _create_namespace(namespace: Object, now: datetime) -> None:
    spec = ensure(namespace, "spec")
    finalizers = spec.get("finalizers") or []
    if "kubernetes" not in finalizers:
        spec["finalizers"] = [*finalizers, "kubernetes"]
    namespace["status"] = {"phase": "Active"}


def _update_namespace(new: Object, old: Object) -> None:
    """Finalizers change through /finalize only."""
    if "spec" in old:
        new["spec"] = old["spec"]


def _phase_pending(obj: Object, now: datetime) -> None:
    obj["status"] = {"phase": "Pending"}


def _create_claim(claim: Object, now: datetime) -> None:
    _phase_pending(claim, now)
    _one_source(claim)


def _update_claim(new: Object, old: Object) -> None:
    _one_source(new)


def _one_source(claim: Object) -> None:
    """dataSource and dataSourceRef say the same, unless the latter looks into another namespace (KEP-3294)."""
    spec = spec_of(claim)
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    if source is not None and reference is None:
        spec["dataSourceRef"] = {key: source[key] for key in ("apiGroup", "kind", "name") if key in source}
    elif reference is not None and source is None and not reference.get("namespace"):
        spec["dataSource"] = {key: reference[key] for key in ("apiGroup", "kind", "name") if key in reference}


_TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"


def _create_daemons(obj: Object, now: datetime) -> None:
    _daemon_set_status(obj, now)
    _count_templates(obj, 1)


def _update_daemons(new: Object, old: Object) -> None:
    """How often the template has changed is counted where older clients look for it."""
    held = annotations_of(old).get(_TEMPLATE_GENERATION) or ""
    if held.isdecimal():
        changed = spec_of(new).get("template") != spec_of(old).get("template")
        _count_templates(new, int(held) + changed)


def _count_templates(obj: Object, count: int) -> None:
    ensure(ensure(obj, "metadata"), "annotations")[_TEMPLATE_GENERATION] = str(count)


def _create_volume(obj: Object, now: datetime) -> None:
    obj["status"] = {"phase": "Pending", "lastPhaseTransitionTime": format_time(now)}


def _create_job(job: Object, now: datetime) -> None:
    """A job without a manual selector finds its pods by its own uid."""
    job["status"] = {}
    spec = ensure(job, "spec")
    if spec.get("manualSelector") or not uid_of(job):
        return
    uid, name = uid_of(job), name_of(job)
    template = ensure(ensure(spec, "template"), "metadata")
    template["labels"] = {
        **(template.get("labels") or {}),
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": name,
        "controller-uid": uid,
        "job-name": name,
    }
    selector = ensure(spec, "selector")
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), "batch.kubernetes.io/controller-uid": uid}


def _empty_status(obj: Object, now: datetime) -> None:
    obj["status"] = {}


def _load_balancer_status(obj: Object, now: datetime) -> None:
    obj["status"] = {"loadBalancer": {}}


def _replica_status(obj: Object, now: datetime) -> None:
    """The one member of these statuses that is always written."""
    obj["status"] = {"replicas": 0}


def _stateful_set_status(obj: Object, now: datetime) -> None:
    obj["status"] = {"replicas": 0, "availableReplicas": 0}


def _daemon_set_status(obj: Object, now: datetime) -> None:
    names = ("currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady")
    obj["status"] = dict.fromkeys(names, 0)


def _budget_status(obj: Object, now: datetime) -> None:
    obj["status"] = dict.fromkeys(("currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods"), 0)


def _autoscaler_status(obj: Object, now: datetime) -> None:
    obj["status"] = {"desiredReplicas": 0}


def _update_service(new: Object, old: Object) -> None:
    """Addresses and ports that were given out stay where the client says nothing about them, and go where the type has none."""
    after, before = ensure(new, "spec"), spec_of(old)
    _normalize_addresses(after, before)
    if _has_cluster_ip(after) and _has_cluster_ip(before):
        for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if not after.get(field) and before.get(field):
                after[field] = before[field]
        _trim_second_family(after, before)
    elif not _has_cluster_ip(after):
        for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if after.get(field) == before.get(field):
                after.pop(field, None)
    _carry_node_ports(after, before)
    if after.get("type") != "LoadBalancer" and before.get("type") == "LoadBalancer":
        for field in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
            if after.get(field) == before.get(field):
                after.pop(field, None)
        new["status"] = {"loadBalancer": {}}
    if not _needs_health_port(after) and after.get("healthCheckNodePort") == before.get("healthCheckNodePort"):
        after.pop("healthCheckNodePort", None)
    elif _needs_health_port(after) and before.get("healthCheckNodePort") and not after.get("healthCheckNodePort"):
        after["healthCheckNodePort"] = before["healthCheckNodePort"]
    if not _is_external(after) and after.get("externalTrafficPolicy") == before.get("externalTrafficPolicy"):
        after.pop("externalTrafficPolicy", None)


def _normalize_addresses(after: dict[str, Any], before: dict[str, Any]) -> None:
    """Clients of the time of one address only know `clusterIP`: what they change there, they mean for the first of `clusterIPs`."""
    one, many = after.get("clusterIP"), after.get("clusterIPs") or []
    if one and one != before.get("clusterIP") and many == (before.get("clusterIPs") or []):
        after["clusterIPs"] = [one, *many[1:]]


def _trim_second_family(after: dict[str, Any], before: dict[str, Any]) -> None:
    """Who says SingleStack of a Service with two families need not say which one goes: the second does."""
    if after.get("ipFamilyPolicy") != "SingleStack" or before.get("ipFamilyPolicy") not in (
        "PreferDualStack",
        "RequireDualStack",
    ):
        return
    for field in ("clusterIPs", "ipFamilies"):
        if len(after.get(field) or ()) > 1 and after[field] == before.get(field):
            after[field] = after[field][:1]


def _carry_node_ports(after: dict[str, Any], before: dict[str, Any]) -> None:
    held = {(each.get("protocol"), each.get("port")): each.get("nodePort") for each in before.get("ports") or ()}
    keeps = after.get("type") in ("NodePort", "LoadBalancer")
    wants = keeps and not (after.get("type") == "LoadBalancer" and after.get("allocateLoadBalancerNodePorts") is False)
    taken = {each.get("nodePort") for each in after.get("ports") or ()}
    for each in after.get("ports") or ():
        former = held.get((each.get("protocol"), each.get("port")))
        if wants and not each.get("nodePort") and former and former not in taken:
            each["nodePort"] = former
        elif not keeps and each.get("nodePort") == former:
            each.pop("nodePort", None)


def _has_cluster_ip(spec: dict[str, Any]) -> bool:
    return spec.get("type") != "ExternalName"


def _is_external(spec: dict[str, Any]) -> bool:
    return spec.get("type") in ("NodePort", "LoadBalancer") or bool(spec.get("externalIPs"))


def _needs_health_port(spec: dict[str, Any]) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _keep_labels(new: Object, old: Object) -> None:
    """A Deployment's status update does not touch its labels."""
    if "labels" in metadata_of(old):
        new["metadata"]["labels"] = metadata_of(old)["labels"]
    else:
        new["metadata"].pop("labels", None)


def _request_status(new: Object, old: Object) -> None:
    """The signer writes certificate and failures; approval and denial have a door of their own."""
    verdicts = ("Approved", "Denied")
    written = [each for each in status_of(new).get("conditions") or () if each.get("type") not in verdicts]
    kept = [each for each in status_of(old).get("conditions") or () if each.get("type") in verdicts]
    if kept or written:
        ensure(new, "status")["conditions"] = kept + written
    else:
        status_of(new).pop("conditions", None)


def _update_request(new: Object, old: Object) -> None:
    """What was asked for stays, and by whom, whatever is written."""
    if "spec" in old:
        new["spec"] = old["spec"]


def _update_secret(new: Object, old: Object) -> None:
    if not new.get("type") and old.get("type"):
        new["type"] = old["type"]


def _only(new: Object, old: Object, *spec_fields: str) -> None:
    """Everything as it was, but these fields of the spec."""
    wanted = spec_of(new)
    for key in {*new, *old} - {"metadata", "spec"}:
        if key in old:
            new[key] = old[key]
        else:
            del new[key]
    spec = dict(spec_of(old))
    for field in spec_fields:
        if field in wanted:
            spec[field] = wanted[field]
        else:
            spec.pop(field, None)
    new["spec"] = spec


def _approval(new: Object, old: Object) -> None:
    """/approval writes conditions and nothing else."""
    conditions = status_of(new).get("conditions")
    new["spec"] = old.get("spec")
    status = dict(status_of(old))
    if conditions is not None:
        status["conditions"] = conditions
    new["status"] = status


def _finalize(new: Object, old: Object) -> None:
    _only(new, old, "finalizers")


def _ephemeral_containers(new: Object, old: Object) -> None:
    _only(new, old, "ephemeralContainers")


def _resize(new: Object, old: Object) -> None:
    """Only the containers' resources and resize policies change."""
    wanted = {
        field: {each.get("name"): each for each in spec_of(new).get(field) or ()} for field in ("containers", "initContainers")
    }
    _only(new, old)
    for field, by_name in wanted.items():
        if field in new["spec"]:
            new["spec"][field] = [_resized(each, by_name.get(each.get("name"), {})) for each in new["spec"][field]]


def _resized(container: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    return {**container, **{field: wanted[field] for field in ("resources", "resizePolicy") if field in wanted}}


def _storage_versions(definition: Object) -> list[str]:
    return [each.get("name") or "" for each in spec_of(definition).get("versions") or () if each.get("storage")]


def _create_definition(definition: Object, now: datetime) -> None:
    """A CustomResourceDefinition has stored nothing yet but in its storage version, and no names yet."""
    names = {"plural": "", "kind": ""}
    definition["status"] = {"conditions": [], "acceptedNames": names, "storedVersions": _storage_versions(definition)}


def _update_definition(new: Object, old: Object) -> None:
    """A new storage version joins those in which objects may be stored."""
    status = dict(status_of(new))
    stored = list(status.get("storedVersions") or ())
    status["storedVersions"] = stored + [each for each in _storage_versions(new) if each not in stored]
    new["status"] = status


def _delete_definition(definition: Object, now: datetime) -> None:
    """The objects go first."""
    from kubeling.api.structural import conditions

    conditions.begin_termination(definition, now)


def _create_api_service(obj: Object, now: datetime) -> None:
    """What the server itself serves is available at once."""
    if spec_of(obj).get("service") is None:
        obj["status"] = {"conditions": [{**_LOCAL, "lastTransitionTime": format_time(now)}]}


def _update_api_service(new: Object, old: Object) -> None:
    """One that goes elsewhere from now on has yet to be seen to answer."""
    local = spec_of(new).get("service") is None
    if local != (spec_of(old).get("service") is None):
        new["status"] = {"conditions": [dict(_LOCAL)]} if local else {}


_LOCAL = {"type": "Available", "status": "True", "reason": "Local", "message": "Local APIServices are always available"}

SUBRESOURCES: dict[str, Callable[[Object, Object], None]] = {
    "approval": _approval,
    "finalize": _finalize,
    "ephemeralcontainers": _ephemeral_containers,
    "resize": _resize,
}

CREATE: dict[Resource, Callable[[Object, datetime], None]] = {
    resources.API_SERVICES: _create_api_service,
    resources.PODS: _create_pod,
    resources.NAMESPACES: _create_namespace,
    resources.PERSISTENT_VOLUMES: _create_volume,
    resources.PERSISTENT_VOLUME_CLAIMS: _create_claim,
    resources.JOBS: _create_job,
    resources.CRON_JOBS: _empty_status,
    resources.DEPLOYMENTS: _empty_status,
    resources.REPLICA_SETS: _replica_status,
    resources.REPLICATION_CONTROLLERS: _replica_status,
    resources.STATEFUL_SETS: _stateful_set_status,
    resources.DAEMON_SETS: _create_daemons,
    resources.SERVICES: _load_balancer_status,
    resources.INGRESSES: _load_balancer_status,
    resources.RESOURCE_QUOTAS: _empty_status,
    resources.POD_DISRUPTION_BUDGETS: _budget_status,
    resources.CERTIFICATE_SIGNING_REQUESTS: _empty_status,
    resources.HORIZONTAL_POD_AUTOSCALERS: _autoscaler_status,
    resources.HORIZONTAL_POD_AUTOSCALERS_V1: _autoscaler_status,
    resources.CUSTOM_RESOURCE_DEFINITIONS: _create_definition,
}
DELETE: dict[Resource, Callable[[Object, datetime], None]] = {resources.CUSTOM_RESOURCE_DEFINITIONS: _delete_definition}
UPDATE: dict[Resource, Callable[[Object, Object], None]] = {
    resources.API_SERVICES: _update_api_service,
    resources.NAMESPACES: _update_namespace,
    resources.SERVICES: _update_service,
    resources.SECRETS: _update_secret,
    resources.PERSISTENT_VOLUME_CLAIMS: _update_claim,
    resources.DAEMON_SETS: _update_daemons,
    resources.CERTIFICATE_SIGNING_REQUESTS: _update_request,
    resources.CUSTOM_RESOURCE_DEFINITIONS: _update_definition,
}
STATUS_UPDATE: dict[Resource, Callable[[Object, Object], None]] = {
    resources.PODS: _pod_status,
    resources.DEPLOYMENTS: _keep_labels,
    resources.CERTIFICATE_SIGNING_REQUESTS: _request_status,
    **dict.fromkeys(
        (
            resources.FLOW_SCHEMAS,
            resources.PRIORITY_LEVEL_CONFIGURATIONS,
            resources.VALIDATING_ADMISSION_POLICIES,
            resources.VOLUME_ATTACHMENTS,
            resources.SERVICE_CIDRS,
            resources.API_SERVICES,
        ),
        keep_metadata,
    ),
}
