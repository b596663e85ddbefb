"""`get`: once, or with -w for as long as you look."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
import typer

from kubeling.api.errors import ApiError
from kubeling.cli import flags, output
from kubeling.cli.session import CommandError, Obj, Session, words_of
from kubeling.cli.targets import Target, targets_of

Params = dict[str, str | int | bool | None]

_NO_TYPE = """You must specify the type of resource to get. Use "kubeling api-resources" for a complete list of supported resources.
"""


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for, and how it is shown."""

    selector: str = ""
    field_selector: str = ""
    everywhere: bool = False
    chunk: int = 500
    subresource: str = ""
    sort_by: str = ""
    form: str = ""
    show_labels: bool = False
    label_columns: tuple[str, ...] = ()
    no_headers: bool = False
    ignore_not_found: bool = False
    show_kind: bool = False

    def params(self) -> Params:
        return {"labelSelector": self.selector or None, "fieldSelector": self.field_selector or None}

    def table_printer(self, target: Target, prefix: str = "") -> output.TablePrinter:
        namespaced = self.everywhere and target.resource.namespaced
        return output.TablePrinter(self.form == "wide", namespaced, self.show_labels, self.label_columns, self.no_headers, prefix)

    def object_printer(self) -> Any:
        return output.printer(self.form, no_headers=self.no_headers)


async def get(
    session: Session,
    words: flags.Words = None,
    filename: flags.Filenames = None,
    recursive: flags.Recursive = False,
    folder: flags.Kustomize = "",
    form: flags.Output = "",
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Show changes as they happen.")] = False,
    watch_only: Annotated[bool, typer.Option("--watch-only", help="Show only changes.")] = False,
    events: Annotated[bool, typer.Option("--output-watch-events", help="With -w: say what happened to each object.")] = False,
    selector: flags.Selector = "",
    field_selector: flags.FieldSelector = "",
    all_namespaces: flags.AllNamespaces = False,
    show_labels: Annotated[bool, typer.Option("--show-labels", help="A last column with all labels.")] = False,
    label_columns: Annotated[
        list[str] | None, typer.Option("-L", "--label-columns", help="Columns for these labels: a,b; may be repeated.")
    ] = None,
    sort_by: Annotated[str, typer.Option("--sort-by", help="A JSONPath to sort by.")] = "",
    no_headers: Annotated[bool, typer.Option("--no-headers", help="Rows only.")] = False,
    show_kind: Annotated[bool, typer.Option("--show-kind", help="The kind before every name.")] = False,
    ignore_not_found: Annotated[bool, typer.Option("--ignore-not-found", help="Say nothing of what is not there.")] = False,
    chunk_size: Annotated[int, typer.Option("--chunk-size", help="How many objects to ask for at once; 0 is all.")] = 500,
    subresource: Annotated[str, typer.Option("--subresource", help="Such as status or scale.")] = "",
    raw: Annotated[str, typer.Option("--raw", help="A path of the API, shown as it answers.")] = "",
) -> int:
    """Show objects: `kubeling get pods -o wide`, `kubeling get deploy/web -o yaml`, `kubeling get all -A`."""
    if raw:
        async for chunk in session.client.stream("GET", raw):
            sys.stdout.buffer.write(chunk)
        return 0
    if not words and not filename and not folder:
        print(_NO_TYPE, file=sys.stderr)
        raise CommandError(
            'Required resource not specified.\nUse "kubeling explain <resource>" for a detailed description of that resource '
            "(e.g. kubeling explain pods).\nSee 'kubeling get -h' for help and examples"
        )
    query = Query(
        selector,
        field_selector,
        all_namespaces,
        0 if sort_by else chunk_size,
        subresource,
        sort_by,
        form,
        show_labels,
        tuple(label for each in label_columns or [] for label in each.split(",")),
        no_headers,
        ignore_not_found,
        show_kind,
    )
    if not output.is_table(form):
        query.object_printer()  # A form that cannot be read is refused before anything is asked.
    targets = await targets_of(
        session, words or [], filenames=filename or [], folder=folder, recursive=recursive, everywhere=all_namespaces
    )
    if watch or watch_only:
        if len(targets) != 1:
            raise CommandError("you may only specify a single resource type")
        return await _watch(session, targets[0], query, watch_only, events)
    if output.is_table(form):
        return await _show_tables(session, targets, query)
    return await _show_objects(session, targets, query)


