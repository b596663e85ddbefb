"""What a pod is and needs, read off the object: readiness, its requests, its quality of service, its grace period."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from kubeling.api import quantity
from kubeling.api.conditions import get_condition
from kubeling.api.meta import Object, is_deleting, spec_of, status_of
from kubeling.api.times import parse_time

Container = dict[str, Any]
#: Millicores for cpu, the resource's own unit for everything else.
Amounts = dict[str, int]

DEFAULT_GRACE_PERIOD = 30


def is_ready(pod: Object) -> bool:
    """Its Ready condition is True."""
    found = get_condition(pod, "Ready")
    return found is not None and found.get("status") == "True"


def is_available(pod: Object, min_ready_seconds: int, now: datetime) -> bool:
    """Ready, and for at least that long."""
    return is_ready(pod) and seconds_until_available(pod, min_ready_seconds, now) == 0


def seconds_until_available(pod: Object, min_ready_seconds: int, now: datetime) -> float:
    """How long until a ready pod counts as available; infinite for one that is not ready."""
    found = get_condition(pod, "Ready")
    if found is None or found.get("status") != "True":
        return float("inf")
    since = found.get("lastTransitionTime")
    if min_ready_seconds <= 0:
        return 0
    if not since:
        return float("inf")
    return max(0.0, min_ready_seconds - (now - parse_time(since)).total_seconds())


def phase_of(pod: Object) -> str:
    return status_of(pod).get("phase") or ""


def is_terminal(pod: Object) -> bool:
    """Succeeded or Failed: it will not run again and holds no resources."""
    return phase_of(pod) in ("Succeeded", "Failed")


def is_active(pod: Object) -> bool:
    """Neither over nor on its way out: what a controller counts as a replica."""
    return not is_terminal(pod) and not is_deleting(pod)


def node_of(pod: Object) -> str:
    """The node it is assigned to, empty while there is none."""
    return spec_of(pod).get("nodeName") or ""


def is_mirror(pod: Object) -> bool:
    """The image in the API of a kubelet's static pod."""
    return "kubernetes.io/config.mirror" in ((pod.get("metadata") or {}).get("annotations") or {})


def grace_period_of(pod: Object) -> int:
    """Seconds between the request to stop and the kill."""
    seconds = spec_of(pod).get("terminationGracePeriodSeconds")
    return DEFAULT_GRACE_PERIOD if seconds is None else int(seconds)


def containers_of(pod: Object) -> list[Container]:
    return spec_of(pod).get("containers") or []


def init_containers_of(pod: Object) -> list[Container]:
    return spec_of(pod).get("initContainers") or []


def all_containers(spec: dict[str, Any]) -> Iterator[tuple[str, int, Container]]:
    """Every container of a pod spec, as (field, index, container)."""
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for index, each in enumerate(spec.get(field) or ()):
            yield field, index, each


def is_sidecar(container: Container) -> bool:
    """An init container that goes on running beside the others."""
    return container.get("restartPolicy") == "Always"


def requests_of(pod: Object) -> Amounts:
    """What the scheduler sets aside for a pod: see :func:`_effective`."""
    return _effective(pod, "requests")


def limits_of(pod: Object) -> Amounts:
    """The sum of the limits, by the same rule."""
    return _effective(pod, "limits")


def _effective(pod: Object, which: str) -> Amounts:
    """Sum of the containers and sidecars, or what initialising needs at its worst moment (KEP-753), plus overhead.

    A plain init container runs beside the sidecars that started before it.
    """
    spec = spec_of(pod)
    running: Amounts = {}
    for each in spec.get("containers") or ():
        _add(running, _amounts(each, which))
    sidecars: Amounts = {}
    peak: Amounts = {}
    for each in spec.get("initContainers") or ():
        moment = _amounts(each, which)
        if is_sidecar(each):
            _add(running, moment)
            _add(sidecars, moment)
            moment = dict(sidecars)
        else:
            _add(moment, sidecars)
        for name, amount in moment.items():
            peak[name] = max(peak.get(name, 0), amount)
    for name, amount in peak.items():
        running[name] = max(running.get(name, 0), amount)
    for name, amount in ((spec.get("resources") or {}).get(which) or {}).items():
        running[name] = amount_of(name, amount)  # pod-level resources (KEP-2837) stand above the containers'
    overhead = spec.get("overhead") or {}
    for name, value in overhead.items():
        if which == "requests" or running.get(name):
            running[name] = running.get(name, 0) + amount_of(name, value)
    return running


def amount_of(name: str, value: str | float) -> int:
    """A resource's quantity as a whole number: millicores for cpu, its own unit for the rest."""
    return quantity.milli(value) if name == "cpu" else quantity.units(value)


def _amounts(container: Container, which: str) -> Amounts:
    found = (container.get("resources") or {}).get(which) or {}
    return {name: amount_of(name, value) for name, value in found.items()}


def _add(into: Amounts, more: Amounts) -> None:
    for name, amount in more.items():
        into[name] = into.get(name, 0) + amount


def qos_class(pod: Object) -> str:
    """`Guaranteed` (cpu and memory limited and requested alike in every container), `Burstable` or `BestEffort`."""
    spec = spec_of(pod)
    level = spec.get("resources")
    each_container = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    holders = [level] if level else [each.get("resources") or {} for each in each_container]
    any_set, guaranteed = False, True
    for resources in holders:
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        for name in ("cpu", "memory"):
            limit = quantity.parse(limits.get(name, 0))
            request = quantity.parse(requests.get(name, limits.get(name, 0)))
            any_set = any_set or bool(limit) or bool(request)
            guaranteed = guaranteed and bool(limit) and limit == request
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def host_ports_of(pod: Object) -> list[tuple[str, str, int]]:
    """(address, protocol, port) that it takes on its node; the address is `0.0.0.0` where it names none."""
    return [
        (port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", port["hostPort"])
        for each in [*containers_of(pod), *(each for each in init_containers_of(pod) if is_sidecar(each))]
        for port in each.get("ports") or ()
        if port.get("hostPort")
    ]


def container_status(pod: Object, name: str) -> dict[str, Any] | None:
    """The status of the container of that name, of whichever kind."""
    status = status_of(pod)
    for field in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for each in status.get(field) or ():
            if each.get("name") == name:
                return each  # type: ignore[no-any-return]
    return None


def restart_count(pod: Object) -> int:
    """Restarts of all its containers together."""
    return sum(each.get("restartCount") or 0 for each in status_of(pod).get("containerStatuses") or ())
