"""`delete`: by name, by file or by selector; it returns when the objects are gone."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Annotated, Literal

import typer

from kubeling.api.errors import ApiError
from kubeling.api.resources import Resource
from kubeling.cli import flags
from kubeling.cli.output import name_with_kind
from kubeling.cli.report import Reporter
from kubeling.cli.session import CommandError, Obj, Session, words_of
from kubeling.cli.targets import Target, chosen, targets_of

Policy = Literal["Background", "Foreground", "Orphan"]

_POLICIES: dict[str, Policy] = {
    "background": "Background",
    "foreground": "Foreground",
    "orphan": "Orphan",
    "true": "Background",
    "false": "Orphan",
}
#: As kubectl, which gives up on a deletion after a week.
_PATIENCE = 7 * 24 * 3600.0


async def delete(
    session: Session,
    words: flags.Words = None,
    filename: flags.Filenames = None,
    recursive: flags.Recursive = False,
    folder: flags.Kustomize = "",
    selector: flags.Selector = "",
    field_selector: flags.FieldSelector = "",
    all_of_them: flags.All = False,
    all_namespaces: flags.AllNamespaces = False,
    grace_period: Annotated[
        int, typer.Option("--grace-period", help="Seconds; -1 is the object's own, 0 with --force is at once.")
    ] = -1,
    force: Annotated[bool, typer.Option("--force", help="With --grace-period=0: do not wait for the node.")] = False,
    now: Annotated[bool, typer.Option("--now", help="As --grace-period=1.")] = False,
    cascade: Annotated[str, typer.Option("--cascade", help="background, foreground or orphan.")] = "background",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Return when the objects are gone.")] = True,
    timeout: flags.Timeout = "0s",
    ignore_not_found: Annotated[bool, typer.Option("--ignore-not-found", help="What is not there is fine.")] = False,
    dry_run: flags.DryRun = "none",
    form: flags.Output = "",
    raw: Annotated[str, typer.Option("--raw", help="A path of the API, to which a DELETE is sent.")] = "",
    interactive: Annotated[bool, typer.Option("-i", "--interactive", help="Ask before anything is deleted.")] = False,
) -> int:
    """Delete objects by name, by file or by selector."""
    if raw:
        async for chunk in session.client.stream("DELETE", raw):
            sys.stdout.buffer.write(chunk)
        return 0
    params = flags.write_params(dry_run, "")
    if cascade not in _POLICIES:
        raise CommandError(f'invalid cascade value ({cascade}). Must be "background", "foreground", or "orphan"')
    if form not in ("", "name"):
        raise CommandError(f"unexpected -o output mode: {form}. We only support '-o name'")
    if now and grace_period >= 0:
        raise CommandError("--now and --grace-period cannot be specified together")
    targets = await targets_of(
        session, words or [], filenames=filename or [], folder=folder, recursive=recursive, everywhere=all_namespaces
    )
    if not (selector or field_selector or all_of_them) and any(target.name is None for target in targets):
        raise CommandError("resource(s) were provided, but no name was specified")
    objects, errors = await _found(
        session, targets, selector, field_selector, all_of_them, ignore_not_found or bool(selector or all_of_them)
    )
    if interactive and objects and not _agreed(objects):
        return 0
    options = _options(_POLICIES[cascade], _grace(grace_period, force, now), params["dryRun"])
    if force:
        print(
            "Warning: the objects are taken out of the API at once. Nobody waits for the node: what they stand for may still run there.",
            file=sys.stderr,
        )
    reporter = Reporter(form, dry_run=dry_run)
    waits: list[tuple[Resource, Obj]] = []
    for resource, obj in objects:
        meta = obj["metadata"]
        if dry_run != "client":
            try:
                await session.client.request("DELETE", resource.path(meta.get("namespace"), meta["name"]), body=options)
            except ApiError as error:
                if not (error.code == 404 and ignore_not_found):
                    errors.append(error)
                continue
        reporter.done(resource, obj, "force deleted" if force else "deleted", quoted=True)
        waits.append((resource, meta))
    if wait and dry_run == "none":
        limit = flags.duration(timeout) or _PATIENCE
        for resource, meta in waits:
            await _wait(session, resource, meta, limit)
    if not objects and not errors and not ignore_not_found:
        print("No resources found")
    for refusal in errors:
        print(words_of(refusal, f'error when deleting "{filename[0]}"' if filename else ""), file=sys.stderr)
    return 1 if errors else 0


def _agreed(objects: list[tuple[Resource, Obj]]) -> bool:
    """Ask whether they are to go."""
    print("You are about to delete the following", len(objects), "resource(s):")
    for resource, obj in objects:
        print(name_with_kind(resource, obj["metadata"]["name"]))
    print("Do you want to continue? (y/n):", end=" ", flush=True)
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    print("deletion is cancelled")
    return False


def _grace(grace_period: int, force: bool, now: bool) -> int | None:
    if now:
        return 1
    if grace_period == 0 and not force:
        # At once only for those who say --force: a pod that still runs would otherwise lose its name while it does.
        return 1
    if force and grace_period < 0:
        return 0
    return grace_period if grace_period >= 0 else None


def _options(policy: Policy, grace: int | None, dry_run: str | None) -> Obj:
    options: Obj = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy}
    if grace is not None:
        options["gracePeriodSeconds"] = grace
    if dry_run:
        options["dryRun"] = [dry_run]
    return options


async def _found(
    session: Session,
    targets: Sequence[Target],
    selector: str,
    field_selector: str,
    all_of_them: bool,
    ignore_not_found: bool,
) -> tuple[list[tuple[Resource, Obj]], list[ApiError]]:
    """What there is to delete, and the refusals for the rest, which keep nothing else from going."""
    objects: list[tuple[Resource, Obj]] = []
    errors: list[ApiError] = []
    for target in targets:
        try:
            objects += await chosen(session, [target], selector=selector, field_selector=field_selector, all_of_them=all_of_them)
        except ApiError as error:
            if not (error.code == 404 and ignore_not_found):
                errors.append(error)
    return objects, errors


async def _wait(session: Session, resource: Resource, meta: Obj, limit: float) -> None:
    try:
        await until_gone(session, resource, meta["name"], meta.get("namespace"), meta["uid"], limit)
    except TimeoutError:
        raise CommandError(f"timed out waiting for the condition on {resource.plural}/{meta['name']}") from None


async def delete_and_wait(session: Session, resource: Resource, name: str, namespace: str | None) -> None:
    """Delete an object, if there is one, and return when it is gone."""
    try:
        live = await session.client.get(resource, name, namespace)
        await session.client.delete(resource, name, namespace, propagation_policy="Background")
    except ApiError as error:
        if error.code != 404:
            raise
        return
    await until_gone(session, resource, name, namespace, live["metadata"]["uid"], _PATIENCE)


async def until_gone(session: Session, resource: Resource, name: str, namespace: str | None, uid: str, timeout: float) -> None:
    """Return when the object of that uid no longer exists, as a watch shows it. Raises TimeoutError."""
    async with asyncio.timeout(timeout):
        while True:
            try:
                live = await session.client.get(resource, name, namespace)
            except ApiError as error:
                if error.code == 404:
                    return
                raise
            if live["metadata"]["uid"] != uid:
                return
            version = live["metadata"]["resourceVersion"]
            stream = session.client.watch(
                resource, namespace, resource_version=version, field_selector=f"metadata.name={name}", timeout_seconds=300
            )
            async for kind, _ in stream:
                if kind == "DELETED":
                    return
