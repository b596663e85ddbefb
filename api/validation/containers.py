"""Containers: images, ports, environment, resources."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from kubeling.api import names, pods, quantity
from kubeling.api.errors import (
    FieldError,
    duplicate_value,
    forbidden_value,
    invalid_value,
    not_found_value,
    required_value,
    unsupported_value,
)
from kubeling.api.validation.common import QUOTA_COUNTS, Errors, Map, amount, checked, in_range, one_of, present, required_name
from kubeling.api.validation.mounts import Volumes, devices, mounts

_PULL = ("Always", "IfNotPresent", "Never")
_TERMINATION = ("File", "FallbackToLogsOnError")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef")
_PATHS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_SUBSCRIPT = re.compile(r"(.*)\['(.*)'\]")
_RESOURCE_FIELDS = tuple(f"{which}.{name}" for which in ("limits", "requests") for name in ("cpu", "ephemeral-storage", "memory"))
_DIVISORS = ("1", *(f"1{each}" for each in "kMGTPE"), *(f"1{each}i" for each in "KMGTPE"))
_STANDARD = frozenset({"cpu", "memory", "ephemeral-storage"})
#: Names without a domain that mean something somewhere, if not in a container.
KNOWN_RESOURCES = (
    _STANDARD
    | QUOTA_COUNTS
    | {"storage", "requests.storage"}
    | {f"{which}.{name}" for which in ("requests", "limits") for name in _STANDARD}
)
#: What an ephemeral container may have: it is for looking on.
_LOOKING_ON = frozenset(
    {
        "name",
        "image",
        "command",
        "args",
        "workingDir",
        "env",
        "envFrom",
        "volumeMounts",
        "volumeDevices",
        "terminationMessagePath",
        "terminationMessagePolicy",
        "imagePullPolicy",
        "securityContext",
        "stdin",
        "stdinOnce",
        "tty",
        "targetContainerName",
        "resizePolicy",
    }
)


def containers(path: str, spec: Map, volumes: Volumes, *, of_pod: bool) -> Errors:
    """All three lists of a pod's spec; names are unique across them. A template may say less clearly what a pod (`of_pod`) must."""
    if not spec.get("containers"):
        yield required_value(f"{path}.containers")
    seen: set[str] = set()
    grace = spec.get("terminationGracePeriodSeconds")
    for field in ("containers", "initContainers", "ephemeralContainers"):
        for at, each in enumerate(spec.get(field) or ()):
            where = f"{path}.{field}[{at}]"
            name = each.get("name")
            if not name:
                yield required_value(f"{where}.name")
            else:
                yield from checked(f"{where}.name", name, names.dns1123_label)
                if name in seen:
                    yield duplicate_value(f"{where}.name", name)
                if field != "ephemeralContainers":
                    seen.add(name)
            yield from container(where, each, spec, volumes, trimmed=of_pod or field == "ephemeralContainers")
            if field == "ephemeralContainers":
                yield from _ephemeral(where, each, seen)
                seen.add(name or "")
                continue
            if field == "initContainers":
                yield from _init(where, each)
            elif each.get("restartPolicy"):
                yield forbidden_value(f"{where}.restartPolicy", "may not be set for non-init containers")
            if (field == "containers" or pods.is_sidecar(each)) and _is_watched(each):
                from kubeling.api.validation.probes import probes

                yield from probes(where, each, grace)
    yield from _host_ports(path, spec, of_pod)


def _is_watched(each: Map) -> bool:
    return any(each.get(name) for name in ("livenessProbe", "readinessProbe", "startupProbe", "lifecycle"))


