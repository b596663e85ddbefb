"""An object of a request as a webhook or a policy wants to see it: in the version that its rule names, or the Scale of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kubeling.api import resources
from kubeling.api.admission import matching
from kubeling.api.admission.matching import Place, Version
from kubeling.api.errors import internal, not_found
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
    """The new and the old object in one version. `kind` is what they are then. Made by :func:`view`."""

    def __init__(self, attributes: Attributes, own: Served, served: Served) -> None:
        self._attributes = attributes
        self._own = own
        self._served = served
        self.kind = _kind(attributes, served)
        self.obj: Object | None = None
        self.old: Object | None = None

    async def load(self) -> View:
        """Convert."""
        self.obj, self.old = await self._out(self._attributes.obj), await self._out(self._attributes.old)
        return self

    async def _out(self, obj: Object | None) -> Object | None:
        if obj is None or self._attributes.body is not None:
            return obj
        if self._served.is_builtin:
            obj = convert.from_storage(self._served, obj)
        elif self._served is not self._own:
            obj = (await convert.present(self._served, [await convert.closed(self._own, copy_json(obj))]))[0]
        return scale_of(obj, self._served.scale_paths) if self._attributes.subresource == "scale" else obj

    async def replaced(self, obj: Object) -> Object:
        """What the object is when the view of it has become `obj`; in the version of the pipeline."""
        attributes = self._attributes
        if attributes.body is not None:
            return obj
        if attributes.subresource == "scale":
            assert attributes.obj is not None
            obj = with_scale(convert.from_storage(self._served, copy_json(attributes.obj)), obj, self._served.scale_paths)
        if not self._served.is_builtin and self._served is not self._own:
            return await convert.opened(self._own, await convert.closed(self._served, obj))
        return convert.to_storage(self._served, obj)


def _kind(attributes: Attributes, served: Served) -> GroupVersionKind:
    if attributes.body is not None:
        group, _, version = attributes.body[0].rpartition("/")
        return group, version, attributes.body[1]
    if attributes.subresource == "scale":
        return "autoscaling", "v1", "Scale"
    resource = served.resource
    return resource.group, resource.version, resource.kind


async def view(kinds: Kinds, attributes: Attributes, version: Version) -> View:
    """The request's objects in that version."""
    resource = attributes.resource
    served, own = kinds.find(*version), kinds.find(resource.group, resource.version, resource.plural)
    if served is None or own is None:
        raise internal(f"{version[2]}.{version[1]}.{version[0]} is not served any more")
    return await View(attributes, own, served).load()


async def namespace_labels(kinds: Kinds, attributes: Attributes) -> Mapping[str, str] | None:
    """The labels of the namespace that a request is in, or for; None for objects of the cluster. Raises 404."""
    resource = attributes.resource
    if resource.plural == "namespaces" and not resource.group:
        if attributes.obj is not None and not attributes.subresource:
            return attributes.obj["metadata"].get("labels") or {}
        name = attributes.name
    elif not attributes.namespace:
        return None
    else:
        name = attributes.namespace
    entry = await kinds.store(resources.NAMESPACES).peek("", name)
    if entry is None:
        raise not_found("", "namespaces", name)
    return entry.labels


async def matched(
    kinds: Kinds, terms: Mapping[str, Any], rules: Sequence[Mapping[str, Any]], attributes: Attributes
) -> Version | None:
    """The version in which a webhook or policy with these selectors and rules wants the request; None where it does not want it at all."""
    place = place_of(attributes)
    if place.is_exempt:
        return None
    selector = terms.get("namespaceSelector")
    if not matching.selects_everything(selector):
        labels = await namespace_labels(kinds, attributes)
        # Objects of the cluster are in no namespace, and so never left out for it.
        if labels is not None and not matching.labels_selected(selector, labels):
            return None
    policy = terms.get("matchPolicy")
    equivalents = equivalents_of(kinds, attributes) if policy != "Exact" else []
    version = matching.matched_version(rules, place, policy, equivalents)
    if version is None or not matching.object_selected(terms.get("objectSelector"), attributes.obj, attributes.old):
        return None
    return version


def request_of(attributes: Attributes, view: View, version: Version) -> dict[str, Any]:
    """The request as webhooks and policies are told of it, without its objects."""
    resource, kind = attributes.resource, view.kind
    asked = kind
    if attributes.body is None and attributes.subresource != "scale":
        asked = (resource.group, resource.version, resource.kind)
    group, number, plural = version
    found: dict[str, Any] = {
        "kind": {"group": kind[0], "version": kind[1], "kind": kind[2]},
        "resource": {"group": group, "version": number, "resource": plural},
    }
    if attributes.subresource:
        found["subResource"] = attributes.subresource
    found["requestKind"] = {"group": asked[0], "version": asked[1], "kind": asked[2]}
    found["requestResource"] = {"group": resource.group, "version": resource.version, "resource": resource.plural}
    if attributes.subresource:
        found["requestSubResource"] = attributes.subresource
    if attributes.name:
        found["name"] = attributes.name
    namespace = place_of(attributes).namespace
    if namespace:
        found["namespace"] = namespace
    found["operation"] = attributes.operation
    found["userInfo"] = attributes.user.info()
    found["dryRun"] = attributes.dry_run
    found["options"] = dict(attributes.options) or None
    return found
