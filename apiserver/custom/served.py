"""A custom resource as the handlers and the pipeline see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kubeling.api import builtin, validation
from kubeling.api.apply.versions import Versions
from kubeling.api.decode.door import Mismatch, check
from kubeling.api.decode.errors import cannot_handle
from kubeling.api.decode.tidy import tidy
from kubeling.api.errors import INVALID, NOT_SUPPORTED, REQUIRED, TOO_LONG, TOO_MANY, TYPE_INVALID, FieldError
from kubeling.api.meta import Object, copy_json
from kubeling.api.names import dns1123_subdomain
from kubeling.api.printers.columns import Printer
from kubeling.api.schema import Schema
from kubeling.api.structural.defaulting import apply_defaults
from kubeling.api.structural.definition import Definition, Version
from kubeling.api.structural.prune import check_embedded, prune
from kubeling.api.structural.validate import ABSENT, validate
from kubeling.apiserver.custom.conversion import Converter
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.registry.rules import Rules
from kubeling.apiserver.registry.store import Store

#: With such faults an object cannot be held against rules in CEL.
_BLOCKING = frozenset({NOT_SUPPORTED, REQUIRED, TOO_LONG, TOO_MANY, TYPE_INVALID})
_NOT_CHECKED = (
    "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"
)


class CustomRules(Rules):
    """The rules of one version of a kind; objects are of that version."""

    def __init__(self, version: Version) -> None:
        super().__init__(version.strategy)
        self.version = version

    def fields(self, obj: Object) -> Mapping[str, str]:
        return self.version.strategy.selectable_fields(obj)

    def default(self, obj: Object) -> None:
        apply_defaults(obj, self.version.node, top=True)

    def after_admission(self, obj: Object) -> None:
        prune(obj, self.version.node)
        apply_defaults(obj, self.version.node, top=True)

    def validate_create(self, obj: Object) -> list[FieldError]:
        resource = self.version.resource
        return [*validation.validate_create(obj, resource, dns1123_subdomain), *self._schema_errors(obj, ABSENT)]

    def validate_update(self, new: Object, old: Object, door: str) -> list[FieldError]:
        found = validation.validate_status_update(new, old, self.version.resource)
        return [*found, *self._schema_errors(new, old)]

    def _schema_errors(self, obj: Object, old: Any) -> list[FieldError]:
        node = self.version.node
        found = validate(obj, node, old)
        if not node.rules_below:
            return found
        if any(each.reason in _BLOCKING for each in found):
            return [*found, FieldError(INVALID, "<nil>", None, _NOT_CHECKED)]
        from kubeling.api.structural.rules import check_rules

        return [*found, *check_rules(obj, node, old)]


class CustomServed(Served):
    """A served version. Its objects are converted on their way from and to the store, and are in this version everywhere else."""

    def __init__(self, definition: Definition, version: Version, store: Store, converter: Converter) -> None:
        super().__init__(version.resource, version.resource, store, CustomRules(version), definition.list_kind)
        self.definition = definition
        self.version = version
        self.deprecation = version.deprecation
        self._converter = converter
        scale = version.scale
        self._scale = (
            (scale["specReplicasPath"], scale["statusReplicasPath"], scale.get("labelSelectorPath") or "") if scale else None
        )

    @property
    def selectable_names(self) -> frozenset[str]:
        return frozenset(
            {"metadata.name", *(("metadata.namespace",) if self.resource.namespaced else ()), *self.version.selectable}
        )

    @property
    def is_builtin(self) -> bool:
        return False

    @property
    def schema(self) -> Schema:
        return self.version.schema

    @property
    def converts(self) -> bool:
        """False only where what is in memory is of this version for certain."""
        storage = self.definition.storage
        return self.version is not storage or (self.definition.by_webhook and self.definition.stored_versions != [storage.name])

    @property
    def converts_late(self) -> bool:
        return self.converts and self.definition.by_webhook

    @property
    def printer(self) -> Printer | None:
        return self.version.printer

    @property
    def scale_paths(self) -> tuple[str, str, str] | None:
        return self._scale

    def decode(self, obj: Any, *, strict: bool, duplicates: Sequence[str]) -> tuple[Object, list[str]]:
        api_version, kind = self.resource.group_version, self.resource.kind
        if not isinstance(obj, dict):
            raise cannot_handle(api_version, kind, "the object is no JSON object")
        problems = list(duplicates)
        found = dict(obj)
        node = self.version.node
        try:
            found["metadata"] = checked_metadata(obj["metadata"], problems) if obj.get("metadata") is not None else {}
            problems += [f'unknown field "{path}"' for path in prune(found, node)]
            check_embedded(found, node, lambda value, path: checked_metadata(value, problems, path))
        except Mismatch as error:
            raise cannot_handle(api_version, kind, str(error)) from None
        if strict and problems:
            raise cannot_handle(api_version, kind, f"strict decoding error: {', '.join(problems)}")
        return found, problems

    def versions(self) -> Versions | None:
        return Versions(self.definition.schemas, renames=not self.definition.by_webhook)

    async def convert(self, versions: Versions) -> None:
        for obj, version in versions.wanted:
            versions.learn(obj, version, (await self._converter.convert([copy_json(obj)], version))[0])

    def renamed(self, obj: Object) -> Object:
        """An object of another version in this one, where that takes no more than another apiVersion."""
        wanted = self.resource.group_version
        return obj if obj["apiVersion"] == wanted or self.definition.by_webhook else {**obj, "apiVersion": wanted}

    async def to_served(self, objs: list[Object]) -> list[Object]:
        """Stored objects in this version."""
        wanted = self.resource.group_version
        strangers = [each for each in objs if each["apiVersion"] != wanted]
        if not strangers:
            return objs
        converted = iter(await self._converter.convert_stored(strangers, wanted))
        return [each if each["apiVersion"] == wanted else self._settled(next(converted)) for each in objs]

    def _settled(self, obj: Object) -> Object:
        self.rules.after_admission(obj)
        return obj

    async def to_stored(self, obj: Object) -> Object:
        """An object of this version in the one that is stored."""
        storage = self.definition.storage
        if obj["apiVersion"] == storage.group_version:
            return obj
        converted = (await self._converter.convert([obj], storage.group_version))[0]
        prune(converted, storage.node)
        return converted


def checked_metadata(metadata: Any, problems: list[str], path: str = "metadata") -> dict[str, Any]:
    """A checked copy of an ObjectMeta; what it does not know is left out and noted in `problems`. Raises Mismatch."""
    schema = builtin.message("meta.v1.ObjectMeta")
    try:
        return check(schema, metadata)
    except Mismatch:
        return check(schema, tidy(schema, metadata, problems, path))
