"""The three patch formats, by transcript; and that a patch leaves its input alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from kubeling.api.builtin import schema_of
from kubeling.api.errors import ApiError
from kubeling.api.patch.json_patch import MAX_OPERATIONS, apply_json_patch
from kubeling.api.patch.merge_patch import apply_merge_patch
from kubeling.api.patch.strategic import apply_strategic_patch


def _answer(case: Any) -> str:
    document, patch = case.documents
    before = copy.deepcopy(document)
    try:
        if case.verb == "json":
            result = apply_json_patch(document, patch)
        elif case.verb == "merge":
            result = apply_merge_patch(document, patch)
        else:
            result = apply_strategic_patch(document, patch, schema_of(case.options.get("version", "v1"), case.options["kind"]))
    except ApiError as error:
        detail = "".join(f"\n  {cause['message']}" for cause in error.causes)
        return f"{error.code} {error.reason}: {error.message}{detail}"
    finally:
        assert document == before
    return str(yaml.safe_dump(result, sort_keys=False, width=150))


@pytest.mark.parametrize("name", ["json_patch.txt", "merge_patch.txt", "strategic_patch.txt"])
def test_transcript(name: str, transcript: Callable[..., None]) -> None:
    transcript(name, _answer)


def test_a_json_patch_has_a_limit_of_operations() -> None:
    with pytest.raises(ApiError) as caught:
        apply_json_patch({}, [{"op": "test", "path": "/a"}] * (MAX_OPERATIONS + 1))
    assert caught.value.code == 413


def test_copying_cannot_blow_a_document_up() -> None:
    grow = [{"op": "copy", "from": "/a", "path": f"/a/{index}"} for index in range(64)]
    with pytest.raises(ApiError) as caught:
        apply_json_patch({"a": {"x": "y" * 1024}}, grow)
    assert caught.value.code == 413


def test_json_equality_does_not_take_true_for_one() -> None:
    with pytest.raises(ApiError):
        apply_json_patch({"a": True}, [{"op": "test", "path": "/a", "value": 1}])


def test_a_strategic_patch_with_many_elements_is_not_quadratic() -> None:
    finalizers = [f"example.com/f{index}" for index in range(50_000)]
    patched = apply_strategic_patch(
        {"metadata": {"finalizers": finalizers}},
        {"metadata": {"finalizers": ["example.com/new"], "$setElementOrder/finalizers": [*finalizers, "example.com/new"]}},
        schema_of("v1", "Pod"),
    )
    assert patched["metadata"]["finalizers"][-1] == "example.com/new"


def test_a_patch_nested_beyond_measure_is_a_bad_request() -> None:
    value: Any = {}
    for _ in range(5000):
        value = {"a": value}
    schema = schema_of("v1", "ConfigMap")
    for patched in (
        lambda: apply_json_patch({}, [{"op": "add", "path": "/x", "value": value}]),
        lambda: apply_merge_patch({}, value),
        lambda: apply_strategic_patch({}, value, schema),
    ):
        with pytest.raises(ApiError) as caught:
            patched()
        assert caught.value.code == 400