async def _show_tables(session: Session, targets: list[Target], query: Query) -> int:
    """Tables of one kind after the other; what could not be read is said at the end."""
    tables: list[tuple[Target, Obj]] = []
    errors: list[ApiError] = []
    for target in targets:
        try:
            tables.append((target, await _table(session, target, query)))
        except ApiError as error:
            if not (error.code == 404 and query.ignore_not_found):
                errors.append(error)
    several = len({target.resource for target, _ in tables}) > 1
    tables = [(target, table) for target, table in tables if table.get("rows")]
    printers: dict[object, output.TablePrinter] = {}
    for target, table in tables:
        printer = printers.get(target.resource)
        if printer is None:
            if printers:
                print()
            prefix = output.name_with_kind(target.resource, "") if several or query.show_kind else ""
            printer = printers[target.resource] = query.table_printer(target, prefix)
        printer.print(table)
    if not tables and not errors and not query.ignore_not_found:
        namespaced = any(target.resource.namespaced for target in targets) and not query.everywhere
        print(f"No resources found in {session.namespace} namespace." if namespaced else "No resources found", file=sys.stderr)
    return _say(errors)


def _say(errors: list[ApiError]) -> int:
    sys.stdout.flush()
    for error in errors:
        print(words_of(error), file=sys.stderr)
    return 1 if errors else 0


async def _pages(session: Session, target: Target, query: Query, headers: dict[str, str]) -> AsyncIterator[Obj]:
    """A collection, or one object, as the server gives it: in pieces where it is long."""
    path = target.resource.path(target.namespace, target.name, query.subresource or None)
    params: Params = {}
    if target.name is None:
        params = {**query.params(), "limit": query.chunk or None}
    if query.sort_by and headers["accept"] == output.TABLE:
        params["includeObject"] = "Object"
    while True:
        page = await session.client.request("GET", path, params=params, headers=headers)
        yield page
        token = (page.get("metadata") or {}).get("continue") if target.name is None else None
        if not token:
            return
        params["continue"] = token


async def _table(session: Session, target: Target, query: Query) -> Obj:
    table: Obj = {}
    async for page in _pages(session, target, query, {"accept": output.TABLE}):
        table = {**page, "rows": [*table.get("rows", []), *(page.get("rows") or [])]}
    if query.sort_by:
        table["rows"].sort(key=lambda row: _sort_key(row.get("object") or {}, query.sort_by))
    return table


def _sort_key(obj: Obj, path: str) -> tuple[int, float, str]:
    from kubeling.cli import jsonpath

    found = jsonpath.find(path.strip("{}"), obj)
    if not found:
        return (0, 0.0, "")
    return (1, float(found[0]), "") if isinstance(found[0], int | float) else (2, 0.0, str(found[0]))


async def _show_objects(session: Session, targets: list[Target], query: Query) -> int:
    show = query.object_printer()
    objects: list[Obj] = []
    errors: list[ApiError] = []
    single = len(targets) == 1 and targets[0].name is not None
    for target in targets:
        identity = {"apiVersion": target.resource.group_version, "kind": target.resource.kind}
        try:
            async for page in _pages(session, target, query, {"accept": "application/json"}):
                objects += [page] if target.name is not None else [{**identity, **item} for item in page.get("items") or []]
        except ApiError as error:
            if not (error.code == 404 and query.ignore_not_found):
                errors.append(error)
    if query.sort_by:
        objects.sort(key=lambda obj: _sort_key(obj, query.sort_by))
    if single:
        sys.stdout.write("".join(show(obj) for obj in objects))
    elif query.form == "name" or query.form.startswith("custom-columns"):
        if objects:
            sys.stdout.write(show({"kind": "List", "items": objects}))
    elif objects or not errors:
        sys.stdout.write(show({"apiVersion": "v1", "items": objects, "kind": "List", "metadata": {"resourceVersion": ""}}))
    return _say(errors)


async def _watch(session: Session, target: Target, query: Query, watch_only: bool, events: bool) -> int:
    """The objects as they are, then each change as it comes, until the server or the user ends it."""
    table = output.is_table(query.form)
    printer, show = query.table_printer(target), None if table else query.object_printer()
    named = Target(target.resource, None, target.namespace)
    params = query.params()
    if target.name is not None:
        params["fieldSelector"] = f"metadata.name={target.name}"
        await session.client.get(target.resource, target.name, target.namespace)  # Raises where there is none.
    headers = {"accept": output.TABLE if table else "application/json"}
    identity = {"apiVersion": target.resource.group_version, "kind": target.resource.kind}

    def tell(kind: str, obj: Obj) -> None:
        if show is None:
            printer.print(obj, event=kind if events else "")
        else:
            sys.stdout.write(show({"type": kind, "object": obj} if events else {**identity, **obj}))
            sys.stdout.flush()

    path = named.resource.path(named.namespace)
    first = await session.client.request("GET", path, params=params, headers=headers)
    if not watch_only:
        for obj in [first] if table else first.get("items") or []:
            tell("ADDED", obj)
    following = {**params, "watch": True, "resourceVersion": first["metadata"]["resourceVersion"]}
    async for line in session.client.stream_lines("GET", path, params=following, headers=headers):
        event = orjson.loads(line)
        if event["type"] == "ERROR":
            raise ApiError(event["object"])
        tell(event["type"], event["object"])
    return 0
