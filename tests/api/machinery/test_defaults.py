"""Defaulting, by transcript; and that filling in twice is filling in once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml

from kubeling.api.defaults import apply_defaults
from kubeling.api.meta import copy_json


def _answer(case: Any) -> str:
    (document,) = case.documents
    apply_defaults(document)
    once = copy_json(document)
    apply_defaults(document)
    assert document == once
    bare = {key: value for key, value in document.items() if key not in ("apiVersion", "kind")}
    return str(yaml.safe_dump(bare, width=150))


def test_transcript(transcript: Callable[..., None]) -> None:
    transcript("defaults.txt", _answer)
