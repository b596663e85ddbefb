"""`apply`: make it so, as the manifest says. On the client's side as kubectl does it (three-way), or on the server's."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Annotated

import typer

from kubeling.api.errors import ApiError
from kubeling.api.resources import Resource, by_kind
from kubeling.cli import flags, manifests
from kubeling.cli.session import CommandError, Obj, Session, words_of
from kubeling.cli.targets import namespace_of_manifest
from kubeling.cli.threeway import three_way
from kubeling.cli.verbs.write import report

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_CONFLICT_RETRIES = 5


async def apply(
    session: Session,
    filename: flags.Filenames = None,
    recursive: flags.Recursive = False,
    server_side: Annotated[
        bool, typer.Option("--server-side", help="Let the server merge and keep track of who owns what.")
    ] = False,
    force_conflicts: Annotated[
        bool, typer.Option("--force-conflicts", help="With --server-side: take over fields that others own.")
    ] = False,
    form: flags.Output = "",
    dry_run: flags.DryRun = "none",
    field_manager: flags.FieldManager = "",
    validate: flags.Validate = "strict",
) -> int:
    """Create or change objects so that they are as the files say."""
    if force_conflicts and not server_side:
        raise CommandError("--force-conflicts only works with --server-side")
    if not filename:
        raise CommandError("must specify one of -f")
    manager = field_manager or ("kubectl" if server_side else "kubectl-client-side-apply")
    params = flags.write_params(dry_run, manager, validate)
    failed = 0
    for each in manifests.load(filename, recursive=recursive):
        try:
            resource = await session.resolve_object(each.obj)
            namespace = namespace_of_manifest(session, resource, each.obj)
            name = (each.obj.get("metadata") or {}).get("name")
            if not name:
                raise CommandError(
                    f"error when applying {each.source}: resource name may not be empty: apply needs metadata.name (generateName works with create)"
                )
            if server_side:
                query = {**params, "force": force_conflicts}
                made = await session.client.patch(resource, name, each.obj, namespace, patch_type="apply", params=query)
                report(resource, made, "serverside-applied" + flags.dry_suffix(dry_run), form)
            else:
                made, done = await _client_side(session, resource, each.obj, name, namespace, params, dry_run)
                report(resource, made, done + flags.dry_suffix(dry_run), form)
        except ApiError as error:
            print(words_of(error, f'error when applying "{each.source}"'), file=sys.stderr)
            if error.causes and error.reason == "Conflict":
                print("Pass --force-conflicts to take over the fields, or remove them from the manifest.", file=sys.stderr)
            failed = 1
        except CommandError as error:
            print(f"error: {error}", file=sys.stderr)
            failed = 1
    return failed


async def _client_side(
    session: Session, resource: Resource, obj: Obj, name: str, namespace: str | None, params: dict[str, str | None], dry_run: str
) -> tuple[Obj, str]:
    wanted = with_last_applied(obj, namespace)
    for attempt in range(_CONFLICT_RETRIES + 1):
        try:
            live = await session.client.get(resource, name, namespace)
        except ApiError as error:
            if error.code != 404:
                raise
            return (
                wanted if dry_run == "client" else await session.client.create(resource, wanted, namespace, params=params)
            ), "created"
        annotation = (live["metadata"].get("annotations") or {}).get(LAST_APPLIED)
        if annotation is None:
            print(
                f"Warning: resource {resource.plural}/{name} is missing the {LAST_APPLIED} annotation which is required by apply. "
                "It will be added now; fields that earlier manifests set and this one lacks stay.",
                file=sys.stderr,
            )
        schema = None
        if by_kind(obj["apiVersion"], obj["kind"]) is not None:
            from kubeling.api.builtin import schema_of

            schema = schema_of(obj["apiVersion"], obj["kind"])
        patch = three_way(json.loads(annotation) if annotation else {}, live, wanted, schema)
        if not patch:
            return live, "unchanged"
        if dry_run == "client":
            return wanted, "configured"
        try:
            kind = "strategic" if schema is not None else "merge"
            made = await session.client.patch(resource, name, patch, namespace, patch_type=kind, params=params)  # type: ignore[arg-type]
            return made, "configured" if made["metadata"]["resourceVersion"] != live["metadata"][
                "resourceVersion"
            ] else "unchanged"
        except ApiError as error:
            if error.reason != "Conflict" or attempt == _CONFLICT_RETRIES:
                raise
        await asyncio.sleep(min(1.0, 0.05 * 2**attempt))
    raise AssertionError("unreachable")


def with_last_applied(obj: Obj, namespace: str | None = None) -> Obj:
    """The manifest with itself in the annotation by which the next apply knows what this one set."""
    meta = dict(obj.get("metadata") or {})
    if namespace:
        meta["namespace"] = namespace
    annotations = {key: value for key, value in (meta.get("annotations") or {}).items() if key != LAST_APPLIED}
    recorded = {**obj, "metadata": {**meta, "annotations": annotations}}
    text = json.dumps(recorded, separators=(",", ":"), sort_keys=True, ensure_ascii=False) + "\n"
    return {**obj, "metadata": {**meta, "annotations": {**annotations, LAST_APPLIED: text}}}
