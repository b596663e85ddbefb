"""What a pod's author is warned of: things that are let in, but that hardly anybody means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kubeling.api import names
from kubeling.api.validation.common import Map
from kubeling.api.validation.notices import Notices, deprecated_key, fractional, ip_notices, term_notices, volume_claim_notices

_NO_SELECTOR = "a null labelSelector results in matching no pod"
_ANNOTATIONS = {
    "scheduler.alpha.kubernetes.io/critical-pod": 'non-functional in v1.16+; use the "priorityClassName" field instead',
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
}
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
_APPARMOR_CONTAINER = "container.apparmor.security.beta.kubernetes.io/"
_NO_SECCOMP = 'non-functional in v1.27+; use the "seccompProfile" field instead'
_NO_APPARMOR = 'deprecated since v1.30; use the "appArmorProfile" field instead'
#: Sources of volumes that are not, or hardly, supported any more.
_SOURCES = {
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "gitRepo": "deprecated in v1.11",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}
#: The names that upstream gives to fields which JSON calls otherwise.
_SHOWN = {"storageos": "storageOS"}


def pod(obj: Map, old: Map | None) -> Notices:
    """Of a new pod; updates are too many, and come from no people."""
    if old is not None:
        return
    wrong = names.dns1123_label(obj["metadata"].get("name") or "")
    if wrong:
        what = "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended"
        yield f"{what}: [{' '.join(wrong)}]"
    yield from template_notices("", obj)


def template_notices(path: str, template: Map) -> Notices:
    """Of a pod, or of the template of pods at the path."""
    spec: Map = template.get("spec") or {}
    annotations: Map = (template.get("metadata") or {}).get("annotations") or {}
    at = f"{path}.spec" if path else "spec"
    noted = f"{path}.metadata.annotations" if path else "metadata.annotations"
    yield from _placement(at, spec)
    for key, why in _ANNOTATIONS.items():
        if key in annotations:
            yield f"{noted}[{key}]: {why}"
    if spec.get("volumes"):
        yield from _volumes(f"{at}.volumes", spec["volumes"])
    yield from _twice(f"{at}.hostAliases", spec.get("hostAliases") or [], "ip")
    secrets = spec.get("imagePullSecrets") or []
    yield from _twice(f"{at}.imagePullSecrets", secrets, "name")
    for index, each in enumerate(secrets):
        if not each.get("name"):
            yield f'{at}.imagePullSecrets[{index}].name: invalid empty name ""'
    yield from fractional(f"{at}.overhead", spec.get("overhead"))
    security: Map = spec.get("securityContext") or {}
    if _SECCOMP_POD in annotations and not security.get("seccompProfile"):
        yield f"{noted}[{_SECCOMP_POD}]: {_NO_SECCOMP}"
    for where, container in _containers(at, spec):
        if annotations:
            yield from _old_profiles(noted, annotations, container, security, of_pod=not path)
        yield from _container(where, container)
    yield from _ports(at, spec)
    seconds = spec.get("terminationGracePeriodSeconds")
    if seconds is not None and seconds < 0:
        yield f"{at}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
    yield from _affinities(f"{at}.affinity", spec.get("affinity") or {})
    yield from _addresses(at, spec)


def _containers(at: str, spec: Map) -> Iterator[tuple[str, Map]]:
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for index, each in enumerate(spec.get(field) or ()):
            yield f"{at}.{field}[{index}]", each


def _placement(at: str, spec: Map) -> Notices:
    for key in spec.get("nodeSelector") or ():
        why = deprecated_key(key)
        if why:
            yield f"{at}.nodeSelector[{key}]: {why}"
    node = (spec.get("affinity") or {}).get("nodeAffinity")
    if node:
        where = f"{at}.affinity.nodeAffinity"
        required = node.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
        for index, term in enumerate(required.get("nodeSelectorTerms") or ()):
            yield from term_notices(f"{where}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[{index}]", term)
        for index, each in enumerate(node.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
            term = each.get("preference") or {}
            yield from term_notices(f"{where}.preferredDuringSchedulingIgnoredDuringExecution[{index}].preference", term)
    for index, each in enumerate(spec.get("topologySpreadConstraints") or ()):
        where = f"{at}.topologySpreadConstraints[{index}]"
        key = each.get("topologyKey") or ""
        why = deprecated_key(key)
        if why:
            yield f"{where}.topologyKey: {key} is {why}"
        if each.get("labelSelector") is None:
            yield f"{where}.labelSelector: {_NO_SELECTOR}"


def _affinities(at: str, affinity: Map) -> Notices:
    for kind in ("podAffinity", "podAntiAffinity"):
        terms: Map = affinity.get(kind) or {}
        field = "requiredDuringSchedulingIgnoredDuringExecution"
        for index, each in enumerate(terms.get(field) or ()):
            if each.get("labelSelector") is None:
                yield f"{at}.{kind}.{field}[{index}].labelSelector: {_NO_SELECTOR}"
        field = "preferredDuringSchedulingIgnoredDuringExecution"
        for index, each in enumerate(terms.get(field) or ()):
            if (each.get("podAffinityTerm") or {}).get("labelSelector") is None:
                yield f"{at}.{kind}.{field}[{index}].podAffinityTerm.labelSelector: {_NO_SELECTOR}"


def _volumes(at: str, volumes: list[Map]) -> Notices:
    tokens: set[str] = set()
    for index, each in enumerate(volumes):
        for source in each.keys() & _SOURCES.keys():
            if each[source] is not None:
                yield f"{at}[{index}].{_SHOWN.get(source, source)}: {_SOURCES[source]}"
        claim = (each.get("ephemeral") or {}).get("volumeClaimTemplate")
        if claim:
            yield from volume_claim_notices(f"{at}[{index}].ephemeral.volumeClaimTemplate.spec", claim.get("spec") or {})
        for source in (each.get("projected") or {}).get("sources") or ():
            if source.get("serviceAccountToken"):
                tokens.add(source["serviceAccountToken"].get("path") or "")
    if tokens:
        yield from _hidden_tokens(at, volumes, tokens)


def _hidden_tokens(at: str, volumes: list[Map], tokens: set[str]) -> Notices:
    for index, each in enumerate(volumes):
        for source in (each.get("projected") or {}).get("sources") or ():
            for kind, shown in (("configMap", "configMap"), ("secret", "secrets"), ("downwardAPI", "downwardAPI")):
                for place, item in enumerate((source.get(kind) or {}).get("items") or ()):
                    if item.get("path") in tokens:
                        where = f"{at}[{index}].projected.sources.{shown}[{place}]"
                        yield f'{where}: has duplicated path with ServiceAccountToken "{item["path"]}"'


def _twice(at: str, items: list[Map], field: str) -> Notices:
    if len(items) < 2:
        return
    seen = set()
    for index, each in enumerate(items):
        value = each.get(field) or ""
        if value in seen:
            yield f'{at}[{index}].{field}: duplicate {field} "{value}"'
        seen.add(value)


def _old_profiles(noted: str, annotations: Mapping[str, Any], container: Map, security: Map, *, of_pod: bool) -> Notices:
    own: Map = container.get("securityContext") or {}
    key = _SECCOMP_CONTAINER + container.get("name", "")
    if key in annotations and not own.get("seccompProfile"):
        yield f"{noted}[{key}]: {_NO_SECCOMP}"
    key = _APPARMOR_CONTAINER + container.get("name", "")
    if key in annotations and not of_pod and not own.get("appArmorProfile") and not security.get("appArmorProfile"):
        yield f"{noted}[{key}]: {_NO_APPARMOR}"


def _container(at: str, container: Map) -> Notices:
    asked = container.get("resources")
    if asked:
        yield from fractional(f"{at}.resources.limits", asked.get("limits"))
        yield from fractional(f"{at}.resources.requests", asked.get("requests"))
    env = container.get("env")
    if not env or len(env) < 2:
        return
    seen = set()
    for index, each in enumerate(env):
        name = each.get("name")
        if name not in seen:
            seen.add(name)
            continue
        before, value = f"$({name})", each.get("value") or ""
        if each.get("valueFrom") is not None or value == before or before not in value:
            yield f'{at}.env[{index}]: hides previous definition of "{name}", which may be dropped when using apply'


def _ports(at: str, spec: Map) -> Notices:
    known: dict[tuple[Any, Any], list[tuple[str, Map]]] = {}
    for where, container in _containers(at, spec):
        for index, port in enumerate(container.get("ports") or ()):
            place = f"{where}.ports[{index}]"
            others = known.setdefault((port.get("containerPort"), port.get("protocol")), [])
            for other_place, other in others:
                how = _clash(port, other)
                if how:
                    yield f"{place}: {how} port definition with {other_place}"
            others.append((place, port))


def _clash(port: Map, other: Map) -> str:
    host, host_port = port.get("hostIP") or "", port.get("hostPort") or 0
    other_host, other_port = other.get("hostIP") or "", other.get("hostPort") or 0
    if (host, host_port) == (other_host, other_port):
        return "duplicate"
    if not host_port or not other_port:
        return "overlapping"
    if host_port == other_port and bool(host) != bool(other_host):
        return "dangerously ambiguous"
    return ""


def _addresses(at: str, spec: Map) -> Notices:
    for index, each in enumerate((spec.get("dnsConfig") or {}).get("nameservers") or ()):
        yield from ip_notices(f"{at}.dnsConfig.nameservers[{index}]", each)
    for index, alias in enumerate(spec.get("hostAliases") or ()):
        yield from ip_notices(f"{at}.hostAliases[{index}].ip", alias.get("ip") or "")
