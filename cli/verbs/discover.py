"""What the server knows: `explain`, `api-resources`, `api-versions`, `version`."""

from __future__ import annotations

import sys
import textwrap
from typing import Annotated, Any

import typer

import kubeling
from kubeling.api.resources import Resource
from kubeling.cli import flags, output
from kubeling.cli.session import CommandError, Obj, Session

_WIDTH = 80


async def api_resources(
    session: Session,
    group: Annotated[str | None, typer.Option("--api-group", help="Only of this group; empty is the core group.")] = None,
    namespaced: Annotated[str, typer.Option("--namespaced", help="true or false: only such.")] = "",
    verbs: Annotated[str, typer.Option("--verbs", help="Only what can be done all of these with, such as list,watch.")] = "",
    no_headers: Annotated[bool, typer.Option("--no-headers")] = False,
    form: flags.Output = "",
) -> int:
    """The kinds that the server serves."""
    needed = set(verbs.split(",")) if verbs else set()
    seen: dict[tuple[str, str], Resource] = {}
    for kind in await session.kinds():
        if group is not None and kind.group != group:
            continue
        if namespaced and kind.namespaced != (namespaced == "true"):
            continue
        if needed <= set(kind.verbs):
            seen.setdefault((kind.group, kind.plural), kind)
    kinds = sorted(seen.values(), key=lambda kind: (kind.group, kind.plural))
    if form == "name":
        print("\n".join(kind.qualified for kind in kinds))
        return 0
    headers = ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"] + (["VERBS", "CATEGORIES"] if form == "wide" else [])
    rows = [] if no_headers else [headers]
    for kind in kinds:
        row = [kind.plural, ",".join(kind.short_names), kind.group_version, str(kind.namespaced).lower(), kind.kind]
        rows.append(row + ([",".join(kind.verbs), ",".join(kind.categories)] if form == "wide" else []))
    sys.stdout.write(output.align(rows))
    return 0


async def api_versions(session: Session) -> int:
    """The groups and versions that the server serves."""
    for each in sorted({kind.group_version for kind in await session.kinds()}):
        print(each)
    return 0


async def version(session: Session, client: Annotated[bool, typer.Option("--client", help="Ours only.")] = False) -> int:
    """Our version and the server's."""
    print(f"Client Version: {kubeling.__version__}")
    if not client:
        print(f"Server Version: {(await session.client.request('GET', '/version'))['gitVersion']}")
    return 0


async def explain(
    session: Session,
    path: Annotated[str, typer.Argument(metavar="TYPE[.FIELD…]")],
    recursive: Annotated[bool, typer.Option("--recursive", help="All fields below, names and types only.")] = False,
    api_version: Annotated[str, typer.Option("--api-version", help="Such as apps/v1.")] = "",
) -> int:
    """What a field means: `kubeling explain deployment.spec.strategy`."""
    word, _, rest = path.partition(".")
    resource = await session.resolve(word)
    group_version = api_version or resource.group_version
    where = f"apis/{group_version}" if "/" in group_version else f"api/{group_version}"
    index = await session.client.request("GET", "/openapi/v3")
    if where not in index["paths"]:
        raise CommandError(f"couldn't find resource for {path!r} in {group_version}")
    url, _, query = index["paths"][where]["serverRelativeURL"].partition("?")
    params = dict(part.split("=", 1) for part in query.split("&") if "=" in part)
    document = await session.client.request("GET", url, params=params)
    schemas = document["components"]["schemas"]
    wanted = {"group": resource.group, "version": group_version.rpartition("/")[2], "kind": resource.kind}
    root = next((each for each in schemas.values() if wanted in (each.get("x-kubernetes-group-version-kind") or [])), None)
    if root is None:
        raise CommandError(f"the server publishes no schema for {resource.kind} in {group_version}")
    if resource.group:
        print(f"GROUP:      {resource.group}")
    print(f"KIND:       {resource.kind}\nVERSION:    {wanted['version']}\n")
    field, described = root, root
    name = ""
    for part in [each for each in rest.split(".") if each]:
        properties = _resolved(field, schemas).get("properties") or {}
        if part not in properties:
            raise CommandError(f'field "{part}" does not exist')
        described, name = properties[part], part
        field = _element(described, schemas)
    if name:
        print(f"FIELD: {name} <{_type(described, schemas)}>\n")
    print("DESCRIPTION:")
    print(_wrapped(described.get("description") or _resolved(field, schemas).get("description") or "<empty>", 4))
    properties = _resolved(field, schemas).get("properties")
    if properties:
        print("\nFIELDS:")
        _fields(_resolved(field, schemas), schemas, 2, recursive, set())
    return 0


def _fields(schema: Obj, schemas: Obj, indent: int, recursive: bool, above: set[str]) -> None:
    required = set(schema.get("required") or [])
    for name, field in sorted((schema.get("properties") or {}).items()):
        marks = " -required-" if name in required else ""
        print(f"{' ' * indent}{name}\t<{_type(field, schemas)}>{marks}")
        below = _element(field, schemas)
        if recursive:
            target = _reference(below)
            inner = _resolved(below, schemas)
            if inner.get("properties") and target not in above:
                _fields(inner, schemas, indent + 2, recursive, above | {target})
        else:
            print(_wrapped(field.get("description") or inner_description(below, schemas), indent + 2) + "\n")


def inner_description(field: Obj, schemas: Obj) -> str:
    """A field without words of its own is described by its type."""
    return str(_resolved(field, schemas).get("description") or "<no description>")


def _reference(field: Any) -> str:
    found = field.get("$ref") or next((each["$ref"] for each in field.get("allOf") or [] if "$ref" in each), "")
    return str(found).rpartition("/")[2]


def _resolved(field: Obj, schemas: Obj) -> Obj:
    name = _reference(field)
    found: Obj = schemas.get(name, field) if name else field
    return found


def _element(field: Obj, schemas: Obj) -> Obj:
    """What the fields below are of: a list's elements, a map's values, else the field itself."""
    inner = _resolved(field, schemas)
    while True:
        if "items" in inner:
            inner = inner["items"]
        elif isinstance(inner.get("additionalProperties"), dict):
            inner = inner["additionalProperties"]
        else:
            return inner


def _type(field: Obj, schemas: Obj) -> str:
    name = _reference(field)
    inner = _resolved(field, schemas)
    if name:
        return (
            name.rpartition(".")[2]
            if inner.get("properties")
            else str(inner.get("format") or inner.get("type") or name.rpartition(".")[2])
        )
    if field.get("type") == "array":
        return f"[]{_type(field.get('items') or {}, schemas)}"
    if isinstance(field.get("additionalProperties"), dict):
        return f"map[string]{_type(field['additionalProperties'], schemas)}"
    return str(field.get("type") or "Object")


def _wrapped(text: str, indent: int) -> str:
    pad = " " * indent
    return "\n".join(textwrap.fill(line, _WIDTH, initial_indent=pad, subsequent_indent=pad) for line in text.splitlines())