def container(path: str, each: Map, spec: Map, volumes: Volumes, *, trimmed: bool) -> Errors:
    """What the three kinds of container have in common."""
    image = each.get("image")
    if not image:
        yield required_value(f"{path}.image")
    elif trimmed and image != image.strip():
        yield invalid_value(f"{path}.image", image, "must not have leading or trailing whitespace")
    yield from one_of(f"{path}.terminationMessagePolicy", each.get("terminationMessagePolicy"), _TERMINATION)
    if each.get("ports"):
        yield from ports(f"{path}.ports", each["ports"])
    if each.get("env"):
        yield from env(f"{path}.env", each["env"])
    for at, source in enumerate(each.get("envFrom") or ()):
        yield from _env_from(f"{path}.envFrom", at, source)
    if each.get("volumeMounts"):
        yield from mounts(f"{path}.volumeMounts", each, volumes)
    if each.get("volumeDevices"):
        yield from devices(f"{path}.volumeDevices", each, volumes)
    yield from one_of(f"{path}.imagePullPolicy", each.get("imagePullPolicy"), _PULL)
    if each.get("resources"):
        yield from resources(f"{path}.resources", each["resources"], spec)
    if each.get("resizePolicy"):
        yield from _resize_policy(f"{path}.resizePolicy", each["resizePolicy"], spec)
    if each.get("securityContext"):
        from kubeling.api.validation.security import container_security

        yield from container_security(f"{path}.securityContext", each["securityContext"], spec.get("hostUsers") is not False)


def _init(path: str, each: Map) -> Errors:
    yield from one_of(f"{path}.restartPolicy", each.get("restartPolicy"), ("Always",), required=False)
    if not pods.is_sidecar(each):
        for name in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
            if each.get(name):
                yield forbidden_value(f"{path}.{name}", "may not be set for init containers without restartPolicy=Always")


def _ephemeral(path: str, each: Map, others: set[str]) -> Errors:
    target = each.get("targetContainerName")
    if target and target not in others:
        yield not_found_value(f"{path}.targetContainerName", target)
    for name in each:
        if name not in _LOOKING_ON and each[name]:
            yield forbidden_value(f"{path}.{name}", "cannot be set for an Ephemeral Container")
    for at, mount in enumerate(each.get("volumeMounts") or ()):
        for field in ("subPath", "subPathExpr"):
            if mount.get(field):
                yield forbidden_value(f"{path}.volumeMounts[{at}].{field}", "cannot be set for an Ephemeral Container")


def _resize_policy(path: str, policies: list[Map], spec: Map) -> Errors:
    seen: set[str] = set()
    for at, each in enumerate(policies):
        name, policy = each.get("resourceName") or "", each.get("restartPolicy") or ""
        if name in seen:
            yield duplicate_value(f"{path}[{at}]", name)
        seen.add(name)
        yield from one_of(path, name, ("cpu", "memory"))
        yield from one_of(path, policy, ("NotRequired", "RestartContainer"))
        if spec.get("restartPolicy") == "Never" and policy != "NotRequired":
            yield invalid_value(path, policy, "must be 'NotRequired' when `restartPolicy` is 'Never'")


def _host_ports(path: str, spec: Map, of_pod: bool) -> Errors:
    taken: set[str] = set()
    for at, each in enumerate(spec.get("containers") or ()):
        for index, found in enumerate(each.get("ports") or ()):
            where = f"{path}.containers[{at}].ports[{index}]"
            host = found.get("hostPort") or 0
            if spec.get("hostNetwork") and (of_pod or host) and host != found.get("containerPort"):
                yield invalid_value(f"{where}.hostPort", host, "must match `containerPort` when `hostNetwork` is true")
            if host:
                called = f"{found.get('protocol')}/{found.get('hostIP') or ''}/{host}"
                if called in taken:
                    yield duplicate_value(f"{where}.hostPort", called)
                taken.add(called)


def ports(path: str, found: Iterable[Map]) -> Errors:
    """A container's ports."""
    seen: set[str] = set()
    for at, each in enumerate(found):
        where = f"{path}[{at}]"
        name = each.get("name")
        if name:
            wrong = list(checked(f"{where}.name", name, names.port_name))
            yield from wrong
            if not wrong and name in seen:
                yield duplicate_value(f"{where}.name", name)
            seen.add(name)
        if not each.get("containerPort"):
            yield required_value(f"{where}.containerPort")
        else:
            yield from in_range(f"{where}.containerPort", each["containerPort"], 1, 65535)
        if each.get("hostPort"):
            yield from in_range(f"{where}.hostPort", each["hostPort"], 1, 65535)
        yield from one_of(f"{where}.protocol", each.get("protocol"), _PROTOCOLS)


