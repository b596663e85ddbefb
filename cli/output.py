"""How objects are shown: tables as the server makes them, and every `-o` form."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from kubeling.api.resources import Resource
from kubeling.cli import dialect, globalflags, jsonpath
from kubeling.cli.gotemplate import TemplateError
from kubeling.cli.gotemplate import render as render_template
from kubeling.cli.session import CommandError, Obj

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
#: As kubectl lists them in its refusal of others.
FORMS = (
    "custom-columns,custom-columns-file,go-template,go-template-file,json,jsonpath,jsonpath-as-json,jsonpath-file,"
    "name,template,templatefile,wide,yaml"
)


def is_table(form: str | None) -> bool:
    """Whether the server's table is what is wanted."""
    return form in (None, "", "wide")


def printer(form: str, *, no_headers: bool = False) -> Callable[[Obj], str]:
    """From an object (or a List) to its text in `form`. Raises CommandError for a form that is not known or cannot be read."""
    name, has_argument, argument = form.partition("=")
    if name.endswith("file"):
        try:
            argument = Path(argument).read_text()
        except OSError as error:
            raise CommandError(f"error reading --template {argument}, {error.strerror}") from error
        name = name.removesuffix("file").removesuffix("-")
    show = _text_printer(name, argument, bool(has_argument), no_headers)
    if show is None:
        raise CommandError(f'unable to match a printer suitable for the output format "{form}", allowed formats are: {FORMS}')
    return show if globalflags.options.show_managed_fields == "true" else lambda obj: show(without_managed_fields(obj))


def _text_printer(name: str, argument: str, has_argument: bool, no_headers: bool) -> Callable[[Obj], str] | None:
    match name:
        case "json":
            return lambda obj: dialect.write_json(obj) + "\n"
        case "yaml":
            return dialect.write_yaml
        case "name":
            return lambda obj: "".join(f"{_qualified(each)}\n" for each in items_of(obj))
        case "jsonpath" | "jsonpath-as-json" | "go-template" | "template" | "custom-columns" if not has_argument:
            raise CommandError(f"template format specified but no template given: write -o {name}=…")
        case "jsonpath":
            return _jsonpath(argument)
        case "jsonpath-as-json":
            return lambda obj: dialect.write_json(_found(argument, obj)) + "\n"
        case "go-template" | "template":
            return lambda obj: _template(argument, obj)
        case "custom-columns":
            return lambda obj: custom_columns(argument, items_of(obj), no_headers=no_headers)
    return None


def _jsonpath(template: str) -> Callable[[Obj], str]:
    try:
        parsed = jsonpath.parse(template)
    except jsonpath.JsonPathError as error:
        raise CommandError(f"error parsing jsonpath {template}, {error}") from error

    def show(obj: Obj) -> str:
        try:
            return parsed.render(obj)
        except jsonpath.JsonPathError as error:
            raise CommandError(f'error executing jsonpath "{template}": {error}') from error

    return show


def _found(template: str, obj: Obj) -> list[Any]:
    try:
        return jsonpath.find(template.strip().removeprefix("{").removesuffix("}"), obj)
    except jsonpath.JsonPathError as error:
        raise CommandError(f'error executing jsonpath "{template}": {error}') from error


def _template(template: str, obj: Obj) -> str:
    try:
        return render_template(template, obj)
    except TemplateError as error:
        raise CommandError(f'error executing template "{template}": {error}') from error


def items_of(obj: Obj) -> list[Obj]:
    """The objects of a List, or the object itself."""
    return list(obj["items"]) if isinstance(obj.get("items"), list) and str(obj.get("kind", "")).endswith("List") else [obj]


def without_managed_fields(obj: Obj) -> Obj:
    """As people want to see it: who owns which field is left out."""
    if isinstance(obj.get("items"), list):
        return {**obj, "items": [without_managed_fields(each) for each in obj["items"]]}
    meta = obj.get("metadata")
    if isinstance(meta, dict) and "managedFields" in meta:
        return {**obj, "metadata": {key: value for key, value in meta.items() if key != "managedFields"}}
    return obj


def _qualified(obj: Obj) -> str:
    group = str(obj.get("apiVersion", "")).rpartition("/")[0]
    kind = str(obj.get("kind", "")).lower()
    return f"{kind}.{group}/{obj['metadata']['name']}" if group else f"{kind}/{obj['metadata']['name']}"


