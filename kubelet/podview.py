"""Looking at a pod's spec: its containers of all kinds, and whether a change of the pod concerns the node."""

from __future__ import annotations

from typing import Any

from kubeling.api.meta import Object, metadata_of, spec_of, status_of
from kubeling.api.pods import is_terminal
from kubeling.kubelet.podstatus import OWNED_CONDITIONS, RESIZE_CONDITIONS


def concerns_us(before: Object, pod: Object) -> bool:
    """Whether anything but our own part of the status has changed."""

    ours = (*OWNED_CONDITIONS, *RESIZE_CONDITIONS)

    def rest(obj: Object) -> tuple[Any, ...]:
        metadata = {key: value for key, value in metadata_of(obj).items() if key not in ("resourceVersion", "managedFields")}
        others = [each for each in status_of(obj).get("conditions") or () if each["type"] not in ours]
        return spec_of(obj), metadata, others, is_terminal(obj)

    return rest(before) != rest(pod)


def every_container(pod: Object) -> list[dict[str, Any]]:
    spec = spec_of(pod)
    return [each for field in ("initContainers", "containers", "ephemeralContainers") for each in spec.get(field) or ()]


def container_spec(pod: Object, name: str) -> dict[str, Any]:
    return next((each for each in every_container(pod) if each["name"] == name), {"name": name})