def env(path: str, found: Iterable[Map]) -> Errors:
    """Environment variables."""
    for at, each in enumerate(found):
        where = f"{path}[{at}]"
        yield from required_name(f"{where}.name", each.get("name"), names.env_var_name)
        source = each.get("valueFrom")
        if source is None:
            continue
        given = present(source, _SOURCES)
        for name in given:
            yield from _SOURCE_CHECKS[name](f"{where}.valueFrom.{name}", source[name])
        if not given:
            choice = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
            yield invalid_value(f"{where}.valueFrom", "", choice)
        elif each.get("value"):
            yield invalid_value(f"{where}.valueFrom", "", "may not be specified when `value` is not empty")
        elif len(given) > 1:
            yield invalid_value(f"{where}.valueFrom", "", "may not have more than one field specified at a time")


def field_ref(path: str, found: Map, allowed: tuple[str, ...] = _PATHS) -> Errors:
    """A field of the pod itself. Labels and annotations can be picked one by one."""
    value = found.get("fieldPath")
    if not found.get("apiVersion"):
        yield required_value(f"{path}.apiVersion")
    elif not value:
        yield required_value(f"{path}.fieldPath")
    elif (parts := _SUBSCRIPT.fullmatch(value)) is not None:
        if parts[1] == "metadata.annotations":
            yield from checked(path, parts[2].lower(), names.qualified_name)
        elif parts[1] == "metadata.labels":
            yield from checked(path, parts[2], names.qualified_name)
        else:
            detail = f"error converting fieldPath: field label does not support subscript: {value}"
            yield invalid_value(f"{path}.fieldPath", value, detail)
    elif value not in _KNOWN_PATHS:
        yield invalid_value(f"{path}.fieldPath", value, f"error converting fieldPath: field label not supported: {value}")
    elif value not in allowed:
        yield unsupported_value(f"{path}.fieldPath", value, allowed)


_KNOWN_PATHS = frozenset(
    {
        *_PATHS,
        "metadata.annotations",
        "metadata.labels",
        "spec.restartPolicy",
        "spec.schedulerName",
        "status.phase",
        "spec.host",
    }
)


def resource_field_ref(path: str, found: Map, *, in_volume: bool = False) -> Errors:
    """A container's request or limit, in units of a divisor."""
    value = found.get("resource") or ""
    huge = value.startswith(("limits.hugepages-", "requests.hugepages-"))
    if in_volume and not found.get("containerName"):
        yield required_value(f"{path}.containerName")
    elif not value:
        yield required_value(f"{path}.resource")
    elif value not in _RESOURCE_FIELDS and not huge:
        yield unsupported_value(f"{path}.resource", value, _RESOURCE_FIELDS)
    divisor = found.get("divisor")
    if divisor in (None, "", "0", 0):
        return
    kind = value.rpartition(".")[2]
    if kind == "cpu":
        if divisor not in ("1", "1m"):
            yield invalid_value(f"{path}.divisor", value, "only divisor's values 1m and 1 are supported with the cpu resource")
    elif (value in _RESOURCE_FIELDS or huge) and divisor not in _DIVISORS:
        what = {"memory": "memory", "ephemeral-storage": "local ephemeral storage"}.get(kind, "hugepages")
        units = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei"
        yield invalid_value(f"{path}.divisor", value, f"only divisor's values {units} are supported with the {what} resource")


def _key_ref(path: str, found: Map) -> Errors:
    yield from checked(f"{path}.name", found.get("name") or "", names.dns1123_subdomain)
    yield from required_name(f"{path}.key", found.get("key"), names.config_key)


_SOURCE_CHECKS: dict[str, Callable[[str, Map], Errors]] = {
    "fieldRef": field_ref,
    "resourceFieldRef": resource_field_ref,
    "configMapKeyRef": _key_ref,
    "secretKeyRef": _key_ref,
}


def _env_from(path: str, at: int, source: Map) -> Errors:
    where = f"{path}[{at}]"
    if source.get("prefix"):
        yield from checked(f"{where}.prefix", source["prefix"], names.env_var_name)
    given = present(source, ("configMapRef", "secretRef"))
    for name in given:
        yield from required_name(f"{where}.{name}.name", source[name].get("name"), names.dns1123_subdomain)
    if not given:
        yield invalid_value(path, "", "must specify one of: `configMapRef` or `secretRef`")
    elif len(given) > 1:
        yield invalid_value(path, "", "may not have more than one field specified at a time")


