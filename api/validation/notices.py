"""What authors of objects other than pods are warned of, and what the warnings share.

A warning is given once the object is known to be valid, through the main door only.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

from kubeling.api import names, quantity
from kubeling.api.validation.common import Map

Notices = Iterator[str]

_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
    "app.kubernetes.io/created-by": "deprecated since v1.9",
    "scheduler.alpha.kubernetes.io/preferAvoidPods": "deprecated since v1.22; use Taints and Tolerations instead",
    "node-role.kubernetes.io/master": 'use "node-role.kubernetes.io/control-plane" instead',
}
_MANY_COMPLETIONS, _MANY_AT_ONCE = 100_000, 10_000
_MANY_INDEXES = (
    "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, "
    "Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
)
_POD_NAMES = (
    "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended"
)
#: Sources of persistent volumes that are not, or hardly, supported any more, by their fields in JSON and as upstream names them.
_SOURCES = {
    "cephfs": ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    "photonPersistentDisk": ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    "scaleIO": ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    "storageos": ("storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    "quobyte": ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    "flocker": ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    "glusterfs": ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    "rbd": ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
}


def deprecated_key(key: str) -> str:
    """Why a label of nodes should not be used any more, empty where nothing speaks against it."""
    return _LABELS.get(key, "")


def term_notices(at: str, term: Map) -> Notices:
    """Of a node selector's term."""
    for index, each in enumerate(term.get("matchExpressions") or ()):
        why = _LABELS.get(each.get("key"))
        if why:
            yield f"{at}.matchExpressions[{index}].key: {each['key']} is {why}"


def fractional(at: str, amounts: Mapping[str, Any] | None, which: tuple[str, ...] = ("memory", "ephemeral-storage")) -> Notices:
    """Parts of bytes."""
    for name in which:
        value = (amounts or {}).get(name)
        if value is not None and quantity.parse(value).milli % 1000:
            yield f'{at}[{name}]: fractional byte value "{quantity.canonical(value)}" is invalid, must be an integer'


def ip_notices(at: str, value: str) -> Notices:
    """Of an address that was found valid."""
    address = _mapped(value)
    if address is None:
        return
    if isinstance(address, ipaddress.IPv4Address) and ":" in value:
        yield f'{at}: non-standard IP address "{value}" will be considered invalid in a future Kubernetes release: use "{address}"'
    elif address.version == 6 and str(address) != value:
        yield f'{at}: IPv6 address "{value}" should be in RFC 5952 canonical format ("{address}")'


