"""Go templates, as far as `-o go-template` is used."""

from __future__ import annotations

from typing import Any

import pytest

from kubeling.cli.gotemplate import TemplateError, render

DATA: dict[str, Any] = {
    "items": [{"n": 1, "name": "a"}, {"n": 2, "name": "b", "data": "aGk="}],
    "m": {"k": "v", "j": "w"},
    "t": True,
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{.t}}", "true"),
        ("{{.nope}}", "<no value>"),
        ("{{range .items}}{{.name}} {{end}}", "a b "),
        ("{{range $i, $e := .items}}{{$i}}:{{$e.name}} {{end}}", "0:a 1:b "),
        ("{{range $k, $v := .m}}{{$k}}={{$v}};{{end}}", "j=w;k=v;"),
        ("{{range .nothing}}x{{else}}none{{end}}", "none"),
        ("{{if .t}}yes{{else}}no{{end}}", "yes"),
        ("{{if .f}}1{{else if .t}}2{{else}}3{{end}}", "2"),
        ('{{if and .t (eq .m.k "v")}}both{{end}}', "both"),
        ("{{if not .f}}not{{end}}", "not"),
        ("{{with .m}}{{.k}}{{end}}", "v"),
        ("{{$x := .m.k}}{{$x}}{{$.m.j}}", "vw"),
        ('{{index .m "k"}}{{(index .items 1).name}}', "vb"),
        ("{{len .items}}", "2"),
        ('{{printf "%s-%d|%5s|%q" .m.k 7 "r" "q"}}', 'v-7|    r|"q"'),
        ('{{.m.k | printf "%s!"}}', "v!"),
        ("{{(index .items 1).data | base64decode}}", "hi"),
        ("a {{- .m.k -}} b", "avb"),
        ("{{/* a comment */}}x", "x"),
        ("{{.m}}", "map[j:w k:v]"),
        ("{{range .items}}{{if gt .n 1}}{{.name}}{{end}}{{end}}", "b"),
    ],
)
def test_templates(template: str, expected: str) -> None:
    assert render(template, DATA) == expected


@pytest.mark.parametrize(
    "template", ["{{.a", "{{if .t}}x", "{{end}}", "{{nofunction .t}}", '{{index .items "x"}}', "{{$undefined}}"]
)
def test_mistakes_are_said(template: str) -> None:
    with pytest.raises(TemplateError):
        render(template, DATA)
