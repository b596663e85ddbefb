"""Containers: images, ports, environment, mounts, probes, resources."""

from __future__ import annotations

import re
from collections.abc import Iterable

from kubeling.api import names, pods, quantity
from kubeling.api.errors import FieldError, duplicate_value, forbidden_value, invalid_value, not_found_value, required_value
from kubeling.api.validation.common import (
    Errors,
    Map,
    amount,
    checked,
    in_range,
    not_negative,
    one_of,
    port,
    present,
    required_name,
)

_PULL = ("Always", "IfNotPresent", "Never")
_TERMINATION = ("FallbackToLogsOnError", "File")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOKS = ("exec", "httpGet", "tcpSocket", "sleep")
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
_SUBSCRIPT = re.compile(r"metadata\.(?:labels|annotations)\['(.*)'\]")
_RESOURCE_FIELDS = tuple(f"{which}.{name}" for which in ("limits", "requests") for name in ("cpu", "ephemeral-storage", "memory"))
_STANDARD = frozenset({"cpu", "memory", "ephemeral-storage"})


def containers(path: str, spec: Map, volumes: frozenset[str]) -> Errors:
    """All three lists of a pod's spec; names are unique across them."""
    if not spec.get("containers"):
        yield required_value(f"{path}.containers")
    seen: set[str] = set()
    for field, at, each in pods.all_containers(spec):
        where = f"{path}.{field}[{at}]"
        name = each.get("name")
        if not name:
            yield required_value(f"{where}.name")
        else:
            yield from checked(f"{where}.name", name, names.dns1123_label)
            if name in seen:
                yield duplicate_value(f"{where}.name", name)
            seen.add(name)
        yield from container(where, each, volumes)
        if field == "initContainers":
            yield from _init(where, each)
        elif field == "ephemeralContainers":
            yield from _ephemeral(where, each)
        elif each.get("restartPolicy"):
            yield forbidden_value(f"{where}.restartPolicy", "may not be set for non-init containers")
    yield from _host_ports(path, spec)


def container(path: str, each: Map, volumes: frozenset[str]) -> Errors:
    """What the three kinds of container have in common."""
    image = each.get("image")
    if not image:
        yield required_value(f"{path}.image")
    elif image != image.strip():
        yield invalid_value(f"{path}.image", image, "must not have leading or trailing whitespace")
    yield from one_of(f"{path}.terminationMessagePolicy", each.get("terminationMessagePolicy"), _TERMINATION)
    yield from one_of(f"{path}.imagePullPolicy", each.get("imagePullPolicy"), _PULL)
    if each.get("ports"):
        yield from ports(f"{path}.ports", each["ports"])
    if each.get("env"):
        yield from env(f"{path}.env", each["env"])
    for at, source in enumerate(each.get("envFrom") or ()):
        yield from _env_from(f"{path}.envFrom[{at}]", source)
    if each.get("volumeMounts"):
        yield from _mounts(f"{path}.volumeMounts", each["volumeMounts"], volumes)
    for at, device in enumerate(each.get("volumeDevices") or ()):
        yield from required_name(f"{path}.volumeDevices[{at}].name", device.get("name"))
        yield from required_name(f"{path}.volumeDevices[{at}].devicePath", device.get("devicePath"))
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if each.get(name) is not None:
            yield from probe(f"{path}.{name}", each[name], name)
    for name, hook in (each.get("lifecycle") or {}).items():
        if isinstance(hook, dict):
            yield from handler(f"{path}.lifecycle.{name}", hook, _HOOKS)
    if each.get("resources"):
        yield from resources(f"{path}.resources", each["resources"])
    if each.get("securityContext"):
        yield from security_context(f"{path}.securityContext", each["securityContext"])


def _init(path: str, each: Map) -> Errors:
    yield from one_of(f"{path}.restartPolicy", each.get("restartPolicy"), ("Always",), required=False)
    if not pods.is_sidecar(each):
        for name in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
            if each.get(name):
                yield forbidden_value(f"{path}.{name}", "may not be set for init containers without restartPolicy=Always")


