"""`events`: what happened, the newest last, with -w for as long as you look."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from kubeling.api.resources import EVENTS
from kubeling.cli import flags, output
from kubeling.cli.describing.page import age
from kubeling.cli.session import CommandError, Obj, Session
from kubeling.cli.targets import targets_of

_TYPES = ("normal", "warning")


async def events(
    session: Session,
    about: Annotated[str, typer.Option("--for", help="Only of this object: TYPE/NAME.")] = "",
    types: Annotated[list[str] | None, typer.Option("--types", help="Normal, Warning, or both with a comma.")] = None,
    all_namespaces: flags.AllNamespaces = False,
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Go on as more happens.")] = False,
    no_headers: Annotated[bool, typer.Option("--no-headers", help="Rows only.")] = False,
    chunk_size: Annotated[int, typer.Option("--chunk-size", help="How many to ask for at once; 0 is all.")] = 500,
    form: flags.Output = "",
) -> int:
    """Show what happened: `kubeling events --for pod/web-1`, `kubeling events --types=Warning -A`."""
    wanted = {word.lower() for each in types or [] for word in each.split(",")}
    if not wanted <= set(_TYPES):
        raise CommandError("valid --types are Normal or Warning")
    if form not in ("", "json", "yaml", "name") and "=" not in form:
        raise CommandError(f"unknown output format {form!r}")
    namespace = None if all_namespaces else session.namespace
    selector = await _selector(session, about) if about else None
    found, version = await _all(session, namespace, selector, chunk_size)
    found = [each for each in found if not wanted or each.get("type", "").lower() in wanted]
    found.sort(key=_when)
    if not found and not watch:
        print(f"No events found in {session.namespace} namespace." if namespace else "No events found.", file=sys.stderr)
        return 0
    if form:
        items = [{"apiVersion": "v1", "kind": "Event", **each} for each in found]
        sys.stdout.write(output.printer(form)({"apiVersion": "v1", "kind": "EventList", "metadata": {}, "items": items}))
    head = (["NAMESPACE"] if all_namespaces else []) + ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    rows = [] if no_headers else [head]
    widths: list[int] = []
    if not form:
        sys.stdout.write(output.align(rows + [_row(each, all_namespaces) for each in found], widths))
    if not watch:
        return 0
    sys.stdout.flush()
    async for kind, event in session.client.watch(EVENTS, namespace, resource_version=version, field_selector=selector):
        if kind in ("ADDED", "MODIFIED") and (not wanted or event.get("type", "").lower() in wanted):
            sys.stdout.write(output.printer(form)(event) if form else output.align([_row(event, all_namespaces)], widths))
            sys.stdout.flush()
    return 0


async def _all(session: Session, namespace: str | None, selector: str | None, chunk: int) -> tuple[list[Obj], str]:
    """All of them, and the version from which on to watch."""
    found: list[Obj] = []
    token: str | None = None
    while True:
        page = await session.client.list(EVENTS, namespace, field_selector=selector, limit=chunk or None, continue_token=token)
        found += page.get("items") or []
        token = page["metadata"].get("continue")
        if not token:
            return found, page["metadata"]["resourceVersion"]


async def _selector(session: Session, about: str) -> str:
    kind, _, name = about.partition("/")
    if not kind or not name or "/" in name:
        raise CommandError("--for must be in resource/name form")
    resource = (await targets_of(session, [about]))[0].resource
    terms = {"kind": resource.kind, "apiVersion": resource.group_version, "name": name}
    return ",".join(f"involvedObject.{key}={value}" for key, value in terms.items())


def _when(event: Obj) -> str:
    series = (event.get("series") or {}).get("lastObservedTime")
    return str(series or event.get("lastTimestamp") or event.get("eventTime") or "")


def _row(event: Obj, with_namespace: bool) -> list[str]:
    first = age(event.get("eventTime") or event.get("firstTimestamp"))
    series = event.get("series") or {}
    if series:
        first = f"{age(series.get('lastObservedTime'))} (x{series.get('count', 0)} over {first})"
    elif event.get("count", 0) > 1:
        first = f"{age(event.get('lastTimestamp'))} (x{event['count']} over {first})"
    about = event.get("involvedObject") or {}
    cells = [first, event.get("type", ""), event.get("reason", ""), f"{about.get('kind', '')}/{about.get('name', '')}"]
    message = (event.get("message") or "").strip()
    return ([event["metadata"].get("namespace", "")] if with_namespace else []) + [*cells, message]
