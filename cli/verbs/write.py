"""`create` and `replace`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kubeling.api.errors import ApiError
from kubeling.cli import flags, kustomize
from kubeling.cli.report import Reporter
from kubeling.cli.session import CommandError, Session, words_of
from kubeling.cli.targets import namespace_of_manifest, resource_of_manifest
from kubeling.cli.verbs.creating import SaveConfig

Raw = Annotated[str, typer.Option("--raw", help="A path of the API, to which the one file is sent as it is.")]


async def create(
    session: Session,
    words: Annotated[list[str] | None, typer.Argument(metavar="[KIND NAME …]")] = None,
    filename: flags.Filenames = None,
    recursive: flags.Recursive = False,
    folder: flags.Kustomize = "",
    selector: flags.Selector = "",
    save_config: SaveConfig = False,
    raw: Raw = "",
    form: flags.Output = "",
    dry_run: flags.DryRun = "none",
    field_manager: flags.FieldManager = "kubectl-create",
    validate: flags.Validate = "strict",
) -> int:
    """Create objects from files, or one of a kind: namespace, serviceaccount, token, configmap, secret generic|tls|docker-registry, deployment, job, cronjob, service clusterip|nodeport|loadbalancer|externalname, ingress, role, clusterrole, rolebinding, clusterrolebinding, quota, poddisruptionbudget, priorityclass."""
    if words:
        raise CommandError(f"unexpected args: {words}\nSee 'kubeling create -h' for help and examples")
    if raw:
        return await _send_raw(session, "POST", raw, filename)
    from kubeling.cli.verbs.apply import with_last_applied

    params = flags.write_params(dry_run, field_manager, validate)
    reporter = Reporter(form, dry_run=dry_run)
    failed = 0
    for each in kustomize.load(filename, folder, recursive=recursive, selector=selector):
        resource = await resource_of_manifest(session, each)
        namespace = namespace_of_manifest(session, resource, each.obj)
        wanted = with_last_applied(each.obj, namespace) if save_config else each.obj
        try:
            made = wanted if dry_run == "client" else await session.client.create(resource, wanted, namespace, params=params)
        except ApiError as error:
            print(words_of(error, f'error when creating "{each.source}"'), file=sys.stderr)
            failed = 1
            continue
        reporter.done(resource, made, "created")
    return failed


async def _send_raw(session: Session, method: str, path: str, filename: list[str] | None) -> int:
    """The file as the body of one request; what the server answers is shown as it comes."""
    if not filename or len(filename) != 1:
        raise CommandError("--raw can only use a single local file or stdin")
    body = _read(filename[0])
    answer = await session.client.request_bytes(method, path, body=body, content_type="application/json")
    sys.stdout.buffer.write(answer)
    return 0


def _read(path: str) -> bytes:
    return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()


async def replace(
    session: Session,
    filename: flags.Filenames = None,
    recursive: flags.Recursive = False,
    folder: flags.Kustomize = "",
    save_config: SaveConfig = False,
    raw: Raw = "",
    subresource: Annotated[str, typer.Option("--subresource", help="Such as status.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Delete and create anew.")] = False,
    form: flags.Output = "",
    dry_run: flags.DryRun = "none",
    field_manager: flags.FieldManager = "kubectl-replace",
    validate: flags.Validate = "strict",
) -> int:
    """Replace objects by what files say."""
    if raw:
        return await _send_raw(session, "PUT", raw, filename)
    from kubeling.cli.verbs.apply import with_last_applied
    from kubeling.cli.verbs.delete import delete_and_wait

    params = flags.write_params(dry_run, field_manager, validate)
    reporter = Reporter(form, dry_run=dry_run)
    failed = 0
    for each in kustomize.load(filename, folder, recursive=recursive):
        resource = await resource_of_manifest(session, each)
        namespace = namespace_of_manifest(session, resource, each.obj)
        obj = with_last_applied(each.obj, namespace) if save_config else each.obj
        meta = dict(obj["metadata"])
        try:
            if force and dry_run == "none":
                await delete_and_wait(session, resource, meta["name"], namespace)
                made = await session.client.create(resource, obj, namespace, params=params)
            else:
                if namespace:
                    meta["namespace"] = namespace
                if not meta.get("resourceVersion"):
                    live = await session.client.get(resource, meta["name"], namespace)
                    meta["resourceVersion"] = live["metadata"]["resourceVersion"]
                wanted = {**obj, "metadata": meta}
                made = (
                    wanted
                    if dry_run == "client"
                    else await session.client.update(resource, wanted, subresource=subresource or None, params=params)
                )
        except ApiError as error:
            print(words_of(error, f'error when replacing "{each.source}"'), file=sys.stderr)
            failed = 1
            continue
        reporter.done(resource, made, "replaced")
    return failed
