"""Everything that the door lets in, of every kind, goes through the whole machinery: random objects made from the schemas."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from kubeling.api import names
from kubeling.api.apply import apply, update_managers
from kubeling.api.apply.fieldset import EMPTY, common, paths, union, without
from kubeling.api.apply.walk import fields_of, owned_view
from kubeling.api.builtin import schema_of
from kubeling.api.defaults import apply_defaults
from kubeling.api.errors import ApiError
from kubeling.api.meta import copy_json
from kubeling.api.patch.merge_patch import apply_merge_patch
from kubeling.api.patch.strategic import apply_strategic_patch
from kubeling.api.printers import columns_of, row_of
from kubeling.api.resources import BUILTIN, Resource
from kubeling.api.strategies import strategy_of
from kubeling.api.validation import validate_create, validate_status_update, validate_update

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KINDS = [each for each in BUILTIN if "update" in each.verbs]
MakeObject = Callable[..., dict[str, Any]]


def _made(make_object: MakeObject, resource: Resource, seed: int) -> dict[str, Any]:
    made = make_object(resource.group_version, resource.kind, seed)
    made["metadata"] = {"labels": {"seed": str(seed)}, **(made.get("metadata") or {}), "name": "x", "uid": "u"}
    made["metadata"].pop("managedFields", None)
    if resource.namespaced:
        made["metadata"]["namespace"] = "d"
    return made


@pytest.mark.parametrize("resource", KINDS, ids=lambda each: f"{each.plural}.{each.group_version}")
@pytest.mark.parametrize("seed", range(4))
def test_a_write_of_anything_goes_through(make_object: MakeObject, resource: Resource, seed: int) -> None:
    rules, schema = strategy_of(resource), schema_of(resource.group_version, resource.kind)
    old, new = _made(make_object, resource, seed), _made(make_object, resource, seed + 100)
    for each in (old, new):
        apply_defaults(each)
        once = copy_json(each)
        apply_defaults(each)
        assert each == once
    rules.prepare_for_create(old, NOW)
    validate_create(old, resource)
    update_managers(None, old, manager="a", schema=schema, now=NOW)
    assert len(row_of(old, resource, NOW)["cells"]) == len(columns_of(resource))
    rules.selectable_fields(old)

    before = copy_json(old)
    through_status = copy_json(new)
    rules.prepare_for_update(new, old)
    validate_update(new, old, resource)
    update_managers(old, new, manager="b", schema=schema, now=NOW)
    if rules.has_status:
        rules.prepare_for_status_update(through_status, old)
        validate_status_update(through_status, old, resource)
    assert old == before
    _owned_once(new, schema)


def _owned_once(obj: dict[str, Any], schema: Any) -> None:
    """By create and update alone no field has two owners, and every one has one."""
    entries = [each["fieldsV1"] for each in obj["metadata"].get("managedFields", [])]
    everything = fields_of(owned_view(obj, EMPTY), schema)
    owned: dict[str, Any] = {}
    for each in entries:
        shared = [path for path in paths(common(owned, each)) if not path[-1].startswith("k:")]
        assert all(path not in set(paths(everything)) for path in shared)
        owned = union(owned, each)
    assert without(everything, owned) == {}


@pytest.mark.parametrize("resource", KINDS, ids=lambda each: f"{each.plural}.{each.group_version}")
@pytest.mark.parametrize("seed", range(3))
def test_patches_and_apply_of_anything_go_through(make_object: MakeObject, resource: Resource, seed: int) -> None:
    schema, version = schema_of(resource.group_version, resource.kind), resource.group_version
    live, wish = _made(make_object, resource, seed), _made(make_object, resource, seed + 200)
    update_managers(None, live, manager="a", schema=schema, now=NOW)
    before = copy_json((live, wish))
    merged = apply_merge_patch(live, wish)
    assert apply_merge_patch(merged, wish) == merged
    patched = _or_refused(lambda: apply_strategic_patch(live, wish, schema))
    if patched is not None:
        assert apply_strategic_patch(patched, wish, schema) == patched

    def applied(to: dict[str, Any]) -> dict[str, Any]:
        return apply(to, wish, manager="b", force=True, schema=schema, version=version, now=NOW)

    result = _or_refused(lambda: applied(live))
    if result is None:
        return
    assert applied(result) == result
    mine = next(each for each in result["metadata"]["managedFields"] if each["operation"] == "Apply")["fieldsV1"]
    there = fields_of(owned_view(result, EMPTY), schema)
    assert all(_leads_somewhere(there, path) for path in paths(mine))
    nothing = {"apiVersion": version, "kind": resource.kind, "metadata": {"name": "x"}}
    bare = apply(result, nothing, manager="b", force=True, schema=schema, version=version, now=NOW)
    assert all(each["operation"] != "Apply" for each in bare["metadata"].get("managedFields", []))
    assert (live, wish) == tuple(before)


def _leads_somewhere(node: dict[str, Any], path: tuple[str, ...]) -> bool:
    for element in path:
        if element not in node:
            return False
        node = node[element]
    return True


def _or_refused(patch: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """The outcome, or None for a random list whose elements lack their key or share one."""
    try:
        return patch()
    except ApiError as error:
        if error.code != 422:
            raise
        return None


@pytest.mark.parametrize("check", [names.dns1123_subdomain, names.dns1123_label, names.qualified_name, names.label_value])
def test_no_name_takes_long_to_refuse(check: names.Check) -> None:
    begun = time.perf_counter()
    for text in ("a" * 100_000 + "!", "a." * 50_000 + "!", "a-" * 50_000, "-" * 100_000, "a/" * 50_000):
        assert check(text)
    assert time.perf_counter() - begun < 2
