"""`get`: once, or with -w for as long as you look."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import orjson
import typer

from kubeling.api.errors import ApiError
from kubeling.cli import flags, output
from kubeling.cli.session import CommandError, Obj, Session, words_of
from kubeling.cli.targets import Target, targets_of

_CHUNK = 500


async def get(
    session: Session,
    words: flags.Words = None,
    filename: flags.Filenames = None,
    recursive: flags.Recursive = False,
    form: flags.Output = "",
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Show changes as they happen.")] = False,
    watch_only: Annotated[bool, typer.Option("--watch-only", help="Show only changes.")] = False,
    selector: flags.Selector = "",
    field_selector: flags.FieldSelector = "",
    all_namespaces: flags.AllNamespaces = False,
    show_labels: Annotated[bool, typer.Option("--show-labels", help="A last column with all labels.")] = False,
    label_columns: Annotated[
        list[str] | None, typer.Option("-L", "--label-columns", help="A column for this label; may be repeated.")
    ] = None,
    sort_by: Annotated[str, typer.Option("--sort-by", help="A JSONPath to sort by.")] = "",
    no_headers: Annotated[bool, typer.Option("--no-headers", help="Rows only.")] = False,
    ignore_not_found: Annotated[bool, typer.Option("--ignore-not-found", help="Say nothing of what is not there.")] = False,
    show_managed_fields: flags.ManagedFields = False,
) -> int:
    """Show objects: `kubeling get pods -o wide`, `kubeling get deploy/web -o yaml`, `kubeling get all -A`."""
    targets = await targets_of(session, words or [], filenames=filename or [], recursive=recursive, everywhere=all_namespaces)
    if watch or watch_only:
        if len(targets) != 1:
            raise CommandError("you may only specify a single resource type with --watch")
        return await _watch(
            session,
            targets[0],
            form,
            selector,
            field_selector,
            all_namespaces,
            show_labels,
            label_columns,
            no_headers,
            watch_only,
        )
    if not output.is_table(form):
        return await _show_objects(
            session, targets, form, selector, field_selector, sort_by, ignore_not_found, show_managed_fields
        )
    several = len({target.resource for target in targets}) > 1
    shown = failed = 0
    printers: dict[object, output.TablePrinter] = {}
    for target in targets:
        prefix = output.name_with_kind(target.resource, "") if several else ""
        printer = printers.setdefault(
            target.resource,
            output.TablePrinter(
                form == "wide",
                all_namespaces and target.resource.namespaced,
                show_labels,
                tuple(label_columns or ()),
                no_headers,
                prefix,
            ),
        )
        try:
            table = await _table(session, target, selector, field_selector, sort_by)
        except ApiError as error:
            if error.code == 404 and ignore_not_found:
                continue
            if len(targets) == 1:
                raise
            print(words_of(error), file=sys.stderr)
            failed = 1
            continue
        if shown and several and table.get("rows"):
            print()
        shown += printer.print(table)
    if not shown and not failed and not ignore_not_found:
        where = (
            f" in {session.namespace} namespace"
            if any(target.resource.namespaced for target in targets) and not all_namespaces
            else ""
        )
        print(f"No resources found{where}." if where else "No resources found", file=sys.stderr)
    return failed


async def _table(session: Session, target: Target, selector: str, field_selector: str, sort_by: str) -> Obj:
    params: dict[str, str | int | bool | None] = {}
    if target.name is None:
        params = {
            "labelSelector": selector or None,
            "fieldSelector": field_selector or None,
            "limit": None if sort_by else _CHUNK,
        }
    if sort_by:
        params["includeObject"] = "Object"
    headers = {"accept": output.TABLE}
    path = target.resource.path(target.namespace, target.name)
    table = await session.client.request("GET", path, params=params, headers=headers)
    while token := (table.get("metadata") or {}).get("continue"):
        more = await session.client.request("GET", path, params={**params, "continue": token}, headers=headers)
        table = {**table, "metadata": more["metadata"], "rows": [*table.get("rows", []), *more.get("rows", [])]}
    if sort_by:
        table["rows"] = sorted(table.get("rows") or [], key=lambda row: _sort_key(row.get("object") or {}, sort_by))
    return table


def _sort_key(obj: Obj, path: str) -> tuple[int, float, str]:
    from kubeling.cli import jsonpath

    found = jsonpath.find(path.strip("{}"), obj)
    if not found:
        return (0, 0.0, "")
    return (1, float(found[0]), "") if isinstance(found[0], int | float) else (2, 0.0, str(found[0]))


async def _show_objects(
    session: Session,
    targets: list[Target],
    form: str,
    selector: str,
    field_selector: str,
    sort_by: str,
    ignore_not_found: bool,
    managed: bool,
) -> int:
    show = output.printer(form, show_managed_fields=managed)
    objects: list[Obj] = []
    listed = False
    for target in targets:
        identity = {"apiVersion": target.resource.group_version, "kind": target.resource.kind}
        if target.name is None:
            listed = True
            params: dict[str, str | int | None] = {"label_selector": selector or None, "field_selector": field_selector or None}
            token = None
            while True:
                page = await session.client.list(target.resource, target.namespace, limit=_CHUNK, continue_token=token, **params)  # type: ignore[arg-type]
                objects += [{**identity, **item} for item in page.get("items") or []]
                token = page["metadata"].get("continue")
                if not token:
                    break
            continue
        try:
            objects.append(await session.client.get(target.resource, target.name, target.namespace))
        except ApiError as error:
            if not (error.code == 404 and ignore_not_found):
                raise
    if sort_by:
        objects.sort(key=lambda obj: _sort_key(obj, sort_by))
    if not listed and len(objects) == 1:
        sys.stdout.write(show(objects[0]))
    elif listed or objects:
        sys.stdout.write(show({"apiVersion": "v1", "items": objects, "kind": "List", "metadata": {"resourceVersion": ""}}))
    return 0


async def _watch(
    session: Session,
    target: Target,
    form: str,
    selector: str,
    field_selector: str,
    everywhere: bool,
    show_labels: bool,
    label_columns: list[str] | None,
    no_headers: bool,
    watch_only: bool,
) -> int:
    table = output.is_table(form)
    printer = output.TablePrinter(
        form == "wide", everywhere and target.resource.namespaced, show_labels, tuple(label_columns or ()), no_headers
    )
    show = None if table else output.printer(form)
    path = target.resource.path(target.namespace)
    fields = field_selector if target.name is None else f"metadata.name={target.name}"
    params: dict[str, str | int | bool | None] = {"labelSelector": selector or None, "fieldSelector": fields or None}
    headers = {"accept": output.TABLE if table else "application/json"}
    first = await session.client.request("GET", path, params=params, headers=headers)
    if not watch_only:
        if show is None:
            printer.print(first)
        else:
            identity = {"apiVersion": target.resource.group_version, "kind": target.resource.kind}
            for item in first.get("items") or []:
                sys.stdout.write(show({**identity, **item}))
    version = first["metadata"]["resourceVersion"]
    try:
        async for line in session.client.stream_lines(
            "GET", path, params={**params, "watch": True, "resourceVersion": version}, headers=headers
        ):
            event = orjson.loads(line)
            if event["type"] == "ERROR":
                raise ApiError(event["object"])
            if show is None:
                printer.print(event["object"])
            else:
                sys.stdout.write(show(event["object"]))
                sys.stdout.flush()
    except asyncio.CancelledError:
        pass  # Ctrl-C is how a watch is meant to end.
    return 0
