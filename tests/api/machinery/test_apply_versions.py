"""Owners of fields that wrote in another version, in which the fields have other names."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from kubeling.api.apply import apply, update_managers
from kubeling.api.apply.versions import Unconverted, Versions
from kubeling.api.errors import ApiError
from kubeling.api.meta import copy_json
from kubeling.api.structural.merge_schema import merge_schema
from kubeling.api.structural.node import compile_schema

NOW = datetime(2026, 1, 1, tzinfo=UTC)
V1, V2 = "example.com/v1", "example.com/v2"
Obj = dict[str, Any]


def schema(**properties: str) -> Any:
    fields = {name: {"type": kind} for name, kind in properties.items()}
    return merge_schema(compile_schema({"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}))


SCHEMAS = {V1: schema(size="integer", color="string"), V2: schema(length="integer", color="string")}


def converted(obj: Obj, version: str) -> Obj:
    """v2 calls the size length."""
    old, new = ("size", "length") if version == V2 else ("length", "size")
    spec = {new if name == old else name: value for name, value in obj.get("spec", {}).items()}
    return {**obj, "apiVersion": version, "spec": spec}


class Widget:
    """One object, which is kept in v1."""

    def __init__(self) -> None:
        self.live: Obj | None = None
        self.served = dict(SCHEMAS)
        self.asked = 0

    def _settled(self, compute: Callable[[Versions], Obj]) -> Obj:
        versions = Versions(self.served, renames=False)
        for _ in range(20):
            try:
                return compute(versions)
            except Unconverted as need:
                for obj, version in need.versions.wanted:
                    self.asked += 1
                    versions.learn(obj, version, converted(copy_json(obj), version))
        raise AssertionError("no end of conversions")

    def _in(self, version: str) -> Obj | None:
        if self.live is None or self.live["apiVersion"] == version:
            return self.live
        return converted(self.live, version)

    def apply(self, manager: str, version: str, force: bool = False, **spec: Any) -> None:
        wish = {"apiVersion": version, "kind": "Widget", "metadata": {"name": "w"}, "spec": spec}

        def compute(versions: Versions) -> Obj:
            options = {"manager": manager, "force": force, "version": version, "now": NOW}
            return apply(self._in(version), wish, schema=SCHEMAS[version], versions=versions, **options)

        self.live = converted(self._settled(compute), V1) if version == V2 else self._settled(compute)

    def update(self, manager: str, version: str, **spec: Any) -> None:
        old = self._in(version)
        assert old is not None

        def compute(versions: Versions) -> Obj:
            new = {**copy_json(old), "spec": spec}
            update_managers(old, new, manager=manager, schema=SCHEMAS[version], now=NOW, api_version=version, versions=versions)
            return new

        made = self._settled(compute)
        self.live = made if version == V1 else converted(made, V1)

    @property
    def spec(self) -> Obj:
        assert self.live is not None
        found: Obj = self.live["spec"]
        return found

    @property
    def owners(self) -> dict[str, tuple[str, set[str]]]:
        assert self.live is not None
        entries = self.live["metadata"].get("managedFields", ())
        return {
            each["manager"]: (each["apiVersion"][-2:], {name[2:] for name in each["fieldsV1"].get("f:spec", ())})
            for each in entries
        }


@pytest.fixture
def widget() -> Widget:
    made = Widget()
    made.apply("a", V1, size=4, color="red")
    return made


def test_a_conflict_is_found_by_what_the_owner_calls_the_field(widget: Widget) -> None:
    with pytest.raises(ApiError) as caught:
        widget.apply("b", V2, length=5)
    assert [(each["field"], each["message"]) for each in caught.value.causes] == [(".spec.size", 'conflict with "a"')]
    widget.apply("b", V2, length=4)
    assert widget.owners == {"a": ("v1", {"size", "color"}), "b": ("v2", {"length"})}


def test_force_takes_the_field_from_its_owner_in_the_other_version(widget: Widget) -> None:
    widget.apply("b", V2, force=True, length=5)
    assert widget.spec == {"size": 5, "color": "red"}
    assert widget.owners == {"a": ("v1", {"color"}), "b": ("v2", {"length"})}


def test_what_is_no_longer_applied_goes_unless_somebody_owns_it_in_another_version(widget: Widget) -> None:
    widget.apply("b", V2, length=4)
    widget.apply("a", V1, color="red")
    assert widget.spec == {"size": 4, "color": "red"}
    widget.apply("b", V2)
    assert widget.spec == {"color": "red"}


def test_a_manager_may_go_to_another_version(widget: Widget) -> None:
    widget.apply("a", V2, length=4)
    assert widget.spec == {"size": 4}
    assert widget.owners == {"a": ("v2", {"length"})}
    widget.apply("a", V2)
    assert widget.spec == {}


def test_an_update_in_another_version_takes_what_it_changes_and_removes(widget: Widget) -> None:
    widget.update("c", V2, length=9, color="red")
    assert widget.owners == {"a": ("v1", {"color"}), "c": ("v2", {"length"})}
    widget.update("d", V1, size=9)
    assert widget.owners == {"c": ("v2", {"length"})}


def test_nothing_is_converted_for_who_wrote_in_the_same_version(widget: Widget) -> None:
    widget.update("c", V1, size=9, color="red")
    widget.apply("b", V1, force=True, color="blue")
    assert widget.asked == 0


def test_fields_of_a_version_that_is_not_served_any_more_are_nobodys(widget: Widget) -> None:
    del widget.served[V1]
    widget.apply("b", V2, length=5)
    assert widget.spec == {"size": 5, "color": "red"}
    assert widget.owners == {"b": ("v2", {"length"})}


def test_versions_that_differ_in_name_alone_need_no_conversion() -> None:
    live: Obj = {"apiVersion": V1, "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 1}}
    update_managers(None, live, manager="a", schema=SCHEMAS[V1], now=NOW)
    wish = {**live, "apiVersion": V2, "metadata": {"name": "w"}, "spec": {"size": 2}}
    versions = Versions({V1: SCHEMAS[V1], V2: SCHEMAS[V1]}, renames=True)
    with pytest.raises(ApiError, match=r'conflict with "a" using example\.com/v1: \.spec\.size'):
        apply(
            {**live, "apiVersion": V2}, wish, manager="b", force=False, schema=SCHEMAS[V1], version=V2, now=NOW, versions=versions
        )
