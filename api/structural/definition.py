"""A CustomResourceDefinition, read: its versions as resources, with everything that the server needs to serve them.

Schemas are compiled when they are first needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from kubeling.api.meta import Object, is_deleting, metadata_of, spec_of, status_of
from kubeling.api.printers.columns import Printer
from kubeling.api.resources import ALL_VERBS, SCALE, STATUS, Resource
from kubeling.api.schema import Schema
from kubeling.api.strategies import Strategy, custom_strategy
from kubeling.api.structural import columns, jsonpath
from kubeling.api.structural.merge_schema import merge_schema
from kubeling.api.structural.node import Node, compile_schema

#: What can be done with objects whose definition is going.
TERMINATING_VERBS = ("delete", "deletecollection", "get", "list", "watch")
CLEANUP_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
_VERSION = re.compile(r"v([1-9]\d*)(?:(alpha|beta)([1-9]\d*))?")
_STABILITY = {None: 2, "beta": 1, "alpha": 0}


def version_order(version: str) -> tuple[Any, ...]:
    """A sort key: v10, v2, v1, v11beta2, v1beta1, v1alpha1, then all other names."""
    found = _VERSION.fullmatch(version)
    if found is None:
        return (1, version)
    return (0, -_STABILITY[found.group(2)], -int(found.group(1)), -int(found.group(3) or 0), version)


def condition(definition: Object, kind: str) -> Mapping[str, Any]:
    """A condition of the definition, empty where it has none of that type."""
    return next((each for each in status_of(definition).get("conditions") or () if each.get("type") == kind), {})


def holds(definition: Object, kind: str) -> bool:
    """Whether a condition is True."""
    return condition(definition, kind).get("status") == "True"


class Version:
    """One version of a kind."""

    def __init__(self, owner: Definition, spec: Mapping[str, Any]) -> None:
        self.owner = owner
        self.spec = spec
        self.name: str = spec["name"]
        subresources = spec.get("subresources") or {}
        self.has_status = subresources.get("status") is not None
        self.scale: Mapping[str, str] | None = subresources.get("scale")
        self.resource = Resource(
            owner.group,
            self.name,
            owner.plural,
            owner.kind,
            namespaced=owner.namespaced,
            short_names=tuple(owner.names.get("shortNames") or ()),
            categories=tuple(owner.names.get("categories") or ()),
            verbs=TERMINATING_VERBS if owner.terminating else ALL_VERBS,
            subresources=(*((STATUS,) if self.has_status else ()), *((SCALE,) if self.scale is not None else ())),
            singular=owner.names.get("singular") or "",
        )
        fields = spec.get("selectableFields") or ()
        self.selectable = {each["jsonPath"].removeprefix("."): jsonpath.parse(each["jsonPath"]) for each in fields}

    @property
    def group_version(self) -> str:
        return self.resource.group_version

    @property
    def served(self) -> bool:
        return bool(self.spec.get("served"))

    @property
    def json_schema(self) -> Mapping[str, Any] | None:
        """`openAPIV3Schema`, None where there is none."""
        found: Mapping[str, Any] | None = (self.spec.get("schema") or {}).get("openAPIV3Schema")
        return found

    @cached_property
    def node(self) -> Node:
        """The schema."""
        return compile_schema(self.json_schema)

    @cached_property
    def schema(self) -> Schema:
        """The schema as server-side apply needs it."""
        return merge_schema(self.node)

    @cached_property
    def printer(self) -> Printer:
        """The columns."""
        return columns.printer(self.spec.get("additionalPrinterColumns"))

    @cached_property
    def strategy(self) -> Strategy:
        """What each door may change."""
        return custom_strategy(self.resource, self.select if self.selectable else None)

    def select(self, obj: Object) -> dict[str, str]:
        """The values of the selectable fields."""
        return {name: _text(path.first(obj)) for name, path in self.selectable.items()}

    @property
    def deprecation(self) -> str:
        """What clients of a deprecated version are told; empty for others."""
        if not self.spec.get("deprecated"):
            return ""
        return self.spec.get("deprecationWarning") or f"{self.group_version} {self.owner.kind} is deprecated"


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


class Definition:
    """A kind that a user defined. `obj` is not changed."""

    def __init__(self, obj: Object) -> None:
        spec = spec_of(obj)
        self.obj = obj
        self.name: str = metadata_of(obj)["name"]
        self.uid: str = metadata_of(obj).get("uid") or ""
        self.group: str = spec["group"]
        self.names: Mapping[str, Any] = status_of(obj).get("acceptedNames") or spec["names"]
        self.plural: str = spec["names"]["plural"]
        self.kind: str = spec["names"]["kind"]
        self.namespaced: bool = spec.get("scope") == "Namespaced"
        self.terminating = is_deleting(obj)
        self.conversion: Mapping[str, Any] = spec.get("conversion") or {}
        found = (Version(self, each) for each in spec["versions"])
        self.versions: dict[str, Version] = {each.name: each for each in sorted(found, key=lambda each: version_order(each.name))}
        self.stored_versions: list[str] = list(status_of(obj).get("storedVersions") or ())

    def adopt(self, former: Definition) -> None:
        """Take over what the former state of the definition has compiled already."""
        for name, version in self.versions.items():
            before = former.versions.get(name)
            if before is not None and before.json_schema == version.json_schema:
                version.__dict__.update({key: before.__dict__[key] for key in ("node", "schema") if key in before.__dict__})

    @property
    def list_kind(self) -> str:
        """Kind of lists."""
        return self.names.get("listKind") or f"{self.kind}List"

    @property
    def storage(self) -> Version:
        """The version in which objects are stored."""
        return next(each for each in self.versions.values() if each.spec.get("storage"))

    @property
    def established(self) -> bool:
        """Whether the kind is to be served."""
        return holds(self.obj, "Established")

    @property
    def by_webhook(self) -> bool:
        """Whether versions are converted by a webhook."""
        return self.conversion.get("strategy") == "Webhook"

    @property
    def prefix(self) -> str:
        """Where the objects are kept."""
        return f"/registry/{self.group}/{self.plural}/"

    def served(self) -> Iterable[Version]:
        """The versions that clients see, best first."""
        return [each for each in self.versions.values() if each.served] if self.established else []

    @cached_property
    def schemas(self) -> dict[str, Schema]:
        """The schemas of the versions that are served, by group and version."""
        return {each.group_version: each.schema for each in self.versions.values() if each.served}

    def storage_facts(self) -> Any:
        """What the stored form of the objects depends on: where it changes, what is in memory has to be read again."""
        selectable = [sorted(each.selectable) for each in self.versions.values()]
        versions = [(each.name, each.served) for each in self.versions.values()]
        return (self.storage.name, self.storage.json_schema, self.by_webhook, selectable, versions)