def resources(path: str, found: Map, spec: Map) -> Errors:
    """Known names, amounts that are not negative, no request above its limit, claims that the pod has."""
    limits, requests = found.get("limits") or {}, found.get("requests") or {}
    for field, amounts in (("limits", limits), ("requests", requests)):
        for name, value in amounts.items():
            where = f"{path}.{field}[{name}]"
            yield from resource_name(where, name)
            yield from amount(where, value)
            yield from _countable(where, name, value)
    for name, value in requests.items():
        limit = limits.get(name)
        if limit is None:
            if _is_fixed(name):
                yield required_value(f"{path}.limits", "Limit must be set for non overcommitable resources")
        elif quantity.is_quantity(value) and quantity.is_quantity(limit):
            yield from _within(f"{path}.requests", name, quantity.parse(value), quantity.parse(limit))
    asked = {*limits, *requests}
    if not asked & {"cpu", "memory"} and any(name.startswith("hugepages-") for name in asked):
        yield forbidden_value(path, "HugePages require cpu or memory")
    if found.get("claims"):
        yield from _claims(
            f"{path}.claims", found["claims"], [each.get("name") or "" for each in spec.get("resourceClaims") or ()]
        )


def _is_fixed(name: str) -> bool:
    """Of which a node never promises more than there is."""
    return name.startswith("hugepages-") or not is_native(name)


def is_native(name: str) -> bool:
    """Kubernetes' own: without a domain, or in its own one."""
    return "/" not in name or "kubernetes.io/" in name


def _countable(path: str, name: str, value: str) -> Errors:
    if not quantity.is_quantity(value):
        return
    parsed = quantity.parse(value)
    if not is_native(name) and parsed.milli % 1000:
        yield invalid_value(path, str(parsed), "must be an integer")
    elif name.startswith("hugepages-"):
        try:
            size = quantity.parse(name.removeprefix("hugepages-")).nanos
        except ValueError:
            size = 0
        if not size or parsed.nanos % size:
            yield invalid_value(path, str(parsed), f"{parsed} is not positive integer multiple of {name}")


def _within(path: str, name: str, request: quantity.Quantity, limit: quantity.Quantity) -> Errors:
    if request != limit and _is_fixed(name):
        yield invalid_value(path, str(request), f"must be equal to {name} limit of {limit}")
    elif request > limit:
        yield invalid_value(path, str(request), f"must be less than or equal to {name} limit of {limit}")


def resource_name(path: str, name: str) -> Errors:
    """A resource that a container can have."""
    wrong: list[FieldError] = list(checked(path, name, names.qualified_name))
    yield from wrong
    if "/" in name:
        in_quotas = f"requests.{name}"
        if not is_native(name) and (wrong or name.startswith("requests.") or names.qualified_name(in_quotas)):
            yield invalid_value(path, name, "doesn't follow extended resource name standard")
    elif name not in _STANDARD and not name.startswith("hugepages-"):
        if not wrong and name not in KNOWN_RESOURCES:
            yield invalid_value(path, name, "must be a standard resource type or fully qualified")
        yield invalid_value(path, name, "must be a standard resource for containers")


def _claims(path: str, claims: list[Map], held: list[str]) -> Errors:
    seen: set[str] = set()
    for at, each in enumerate(claims):
        name, request = each.get("name") or "", each.get("request") or ""
        if not name:
            yield required_value(f"{path}[{at}]")
            continue
        key = f"{name}/{request}" if request else name
        if request:
            yield from checked(f"{path}[{at}].request", request, names.dns1123_label)
        if name in seen:
            yield duplicate_value(f"{path}[{at}]", name)
        elif key in seen or (not request and any(other.startswith(f"{name}/") for other in seen)):
            yield duplicate_value(f"{path}[{at}]", key)
        seen.add(key)
        if name not in held:
            rest = f": {', '.join(sorted(set(held)))}" if held else " which is empty"
            fault = not_found_value(f"{path}[{at}]", name)
            fault.detail = f"must be one of the names in pod.spec.resourceClaims{rest}"
            yield fault
