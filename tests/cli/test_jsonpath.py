"""The JSONPath dialect, by what kubectl's documentation promises of it."""

from __future__ import annotations

from typing import Any

import pytest

from kubeling.cli.jsonpath import JsonPathError, find, parse, render

DATA: dict[str, Any] = {
    "kind": "List",
    "items": [
        {"metadata": {"name": "a", "labels": {"k8s.io/app": "x"}}, "n": 1, "ready": True, "tags": ["p", "q"]},
        {"metadata": {"name": "b"}, "n": 2, "ready": False, "empty": None},
        {"metadata": {"name": "c"}, "n": 3},
    ],
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{.kind}", "List"),
        (".kind", "List"),
        ("kind", "List"),
        ("{$.kind}", "List"),
        ("{.items[*].metadata.name}", "a b c"),
        ("{.items[0].metadata.name}{.items[-1].metadata.name}", "ac"),
        ("{.items[0:2].n}", "1 2"),
        ("{.items[::2].n}", "1 3"),
        ("{.items[0,2].n}", "1 3"),
        ("{.items[*]['metadata.name', 'n']}", "1 2 3"),
        ("{..name}", "a b c"),
        ("{.items[0].metadata.labels.k8s\\.io/app}", "x"),
        ("{.items[0].metadata.labels['k8s.io/app']}", "x"),
        ("{.items[?(@.n>1)].metadata.name}", "b c"),
        ("{.items[?(@.metadata.name=='b')].n}", "2"),
        ('{.items[?(@.metadata.name!="b")].n}', "1 3"),
        ("{.items[?(@.ready)].n}", "1 2"),
        ("{.items[?(@.ready==true)].n}", "1"),
        ('{range .items[*]}{.metadata.name}={.n}{"\\n"}{end}', "a=1\nb=2\nc=3\n"),
        ('{range .items[*]}{.metadata.name}{range .tags[*]}<{@}>{end}{"\\t"}{end}', "a<p><q>\tb\tc\t"),
        ("{.items[0].metadata}", '{"labels":{"k8s.io/app":"x"},"name":"a"}'),
        ("{.items[0].tags}", '["p","q"]'),
        ("{.items[0].ready}", "true"),
        ("{.items[1].empty}", ""),
        ("{.nope.deeper}", ""),
        ("plain {.kind} text", "plain List text"),
        ('{"it\'s"}', "it's"),
    ],
)
def test_templates(template: str, expected: str) -> None:
    assert render(template, DATA) == expected


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{.items", "unclosed action"),
        ("{range .items[*]}{.n}", "unterminated range"),
        ("{.n}{end}", "not in range"),
    ],
)
def test_what_cannot_be_read_is_refused_before_it_is_run(template: str, words: str) -> None:
    with pytest.raises(JsonPathError, match=words):
        parse(template)


def test_an_index_out_of_bounds_names_the_length() -> None:
    with pytest.raises(JsonPathError, match="index 99, length 3"):
        render("{.items[99].n}", DATA)


def test_find_keeps_types() -> None:
    assert find(".items[*].n", DATA) == [1, 2, 3]
    assert find(".items[0].ready", DATA) == [True]
    assert find(".nope", DATA) == []
