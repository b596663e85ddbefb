"""`create`, `replace` and `delete`."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Literal

import typer

from kubeling.api.errors import ApiError
from kubeling.api.resources import Resource
from kubeling.cli import flags, manifests, output
from kubeling.cli.session import CommandError, Obj, Session, words_of
from kubeling.cli.targets import Target, chosen, namespace_of_manifest, targets_of

Policy = Literal["Background", "Foreground", "Orphan"]
Body = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KIND NAME …]", help="namespace NAME | deployment NAME --image=… | configmap NAME --from-literal=k=v …"
    ),
]


async def create(
    session: Session,
    words: Body = None,
    filename: flags.Filenames = None,
    recursive: flags.Recursive = False,
    image: Annotated[list[str] | None, typer.Option("--image", help="For deployment, job and cronjob.")] = None,
    replicas: Annotated[int, typer.Option("--replicas", help="For deployment.")] = 1,
    port: Annotated[int, typer.Option("--port", help="For deployment: the containers' port.")] = -1,
    tcp: Annotated[list[str] | None, typer.Option("--tcp", help="For service: port[:targetPort].")] = None,
    from_literal: Annotated[list[str] | None, typer.Option("--from-literal", help="For configmap and secret: key=value.")] = None,
    from_file: Annotated[list[str] | None, typer.Option("--from-file", help="For configmap and secret: [key=]path.")] = None,
    from_source: Annotated[str, typer.Option("--from", help="For job: cronjob/NAME.")] = "",
    schedule: Annotated[str, typer.Option("--schedule", help="For cronjob.")] = "",
    form: flags.Output = "",
    dry_run: flags.DryRun = "none",
    field_manager: flags.FieldManager = "kubectl-create",
    validate: flags.Validate = "strict",
) -> int:
    """Create objects from files, or one of the usual kinds by name (`create deployment web --image=…`, `create service clusterip web --tcp=80:8080`)."""
    from kubeling.cli.verbs import generate

    params = flags.write_params(dry_run, field_manager, validate)
    if filename:
        objects = [(each.obj, each.source) for each in manifests.load(filename, recursive=recursive)]
    else:
        given = generate.Given(
            words or [], image or [], replicas, port, tcp or [], from_literal or [], from_file or [], from_source, schedule
        )
        objects = [(await generate.make(session, given), "")]
    failed = 0
    for obj, source in objects:
        resource = await session.resolve_object(obj)
        namespace = namespace_of_manifest(session, resource, obj)
        try:
            made = obj if dry_run == "client" else await session.client.create(resource, obj, namespace, params=params)
        except ApiError as error:
            print(
                words_of(error, f'error when creating "{source}"' if source else f"failed to create {resource.singular_name}"),
                file=sys.stderr,
            )
            failed = 1
            continue
        report(resource, made, "created" + flags.dry_suffix(dry_run), form)
    return failed


async def replace(
    session: Session,
    filename: flags.Filenames = None,
    recursive: flags.Recursive = False,
    force: Annotated[bool, typer.Option("--force", help="Delete and create anew.")] = False,
    form: flags.Output = "",
    dry_run: flags.DryRun = "none",
    field_manager: flags.FieldManager = "kubectl-replace",
    validate: flags.Validate = "strict",
) -> int:
    """Replace objects by what files say."""
    params = flags.write_params(dry_run, field_manager, validate)
    for each in manifests.load(filename or [], recursive=recursive):
        resource = await session.resolve_object(each.obj)
        namespace = namespace_of_manifest(session, resource, each.obj)
        name = each.obj["metadata"]["name"]
        if force:
            await _delete_one(session, resource, name, namespace, None, "Background", wait=True, timeout=60)
            made = await session.client.create(resource, each.obj, namespace, params=params)
        else:
            meta = dict(each.obj["metadata"])
            if namespace:
                meta["namespace"] = namespace
            if not meta.get("resourceVersion"):
                live = await session.client.get(resource, name, namespace)
                meta["resourceVersion"] = live["metadata"]["resourceVersion"]
            made = await session.client.update(resource, {**each.obj, "metadata": meta}, params=params)
        report(resource, made, "replaced" + flags.dry_suffix(dry_run), form)
    return 0


async def delete(
    session: Session,
    words: flags.Words = None,
    filename: flags.Filenames = None,
    recursive: flags.Recursive = False,
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
    form: flags.Output = "",
) -> int:
    """Delete objects by name, by file or by selector."""
    policies: dict[str, Policy] = {
        "background": "Background",
        "foreground": "Foreground",
        "orphan": "Orphan",
        "true": "Background",
        "false": "Orphan",
    }
    if cascade not in policies:
        raise CommandError(f'invalid cascade value ({cascade}). Must be "background", "foreground", or "orphan"')
    if grace_period == 0 and not force:
        grace_period = 1
    grace = 1 if now else 0 if force and grace_period < 0 else grace_period if grace_period >= 0 else None
    targets = await targets_of(session, words or [], filenames=filename or [], recursive=recursive, everywhere=all_namespaces)
    try:
        objects = await chosen(
            session,
            targets,
            selector=selector,
            field_selector=field_selector,
            all_of_them=all_of_them,
            ignore_not_found=ignore_not_found or bool(selector or all_of_them),
        )
    except ApiError as error:
        if error.code == 404 and filename:
            objects = await _present(session, targets)
        else:
            raise
    waits = []
    for resource, obj in objects:
        meta = obj["metadata"]
        await session.client.delete(
            resource, meta["name"], meta.get("namespace"), grace_period_seconds=grace, propagation_policy=policies[cascade]
        )
        report(resource, obj, "force deleted" if force else "deleted", form, quoted=True)
        waits.append((resource, meta))
    if wait and not force:
        limit = flags.duration(timeout) or 7 * 24 * 3600
        for resource, meta in waits:
            await until_gone(session, resource, meta["name"], meta.get("namespace"), meta["uid"], limit)
    if not objects and not ignore_not_found:
        print("No resources found", file=sys.stderr)
    return 0


async def _present(session: Session, targets: list[Target]) -> list[tuple[Resource, Obj]]:
    """Of a file's objects those that exist; the others are reported and do not keep the rest from going."""
    found: list[tuple[Resource, Obj]] = []
    for target in targets:
        try:
            found += await chosen(session, [target])
        except ApiError as error:
            if error.code != 404:
                raise
            print(words_of(error), file=sys.stderr)
    return found


