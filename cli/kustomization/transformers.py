"""The changes that a kustomization makes to every object: namespace, names, labels, annotations, replicas, images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from kubeling.cli.kustomization import fields
from kubeling.cli.kustomization.loading import known
from kubeling.cli.kustomization.problems import KustomizationError
from kubeling.cli.kustomization.resource import Resource

Map = dict[str, Any]
_ROLE_BINDINGS = ("RoleBinding", "ClusterRoleBinding")


def set_namespace(resources: Iterable[Resource], namespace: str) -> None:
    """Put everything that may be in one into the namespace; Namespaces take its name."""
    for each in resources:
        if not each.obj:
            continue
        each.remember()
        if not each.id.cluster_scoped:
            each.obj.setdefault("metadata", {})["namespace"] = namespace
        fields.change(each, fields.NAMESPACES, lambda _: namespace, str)
        if each.gvk.kind in _ROLE_BINDINGS:
            for subject in each.obj.get("subjects") or ():
                if subject.get("kind") == "ServiceAccount" and subject.get("name") == "default":
                    subject["namespace"] = namespace
    seen: dict[Any, Resource] = {}
    for each in resources:
        key = (each.gvk, each.name, each.id.effective_namespace)
        if key in seen:
            raise KustomizationError(f"namespace transformation produces ID conflict: {each.id}")
        seen[key] = each


def add_prefix(resources: Iterable[Resource], prefix: str, suffix: str) -> None:
    """Put texts before and behind every name."""
    for each in resources:
        if any(gvk.selects(each.gvk) for gvk in fields.UNPREFIXED):
            continue
        if prefix:
            each.prefixes.append(prefix)
        if suffix:
            each.suffixes.append(suffix)
        if each.name:
            each.rename(f"{prefix}{each.name}{suffix}")


def add_labels(resources: Iterable[Resource], entries: Sequence[Any], common: Map) -> None:
    """`labels`, with or without selectors and templates, then `commonLabels` with both."""
    changes: list[tuple[Map, tuple[fields.Spec, ...]]] = []
    for entry in entries:
        said = known(entry, "labels", "pairs", "includeSelectors", "includeTemplates", "fields")
        specs = fields.LABELS + tuple(_field_spec(each) for each in said.get("fields") or ())
        if said.get("includeSelectors"):
            specs += fields.TEMPLATE_LABELS + fields.SELECTORS
        elif said.get("includeTemplates"):
            specs += fields.TEMPLATE_LABELS
        changes.append((_texts(said.get("pairs") or {}, "labels"), specs))
    if common:
        changes.append((_texts(common, "commonLabels"), fields.LABELS + fields.TEMPLATE_LABELS + fields.SELECTORS))
    for pairs, specs in changes:
        if pairs:
            _put(resources, pairs, specs)


def add_annotations(resources: Iterable[Resource], pairs: Map) -> None:
    """`commonAnnotations`."""
    if pairs:
        _put(resources, _texts(pairs, "commonAnnotations"), fields.ANNOTATIONS)


def _put(resources: Iterable[Resource], pairs: dict[str, str], specs: tuple[fields.Spec, ...]) -> None:
    for each in resources:
        fields.change(each, specs, lambda found: {**(found or {}), **pairs})


def _field_spec(entry: Any) -> fields.Spec:
    said = known(entry, "labels.fields", "path", "kind", "group", "version", "create")
    path, kind, group, version = (str(said.get(name) or "") for name in ("path", "kind", "group", "version"))
    return fields.Spec(path, kind, group, version, bool(said.get("create")))


def _texts(pairs: Map, field: str) -> dict[str, str]:
    for key, value in pairs.items():
        if not isinstance(value, str):
            raise KustomizationError(f"invalid Kustomization: {field}: the value of {key} has to be text")
    return pairs


def set_replicas(resources: Sequence[Resource], entries: Sequence[Any]) -> None:
    """`replicas`: by the name of a workload."""
    for entry in entries:
        said = known(entry, "replicas", "name", "count")
        name, count = said.get("name"), said.get("count") or 0
        found = False
        for each in resources:
            if any(one.name == name for one in each.ids) and any(spec.gvk.selects(each.gvk) for spec in fields.REPLICAS):
                fields.change(each, fields.REPLICAS, lambda _, count=count: count, int)  # type: ignore[misc]
                found = True
        if not found:
            kinds = " ".join(f"{spec.kind}.[noVer].[noGrp]" for spec in fields.REPLICAS)
            raise KustomizationError(f"resource with name {name} does not match a config with the following GVK [{kinds}]")


def set_images(resources: Iterable[Resource], entries: Sequence[Any]) -> None:
    """`images`: new names, tags and digests for containers, wherever these stand in an object."""
    for entry in entries:
        said = known(entry, "images", "name", "newName", "newTag", "tagSuffix", "digest")
        for each in resources:
            if each.gvk.kind != "CustomResourceDefinition":
                _images_below(each.obj, said)
                _volume_images(each.obj, said)


def _images_below(node: Any, said: Map) -> None:
    if isinstance(node, list):
        for each in node:
            _images_below(each, said)
    if not isinstance(node, dict):
        return
    for name, value in node.items():
        if name in ("containers", "initContainers") and isinstance(value, list):
            for each in value:
                if isinstance(each, dict) and isinstance(each.get("image"), str):
                    each["image"] = renamed(each["image"], said)
        _images_below(value, said)


def _volume_images(obj: Map, said: Map) -> None:
    for spec in (obj.get("spec"), ((obj.get("spec") or {}).get("template") or {}).get("spec")):
        for volume in (spec or {}).get("volumes") or () if isinstance(spec, dict) else ():
            image = volume.get("image")
            if isinstance(image, dict) and isinstance(image.get("reference"), str):
                image["reference"] = renamed(image["reference"], said)


def renamed(image: str, said: Map) -> str:
    """The image with what an entry says, where it is the one that the entry is for."""
    wanted = str(said.get("name") or "")
    if not re.fullmatch(re.escape(wanted) + r"(:[a-zA-Z0-9_.{}-]*)?(@sha256:[a-zA-Z0-9_.{}-]*)?", image):
        return image
    name, tag, digest = _split(image)
    name = said.get("newName") or name
    new_tag, new_digest = str(said.get("newTag") or ""), str(said.get("digest") or "")
    if new_tag or new_digest:
        tag, digest = new_tag, new_digest
    elif said.get("tagSuffix"):
        tag, digest = f"{tag}{said['tagSuffix']}", ""
    return name + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")


def _split(image: str) -> tuple[str, str, str]:
    rest, _, digest = image.partition("@")
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        return rest, "", digest
    return name, tag, digest
