"""Owners that wrote in another version than the one at hand (KEP-555).

The fields of an entry in managedFields are named as its own `apiVersion` names them, and stay so. So what a write does to that entry is found out by looking at the write in that
version: the object before and after, both converted. The fields of a version that is not served any more mean nothing, and go.

Conversions can take a webhook, and what is here is pure: what has to be converted and is not known yet is raised as :class:`Unconverted`, the caller converts it
(:attr:`Versions.wanted` to :meth:`Versions.learn`), and begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from kubeling.api.apply.fieldset import EMPTY, FieldSet, from_paths, union
from kubeling.api.apply.walk import diff, fields_of, owned_view
from kubeling.api.schema import Schema

Object = dict[str, Any]
Changes = tuple[FieldSet, FieldSet]
Prune = Callable[[Any, FieldSet, FieldSet, Schema | None], Any]


class Unconverted(Exception):
    """Something has to be converted first: what is in `versions.wanted`."""

    def __init__(self, versions: Versions) -> None:
        super().__init__("not converted yet")
        self.versions = versions


class Versions:
    """The versions that a kind is served in, with their schemas. `renames`: they differ in nothing but their names."""

    def __init__(self, schemas: Mapping[str, Schema], *, renames: bool) -> None:
        self._schemas = schemas
        self._renames = renames
        self._known: dict[tuple[str, bytes], Object] = {}
        self.wanted: list[tuple[Object, str]] = []

    def learn(self, obj: Object, version: str, converted: Object) -> None:
        """What an object is in another version."""
        self._known[version, orjson.dumps(obj)] = converted

    def serves(self, version: str) -> bool:
        """Whether it is one of them."""
        return version in self._schemas

    def schema(self, version: str) -> Schema:
        """Of a version that is served."""
        return self._schemas[version]

    def view(self, obj: Object, version: str) -> Object:
        """The object in a version that is served. Raises Unconverted."""
        if obj.get("apiVersion") == version:
            return obj
        if self._renames or not obj:
            return {**obj, "apiVersion": version} if obj else obj
        found = self._known.get((version, orjson.dumps(obj)))
        if found is None:
            self.wanted = [(obj, version)]
            raise Unconverted(self)
        return found


class Write:
    """The changes that a write in `version` makes, in each version that is asked for."""

    def __init__(self, version: str, schema: Schema, skipped: FieldSet, others: Versions | None) -> None:
        self._version = version
        self._schema = schema
        self._skipped = skipped
        self._others = others
        #: By version: the last pair of objects and what was found.
        self._found: dict[str, tuple[Object, Object, Changes | None]] = {}

    def changes(self, old: Object, new: Object, version: str = "") -> Changes | None:
        """What was changed and what was removed, in the names of a version; None where that is not served. Raises Unconverted."""
        if self._others is None:
            version = self._version
        known = self._found.get(version)
        if known is None or known[0] is not old or known[1] is not new:
            known = self._found[version] = old, new, self._changes(old, new, version)
        return known[2]

    def _changes(self, old: Object, new: Object, version: str) -> Changes | None:
        if self._others is None or version in ("", self._version):
            return diff(owned_view(old, self._skipped), owned_view(new, self._skipped), self._schema)
        if not self._others.serves(version):
            return None
        before, after = self._others.view(old, version), self._others.view(new, version)
        return diff(owned_view(before, self._skipped), owned_view(after, self._skipped), self._others.schema(version))

    def pruned(self, obj: Object, former: tuple[str, FieldSet], owned: Iterable[tuple[str, FieldSet]], prune: Prune) -> Object:
        """The object without what a manager owned by its `former` apply, but for what is `owned` now, by itself or others. Both have the version that they are in."""
        at, dropped = former
        keeping: dict[str, FieldSet] = {}
        for version, fields in owned:
            version = version if self._others is not None and self._others.serves(version) else self._version
            # The metadata are never without members of their own.
            keeping[version] = union(keeping.get(version, {"f:metadata": EMPTY}), fields)
        if self._others is None or all(each == self._version for each in (at, *keeping)):
            found: Object = prune(obj, dropped, keeping.get(self._version, EMPTY), self._schema)
            return found
        if not self._others.serves(at):
            return obj
        made: Object = prune(self._others.view(obj, at), dropped, keeping.pop(at, EMPTY), self._others.schema(at))
        for version, kept in keeping.items():
            # What others own in their version comes back.
            whole, schema = self._others.view(obj, version), self._others.schema(version)
            gone = _lacking(fields_of(whole, schema), fields_of(self._others.view(made, version), schema))
            made = prune(whole, gone, kept, schema)
        return self._others.view(made, self._version)


def _lacking(fields: FieldSet, others: FieldSet) -> FieldSet:
    """The fields that the others do not have; an empty object has none of what is in a full one."""
    found: FieldSet = {}
    for element, inner in fields.items():
        left = inner if element not in others else _lacking(inner, others[element])
        if left or element not in others:
            found[element] = left
    return found


def write(version: str, schema: Schema, ignored: Iterable[Any], others: Versions | None) -> Write:
    """A write in `version`, through a door that resets the paths of `ignored`."""
    paths = list(ignored)
    return Write(version, schema, from_paths(paths) if paths else EMPTY, others)
