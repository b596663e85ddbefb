"""What may be said through /status of the kinds whose controllers count things: numbers that are not negative and fit together."""

from __future__ import annotations

from kubeling.api import names
from kubeling.api.errors import forbidden_value, invalid_value, required_value, unsupported_value
from kubeling.api.meta import Object, is_deleting, spec_of, status_of
from kubeling.api.validation.common import Errors, Map, amount, checked, not_negative

_COUNTS = (
    "observedGeneration",
    "replicas",
    "updatedReplicas",
    "currentReplicas",
    "readyReplicas",
    "fullyLabeledReplicas",
    "availableReplicas",
    "unavailableReplicas",
    "collisionCount",
)
_PARTS = ("updatedReplicas", "currentReplicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas")
_DAEMONS = (
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
    "collisionCount",
)


def _counted(status: Map, *fields: str) -> Errors:
    for field in fields:
        yield from not_negative(f"status.{field}", status.get(field))


def _collisions(new: Object, old: Object) -> Errors:
    before, after = status_of(old).get("collisionCount"), status_of(new).get("collisionCount")
    if before is not None and (after is None or after < before):
        yield invalid_value("status.collisionCount", after or 0, "cannot be decremented")


def replicas(new: Object, old: Object) -> Errors:
    """Deployments, ReplicaSets, ReplicationControllers."""
    yield from _replicas(new, old, "readyReplicas")


def stateful_set(new: Object, old: Object) -> Errors:
    """StatefulSets, which say where they count."""
    yield from _replicas(new, old, "status.readyReplicas")


def _replicas(new: Object, old: Object, ready: str) -> Errors:
    status = status_of(new)
    yield from _counted(status, *_COUNTS)
    whole = status.get("replicas") or 0
    for field in _PARTS:
        if (status.get(field) or 0) > whole:
            yield invalid_value(f"status.{field}", status[field], "cannot be greater than status.replicas")
    available = status.get("availableReplicas") or 0
    if available > (status.get("readyReplicas") or 0):
        yield invalid_value("status.availableReplicas", available, f"cannot be greater than {ready}")
    yield from _collisions(new, old)


def daemon_set(new: Object, old: Object) -> Errors:
    """DaemonSets."""
    yield from _counted(status_of(new), *_DAEMONS)
    yield from _collisions(new, old)


def autoscaler(new: Object, old: Object) -> Errors:
    """HorizontalPodAutoscalers."""
    yield from _counted(status_of(new), "currentReplicas", "desiredReplicas")


def disruption_budget(new: Object, old: Object) -> Errors:
    """PodDisruptionBudgets: conditions and numbers."""
    yield from _counted(status_of(new), "disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")


def namespace(new: Object, old: Object) -> Errors:
    """A Namespace ends when it is deleted, and then only. /finalize comes here too, and leaves the status alone."""
    from kubeling.api.validation.cluster import finalizer

    for at, each in enumerate(spec_of(new).get("finalizers") or ()):
        yield from finalizer(f"spec.finalizers[{at}]", each)
    phase = status_of(new).get("phase") or ""
    if is_deleting(new):
        if phase != "Terminating":
            detail = "may only be 'Terminating' if `deletionTimestamp` is not empty"
            yield invalid_value("status.Phase", phase, detail)
    elif phase != "Active":
        yield invalid_value("status.Phase", phase, "may only be 'Active' if `deletionTimestamp` is empty")


def resource_quota(new: Object, old: Object) -> Errors:
    """ResourceQuotas."""
    from kubeling.api.validation.quotas import counted

    for field in ("hard", "used"):
        for name, value in (status_of(new).get(field) or {}).items():
            yield from counted(f"status.{field}[{name}]", name, value)


def volume_claim(new: Object, old: Object) -> Errors:
    """PersistentVolumeClaims."""
    status = status_of(new)
    for field in ("capacity", "allocatedResources"):
        for name, value in (status.get(field) or {}).items():
            yield from amount(f"status.{field}[{name}]", value)
    if not spec_of(new).get("accessModes"):
        yield required_value("Spec.accessModes")


def service(new: Object, old: Object) -> Errors:
    """Services: where a balancer listens."""
    ingress = (status_of(new).get("loadBalancer") or {}).get("ingress") or []
    if ingress and spec_of(new).get("type") != "LoadBalancer":
        detail = "may only be used when `spec.type` is 'LoadBalancer'"
        yield forbidden_value("status.loadBalancer.ingress", detail)
        return
    for at, each in enumerate(ingress):
        path, mode = f"status.loadBalancer.ingress[{at}]", each.get("ipMode")
        yield from _balancer(path, each)
        if each.get("ip"):
            if mode is None:
                yield required_value(f"{path}.ipMode", "must be specified when `ip` is set")
        elif mode is not None:
            yield forbidden_value(f"{path}.ipMode", "may not be specified when `ip` is not set")
        if mode is not None and mode not in ("VIP", "Proxy"):
            yield unsupported_value(f"{path}.ipMode", mode, ("Proxy", "VIP"))


def ingress(new: Object, old: Object) -> Errors:
    """Ingresses."""
    for at, each in enumerate((status_of(new).get("loadBalancer") or {}).get("ingress") or ()):
        yield from _balancer(f"status.loadBalancer.ingress[{at}]", each)


def _balancer(path: str, each: Map) -> Errors:
    if each.get("ip"):
        yield from checked(f"{path}.ip", each["ip"], names.ip_address)
    host = each.get("hostname")
    if host:
        yield from checked(f"{path}.hostname", host, names.dns1123_subdomain)
        if not names.ip_address(host):
            yield invalid_value(f"{path}.hostname", host, "must be a DNS name, not an IP address")
