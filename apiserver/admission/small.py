"""Rules of a few lines each."""

from __future__ import annotations

from typing import Any

from kubeling.api import errors, pods, resources
from kubeling.api.meta import annotations_of
from kubeling.api.taints import NO_SCHEDULE, NOT_READY
from kubeling.apiserver.admission.chain import Attributes, Plugin
from kubeling.apiserver.admission.classes import default_class
from kubeling.apiserver.registry.kinds import Kinds

_INGRESS_CLASS = "kubernetes.io/ingress.class"
_DEFAULT_INGRESS = "ingressclass.kubernetes.io/is-default-class"


class DefaultIngressClass(Plugin):
    """An Ingress that names no class gets the default one."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds

    async def admit(self, attributes: Attributes) -> None:
        ingress = attributes.obj
        if (
            attributes.resource.qualified != "ingresses.networking.k8s.io"
            or attributes.operation != "CREATE"
            or attributes.subresource
        ):
            return
        assert ingress is not None
        spec = ingress.setdefault("spec", {})
        if spec.get("ingressClassName") is not None or _INGRESS_CLASS in annotations_of(ingress):
            return
        name = await default_class(self._kinds.store(resources.INGRESS_CLASSES), _DEFAULT_INGRESS)
        if name:
            spec["ingressClassName"] = name


class TaintNodesByCondition(Plugin):
    """A node takes no pods before somebody has said that it is ready."""

    async def admit(self, attributes: Attributes) -> None:
        node = attributes.obj
        if attributes.resource.qualified != "nodes" or attributes.operation != "CREATE" or attributes.subresource or node is None:
            return
        spec = node.setdefault("spec", {})
        taints = spec.get("taints") or []
        if not any(each.get("key") == NOT_READY and each.get("effect") == NO_SCHEDULE for each in taints):
            spec["taints"] = [*taints, {"key": NOT_READY, "effect": NO_SCHEDULE}]


class AlwaysPullImages(Plugin):
    """Nobody runs an image that is on a node without being able to pull it."""

    async def admit(self, attributes: Attributes) -> None:
        if _is_new_pod(attributes) or (
            attributes.resource.qualified == "pods" and attributes.operation == "UPDATE" and not attributes.subresource
        ):
            for container in _containers(attributes):
                container["imagePullPolicy"] = "Always"

    async def validate(self, attributes: Attributes) -> None:
        if _is_new_pod(attributes):
            for container in _containers(attributes):
                if container.get("imagePullPolicy") != "Always":
                    wrong = errors.unsupported_value(
                        "spec.containers[].imagePullPolicy", container.get("imagePullPolicy"), ["Always"]
                    )
                    raise errors.forbidden("", "pods", attributes.name, str(wrong))


class ExtendedResourceToleration(Plugin):
    """A pod that asks for a special device tolerates the taint that keeps others off the nodes that have it."""

    async def admit(self, attributes: Attributes) -> None:
        if not _is_new_pod(attributes):
            return
        spec = attributes.pod_spec
        names = {name for each in _containers(attributes) for name in ((each.get("resources") or {}).get("requests") or {})}
        extended = sorted(each for each in names if "/" in each and not each.partition("/")[0].endswith("kubernetes.io"))
        present = spec.get("tolerations") or []
        wanted = [{"key": each, "operator": "Exists"} for each in extended]
        more = [each for each in wanted if each not in present]
        if more:
            spec["tolerations"] = [*present, *more]


class DenyServiceExternalIPs(Plugin):
    """No Service takes addresses that it was not given."""

    async def validate(self, attributes: Attributes) -> None:
        if attributes.resource.qualified != "services" or attributes.subresource or attributes.obj is None:
            return
        old = set(((attributes.old or {}).get("spec") or {}).get("externalIPs") or ())
        if set((attributes.obj.get("spec") or {}).get("externalIPs") or ()) - old:
            raise errors.forbidden("", "services", attributes.name, "Use of external IPs is denied by admission control.")


def _is_new_pod(attributes: Attributes) -> bool:
    return attributes.resource.qualified == "pods" and attributes.operation == "CREATE" and not attributes.subresource


def _containers(attributes: Attributes) -> list[dict[str, Any]]:
    return [container for _, _, container in pods.all_containers(attributes.pod_spec)]
