"""The three-way patch, by transcripts: `testdata/threeway.txt` has the three objects of each case, and the patch below.

`REWRITE=1 pytest tests/cli/test_threeway.py` writes the patches anew. Each patch is also applied: the result must be what the manifest says.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kubeling.api.builtin import schema_of
from kubeling.api.patch.merge_patch import apply_merge_patch
from kubeling.api.patch.strategic import apply_strategic_patch
from kubeling.cli.dialect import read_yaml, write_yaml
from kubeling.cli.threeway import three_way

FILE = Path(__file__).parent / "testdata" / "threeway.txt"
Obj = dict[str, Any]


def cases() -> list[tuple[str, list[str]]]:
    found = []
    for block in FILE.read_text().split("\n### ")[1:]:
        title, _, body = block.partition("\n")
        found.append((title.strip(), body.split("\n----\n")))
    return found


def load(text: str) -> Obj:
    return next(read_yaml(text), None) or {}


def patch_of(parts: list[str]) -> tuple[Obj, Obj, Obj, Obj]:
    last, live, now = (load(part) for part in parts[:3])
    schema = schema_of(live["apiVersion"], live["kind"]) if live["kind"] != "Widget" else None
    return live, now, three_way(last, live, now, schema), {"schema": schema}


@pytest.mark.parametrize(("title", "parts"), cases(), ids=[title for title, _ in cases()])
def test_patch(title: str, parts: list[str]) -> None:
    live, now, patch, more = patch_of(parts)
    if os.environ.get("REWRITE"):
        rewrite(title, write_yaml(patch))
        return
    assert write_yaml(patch).strip() == parts[3].strip()
    schema = more["schema"]
    result = apply_merge_patch(live, patch) if schema is None else apply_strategic_patch(live, patch, schema)
    assert three_way(now, result, now, schema) == {}, "a second apply has nothing to do"


def rewrite(title: str, patch: str) -> None:
    text = FILE.read_text()
    head, _, rest = text.partition(f"\n### {title}\n")
    body, more, tail = rest.partition("\n### ")
    parts = body.split("\n----\n")[:3]
    FILE.write_text(head + f"\n### {title}\n" + "\n----\n".join([*parts, patch]) + more + tail)
