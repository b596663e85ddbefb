"""Which other objects a pod refers to: what its node has to be able to read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

Object = dict[str, Any]

#: Volume sources with a reference to a Secret, and the field that holds it.
_SECRET_FIELDS = {
    "azureFile": "secretName",
    "cephfs": "secretRef",
    "cinder": "secretRef",
    "csi": "nodePublishSecretRef",
    "flexVolume": "secretRef",
    "iscsi": "secretRef",
    "rbd": "secretRef",
    "scaleIO": "secretRef",
    "secret": "secretName",
    "storageos": "secretRef",
}


class References(NamedTuple):
    """Names of objects in the pod's own namespace."""

    secrets: frozenset[str]
    config_maps: frozenset[str]
    claims: frozenset[str]
    account: str


def of_pod(pod: Object) -> References:
    """What a pod refers to."""
    spec = pod.get("spec") or {}
    secrets = {each.get("name") for each in spec.get("imagePullSecrets") or ()}
    config_maps: set[Any] = set()
    claims: set[Any] = set()
    for container in _containers(spec):
        for source in container.get("envFrom") or ():
            secrets.add((source.get("secretRef") or {}).get("name"))
            config_maps.add((source.get("configMapRef") or {}).get("name"))
        for variable in container.get("env") or ():
            source = variable.get("valueFrom") or {}
            secrets.add((source.get("secretKeyRef") or {}).get("name"))
            config_maps.add((source.get("configMapKeyRef") or {}).get("name"))
    for volume in spec.get("volumes") or ():
        secrets.update(_volume_secrets(volume))
        config_maps.add((volume.get("configMap") or {}).get("name"))
        claims.add((volume.get("persistentVolumeClaim") or {}).get("claimName"))
        if volume.get("ephemeral") is not None:
            claims.add(f"{pod['metadata'].get('name', '')}-{volume.get('name', '')}")
        for source in (volume.get("projected") or {}).get("sources") or ():
            secrets.add((source.get("secret") or {}).get("name"))
            config_maps.add((source.get("configMap") or {}).get("name"))
    account = spec.get("serviceAccountName") or spec.get("serviceAccount") or ""
    return References(_names(secrets), _names(config_maps), _names(claims), account)


def token_audiences(pod: Object) -> set[str]:
    """The audiences of the service-account tokens that the pod's own volumes ask for; the empty string is the apiserver's own."""
    return {
        token.get("audience") or ""
        for volume in (pod.get("spec") or {}).get("volumes") or ()
        for source in (volume.get("projected") or {}).get("sources") or ()
        if (token := source.get("serviceAccountToken")) is not None
    }


def csi_drivers(pod: Object) -> set[str]:
    """The drivers of the pod's inline CSI volumes."""
    volumes = (pod.get("spec") or {}).get("volumes") or ()
    return {each["csi"].get("driver") or "" for each in volumes if each.get("csi")}


def volume_secrets(volume: Object) -> frozenset[tuple[str, str]]:
    """Namespace and name of the Secrets that a PersistentVolume refers to. Where it names no namespace, the claim's counts."""
    spec = volume.get("spec") or {}
    default = (spec.get("claimRef") or {}).get("namespace") or ""
    found: set[tuple[str, str]] = set()
    for source in spec.values():
        if not isinstance(source, dict):
            continue
        for key, value in source.items():
            if isinstance(value, dict) and (key == "secretRef" or key.endswith("SecretRef")) and value.get("name"):
                found.add((value.get("namespace") or default, value["name"]))
        if isinstance(source.get("secretName"), str) and source["secretName"]:
            found.add((source.get("secretNamespace") or default, source["secretName"]))
    return frozenset(found)


def _containers(spec: Object) -> Iterator[Object]:
    for key in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(key) or ()


def _volume_secrets(volume: Object) -> Iterator[str]:
    for kind, key in _SECRET_FIELDS.items():
        found = (volume.get(kind) or {}).get(key)
        yield found.get("name") or "" if isinstance(found, dict) else found or ""


def _names(found: set[Any]) -> frozenset[str]:
    return frozenset(each for each in found if isinstance(each, str) and each)
