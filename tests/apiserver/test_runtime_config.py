"""--runtime-config: which kinds are served besides those that always are."""

from __future__ import annotations

import argparse

import pytest

from kubeling.api import builtin
from kubeling.api.resources import BUILTIN, ON_REQUEST, STORAGE_VERSION_MIGRATIONS, STORAGE_VERSIONS, by_plural
from kubeling.api.validation import validate_create, validate_status_update, validate_update
from kubeling.apiserver.__main__ import _more_kinds


def test_what_is_on_request_is_not_served_by_itself() -> None:
    assert set(ON_REQUEST) == {STORAGE_VERSIONS, STORAGE_VERSION_MIGRATIONS}
    assert not set(ON_REQUEST) & set(BUILTIN)
    for each in ON_REQUEST:
        assert by_plural(each.group, each.version, each.plural) is each
        items = builtin.schema_of(each.group_version, f"{each.kind}List").fields["items"].schema
        assert items.element is builtin.schema_of(each.group_version, each.kind)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("", []),
        ("api/alpha=true", list(ON_REQUEST)),
        ("storagemigration.k8s.io/v1alpha1=true", [STORAGE_VERSION_MIGRATIONS]),
        ("storagemigration.k8s.io/v1alpha1", [STORAGE_VERSION_MIGRATIONS]),
        ("api/all=true,internal.apiserver.k8s.io/v1alpha1=false,apps/v1=true", [STORAGE_VERSION_MIGRATIONS]),
    ],
)
def test_flag(text: str, kinds: list[object]) -> None:
    assert list(_more_kinds(text)) == kinds


@pytest.mark.parametrize("text", ["apps/v1=false", "api/ga=false", "nothing/v1=true", "api/alpha=maybe"])
def test_what_cannot_be_said(text: str) -> None:
    with pytest.raises((argparse.ArgumentTypeError, ValueError)):
        _more_kinds(text)


def _migration(**resource: str) -> dict[str, object]:
    named = {"version": "v1", "resource": "pods", **resource}
    return {"apiVersion": "storagemigration.k8s.io/v1alpha1", "metadata": {"name": "x", "uid": "u"}, "spec": {"resource": named}}


def test_a_migration_names_a_kind_and_keeps_to_it() -> None:
    resource = STORAGE_VERSION_MIGRATIONS
    assert not validate_create(_migration(), resource)
    assert [each.field for each in validate_create(_migration(resource="", group="-"), resource)] == [
        "spec.resource.resource",
        "spec.resource.group",
    ]
    assert [each.field for each in validate_update(_migration(resource="nodes"), _migration(), resource)] == ["spec.resource"]


def _status(*true: str, version: str = "5") -> dict[str, object]:
    conditions = [{"type": each, "status": "True"} for each in true]
    return {**_migration(), "status": {"conditions": conditions, "resourceVersion": version}}


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        (_migration(), _status("Running"), 0),
        (_status("Running"), _status("Succeeded"), 0),
        (_status(), _status(version="6"), 1),
        (_status(), _status(version="x"), 2),
        (_status(), _status("Succeeded", "Failed"), 1),
        (_status(), _status("Succeeded", "Running"), 1),
        (_status("Failed"), _status("Running"), 1),
    ],
)
def test_a_migration_ends_once(old: dict[str, object], new: dict[str, object], wrong: int) -> None:
    assert len(validate_status_update(new, old, STORAGE_VERSION_MIGRATIONS)) == wrong


def _said(common: str | None, **servers: str) -> dict[str, object]:
    every = [
        {"apiServerID": name, "encodingVersion": version, "decodableVersions": ["v1", "v2"], "servedVersions": ["v1"]}
        for name, version in servers.items()
    ]
    meta = {"name": "a.b", "uid": "u"}
    return {"metadata": meta, "status": {"storageVersions": every} | ({"commonEncodingVersion": common} if common else {})}


@pytest.mark.parametrize(
    ("obj", "wrong"),
    [
        (_said("v1", a="v1", b="v1"), 0),
        (_said(None, a="v1", b="v2"), 0),
        (_said("v1", a="v1", b="v2"), 1),
        (_said(None, a="v1"), 1),
        (_said("v3", a="v3"), 1),
    ],
)
def test_servers_agree_where_it_is_said(obj: dict[str, object], wrong: int) -> None:
    assert len(validate_status_update(obj, obj, STORAGE_VERSIONS)) == wrong
