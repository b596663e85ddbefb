"""Which files configMap, secret, downwardAPI and projected volumes hold. No I/O: what they are made of is passed in."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kubeling.api.meta import Object, spec_of
from kubeling.kubelet.atomic import File
from kubeling.kubelet.env import ConfigError
from kubeling.kubelet.fieldpath import container_of, field_value, resource_value

DEFAULT_MODE = 0o644
_SOURCES = (("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName"))


class Inputs:
    """What the files of one pod are made of; `lookup` and `token` answer from what was fetched before."""

    def __init__(
        self,
        pod: Object,
        *,
        lookup: Callable[[str, str], Object | None],
        token: Callable[[str, int], str],
        node_name: str,
        host_ips: Sequence[str],
        allocatable: Mapping[str, str],
        pod_ips: list[str] | None = None,
    ) -> None:
        self.pod = pod
        self.lookup = lookup
        self.token = token
        self.node_name = node_name
        self.host_ips = host_ips
        self.allocatable = allocatable
        self.pod_ips = pod_ips or []


def is_projection(volume: Mapping[str, Any]) -> bool:
    """Its files come from the API."""
    return any(volume.get(each) is not None for each in ("configMap", "secret", "downwardAPI", "projected"))


def references(volume: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """("ConfigMap" | "Secret", name) of each object that it shows."""
    for field, kind, key in _SOURCES:
        if volume.get(field) is not None:
            yield kind, volume[field][key]
    for source in (volume.get("projected") or {}).get("sources") or ():
        for field, kind, _ in _SOURCES:
            if source.get(field) is not None:
                yield kind, source[field]["name"]


def tokens(volume: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """(audience, seconds) of each service account token that it shows."""
    for source in (volume.get("projected") or {}).get("sources") or ():
        token = source.get("serviceAccountToken")
        if token is not None:
            yield token.get("audience") or "", int(token.get("expirationSeconds") or 0)


def payload(volume: Mapping[str, Any], inputs: Inputs) -> dict[str, File]:
    """Path → file. ConfigError where something required is missing."""
    for field, kind, key in _SOURCES:
        source = volume.get(field)
        if source is not None:
            return _keys(kind, source[key], source, _mode(source), inputs)
    if volume.get("downwardAPI") is not None:
        return _downward(volume["downwardAPI"], _mode(volume["downwardAPI"]), inputs)
    projected = volume.get("projected") or {}
    mode = _mode(projected)
    files: dict[str, File] = {}
    for source in projected.get("sources") or ():
        for field, kind, _ in _SOURCES:
            if source.get(field) is not None:
                files.update(_keys(kind, source[field]["name"], source[field], mode, inputs))
        if source.get("downwardAPI") is not None:
            files.update(_downward(source["downwardAPI"], mode, inputs))
        token = source.get("serviceAccountToken")
        if token is not None:
            text = inputs.token(token.get("audience") or "", int(token.get("expirationSeconds") or 0))
            owner, private = _token_owner(inputs.pod)
            files[token["path"]] = File(text.encode(), 0o600 if private else mode, owner)
        if source.get("clusterTrustBundle") is not None:
            raise ConfigError("clusterTrustBundle sources are not supported by this node")
    return files


def _mode(source: Mapping[str, Any]) -> int:
    mode = source.get("defaultMode")
    return DEFAULT_MODE if mode is None else int(mode)


def _token_owner(pod: Object) -> tuple[int | None, bool]:
    """(uid, private): a token is for its user alone where the pod says who that is."""
    spec = spec_of(pod)
    shared = spec.get("securityContext") or {}
    users = set()
    for field in ("initContainers", "containers"):
        for each in spec.get(field) or ():
            own = (each.get("securityContext") or {}).get("runAsUser")
            users.add(own if own is not None else shared.get("runAsUser"))
    only = users.pop() if len(users) == 1 else None
    return only, only is not None or shared.get("fsGroup") is not None


def _keys(kind: str, name: str, source: Mapping[str, Any], mode: int, inputs: Inputs) -> dict[str, File]:
    found = inputs.lookup(kind, name)
    optional = bool(source.get("optional"))
    if found is None:
        if optional:
            return {}
        raise ConfigError(f'{kind.lower()} "{name}" not found')
    data = _data(kind, found)
    items = source.get("items")
    if not items:
        return {key: File(value, mode) for key, value in data.items()}
    files: dict[str, File] = {}
    for each in items:
        key = each["key"]
        if key not in data:
            if optional:
                continue
            what = "config" if kind == "ConfigMap" else "secret"
            raise ConfigError(f"references non-existent {what} key: {key}")
        own = each.get("mode")
        files[each["path"]] = File(data[key], mode if own is None else int(own))
    return files


def _data(kind: str, obj: Object) -> dict[str, bytes]:
    if kind == "Secret":
        return {key: base64.b64decode(value) for key, value in (obj.get("data") or {}).items()}
    found = {key: value.encode() for key, value in (obj.get("data") or {}).items()}
    found.update({key: base64.b64decode(value) for key, value in (obj.get("binaryData") or {}).items()})
    return found


def _downward(source: Mapping[str, Any], mode: int, inputs: Inputs) -> dict[str, File]:
    files: dict[str, File] = {}
    for each in source.get("items") or ():
        if each.get("fieldRef"):
            text = field_value(
                inputs.pod,
                each["fieldRef"]["fieldPath"],
                node_name=inputs.node_name,
                host_ips=inputs.host_ips,
                pod_ips=inputs.pod_ips,
            )
        else:
            reference = each["resourceFieldRef"]
            container = container_of(inputs.pod, reference.get("containerName") or "")
            text = resource_value(container, reference["resource"], str(reference.get("divisor") or "1"), inputs.allocatable)
        own = each.get("mode")
        files[each["path"]] = File(text.encode(), mode if own is None else int(own))
    return files
