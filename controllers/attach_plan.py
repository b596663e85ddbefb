"""Which volumes are to be attached to which nodes: decided from copies of the objects, without network and clock."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from kubeling.api.conditions import is_true
from kubeling.api.meta import annotations_of, is_deleting, name_of, namespace_of, spec_of, status_of
from kubeling.api.pods import is_terminal
from kubeling.controllers.storage_protection import claims_of

Obj = dict[str, Any]

MANAGED = "volumes.kubernetes.io/controller-managed-attach-detach"
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
_SHARED = {"ReadWriteMany", "ReadOnlyMany"}


@dataclass(slots=True)
class Wanted:
    """A volume that pods on a node need."""

    volume: Obj
    pods: list[Obj] = field(default_factory=list)

    @property
    def driver(self) -> str:
        return str(spec_of(self.volume)["csi"]["driver"])

    @property
    def handle(self) -> str:
        return str(spec_of(self.volume)["csi"]["volumeHandle"])

    @property
    def exclusive(self) -> bool:
        """Whether one node at a time may have it."""
        return not _SHARED & set(spec_of(self.volume).get("accessModes") or ())


def attachment_name(handle: str, driver: str, node: str) -> str:
    """The name of the VolumeAttachment; the kubelet computes the same."""
    return "csi-" + hashlib.sha256(f"{handle}{driver}{node}".encode()).hexdigest()


def unique_name(driver: str, handle: str) -> str:
    """How Node.status calls the volume."""
    return f"kubernetes.io/csi/{driver}^{handle}"


def wanted_on(
    node: str,
    pods: Iterable[Obj],
    claim: Callable[[str, str], Obj | None],
    volume: Callable[[str], Obj | None],
    attachable: Callable[[str], bool],
) -> dict[str, Wanted]:
    """By the attachment's name, what has to be attached to `node` for its pods."""
    found: dict[str, Wanted] = {}
    for pod in pods:
        if is_terminal(pod):
            continue
        for name in claims_of(pod):
            held = claim(namespace_of(pod), name)
            bound = volume(str(spec_of(held).get("volumeName") or "")) if held is not None else None
            if bound is None or not spec_of(bound).get("csi") or not attachable(spec_of(bound)["csi"]["driver"]):
                continue
            if (spec_of(bound).get("claimRef") or {}).get("name") != name:
                continue
            wanted = Wanted(bound)
            found.setdefault(attachment_name(wanted.handle, wanted.driver, node), wanted).pods.append(pod)
    return found


def new_attachment(name: str, wanted: Wanted, node: str) -> Obj:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "VolumeAttachment",
        "metadata": {"name": name},
        "spec": {"attacher": wanted.driver, "nodeName": node, "source": {"persistentVolumeName": name_of(wanted.volume)}},
    }


def attached_to(attachments: Iterable[Obj], wanted: dict[str, Wanted]) -> list[Obj]:
    """What Node.status.volumesAttached is to say: what is attached, needed, and not on its way out."""
    found = []
    for each in attachments:
        want = wanted.get(name_of(each))
        if want is not None and status_of(each).get("attached") and not is_deleting(each):
            found.append({"name": unique_name(want.driver, want.handle), "devicePath": ""})
    return sorted(found, key=lambda each: each["name"])


def is_managed(node: Obj) -> bool:
    """Whether attaching is ours, not the kubelet's."""
    return annotations_of(node).get(MANAGED) == "true"


def may_be_forced(node: Obj) -> bool:
    """Whether the node is known to be off, so that nothing can be mounted there."""
    return any(each.get("key") == OUT_OF_SERVICE for each in spec_of(node).get("taints") or ())


def is_healthy(node: Obj) -> bool:
    return is_true(node, "Ready")
