"""Tables, by transcript: `get kind=… [version=…] [wide=true]` prints what `kubectl get` would at 12:00 on the second of January."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from kubeling.api import resources
from kubeling.api.printers import columns_of, row_of, table
from kubeling.api.resources import BUILTIN, Resource

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


def _answer(case: Any) -> str:
    resource = resources.by_kind(case.options.get("version", "v1"), case.options["kind"])
    assert resource is not None
    found = table(case.documents, resource, NOW)
    wide = case.options.get("wide") == "true"
    shown = [index for index, each in enumerate(found["columnDefinitions"]) if wide or each["priority"] == 0]
    lines = [[found["columnDefinitions"][index]["name"].upper() for index in shown]]
    lines += [[str(row["cells"][index]) for index in shown] for row in found["rows"]]
    widths = [max(len(line[at]) for line in lines) for at in range(len(shown))]
    return "\n".join("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


@pytest.mark.parametrize("name", ["tables_pods.txt", "tables_others.txt"])
def test_transcript(name: str, transcript: Callable[..., None]) -> None:
    transcript(name, _answer)


@pytest.mark.parametrize("resource", BUILTIN, ids=lambda each: f"{each.plural}.{each.group_version}")
def test_every_kind_has_a_cell_for_each_column_of_an_empty_object(resource: Resource) -> None:
    row = row_of({"metadata": {"name": "x"}}, resource, NOW)
    assert len(row["cells"]) == len(columns_of(resource))


def test_a_row_carries_what_was_asked_for() -> None:
    pod = {"metadata": {"name": "x", "labels": {"a": "b"}}, "status": {"phase": "Succeeded"}}
    row = row_of(pod, resources.PODS, NOW)
    assert row["object"] == {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": pod["metadata"]}
    assert row["conditions"][0]["reason"] == "Succeeded"
    assert row_of(pod, resources.PODS, NOW, "Object")["object"] == {"kind": "Pod", "apiVersion": "v1", **pod}
    assert row_of(pod, resources.PODS, NOW, "None")["object"] is None


def test_a_custom_resource_shows_its_name_and_age() -> None:
    widgets = Resource("example.com", "v1", "widgets", "Widget")
    found = table([{"metadata": {"name": "x", "creationTimestamp": "2026-01-02T11:00:00Z"}}], widgets, NOW)
    assert [each["name"] for each in found["columnDefinitions"]] == ["Name", "Age"]
    assert found["rows"][0]["cells"] == ["x", "60m"]
