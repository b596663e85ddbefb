"""A container's environment: literal values, references, `$(VAR)` expansion and the variables of Services. No I/O: objects are looked up by functions.

Order, later wins: the Services' variables, `envFrom` in order, `env` in order. A value may use `$(NAME)` of anything before it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kubeling.api import names
from kubeling.api.meta import Object, metadata_of, namespace_of, spec_of

#: ("ConfigMap" | "Secret", name) → the object in the pod's namespace, or None where there is none.
Lookup = Callable[[str, str], Object | None]
FieldValue = Callable[[str], str]
ResourceValue = Callable[[Mapping[str, Any]], str]


class ConfigError(Exception):
    """The container cannot be configured; the text becomes the message of CreateContainerConfigError."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where values come from."""

    namespace: str
    lookup: Lookup
    field: FieldValue
    resource: ResourceValue


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by its value; `$$` is one dollar; what is not known stays as it is."""
    out: list[str] = []
    at = 0
    while at < len(text):
        sign = text.find("$", at)
        if sign < 0 or sign + 1 >= len(text):
            out.append(text[at:])
            break
        out.append(text[at:sign])
        after = text[sign + 1]
        if after == "$":
            out.append("$")
            at = sign + 2
        elif after == "(":
            end = text.find(")", sign + 2)
            if end < 0:
                out.append("$(")
                at = sign + 2
                continue
            name = text[sign + 2 : end]
            out.append(values.get(name, f"$({name})"))
            at = end + 1
        else:
            out.append(text[sign : sign + 2])
            at = sign + 2
    return "".join(out)


def make_environment(container: Mapping[str, Any], sources: Sources, services: Mapping[str, str]) -> dict[str, str]:
    """All variables of a container. ConfigError where a required reference leads nowhere."""
    result: dict[str, str] = {}
    for each in container.get("envFrom") or ():
        result.update(_from_object(each, sources))
    expandable = {**services, **result}
    for each in container.get("env") or ():
        name = each["name"]
        value: str | None = each.get("value")
        if value is not None and value != "":
            value = expand(value, expandable)
        elif each.get("valueFrom"):
            value = _from_reference(each["valueFrom"], sources)
        else:
            value = ""
        if value is None:
            continue  # An optional reference to nothing: the variable is not set.
        result[name] = expandable[name] = value
    return {**services, **result}


def _from_object(source: Mapping[str, Any], sources: Sources) -> dict[str, str]:
    prefix = source.get("prefix") or ""
    for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
        reference = source.get(field)
        if reference is None:
            continue
        found = sources.lookup(kind, reference["name"])
        if found is None:
            if reference.get("optional"):
                return {}
            raise ConfigError(f'{kind.lower()} "{reference["name"]}" not found')
        data = text_data(kind, found)
        return {prefix + key: value for key, value in data.items() if not names.env_var_name(prefix + key)}
    return {}


def text_data(kind: str, obj: Object) -> dict[str, str]:
    """The keys of a ConfigMap or Secret as text."""
    if kind == "ConfigMap":
        return dict(obj.get("data") or {})
    return {key: base64.b64decode(value).decode("utf-8", "surrogateescape") for key, value in (obj.get("data") or {}).items()}


def _from_reference(source: Mapping[str, Any], sources: Sources) -> str | None:
    if source.get("fieldRef"):
        return sources.field(source["fieldRef"]["fieldPath"])
    if source.get("resourceFieldRef"):
        return sources.resource(source["resourceFieldRef"])
    for field, kind, called in (
        ("configMapKeyRef", "ConfigMap", "ConfigMap"),
        ("secretKeyRef", "Secret", "Secret"),
    ):
        reference = source.get(field)
        if reference is None:
            continue
        name, key, optional = reference["name"], reference["key"], reference.get("optional")
        found = sources.lookup(kind, name)
        if found is None:
            if optional:
                return None
            raise ConfigError(f'{kind.lower()} "{name}" not found')
        data = text_data(kind, found)
        if key not in data:
            if optional:
                return None
            raise ConfigError(f"couldn't find key {key} in {called} {sources.namespace}/{name}")
        return data[key]
    raise ConfigError("invalid valueFrom: it names no source")


def service_variables(services: Iterable[Object], namespace: str, *, links: bool) -> dict[str, str]:
    """`WEB_SERVICE_HOST` and its like for the Services of the pod's namespace; without `links` only those of `kubernetes`."""
    chosen: dict[str, Object] = {}
    for each in services:
        address = spec_of(each).get("clusterIP")
        if not address or address == "None":
            continue
        name = metadata_of(each)["name"]
        if namespace_of(each) == "default" and name == "kubernetes":
            chosen.setdefault(name, each)
        elif links and namespace_of(each) == namespace:
            chosen[name] = each
    result: dict[str, str] = {}
    for name in sorted(chosen):
        result.update(_variables_of(name, spec_of(chosen[name])))
    return result


def _variables_of(name: str, spec: Mapping[str, Any]) -> dict[str, str]:
    ports = spec.get("ports") or []
    if not ports:
        return {}
    upper = re.sub("-", "_", name).upper()
    host = spec["clusterIP"]
    found = {f"{upper}_SERVICE_HOST": host, f"{upper}_SERVICE_PORT": str(ports[0]["port"])}
    for port in ports:
        if port.get("name"):
            found[f"{upper}_SERVICE_PORT_{re.sub('-', '_', port['name']).upper()}"] = str(port["port"])
    bracketed = f"[{host}]" if ":" in host else host
    for index, port in enumerate(ports):
        protocol = (port.get("protocol") or "TCP").lower()
        url = f"{protocol}://{bracketed}:{port['port']}"
        if index == 0:
            found[f"{upper}_PORT"] = url
        prefix = f"{upper}_PORT_{port['port']}_{protocol.upper()}"
        found[prefix] = url
        found[f"{prefix}_PROTO"] = protocol
        found[f"{prefix}_PORT"] = str(port["port"])
        found[f"{prefix}_ADDR"] = host
    return found
