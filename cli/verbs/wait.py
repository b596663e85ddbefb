"""`wait`: until a condition holds, a field has a value, or an object is there or gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated

import typer

from kubeling.api.errors import ApiError
from kubeling.api.resources import Resource
from kubeling.cli import flags, jsonpath, output
from kubeling.cli.session import CommandError, Obj, Session
from kubeling.cli.targets import Target, targets_of

Check = Callable[[Obj | None], bool]


async def wait(
    session: Session,
    words: flags.Words = None,
    condition: Annotated[
        str, typer.Option("--for", help="condition=Ready[=true], jsonpath={.path}[=value], create or delete.")
    ] = "",
    filename: flags.Filenames = None,
    recursive: flags.Recursive = True,
    selector: flags.Selector = "",
    field_selector: flags.FieldSelector = "",
    all_of_them: flags.All = False,
    all_namespaces: flags.AllNamespaces = False,
    timeout: flags.Timeout = "30s",
) -> int:
    """Return when it is so (exit 0), or when the time is up (exit 1): `kubeling wait --for=condition=Ready pod/web-1`."""
    check, wanted = check_of(condition)
    targets = await targets_of(session, words or [], filenames=filename or [], recursive=recursive, everywhere=all_namespaces)
    named: list[tuple[Target, str, str | None]] = []
    for target in targets:
        if target.name is not None:
            named.append((target, target.name, target.namespace))
            continue
        if not (selector or field_selector or all_of_them):
            raise CommandError("resource(s) were provided, but no name, label selector, or --all flag specified")
        listed = await session.client.list(
            target.resource, target.namespace, label_selector=selector or None, field_selector=field_selector or None
        )
        named += [(target, item["metadata"]["name"], item["metadata"].get("namespace")) for item in listed.get("items") or []]
    if not named:
        if wanted == "delete":
            return 0
        raise CommandError("no matching resources found")
    limit = flags.duration(timeout)
    deadline = asyncio.get_running_loop().time() + (limit if limit > 0 else 0 if limit == 0 else 7 * 24 * 3600)
    errors: list[str] = []
    for target, name, namespace in named:
        shown = output.name_with_kind(target.resource, name)
        try:
            async with asyncio.timeout_at(max(deadline, asyncio.get_running_loop().time() + 0.01)):
                waited = await until(
                    session, target.resource, name, namespace, check, must_exist=wanted not in ("delete", "create")
                )
            if wanted != "delete":
                print(f"{shown} condition met")
            elif waited:
                print(f"{shown} deleted")
        except TimeoutError:
            errors.append(f"timed out waiting for the condition on {target.resource.plural}/{name}")
    if errors:
        raise CommandError("\n".join(errors), complete=len(errors) > 1)
    return 0


def check_of(condition: str) -> tuple[Check, str]:
    """What --for asks: a test of the object (None where it does not exist), and its first word. Raises CommandError."""
    kind, _, rest = condition.partition("=")
    if kind == "delete" and not rest:
        return (lambda obj: obj is None), kind
    if kind == "create" and not rest:
        return (lambda obj: obj is not None), kind
    if kind == "condition" and rest:
        name, _, value = rest.partition("=")
        return (lambda obj: obj is not None and _has_condition(obj, name, value or "true")), kind
    if kind == "jsonpath" and rest:
        # The value is behind the last "=" outside of the braces.
        path, _, value = rest.partition("}=") if "}=" in rest else (rest, "", "")
        expression = path.strip("'{}")
        jsonpath.find(expression, {})

        def matches(obj: Obj | None) -> bool:
            found = jsonpath.find(expression, obj) if obj is not None else []
            if not value:
                return bool(found) and found[0] not in (None, "")
            return len(found) == 1 and (found[0] if isinstance(found[0], str) else str(found[0]).lower()) == value.strip("'\"")

        return matches, kind
    raise CommandError(
        f'unrecognized condition: "{condition}"; known: condition=NAME[=VALUE], jsonpath={{PATH}}[=VALUE], create, delete'
    )


def _has_condition(obj: Obj, name: str, value: str) -> bool:
    state = obj.get("status") or {}
    for each in state.get("conditions") or []:
        if each.get("type", "").lower() == name.lower():
            observed, generation = each.get("observedGeneration"), obj["metadata"].get("generation")
            if observed is not None and generation is not None and observed < generation:
                return False
            return bool(each.get("status", "").lower() == value.lower())
    return False


async def until(
    session: Session, resource: Resource, name: str, namespace: str | None, check: Check, *, must_exist: bool
) -> bool:
    """Return when `check` holds: whether that had to be waited for, or the object was there at all. Raises ApiError where it must exist and does not."""
    seen = False
    while True:
        # List, not get: its resourceVersion is what a watch can follow from, also where the object does not exist yet.
        listed = await session.client.list(resource, namespace, field_selector=f"metadata.name={name}")
        items = listed.get("items") or []
        current: Obj | None = items[0] if items else None
        if current is None and must_exist:
            raise ApiError({"reason": "NotFound", "code": 404, "message": f'{resource.qualified} "{name}" not found'})
        seen = seen or current is not None
        if check(current):
            return seen
        version = listed["metadata"]["resourceVersion"]
        stream = session.client.watch(
            resource, namespace, resource_version=version, field_selector=f"metadata.name={name}", timeout_seconds=300
        )
        try:
            async for kind, obj in stream:
                if kind != "BOOKMARK" and check(None if kind == "DELETED" else obj):
                    return True
        except ApiError as error:
            if error.code != 410:
                raise
