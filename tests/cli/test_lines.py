"""What becomes of a command line before a verb runs, and of columns after it."""

from __future__ import annotations

from typing import Annotated

import pytest
import typer

from kubeling.cli import globalflags
from kubeling.cli.command import DashedCommand, KubectlCommand, _meant
from kubeling.cli.describing.page import Page
from kubeling.cli.output import TablePrinter, align, custom_columns
from kubeling.cli.session import CommandError


@pytest.fixture(autouse=True)
def fresh_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(globalflags, "options", globalflags.Options())


@pytest.mark.parametrize(
    ("line", "rest", "namespace"),
    [
        ("-n a get pods", "get pods", "a"),
        ("get -na pods", "get pods", "a"),
        ("get pods --namespace=a", "get pods", "a"),
        ("get pods -n=a", "get pods", "a"),
        ("exec web -n a -- ls -n b", "exec web -- ls -n b", "a"),
        ("get --no-headers", "get --no-headers", None),
    ],
)
def test_global_flags_stand_anywhere(line: str, rest: str, namespace: str | None) -> None:
    assert globalflags.take(line.split()) == rest.split()
    assert globalflags.options.namespace == namespace


@pytest.mark.parametrize(
    ("line", "rest"),
    [
        ("get pods --template={{.x}}", "get pods --output=go-template={{.x}}"),
        ("get pods -o jsonpath --template {.x}", "get pods -o jsonpath={.x}"),
        ("get pods --output=go-template --template={{.x}}", "get pods --output=go-template={{.x}}"),
        ("get pods -ogo-template --template={{.x}}", "get pods --output=go-template={{.x}}"),
        ("get pods -o json --template={{.x}}", "get pods -o json"),
        ("exec web --template=x -- ls -o y --template=z", "exec web --output=go-template=x -- ls -o y --template=z"),
        ("apply -f x --allow-missing-template-keys=false --show-managed-fields -o yaml", "apply -f x -o yaml"),
    ],
)
def test_templates_are_a_form_of_output(line: str, rest: str) -> None:
    assert globalflags.take(line.split()) == rest.split()


def test_flags_that_mean_nothing_here_are_taken() -> None:
    assert _meant(["a", "--chunk-size", "5", "--x", "--cached", "--", "--cached"], ("--chunk-size=", "--cached")) == [
        "a",
        "--x",
        "--",
        "--cached",
    ]
    assert _meant(["--chunk-size=5", "--cached=true"], ("--chunk-size=", "--cached")) == []


def test_a_global_flag_without_its_value_is_refused() -> None:
    with pytest.raises(globalflags.UsageError, match="flag needs an argument: -n"):
        globalflags.take(["get", "-n"])


def _parse(line: list[str], kind: type[KubectlCommand] = KubectlCommand) -> dict[str, object]:
    app, seen = typer.Typer(), {}
    app.callback()(lambda: None)

    def command(
        words: Annotated[list[str] | None, typer.Argument()] = None,
        form: Annotated[str, typer.Option("-o", "--output")] = "",
        wait: Annotated[bool, typer.Option("--wait/--no-wait")] = True,
        force: Annotated[bool, typer.Option("--force")] = False,
        dry_run: Annotated[str, typer.Option("--dry-run")] = "none",
    ) -> None:
        seen.update(words=words, form=form, wait=wait, force=force, dry_run=dry_run)

    app.command("c", cls=kind)(command)
    app(["c", *line], standalone_mode=False)
    return seen


def test_flags_are_read_as_kubectl_reads_them() -> None:
    seen = _parse(["a", "-o=yaml", "--wait=false", "--force=true", "--dry-run", "b"])
    assert seen == {"words": ["a", "b"], "form": "yaml", "wait": False, "force": True, "dry_run": "client"}
    assert _parse(["-ojson", "--force=false", "--dry-run=server"])["force"] is False


def test_what_stands_behind_two_dashes_is_left_alone() -> None:
    assert _parse(["a", "--", "-o=x", "--wait=false"], DashedCommand)["words"] == ["a", "--", "-o=x", "--wait=false"]


def test_columns_of_a_watch_only_grow() -> None:
    widths: list[int] = []
    assert align([["NAME", "AGE"], ["a", "1s"]], widths) == "NAME   AGE\na      1s\n"
    assert align([["longer-name", "2s"]], widths) == "longer-name   2s\n"
    assert align([["a", "3s"]], widths) == "a             3s\n"


def test_a_table_keeps_its_headers_over_the_events_of_a_watch(capsys: pytest.CaptureFixture[str]) -> None:
    columns = [{"name": "Name", "priority": 0}, {"name": "Node", "priority": 1}]
    row = {"cells": ["web", None], "object": {"metadata": {"namespace": "ns", "labels": {"app": "x", "b": "y"}}}}
    printer = TablePrinter(wide=True, with_namespace=True, show_labels=True, label_columns=("app", "nope"))
    printer.print({"columnDefinitions": columns, "rows": [row]})
    printer.print({"rows": [row]})
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["NAMESPACE", "NAME", "NODE", "APP", "NOPE", "LABELS"],
        ["ns", "web", "<none>", "x", "app=x,b=y"],
        ["ns", "web", "<none>", "x", "app=x,b=y"],
    ]


def test_custom_columns() -> None:
    objects = [{"a": {"b": 1}, "l": ["x", "y"]}, {"a": {}}]
    assert custom_columns("B:.a.b,L:{.l[*]}", objects) == "B        L\n1        x,y\n<none>   <none>\n"
    with pytest.raises(CommandError, match="expected <header>:<json-path-expr>"):
        custom_columns("B", objects)


def test_elastic_columns_end_where_a_line_has_no_such_cell() -> None:
    page = Page()
    page.field("Name", "x")
    page.mapping("Labels", {"b": "2", "a": "1"})
    page.line("Containers:")
    page.field("Image", "nginx", 1)
    page.field("A Longer Title", "y", 1)
    assert page.render() == (
        "Name:    x\nLabels:  a=1\n         b=2\nContainers:\n  Image:           nginx\n  A Longer Title:  y\n"
    )