def _mapped(value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def cidr_notices(at: str, value: str) -> Notices:
    """Of a range that was found valid."""
    try:
        interface = ipaddress.ip_interface(value)
    except ValueError:
        return
    network = interface.network
    if interface.ip != network.network_address:
        single = f"{interface.ip}/{network.max_prefixlen}"
        yield f'{at}: CIDR value "{value}" is ambiguous in this context (should be "{network}" or "{single}"?)'
    elif network.version == 6 and str(network) != value:
        yield f'{at}: IPv6 CIDR value "{value}" should be in RFC 5952 canonical format ("{network}")'


def volume_claim_notices(at: str, spec: Map) -> Notices:
    """Of the spec of a claim."""
    asked: Map = spec.get("resources") or {}
    yield from fractional(f"{at}.resources.requests", asked.get("requests"), ("storage",))
    yield from fractional(f"{at}.resources.limits", asked.get("limits"), ("storage",))


def _changed(obj: Map, old: Map | None) -> bool:
    """Whether there is something new to warn of: an update that leaves the spec alone says nothing."""
    return old is None or obj["metadata"].get("generation") != old["metadata"].get("generation")


def _names_pods(obj: Map, old: Map | None) -> Notices:
    wrong = names.dns1123_label(obj["metadata"].get("name") or "") if old is None else []
    if wrong:
        yield f"{_POD_NAMES}: [{' '.join(wrong)}]"


def workload(obj: Map, old: Map | None) -> Notices:
    """Of a Deployment, ReplicaSet or ReplicationController, whose name becomes part of those of its pods."""
    yield from _names_pods(obj, old)
    yield from templated(obj, old)


def templated(obj: Map, old: Map | None) -> Notices:
    """Of what has a template of pods in its spec."""
    from kubeling.api.validation.podnotices import template_notices

    if _changed(obj, old):
        yield from template_notices("spec.template", obj["spec"].get("template") or {})


def stateful_set(obj: Map, old: Map | None) -> Notices:
    """Of a StatefulSet."""
    if not _changed(obj, old):
        return
    yield from templated(obj, old)
    for index, each in enumerate(obj["spec"].get("volumeClaimTemplates") or ()):
        yield from volume_claim_notices(
            f"spec.volumeClaimTemplates[{index}]" + ("" if old is None else ".Spec"), each.get("spec") or {}
        )
    if (obj["spec"].get("revisionHistoryLimit") or 0) < 0:
        yield "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"


def pod_template(obj: Map, old: Map | None) -> Notices:
    """Of a PodTemplate."""
    from kubeling.api.validation.podnotices import template_notices

    if _changed(obj, old) or obj.get("template") != (old or {}).get("template"):
        yield from template_notices("template", obj.get("template") or {})


def _job_spec(at: str, spec: Map) -> Notices:
    from kubeling.api.validation.podnotices import template_notices

    indexed, total, at_once = spec.get("completionMode") == "Indexed", spec.get("completions") or 0, spec.get("parallelism") or 0
    if indexed and total > _MANY_COMPLETIONS and at_once > _MANY_AT_ONCE:
        yield f"{at}: {_MANY_INDEXES}"
    yield from template_notices(f"{at}.template", spec.get("template") or {})


def job(obj: Map, old: Map | None) -> Notices:
    """Of a Job."""
    yield from _names_pods(obj, old)
    if _changed(obj, old):
        yield from _job_spec("spec", obj["spec"])


def cron_job(obj: Map, old: Map | None) -> Notices:
    """Of a CronJob."""
    yield from _names_pods(obj, old)
    if _changed(obj, old):
        yield from _job_spec("spec.jobTemplate.spec", (obj["spec"].get("jobTemplate") or {}).get("spec") or {})


def service(obj: Map, _: Map | None) -> Notices:
    """Of a Service."""
    spec, kind = obj["spec"], obj["spec"].get("type")
    if "service.kubernetes.io/topology-aware-hints" in (obj["metadata"].get("annotations") or {}):
        yield (
            "annotation service.kubernetes.io/topology-aware-hints is deprecated, "
            "please use service.kubernetes.io/topology-mode instead"
        )
    outside = spec.get("externalIPs") or []
    headless = spec.get("clusterIP") == "None"
    if kind != "ExternalName" and spec.get("clusterIP") and not headless:
        for index, each in enumerate(spec.get("clusterIPs") or ()):
            yield from ip_notices(f"spec.clusterIPs[{index}]", each)
    if headless and kind == "ClusterIP":
        if spec.get("loadBalancerIP"):
            yield "spec.loadBalancerIP is ignored for headless services"
        if outside:
            yield "spec.externalIPs is ignored for headless services"
        if spec.get("sessionAffinity") != "None":
            yield "spec.SessionAffinity is ignored for headless services"
    for index, each in enumerate(outside):
        yield from ip_notices(f"spec.externalIPs[{index}]", each)
    if spec.get("loadBalancerIP"):
        yield from ip_notices("spec.loadBalancerIP", spec["loadBalancerIP"])
    for index, each in enumerate(spec.get("loadBalancerSourceRanges") or ()):
        yield from cidr_notices(f"spec.loadBalancerSourceRanges[{index}]", each)
    if kind == "ExternalName" and outside:
        yield 'spec.externalIPs is ignored when spec.type is "ExternalName"'
    if kind != "ExternalName" and spec.get("externalName"):
        yield 'spec.externalName is ignored when spec.type is not "ExternalName"'


def ingress(obj: Map, old: Map | None) -> Notices:
    """Of an Ingress."""
    if old is None and "kubernetes.io/ingress.class" in (obj["metadata"].get("annotations") or {}):
        yield "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"


def network_policy(obj: Map, _: Map | None) -> Notices:
    """Of a NetworkPolicy."""
    for side, peers in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(obj["spec"].get(side) or ()):
            for place, peer in enumerate(rule.get(peers) or ()):
                block = peer.get("ipBlock")
                if block:
                    at = f"spec.{side}[{index}].{peers}[{place}].ipBlock"
                    yield from cidr_notices(f"{at}.cidr", block.get("cidr") or "")
                    for number, each in enumerate(block.get("except") or ()):
                        yield from cidr_notices(f"{at}.except[{number}]", each)


def persistent_volume(obj: Map, _: Map | None) -> Notices:
    """Of a PersistentVolume."""
    spec, annotations = obj["spec"], obj["metadata"].get("annotations") or {}
    for name, instead in (("storage-class", 'v1.8; use "storageClassName"'), ("mount-options", 'v1.31; use "mountOptions"')):
        if f"volume.beta.kubernetes.io/{name}" in annotations:
            yield f"metadata.annotations[volume.beta.kubernetes.io/{name}]: deprecated since {instead} attribute instead"
    if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        yield (
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. "
            "Instead, the recommended approach is to use dynamic provisioning."
        )
    required = (spec.get("nodeAffinity") or {}).get("required") or {}
    for index, term in enumerate(required.get("nodeSelectorTerms") or ()):
        yield from term_notices(f"spec.nodeAffinity.required.nodeSelectorTerms[{index}]", term)
    for field in spec.keys() & _SOURCES.keys():
        if spec[field] is not None:
            shown, why = _SOURCES[field]
            yield f"spec.{shown}: {why}"
    yield from fractional("spec.capacity", spec.get("capacity"), ("storage",))


def persistent_volume_claim(obj: Map, _: Map | None) -> Notices:
    """Of a PersistentVolumeClaim."""
    key = "volume.beta.kubernetes.io/storage-class"
    if key in (obj["metadata"].get("annotations") or {}):
        yield f'metadata.annotations[{key}]: deprecated since v1.8; use "storageClassName" attribute instead'
    yield from volume_claim_notices("spec", obj["spec"])


def runtime_class(obj: Map, _: Map | None) -> Notices:
    """Of a RuntimeClass."""
    for key in (obj.get("scheduling") or {}).get("nodeSelector") or ():
        if key in _LABELS:
            yield f"scheduling.nodeSelector: {_LABELS[key]}"


def storage_class(obj: Map, _: Map | None) -> Notices:
    """Of a StorageClass."""
    for index, term in enumerate(obj.get("allowedTopologies") or ()):
        for place, each in enumerate(term.get("matchLabelExpressions") or ()):
            why = _LABELS.get(each.get("key"))
            if why:
                yield f"allowedTopologies[{index}].matchLabelExpressions[{place}].key: {each['key']} is {why}"
