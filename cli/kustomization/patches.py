"""Patches: strategic merges and JSON patches (RFC 6902), from files or as text, for the object that they name or for all that a target selects."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from kubeling.api import labels
from kubeling.api.errors import ApiError
from kubeling.api.meta import copy_json
from kubeling.api.patch.json_patch import apply_json_patch
from kubeling.cli.kustomization.loading import Folder, documents, known
from kubeling.cli.kustomization.merging import merge
from kubeling.cli.kustomization.problems import KustomizationError
from kubeling.cli.kustomization.resource import Id, Resource, schema_of

Map = dict[str, Any]
_TARGET = ("group", "version", "kind", "name", "namespace", "labelSelector", "annotationSelector")
_OPTIONS = ("allowNameChange", "allowKindChange")


def apply_strategic(resources: list[Resource], entries: Sequence[Any], folder: Folder) -> list[Resource]:
    """`patchesStrategicMerge`: files, or patches as text."""
    for entry in entries:
        if not isinstance(entry, str):
            raise KustomizationError("invalid Kustomization: an entry of patchesStrategicMerge has to be text")
        text = entry if "\n" in entry or entry.lstrip().startswith("{") else folder.text(entry)
        for patch in documents(text, entry):
            resources = _merge_into(resources, [_named(resources, patch)], patch, {})
    return resources


def apply_json(resources: list[Resource], entries: Sequence[Any], folder: Folder) -> list[Resource]:
    """`patchesJson6902`: each for one object."""
    for entry in entries:
        said = known(entry, "patchesJson6902", "target", "path", "patch", "options")
        target = known(said.get("target") or {}, "patchesJson6902.target", *_TARGET)
        if not target.get("kind") or not target.get("name"):
            raise KustomizationError("must specify a target for JSON patch")
        text, source = _text(said, folder, "patchesJson6902")
        for each in _selected(resources, target):
            _apply_operations(each, _operations(text, source), source)
    return resources


def apply(resources: list[Resource], entries: Sequence[Any], folder: Folder) -> list[Resource]:
    """`patches`: either form, by what it looks like."""
    for entry in entries:
        said = known(entry, "patches", "path", "patch", "target", "options")
        text, source = _text(said, folder, "patches")
        options = known(said.get("options") or {}, "patches.options", *_OPTIONS)
        target = known(said["target"], "patches.target", *_TARGET) if said.get("target") else None
        found = documents(text, source)
        operations = _as_operations(found)
        if operations is not None:
            if target is None:
                raise KustomizationError(f"must specify a target for JSON patch {source}")
            for each in _selected(resources, target):
                _apply_operations(each, operations, source)
            continue
        if target is not None and len(found) > 1:
            raise KustomizationError(
                "Multiple Strategic-Merge Patches in one `patches` entry is not allowed to set `patches.target` field"
            )
        for patch in found:
            chosen = [_named(resources, patch)] if target is None else _selected(resources, target)
            resources = _merge_into(resources, chosen, patch, options)
    return resources


def _text(said: Map, folder: Folder, field: str) -> tuple[str, str]:
    path, patch = said.get("path"), said.get("patch")
    if bool(path) == bool(patch):
        raise KustomizationError(f"specify exactly one of patch and path in an entry of {field}")
    return (folder.text(path), path) if path else (str(patch), "[patch text]")


def _as_operations(found: list[Any]) -> list[Any] | None:
    return found[0] if len(found) == 1 and isinstance(found[0], list) else None


def _operations(text: str, source: str) -> list[Any]:
    found = _as_operations(documents(text, source))
    if found is None:
        raise KustomizationError(f"{source}: a JSON patch is a list of operations")
    return found


def _named(resources: list[Resource], patch: Any) -> Resource:
    """The object that a patch names."""
    if not isinstance(patch, dict) or not patch.get("kind") or not (patch.get("metadata") or {}).get("name"):
        raise KustomizationError("unable to parse SM or JSON patch: a patch without a target has to say kind and metadata.name")
    wanted = Resource(patch).id
    # By what they are called now, else by what they were called before.
    for ids in (lambda each: [each.id], lambda each: each.ids):
        found = [each for each in resources if any(_matches(wanted, one) for one in ids(each))]
        if len(found) == 1:
            return found[0]
        if len(found) > 1:
            raise KustomizationError(f"multiple matches for Id {wanted}; failed to find unique target for patch {wanted}")
    raise KustomizationError(f"no matches for Id {wanted}; failed to find unique target for patch {wanted}")


def _matches(wanted: Id, other: Id) -> bool:
    return wanted.gvk == other.gvk and wanted.name == other.name and wanted.effective_namespace == other.effective_namespace


def _selected(resources: list[Resource], target: Map) -> list[Resource]:
    """All that a target selects: names and so on are regular expressions for the whole of the text."""
    forms = {name: _form(target, name) for name in ("group", "version", "kind", "name", "namespace")}
    selectors = [_selector(target, name) for name in ("labelSelector", "annotationSelector")]
    found = []
    for each in resources:
        fits = any(_fits(forms, one) for one in each.ids)
        if fits and all(selector.matches(texts) for selector, texts in zip(selectors, each.text_maps, strict=True)):
            found.append(each)
    return found


def _form(target: Map, name: str) -> re.Pattern[str] | None:
    try:
        return re.compile(target[name]) if target.get(name) else None
    except (re.error, TypeError) as error:
        raise KustomizationError(f"invalid regular expression in target.{name}: {target[name]}") from error


def _fits(forms: dict[str, re.Pattern[str] | None], one: Id) -> bool:
    parts = {**one.gvk._asdict(), "name": one.name, "namespace": one.effective_namespace or one.namespace}
    return all(form is None or form.fullmatch(parts[name]) for name, form in forms.items())


def _selector(target: Map, name: str) -> labels.Selector:
    try:
        return labels.parse(target.get(name) or "")
    except ValueError as error:
        raise KustomizationError(f"invalid {name}: {error}") from error


def _merge_into(resources: list[Resource], chosen: list[Resource], patch: Any, options: Map) -> list[Resource]:
    if not isinstance(patch, dict):
        raise KustomizationError("unable to parse SM or JSON patch")
    gone: list[Resource] = []
    for each in chosen:
        identity = each.id
        kept = {key: each.obj.get(key) for key in ("apiVersion", "kind")}
        made = merge(each.obj, patch, schema_of(each.gvk))
        if made is None:
            gone.append(each)
            continue
        if not options.get("allowKindChange"):
            made |= {key: value for key, value in kept.items() if value is not None}
        metadata = made["metadata"] = dict(made.get("metadata") or {})
        wanted_name = metadata.get("name")
        if not options.get("allowNameChange"):
            metadata["name"] = identity.name
        if identity.namespace:
            metadata["namespace"] = identity.namespace
        else:
            metadata.pop("namespace", None)
        if options and (wanted_name != identity.name or made.get("kind") != identity.gvk.kind):
            each.remember()
        each.obj = copy_json(made)
    return [each for each in resources if each not in gone]


def _apply_operations(resource: Resource, operations: list[Any], source: str) -> None:
    identity = resource.id
    try:
        made = apply_json_patch(resource.obj, operations)
    except ApiError as error:
        raise KustomizationError(f"{source}: {identity}: {error.message}") from error
    if not isinstance(made, dict):
        raise KustomizationError(f"{source}: {identity}: nothing is left of the object")
    resource.remember()
    resource.obj = copy_json(made)
