"""From a manifest file to a static pod: what the file says, the defaults, and what makes it this node's. No I/O.

The node's name is put behind the pod's, so that the same file on several nodes makes several pods. The uid is a hash of the file's pod, the file's
name and the node: a changed file is another pod, and an unchanged one is the same pod for every kubelet that reads it again.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any

from kubeling.api.defaults.pod import pod as pod_defaults
from kubeling.api.hashing import canonical_json
from kubeling.api.meta import Object, annotations_of, copy_json, metadata_of, namespace_of
from kubeling.api.names import dns1123_subdomain
from kubeling.api.taints import NO_EXECUTE
from kubeling.api.times import format_time
from kubeling.api.validation.pod import pod as validate_pod

SOURCE = "kubernetes.io/config.source"
HASH = "kubernetes.io/config.hash"
SEEN = "kubernetes.io/config.seen"
MIRROR = "kubernetes.io/config.mirror"
MAX_BYTES = 1024 * 1024
#: Known without asking the API, which may not be there.
_SYSTEM_PRIORITIES = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}


class ManifestProblem(Exception):
    """A file that is no pod that this node can run; says why."""


def is_static(pod: Object) -> bool:
    """Whether the pod comes from a file of this node and not from the API."""
    return annotations_of(pod).get(SOURCE, "api") != "api"


def static_pod(data: bytes, path: str, node_name: str, now: datetime) -> Object:
    """The pod that the file at `path` describes, in JSON or YAML. ManifestProblem where it describes none."""
    pod = _decoded(data)
    try:
        return _settled(pod, path, node_name, now)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ManifestProblem(f"it does not have the shape of a Pod: {error!r}") from error


def _decoded(data: bytes) -> Object:
    import yaml

    if len(data) > MAX_BYTES:
        raise ManifestProblem(f"it has more than {MAX_BYTES} bytes")
    try:
        text = data.decode()
        found = json.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise ManifestProblem(f"it is neither JSON nor YAML: {error}") from error
    if not isinstance(found, dict) or found.get("kind") != "Pod" or found.get("apiVersion") != "v1":
        raise ManifestProblem("it is not a Pod of v1; static pods are single Pods")
    # Dates and other things that YAML knows and JSON does not become what the API would have been sent.
    plain: Object = json.loads(json.dumps(found, default=str))
    return plain


def _settled(pod: Object, path: str, node_name: str, now: datetime) -> Object:
    given = metadata_of(pod)
    if not given.get("name"):
        raise ManifestProblem("metadata.name is missing")
    metadata: dict[str, Any] = {
        "name": f"{given['name']}-{node_name.lower()}",
        "namespace": given.get("namespace") or "default",
        "labels": dict(given.get("labels") or {}),
        "creationTimestamp": format_time(now),
    }
    spec = copy_json(pod.get("spec") or {})
    uid = given.get("uid") or _uid(pod, path, node_name)
    metadata["uid"] = uid
    metadata["annotations"] = {**(given.get("annotations") or {}), SOURCE: "file", HASH: uid, SEEN: format_time(now)}
    spec["nodeName"] = node_name
    if spec.get("priorityClassName") in _SYSTEM_PRIORITIES:
        spec["priority"] = _SYSTEM_PRIORITIES[spec["priorityClassName"]]
    # No taint drives away what only this node can run.
    spec.setdefault("tolerations", []).append({"operator": "Exists", "effect": NO_EXECUTE})
    settled: Object = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": {"phase": "Pending"}}
    pod_defaults(settled)
    problems = [f"metadata.name: {each}" for each in dns1123_subdomain(metadata["name"])]
    problems += [str(each) for each in validate_pod(settled)]
    if problems:
        raise ManifestProblem("; ".join(problems))
    wanted = _needs_api(spec)
    if wanted:
        raise ManifestProblem(f"a static pod may not refer to {wanted}: it must run where there is no API")
    return settled


def _uid(pod: Object, path: str, node_name: str) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for part in (canonical_json(pod), node_name.encode(), path.encode()):
        digest.update(part + b"\0")
    return digest.hexdigest()


def _needs_api(spec: dict[str, Any]) -> str:
    """The first thing in the spec that only the API has; empty where there is none."""
    if spec.get("serviceAccountName"):
        return "a service account"
    if spec.get("resourceClaims"):
        return "resource claims"
    for each in spec.get("volumes") or ():
        sources = [each, *((each.get("projected") or {}).get("sources") or ())]
        for source in sources:
            for key in ("secret", "configMap", "persistentVolumeClaim", "ephemeral", "serviceAccountToken", "clusterTrustBundle"):
                if source.get(key) is not None:
                    return f"a volume of kind {key}"
    for field in ("containers", "initContainers"):
        for container in spec.get(field) or ():
            for each in container.get("envFrom") or ():
                if each.get("configMapRef") or each.get("secretRef"):
                    return "ConfigMaps or Secrets for its environment"
            for each in container.get("env") or ():
                source = each.get("valueFrom") or {}
                if source.get("configMapKeyRef") or source.get("secretKeyRef"):
                    return "ConfigMaps or Secrets for its environment"
    return ""


def mirror_of(pod: Object, node: Object) -> Object:
    """What the API is shown of a static pod: it belongs to the Node and names the version that it mirrors."""
    metadata = metadata_of(pod)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": metadata["name"],
            "namespace": namespace_of(pod),
            "labels": dict(metadata.get("labels") or {}),
            "annotations": {**annotations_of(pod), MIRROR: annotations_of(pod)[HASH]},
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Node",
                    "name": node["metadata"]["name"],
                    "uid": node["metadata"]["uid"],
                    "controller": True,
                }
            ],
        },
        "spec": copy_json(pod["spec"]),
    }


def mirrors(pod: Object, mirror: Object) -> bool:
    """Whether `mirror` is the image of this very version of the static pod."""
    return annotations_of(mirror).get(MIRROR) == annotations_of(pod)[HASH]
