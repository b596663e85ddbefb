"""YAML and JSON as kubectl reads and writes them."""

from __future__ import annotations

from typing import Any

import pytest

from kubeling.cli.dialect import read_yaml, write_json, write_yaml


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("null", '"null"'),
        ("y", '"y"'),
        ("on", '"on"'),
        ("12", '"12"'),
        ("08", '"08"'),
        ("1e3", '"1e3"'),
        ("0x1f", '"0x1f"'),
        ("1:30", '"1:30"'),
        ("1.2.3", "1.2.3"),
        ("2020-01-02", '"2020-01-02"'),
        ("2026-11-21T00:44:31Z", '"2026-11-21T00:44:31Z"'),
        ("=", "="),
        ("<<", "<<"),
        ("*x", "'*x'"),
        ("a: b", "'a: b'"),
        ("- a", "'- a'"),
        ("it's", "it's"),
        ("l1\nl2\n", "|\n  l1\n  l2"),
        ("l1\nl2", "|-\n  l1\n  l2"),
        (3, "3"),
        (True, "true"),
        (None, "null"),
        ([], "[]"),
        ({}, "{}"),
        (["a", {"b": 1}], "\n- a\n- b: 1"),
    ],
)
def test_yaml_is_written_as_go_writes_it(value: Any, expected: str) -> None:
    separator = "" if expected.startswith("\n") else " "
    assert write_yaml({"v": value}) == f"v:{separator}{expected}\n"


@pytest.mark.parametrize(
    "value", ["y", "No", "08", "1_000", "0o17", "~", ".inf", "1:30", "2020-01-02", " lead", "tail ", "a\tb", "\n", "{a}"]
)
def test_text_survives(value: str) -> None:
    assert list(read_yaml(write_yaml({"v": value}))) == [{"v": value}]


def test_keys_are_text_and_bare_words_booleans() -> None:
    assert list(read_yaml("on: y\n1: no\ndate: 2020-01-02\n")) == [{"true": True, "1": False, "date": "2020-01-02"}]


def test_json_is_escaped_as_go_does() -> None:
    assert write_json({"b": "<a>&", "a": 1}, indent=None) == '{"a":1,"b":"\\u003ca\\u003e\\u0026"}'
