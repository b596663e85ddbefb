"""The fields by which field selectors can pick objects, kind by kind; `metadata.name` and `metadata.namespace` work everywhere."""

from __future__ import annotations

from collections.abc import Callable

from kubeling.api import resources
from kubeling.api.meta import Object, spec_of, status_of
from kubeling.api.resources import Resource

Selectable = Callable[[Object], dict[str, str]]


def _text(value: object) -> str:
    """As Go prints it; absent is empty."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _pod(pod: Object) -> dict[str, str]:
    spec, status = spec_of(pod), status_of(pod)
    return {
        "spec.nodeName": _text(spec.get("nodeName")),
        "spec.restartPolicy": _text(spec.get("restartPolicy")),
        "spec.schedulerName": _text(spec.get("schedulerName")),
        "spec.serviceAccountName": _text(spec.get("serviceAccountName")),
        "spec.hostNetwork": _text(spec.get("hostNetwork") or False),
        "status.phase": _text(status.get("phase")),
        "status.podIP": _text(status.get("podIP")),
        "status.podIPs": _text(status.get("podIP")),
        "status.nominatedNodeName": _text(status.get("nominatedNodeName")),
    }


_INVOLVED = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")


def _event(event: Object) -> dict[str, str]:
    about = event.get("involvedObject") or {}
    source = (event.get("source") or {}).get("component") or event.get("reportingComponent")
    return {
        **{f"involvedObject.{field}": _text(about.get(field)) for field in _INVOLVED},
        "reason": _text(event.get("reason")),
        "reportingComponent": _text(event.get("reportingComponent")),
        "source": _text(source),
        "type": _text(event.get("type")),
    }


def _event_v1(event: Object) -> dict[str, str]:
    about = event.get("regarding") or {}
    return {
        **{f"regarding.{field}": _text(about.get(field)) for field in _INVOLVED},
        "reason": _text(event.get("reason")),
        "reportingController": _text(event.get("reportingController")),
        "type": _text(event.get("type")),
    }


SELECTABLE: dict[Resource, Selectable] = {
    resources.PODS: _pod,
    resources.EVENTS: _event,
    resources.EVENTS_V1: _event_v1,
    resources.NODES: lambda node: {"spec.unschedulable": _text(spec_of(node).get("unschedulable") or False)},
    resources.SECRETS: lambda secret: {"type": _text(secret.get("type"))},
    resources.NAMESPACES: lambda space: {"status.phase": _text(status_of(space).get("phase"))},
    resources.JOBS: lambda job: {"status.successful": _text(status_of(job).get("succeeded") or 0)},
    resources.REPLICA_SETS: lambda owner: {"status.replicas": _text(status_of(owner).get("replicas") or 0)},
    resources.REPLICATION_CONTROLLERS: lambda owner: {"status.replicas": _text(status_of(owner).get("replicas") or 0)},
    resources.CERTIFICATE_SIGNING_REQUESTS: lambda request: {"spec.signerName": _text(spec_of(request).get("signerName"))},
    resources.SERVICES: lambda service: {
        "spec.clusterIP": _text(spec_of(service).get("clusterIP")),
        "spec.type": _text(spec_of(service).get("type")),
    },
    resources.IP_ADDRESSES: lambda address: {
        "spec.parentRef.resource": _text((spec_of(address).get("parentRef") or {}).get("resource"))
    },
}
