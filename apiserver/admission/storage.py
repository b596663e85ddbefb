"""Storage: the default class of a claim, the finalizers of what is in use, and which claims may grow."""

from __future__ import annotations

from typing import Any

from kubeling.api import errors, resources
from kubeling.api.meta import add_finalizer, annotations_of
from kubeling.api.quantity import ZERO, parse
from kubeling.apiserver.admission.chain import Attributes, Plugin
from kubeling.apiserver.admission.classes import default_class
from kubeling.apiserver.registry.kinds import Kinds

_BETA = "volume.beta.kubernetes.io/storage-class"
_DEFAULT = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
#: What keeps an object of these kinds while somebody uses it; a controller takes it off.
FINALIZERS = {"persistentvolumeclaims": "kubernetes.io/pvc-protection", "persistentvolumes": "kubernetes.io/pv-protection"}


class DefaultStorageClass(Plugin):
    """A claim that names no class gets the default one; one that asks for the class "" wants none."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds

    async def admit(self, attributes: Attributes) -> None:
        claim = attributes.obj
        if (
            attributes.resource.qualified != "persistentvolumeclaims"
            or attributes.operation != "CREATE"
            or attributes.subresource
        ):
            return
        assert claim is not None
        spec = claim.setdefault("spec", {})
        if spec.get("storageClassName") is not None or _BETA in annotations_of(claim):
            return
        name = await default_class(self._kinds.store(resources.STORAGE_CLASSES), *_DEFAULT)
        if name:
            spec["storageClassName"] = name


class StorageObjectInUseProtection(Plugin):
    """Claims and volumes are not deleted from under who uses them."""

    async def admit(self, attributes: Attributes) -> None:
        finalizer = FINALIZERS.get(attributes.resource.qualified)
        if finalizer and attributes.operation == "CREATE" and not attributes.subresource and attributes.obj is not None:
            add_finalizer(attributes.obj, finalizer)


class PersistentVolumeClaimResize(Plugin):
    """Only a claim that is bound, and of a class that allows it, may ask for more."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds

    async def validate(self, attributes: Attributes) -> None:
        new, old = attributes.obj, attributes.old
        if (
            attributes.resource.qualified != "persistentvolumeclaims"
            or attributes.operation != "UPDATE"
            or attributes.subresource
        ):
            return
        if new is None or old is None or _size(new) <= _size(old):
            return
        if (old.get("status") or {}).get("phase") != "Bound":
            raise _refused(attributes, "Only bound persistent volume claims can be expanded")
        name = annotations_of(new).get(_BETA) or new["spec"].get("storageClassName") or ""
        entry = await self._kinds.store(resources.STORAGE_CLASSES).peek("", name) if name else None
        if entry is None or not entry.object().get("allowVolumeExpansion"):
            why = (
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
            )
            raise _refused(attributes, why)


def _size(claim: dict[str, Any]) -> Any:
    asked = (((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}).get("storage")
    return parse(asked) if asked is not None else ZERO


def _refused(attributes: Attributes, why: str) -> errors.ApiError:
    return errors.forbidden("", "persistentvolumeclaims", attributes.name, why)
