"""`create` and `replace`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from kubeling.api.errors import ApiError
from kubeling.cli import flags, manifests
from kubeling.cli.report import Reporter
from kubeling.cli.session import Session, words_of
from kubeling.cli.targets import namespace_of_manifest, resource_of_manifest

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
    replicas: Annotated[int, typer.Option("-r", "--replicas", help="For deployment.")] = 1,
    port: Annotated[int, typer.Option("--port", help="For deployment: the containers' port.")] = -1,
    tcp: Annotated[list[str] | None, typer.Option("--tcp", help="For service: port[:targetPort].")] = None,
    node_port: Annotated[int, typer.Option("--node-port", help="For service nodeport.")] = 0,
    from_literal: Annotated[list[str] | None, typer.Option("--from-literal", help="For configmap and secret: key=value.")] = None,
    from_file: Annotated[list[str] | None, typer.Option("--from-file", help="For configmap and secret: [key=]path.")] = None,
    from_source: Annotated[str, typer.Option("--from", help="For job: cronjob/NAME.")] = "",
    schedule: Annotated[str, typer.Option("--schedule", help="For cronjob.")] = "",
    form: flags.Output = "",
    dry_run: flags.DryRun = "none",
    field_manager: flags.FieldManager = "kubectl-create",
    validate: flags.Validate = "strict",
) -> int:
    """Create objects from files, or one of the usual kinds: `create deployment web --image=…`, `create service clusterip web --tcp=80`."""
    from kubeling.cli.verbs import generate

    params = flags.write_params(dry_run, field_manager, validate)
    reporter = Reporter(form, dry_run=dry_run)
    if filename:
        loaded = manifests.load(filename, recursive=recursive)
    else:
        before, _, command = flags.split_at_dashes(words)
        given = generate.Given(
            before,
            command,
            image or [],
            replicas,
            port,
            tcp or [],
            node_port,
            from_literal or [],
            from_file or [],
            from_source,
            schedule,
        )
        made = await generate.make(session, given)
        if dry_run == "client" and session.namespace_given and made["kind"] != "Namespace":
            made["metadata"]["namespace"] = session.namespace
        loaded = [manifests.Manifest(made, "")]
    failed = 0
    for each in loaded:
        resource = await resource_of_manifest(session, each)
        namespace = namespace_of_manifest(session, resource, each.obj)
        try:
            made = each.obj if dry_run == "client" else await session.client.create(resource, each.obj, namespace, params=params)
        except ApiError as error:
            print(_refused(error, each, resource.kind), file=sys.stderr)
            failed = 1
            continue
        reporter.done(resource, made, "created")
    return failed


def _refused(error: ApiError, manifest: manifests.Manifest, kind: str) -> str:
    if manifest.source:
        return words_of(error, f'error when creating "{manifest.source}"')
    if kind == "Namespace" or error.code == 401:
        return words_of(error)
    return f"error: failed to create {kind.lower()}: {error.message}"


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
    from kubeling.cli.verbs.delete import delete_and_wait

    params = flags.write_params(dry_run, field_manager, validate)
    reporter = Reporter(form, dry_run=dry_run)
    failed = 0
    for each in manifests.load(filename or [], recursive=recursive):
        resource = await resource_of_manifest(session, each)
        namespace = namespace_of_manifest(session, resource, each.obj)
        meta = dict(each.obj["metadata"])
        try:
            if force and dry_run == "none":
                await delete_and_wait(session, resource, meta["name"], namespace)
                made = await session.client.create(resource, each.obj, namespace, params=params)
            else:
                if namespace:
                    meta["namespace"] = namespace
                if not meta.get("resourceVersion"):
                    live = await session.client.get(resource, meta["name"], namespace)
                    meta["resourceVersion"] = live["metadata"]["resourceVersion"]
                wanted = {**each.obj, "metadata": meta}
                made = wanted if dry_run == "client" else await session.client.update(resource, wanted, params=params)
        except ApiError as error:
            print(words_of(error, f'error when replacing "{each.source}"'), file=sys.stderr)
            failed = 1
            continue
        reporter.done(resource, made, "replaced")
    return failed