async def _delete_one(
    session: Session,
    resource: Resource,
    name: str,
    namespace: str | None,
    grace: int | None,
    policy: Policy,
    *,
    wait: bool,
    timeout: float,
) -> None:
    try:
        live = await session.client.get(resource, name, namespace)
        await session.client.delete(resource, name, namespace, grace_period_seconds=grace, propagation_policy=policy)
    except ApiError as error:
        if error.code != 404:
            raise
        return
    if wait:
        await until_gone(session, resource, name, namespace, live["metadata"]["uid"], timeout)


async def until_gone(session: Session, resource: Resource, name: str, namespace: str | None, uid: str, timeout: float) -> None:
    """Return when the object of that uid no longer exists, as a watch shows it."""
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


def report(resource: Resource, obj: Obj, done: str, form: str, *, quoted: bool = False) -> None:
    """`deployment.apps/web created`, or the object itself with -o."""
    name = (obj.get("metadata") or {}).get("name", "")
    if form == "name":
        print(output.name_with_kind(resource, name))
    elif form:
        sys.stdout.write(output.printer(form)(obj))
    elif quoted:
        kind = resource.singular_name + (f".{resource.group}" if resource.group else "")
        print(f'{kind} "{name}" {done}')
    else:
        print(f"{output.name_with_kind(resource, name)} {done}")
