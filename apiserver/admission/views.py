"""An object of a request as a webhook or a policy wants to see it: in the version that its rule names, or the Scale of it."""

from __future__ import annotations

from typing import Any

from kubeling.api.admission.matching import Place, Version
from kubeling.api.errors import ApiError, internal
from kubeling.api.meta import copy_json
from kubeling.api.scale import scale_of, with_scale
from kubeling.apiserver import convert
from kubeling.apiserver.admission.chain import Attributes
from kubeling.apiserver.registry.kinds import Kinds, Served

Object = dict[str, Any]
GroupVersionKind = tuple[str, str, str]


def place_of(attributes: Attributes) -> Place:
    """Where the request goes."""
    resource = attributes.resource
    # As upstream has it, the namespace of a Namespace is its own name.
    namespace = attributes.name if resource.plural == "namespaces" and not resource.group else attributes.namespace
    return Place(
        attributes.operation,
        resource.group,
        resource.version,
        resource.plural,
        attributes.subresource,
        namespace,
        attributes.name,
    )


def equivalents_of(kinds: Kinds, attributes: Attributes) -> list[Version]:
    """All versions of the kind, the request's own among them."""
    resource = attributes.resource
    own = kinds.find(resource.group, resource.version, resource.plural)
    if own is None or own.store is None:
        return []
    return [(each.resource.group, each.resource.version, each.resource.plural) for each in kinds if each.store is own.store]


class View:
    """The new and the old object in one version. `kind` is what they are then."""

    def __init__(self, attributes: Attributes, served: Served) -> None:
        self._attributes = attributes
        self._served = served
        self.kind = _kind(attributes, served)
        self.obj = self._out(attributes.obj)
        self.old = self._out(attributes.old)

    def _out(self, obj: Object | None) -> Object | None:
        if obj is None or self._attributes.body is not None:
            return obj
        converted = convert.from_storage(self._served, obj)
        return scale_of(converted) if self._attributes.subresource == "scale" else converted

    def replaced(self, obj: Object) -> Object:
        """What the object is when the view of it has become `obj`; in the stored version."""
        attributes = self._attributes
        if attributes.body is not None:
            return obj
        if attributes.subresource == "scale":
            assert attributes.obj is not None
            obj = with_scale(convert.from_storage(self._served, copy_json(attributes.obj)), obj)
        return convert.to_storage(self._served, obj)


def _kind(attributes: Attributes, served: Served) -> GroupVersionKind:
    if attributes.body is not None:
        group, _, version = attributes.body[0].rpartition("/")
        return group, version, attributes.body[1]
    if attributes.subresource == "scale":
        return "autoscaling", "v1", "Scale"
    resource = served.resource
    return resource.group, resource.version, resource.kind


def view(kinds: Kinds, attributes: Attributes, version: Version) -> View:
    """The request's objects in that version."""
    served = kinds.find(*version)
    if served is None:
        raise _unserved(version)
    return View(attributes, served)


def _unserved(version: Version) -> ApiError:
    return internal(f"{version[2]}.{version[1]}.{version[0]} is not served any more")