def name_with_kind(resource: Resource, name: str) -> str:
    """`deployment.apps/web`, as the verbs that change things print it."""
    kind = resource.singular_name
    return f"{kind}.{resource.group}/{name}" if resource.group else f"{kind}/{name}"


def custom_columns(spec: str, objects: Sequence[Obj], *, no_headers: bool = False) -> str:
    """`NAME:.metadata.name,IMAGE:.spec.containers[*].image`, or a file with a line of headers and a line of paths."""
    lines = spec.strip().splitlines()
    if len(lines) == 2:
        columns = list(zip(lines[0].split(), lines[1].split(), strict=False))
    else:
        columns = [(part.partition(":")[0], part.partition(":")[2]) for part in spec.split(",")]
    if any(not path for _, path in columns):
        raise CommandError(f"unexpected custom-columns spec: {spec}, expected <header>:<json-path-expr>")
    rows = [] if no_headers else [[header for header, _ in columns]]
    for obj in objects:
        values = [_found(path, obj) for _, path in columns]
        rows.append([",".join(jsonpath.text_of(each) for each in found if each is not None) or "<none>" for found in values])
    return align(rows)


def align(rows: Sequence[Sequence[str]], widths: list[int] | None = None) -> str:
    """Columns three blanks apart, and at least six wide, as Go's tabwriter is set. `widths` (kept between calls) only ever grow, so that the lines of a watch stay aligned."""
    widths = widths if widths is not None else []
    for row in rows:
        for at, cell in enumerate(row):
            if at >= len(widths):
                widths.append(0)
            widths[at] = max(widths[at], len(cell))
    text = ""
    for row in rows:
        text += "".join(f"{cell:<{max(6, widths[at] + 3)}}" for at, cell in enumerate(row[:-1])) + (row[-1] if row else "") + "\n"
    return text


@dataclass(slots=True)
class TablePrinter:
    """Prints the server's Tables; keeps headers and widths over the events of a watch."""

    wide: bool = False
    with_namespace: bool = False
    show_labels: bool = False
    label_columns: tuple[str, ...] = ()
    no_headers: bool = False
    #: Put before names where several kinds are shown: `pod/`.
    prefix: str = ""
    out: TextIO = field(default_factory=lambda: sys.stdout)
    _columns: list[Obj] = field(default_factory=list)
    _widths: list[int] = field(default_factory=list)
    _headed: bool = False

    def print(self, table: Obj, *, event: str = "") -> int:
        """Print the rows of a Table, behind `event` where one is given; returns how many there were."""
        self._columns = table.get("columnDefinitions") or self._columns
        head = [event] if event else []
        rows = [head + self._row(row) for row in table.get("rows") or []]
        if rows and not self._headed and not self.no_headers:
            rows.insert(0, (["EVENT"] if event else []) + self._headers())
        if rows:
            self._headed = True
            self.out.write(align(rows, self._widths))
            self.out.flush()
        return len(table.get("rows") or [])

    def _shown(self) -> list[int]:
        return [at for at, column in enumerate(self._columns) if self.wide or not column.get("priority")]

    def _headers(self) -> list[str]:
        headers = [str(self._columns[at]["name"]).upper() for at in self._shown()]
        headers = (["NAMESPACE"] if self.with_namespace else []) + headers
        headers += [label.rpartition("/")[2].upper() for label in self.label_columns]
        return headers + (["LABELS"] if self.show_labels else [])

    def _row(self, row: Obj) -> list[str]:
        meta = ((row.get("object") or {}).get("metadata")) or {}
        cells = [_cell(row["cells"][at]) for at in self._shown()]
        if self.prefix and cells:
            cells[0] = self.prefix + cells[0]
        labels = meta.get("labels") or {}
        cells = ([str(meta.get("namespace", ""))] if self.with_namespace else []) + cells
        cells += [str(labels.get(label, "")) for label in self.label_columns]
        if self.show_labels:
            cells.append(",".join(f"{key}={value}" for key, value in sorted(labels.items())) or "<none>")
        return cells


def _cell(value: Any) -> str:
    if value is None:
        return "<none>"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).replace("\n", "\\n")