def _ephemeral(path: str, each: Map) -> Errors:
    for name in ("ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resources"):
        if each.get(name):
            yield forbidden_value(f"{path}.{name}", "cannot be set for an Ephemeral Container")


def _host_ports(path: str, spec: Map) -> Errors:
    taken: set[str] = set()
    for at, each in enumerate(spec.get("containers") or ()):
        for index, found in enumerate(each.get("ports") or ()):
            where = f"{path}.containers[{at}].ports[{index}]"
            host = found.get("hostPort")
            if spec.get("hostNetwork") and host and host != found.get("containerPort"):
                detail = "must match `hostPort` when `hostNetwork` is true"
                yield invalid_value(f"{where}.containerPort", found.get("containerPort"), detail)
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
        if each.get("value"):
            yield invalid_value(f"{where}.valueFrom", "", "may not be specified when `value` is not empty")
        given = present(source, _SOURCES)
        if not given:
            choice = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
            yield invalid_value(f"{where}.valueFrom", "", choice)
        elif len(given) > 1:
            yield invalid_value(f"{where}.valueFrom", "", "may not have more than one field specified at a time")
        for name in given:
            yield from _SOURCE_CHECKS[name](f"{where}.valueFrom.{name}", source[name])


def _field_ref(path: str, found: Map) -> Errors:
    value = found.get("fieldPath")
    if not found.get("apiVersion"):
        yield required_value(f"{path}.apiVersion")
    elif not value:
        yield required_value(f"{path}.fieldPath")
    elif (inner := _SUBSCRIPT.fullmatch(value)) is not None:
        yield from checked(f"{path}.fieldPath", inner[1].lower(), names.qualified_name)
    elif value not in _PATHS:
        yield from one_of(f"{path}.fieldPath", value, _PATHS)


def _resource_field_ref(path: str, found: Map) -> Errors:
    value = found.get("resource")
    if not value:
        yield required_value(f"{path}.resource")
    elif value not in _RESOURCE_FIELDS and "hugepages-" not in value:
        yield from one_of(f"{path}.resource", value, _RESOURCE_FIELDS)


def _key_ref(path: str, found: Map) -> Errors:
    yield from required_name(f"{path}.name", found.get("name"), names.dns1123_subdomain)
    yield from required_name(f"{path}.key", found.get("key"), names.config_key)


_SOURCE_CHECKS = {
    "fieldRef": _field_ref,
    "resourceFieldRef": _resource_field_ref,
    "configMapKeyRef": _key_ref,
    "secretKeyRef": _key_ref,
}


def _env_from(path: str, source: Map) -> Errors:
    if source.get("prefix"):
        yield from checked(f"{path}.prefix", source["prefix"], names.env_var_name)
    given = present(source, ("configMapRef", "secretRef"))
    if not given:
        yield invalid_value(path, "", "must specify one of: `configMapRef` or `secretRef`")
    elif len(given) > 1:
        yield invalid_value(path, "", "may not have more than one field specified at a time")
    for name in given:
        yield from required_name(f"{path}.{name}.name", source[name].get("name"), names.dns1123_subdomain)


def _mounts(path: str, found: Iterable[Map], volumes: frozenset[str]) -> Errors:
    seen: set[str] = set()
    for at, each in enumerate(found):
        where = f"{path}[{at}]"
        name, target = each.get("name"), each.get("mountPath")
        if not name:
            yield required_value(f"{where}.name")
        elif name not in volumes:
            yield not_found_value(f"{where}.name", name)
        if not target:
            yield required_value(f"{where}.mountPath")
        elif target in seen:
            yield invalid_value(f"{where}.mountPath", target, "must be unique")
        seen.add(target or "")
        for field in ("subPath", "subPathExpr"):
            if each.get(field):
                yield from relative_path(f"{where}.{field}", each[field])
        if each.get("subPath") and each.get("subPathExpr"):
            yield invalid_value(f"{where}.subPathExpr", each["subPathExpr"], "subPathExpr and subPath are mutually exclusive")
        modes = ("None", "HostToContainer", "Bidirectional")
        yield from one_of(f"{where}.mountPropagation", each.get("mountPropagation"), modes, required=False)


