"""Semantic validation, by transcript: `create`, or `update` with the old object first; `door` is an update through /status or another door."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from kubeling.api import resources
from kubeling.api.defaults import apply_defaults
from kubeling.api.errors import invalid
from kubeling.api.meta import name_of
from kubeling.api.resources import BUILTIN, Resource
from kubeling.api.strategies import strategy_of
from kubeling.api.validation import validate_create, validate_status_update, validate_update

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _made(document: dict[str, Any], resource: Resource) -> dict[str, Any]:
    """As the server has it when it validates: named, defaulted, prepared."""
    document.setdefault("apiVersion", "v1")
    metadata = document.setdefault("metadata", {})
    if "generateName" not in metadata:
        metadata.setdefault("name", "x")
    if resource.namespaced:
        metadata.setdefault("namespace", "d")
    metadata.setdefault("uid", "u")
    apply_defaults(document)
    strategy_of(resource).prepare_for_create(document, NOW)
    return document


def _answer(case: Any) -> str:
    first = case.documents[0]
    resource = resources.by_kind(first.get("apiVersion", "v1"), first["kind"])
    assert resource is not None
    made = [_made(each, resource) for each in case.documents]
    if case.verb == "create":
        found = validate_create(made[0], resource)
    elif case.verb == "door":
        for each, document in zip(made, case.documents, strict=True):
            if "says" in document:
                each["status"] = document.pop("says")
        found = validate_status_update(made[1], made[0], resource)
    else:
        strategy_of(resource).prepare_for_update(made[1], made[0])
        found = validate_update(made[1], made[0], resource)
    if not found:
        return "ok"
    if case.verb == "status":
        return invalid(resource.kind, resource.group, name_of(made[0]), found).message
    return "\n".join(f"{each.reason} {line}" for each in found for line in [str(each).replace("\n", " | ")])


@pytest.mark.parametrize(
    "name",
    [
        "validation_meta.txt",
        "validation_pod.txt",
        "validation_pod_more.txt",
        "validation_pod_changes.txt",
        "validation_workloads.txt",
        "validation_jobs.txt",
        "validation_others.txt",
        "validation_network.txt",
        "validation_status.txt",
    ],
)
def test_transcript(name: str, transcript: Callable[..., None]) -> None:
    transcript(name, _answer)


@pytest.mark.parametrize("resource", [each for each in BUILTIN if "update" in each.verbs], ids=lambda each: each.plural)
def test_no_validator_stumbles_over_an_empty_object(resource: Resource) -> None:
    empty = {"apiVersion": resource.group_version, "kind": resource.kind}
    made = _made(empty, resource)
    validate_create(made, resource)
    validate_update(made, made, resource)


def test_ephemeral_containers_are_only_ever_added() -> None:
    def pod(*debuggers: dict[str, Any]) -> dict[str, Any]:
        made = _made({"kind": "Pod", "spec": {"containers": [{"name": "c", "image": "i"}]}}, resources.PODS)
        made["spec"]["ephemeralContainers"] = list(debuggers)
        apply_defaults(made)
        return made

    first, second = {"name": "a", "image": "i"}, {"name": "b", "image": "j", "ports": [{"containerPort": 80}]}
    assert validate_status_update(pod(dict(first)), pod(), resources.PODS) == []
    gone = validate_status_update(pod(), pod(dict(first)), resources.PODS)
    assert "may not be removed" in str(gone[0])
    changed = validate_status_update(pod({**first, "image": "k"}), pod(dict(first)), resources.PODS)
    assert "may not be changed" in str(changed[0])
    wrong = validate_status_update(pod(second), pod(), resources.PODS)
    assert str(wrong[0]) == "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container"


def test_what_an_older_server_did_not_default_is_no_change_of_a_pod() -> None:
    old = _made({"kind": "Pod", "spec": {"containers": [{"name": "c", "image": "i"}]}}, resources.PODS)
    new = _made({"kind": "Pod", "spec": {"containers": [{"name": "c", "image": "i"}]}}, resources.PODS)
    del old["spec"]["enableServiceLinks"]
    assert validate_update(new, old, resources.PODS) == []
