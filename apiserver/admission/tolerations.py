"""DefaultTolerationSeconds: a pod stays five minutes on a node that is not ready or cannot be reached, unless it says otherwise."""

from __future__ import annotations

from typing import Any

from kubeling.apiserver.admission.chain import Attributes, Plugin

SECONDS = 300
_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


class DefaultTolerationSeconds(Plugin):
    """See the module."""

    async def admit(self, attributes: Attributes) -> None:
        if attributes.resource.kind != "Pod" or attributes.subresource or attributes.obj is None:
            return
        spec = attributes.pod_spec
        # Tolerations can only be added to: what is there already has been filled in at creation.
        if attributes.old is not None and attributes.old["spec"].get("tolerations") == spec.get("tolerations"):
            return
        tolerations: list[dict[str, Any]] = spec.get("tolerations") or []
        added = [
            {"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}
            for taint in _TAINTS
            if not any(_covers(each, taint) for each in tolerations)
        ]
        if added:
            spec["tolerations"] = [*tolerations, *added]


def _covers(toleration: dict[str, Any], taint: str) -> bool:
    return (toleration.get("key") or taint) == taint and (toleration.get("effect") or "NoExecute") == "NoExecute"