def relative_path(path: str, value: str) -> Errors:
    """A path that stays where it is put."""
    if value.startswith("/"):
        yield invalid_value(path, value, "must be a relative path")
    yield from no_backsteps(path, value)


def no_backsteps(path: str, value: str) -> Errors:
    """A path without '..'."""
    if ".." in value.split("/"):
        yield invalid_value(path, value, "must not contain '..'")


def probe(path: str, found: Map, kind: str) -> Errors:
    """A probe; liveness and startup take one success."""
    yield from handler(path, found, _HANDLERS)
    for field in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        yield from not_negative(f"{path}.{field}", found.get(field))
    if kind != "readinessProbe" and found.get("successThreshold") != 1:
        yield invalid_value(f"{path}.successThreshold", found.get("successThreshold"), "must be 1")
    grace = found.get("terminationGracePeriodSeconds")
    if grace is not None and kind == "readinessProbe":
        yield invalid_value(f"{path}.terminationGracePeriodSeconds", grace, "must not be set for readinessProbes")
    elif grace is not None and grace <= 0:
        yield invalid_value(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than 0")


def handler(path: str, found: Map, kinds: tuple[str, ...]) -> Errors:
    """Exactly one action, complete."""
    given = present(found, kinds)
    if not given:
        yield required_value(path, "must specify a handler type")
    for name in given[1:]:
        yield forbidden_value(f"{path}.{name}", "may not specify more than 1 handler type")
    for name in given[:1]:
        action, where = found[name], f"{path}.{name}"
        if name == "exec" and not action.get("command"):
            yield required_value(f"{where}.command")
        if name == "httpGet":
            yield from required_name(f"{where}.path", action.get("path"))
            yield from one_of(f"{where}.scheme", action.get("scheme"), ("HTTP", "HTTPS"))
        if name in ("httpGet", "tcpSocket", "grpc"):
            yield from port(f"{where}.port", action.get("port"))


def resources(path: str, found: Map) -> Errors:
    """Known names, amounts that are not negative, no request above its limit."""
    limits, requests = found.get("limits") or {}, found.get("requests") or {}
    for field, amounts in (("limits", limits), ("requests", requests)):
        for name, value in amounts.items():
            yield from resource_name(f"{path}.{field}", name)
            yield from amount(f"{path}.{field}[{name}]", value)
    for name, value in requests.items():
        limit = limits.get(name)
        if limit is not None and quantity.is_quantity(value) and quantity.is_quantity(limit):
            yield from _within(f"{path}.requests", name, quantity.parse(value), quantity.parse(limit))
        elif limit is None and "/" in name:
            yield required_value(f"{path}.limits", "Limit must be set for non overcommitable resources")


def _within(path: str, name: str, request: quantity.Quantity, limit: quantity.Quantity) -> Errors:
    if "/" in name or name.startswith("hugepages-"):
        if request != limit:
            yield invalid_value(path, str(request), f"must be equal to {name} limit of {limit}")
    elif request > limit:
        yield invalid_value(path, str(request), f"must be less than or equal to {name} limit of {limit}")


def resource_name(path: str, name: str) -> Errors:
    """A resource that a container can have."""
    wrong: list[FieldError] = list(checked(path, name, names.qualified_name))
    yield from wrong
    if not wrong and "/" not in name and name not in _STANDARD and not name.startswith("hugepages-"):
        yield invalid_value(path, name, "must be a standard resource for containers")


def security_context(path: str, found: Map) -> Errors:
    """A container's security context."""
    for field in ("runAsUser", "runAsGroup"):
        yield from in_range(f"{path}.{field}", found.get(field), 0, 2**31 - 1)
    if found.get("allowPrivilegeEscalation") is False:
        if found.get("privileged"):
            yield invalid_value(path, found, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true")
        if "SYS_ADMIN" in ((found.get("capabilities") or {}).get("add") or ()):
            detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            yield invalid_value(path, found, detail)
