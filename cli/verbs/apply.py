"""`apply`: make it so, as the manifest says. On the client's side as kubectl does it (three-way), or on the server's.

Both ways may be mixed, and mixed with kubectl: the annotation that the client's side compares with, and the field managers, are kubectl's.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Annotated

import typer

from kubeling.api.errors import ApiError
from kubeling.api.resources import Resource
from kubeling.cli import flags, kustomize, manifests
from kubeling.cli.dialect import write_json
from kubeling.cli.report import Reporter
from kubeling.cli.session import CommandError, Obj, Session, words_of
from kubeling.cli.targets import namespace_of_manifest, resource_of_manifest
from kubeling.cli.threeway import patch_type_of, schema_of, three_way
from kubeling.cli.verbs import prune
from kubeling.client.rest import Params

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
CLIENT_SIDE = "kubectl-client-side-apply"
#: Who owns what the client's side set: itself, or this name where the object had no managedFields before the server's side came.
_CLIENT_SIDE_MANAGERS = (CLIENT_SIDE, "before-first-apply")
_CONFLICT_RETRIES = 5
_CONFLICT_ADVICE = """
Please review the fields above--other managers have them. Either
* take them over: add --force-conflicts;
* leave them to the others: remove them from the manifest;
* share them: write the value that is there into the manifest."""


async def apply(
    session: Session,
    filename: flags.Filenames = None,
    recursive: flags.Recursive = False,
    folder: flags.Kustomize = "",
    server_side: Annotated[
        bool, typer.Option("--server-side", help="Let the server merge and keep track of who owns what.")
    ] = False,
    force_conflicts: Annotated[
        bool, typer.Option("--force-conflicts", help="With --server-side: take over fields that others own.")
    ] = False,
    pruning: Annotated[bool, typer.Option("--prune", help="Delete what was applied once and is in the files no more.")] = False,
    selector: flags.Selector = "",
    all_of_them: flags.All = False,
    prune_allowlist: Annotated[
        list[str] | None, typer.Option("--prune-allowlist", help="Kinds to prune: group/version/kind.")
    ] = None,
    applyset: Annotated[
        str,
        typer.Option(
            "--applyset", help="With --prune: the object that stands for the set, as [RESOURCE/]NAME; a Secret by default."
        ),
    ] = "",
    form: flags.Output = "",
    dry_run: flags.DryRun = "none",
    field_manager: flags.FieldManager = "",
    validate: flags.Validate = "strict",
) -> int:
    """Create or change objects so that they are as the files say."""
    if force_conflicts and not server_side:
        raise CommandError("--force-conflicts only works with --server-side")
    if server_side and dry_run == "client":
        raise CommandError("--dry-run=client doesn't work with --server-side (did you mean --dry-run=server instead?)")
    if applyset and not pruning:
        raise CommandError("--applyset requires --prune")
    for given, name in ((all_of_them, "--all"), (selector, "--selector"), (prune_allowlist, "--prune-allowlist")):
        if applyset and given:
            raise CommandError(f"{name} is incompatible with --applyset")
    if pruning and not (selector or all_of_them or applyset):
        raise CommandError(
            "all resources selected for prune without explicitly passing --all. To prune all resources, pass the --all flag. If you did not mean to prune all resources, specify a label selector"
        )
    whole = None
    if applyset:
        from kubeling.cli.verbs.applyset import open_set  # Only who asks for it pays.

        whole = await open_set(session, applyset)
    pruned = await prune.kinds_of(session, prune_allowlist or []) if pruning and whole is None else []
    wanted = kustomize.load(filename, folder, recursive=recursive, selector=selector)
    params = flags.write_params(dry_run, field_manager or ("kubectl" if server_side else CLIENT_SIDE), validate)
    reporter = Reporter(form, dry_run=dry_run, together=True)
    if whole is not None:
        wanted = [manifests.Manifest(whole.labelled(each.obj), each.source) for each in wanted]
        members = []
        for each in wanted:
            resource = await resource_of_manifest(session, each)
            members.append((resource, namespace_of_manifest(session, resource, each.obj)))
        await whole.begin(members, {**params, "force": force_conflicts}, dry_run)
    failed = 0
    kept: set[str] = set()
    namespaces: set[str] = set()
    for each in wanted:
        try:
            resource = await resource_of_manifest(session, each)
            namespace = namespace_of_manifest(session, resource, each.obj)
            name = name_of(each.obj)
            if server_side:
                made = await _server_side(session, resource, each.obj, name, namespace, {**params, "force": force_conflicts})
                reporter.done(resource, made, "serverside-applied")
            else:
                made, done = await _client_side(session, resource, each, name, namespace, params, dry_run)
                reporter.done(resource, made, done)
            kept.add(str(made["metadata"].get("uid")))
            namespaces |= {namespace} if namespace else set()
        except ApiError as error:
            conflict = server_side and error.reason == "Conflict" and error.causes
            print(f"error: {error.message}{_CONFLICT_ADVICE}" if conflict else words_of(error), file=sys.stderr)
            failed = 1
        except CommandError as error:
            print(error, file=sys.stderr)
            failed = 1
    if pruned and not failed:
        await prune.prune(session, pruned, selector, namespaces, kept, reporter, dry_run)
    if whole is not None and not failed:
        await whole.end(kept, reporter)
    reporter.finish()
    return failed


def name_of(obj: Obj) -> str:
    """The name that a manifest gives. Raises CommandError where it gives none."""
    meta = obj.get("metadata") or {}
    if meta.get("generateName") and not meta.get("name"):
        raise CommandError(f"from {meta['generateName']}: cannot use generate name with apply")
    if not meta.get("name"):
        raise CommandError("resource name may not be empty")
    return str(meta["name"])


async def _client_side(
    session: Session,
    resource: Resource,
    manifest: manifests.Manifest,
    name: str,
    namespace: str | None,
    params: dict[str, str | None],
    dry_run: str,
) -> tuple[Obj, str]:
    wanted = with_last_applied(manifest.obj, namespace)
    schema = schema_of(resource)
    for attempt in range(_CONFLICT_RETRIES + 1):
        try:
            live = await session.client.get(resource, name, namespace)
        except ApiError as error:
            if error.code != 404:
                raise
            return await _created(session, resource, manifest, wanted, namespace, params, dry_run), "created"
        last = (live["metadata"].get("annotations") or {}).get(LAST_APPLIED)
        if last is None:
            print(
                f"Warning: resource {resource.plural}/{name} is missing the {LAST_APPLIED} annotation, from which apply knows what an "
                "earlier manifest set. It is added now; what this manifest does not mention stays as it is.",
                file=sys.stderr,
            )
        patch = three_way(json.loads(last) if last else {}, live, wanted, schema)
        if not patch:
            return live, "unchanged"
        if dry_run == "client":
            return live, "configured"
        try:
            kind = patch_type_of(resource)
            return await session.client.patch(resource, name, patch, namespace, patch_type=kind, params=params), "configured"
        except ApiError as error:
            if error.reason != "Conflict" or attempt == _CONFLICT_RETRIES:
                raise CommandError(_patch_refused(error, patch, resource, name, manifest.source, live), complete=True) from error
        await asyncio.sleep(min(1.0, 0.05 * 2**attempt))
    raise AssertionError("unreachable")


async def dry_run(
    session: Session,
    resource: Resource,
    manifest: manifests.Manifest,
    live: Obj,
    name: str,
    namespace: str | None,
    params: Params,
) -> Obj:
    """The object as it would be, but for the annotation, where it is `live` now (empty where it is not there). The server is asked."""
    meta = {**manifest.obj["metadata"], **({"namespace": namespace} if namespace else {})}
    wanted = {**manifest.obj, "metadata": meta}
    if not live:
        return await session.client.create(resource, wanted, namespace, params=params)
    last = (live["metadata"].get("annotations") or {}).get(LAST_APPLIED)
    # What was recorded has annotations, if only none: without any here, all would be taken away.
    meta["annotations"] = meta.get("annotations") or {}
    patch = three_way(json.loads(last) if last else {}, live, wanted, schema_of(resource))
    if not patch:
        return live
    return await session.client.patch(resource, name, patch, namespace, patch_type=patch_type_of(resource), params=params)


async def _created(
    session: Session,
    resource: Resource,
    manifest: manifests.Manifest,
    wanted: Obj,
    namespace: str | None,
    params: dict[str, str | None],
    dry_run: str,
) -> Obj:
    if dry_run == "client":
        return wanted
    try:
        return await session.client.create(resource, wanted, namespace, params=params)
    except ApiError as error:
        raise CommandError(words_of(error, f'error when creating "{manifest.source}"'), complete=True) from error


def _patch_refused(error: ApiError, patch: Obj, resource: Resource, name: str, source: str, live: Obj) -> str:
    """A refused patch with what it was and what it was for; a list of field errors stands for itself."""
    if error.reason == "Invalid" and error.causes:
        return words_of(error)
    place = (
        f'Resource: "{resource.group_version if resource.group else "/" + resource.version}, Resource={resource.plural}", '
        f'GroupVersionKind: "{resource.group_version if resource.group else "/" + resource.version}, Kind={resource.kind}"\n'
        f'Name: "{name}", Namespace: "{live["metadata"].get("namespace", "")}"'
    )
    return words_of(
        error,
        f'error when applying patch:\n{write_json(patch, indent=None)}\nto:\n{place}\nfor: "{source}": error when patching "{source}"',
    )


def with_last_applied(obj: Obj, namespace: str | None = None) -> Obj:
    """The manifest with itself in the annotation by which the next apply knows what this one set."""
    meta = dict(obj.get("metadata") or {})
    if namespace:
        meta["namespace"] = namespace
    annotations = {key: value for key, value in (meta.get("annotations") or {}).items() if key != LAST_APPLIED}
    recorded = {**obj, "metadata": {**meta, "annotations": annotations}}
    text = write_json(recorded, indent=None) + "\n"
    return {**obj, "metadata": {**meta, "annotations": {**annotations, LAST_APPLIED: text}}}


async def _server_side(session: Session, resource: Resource, obj: Obj, name: str, namespace: str | None, params: Params) -> Obj:
    if namespace:
        obj = {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}
    made: Obj = await session.client.patch(resource, name, obj, namespace, patch_type="apply", params=params)
    if params.get("dryRun") or not _client_side_entries(made):
        return made
    # It was applied on the client's side before. What that set passes to us, or nothing would ever take it away again.
    annotations = made["metadata"].get("annotations") or {}
    if LAST_APPLIED in annotations:
        kept = {
            "apiVersion": obj["apiVersion"],
            "kind": obj["kind"],
            "metadata": {"name": name, "annotations": {LAST_APPLIED: annotations[LAST_APPLIED]}},
        }
        query: Params = {"fieldManager": "kubectl-last-applied", "force": True}
        made = await session.client.patch(resource, name, kept, namespace, patch_type="apply", params=query)
    await _migrate(session, resource, made, name, namespace, str(params["fieldManager"]))
    return await session.client.patch(resource, name, obj, namespace, patch_type="apply", params=params)


async def _migrate(session: Session, resource: Resource, made: Obj, name: str, namespace: str | None, manager: str) -> None:
    """Hand the client side's fields to `manager`, of the newest version: a controller may be writing its status at the same time."""
    for attempt in range(_CONFLICT_RETRIES):
        patch = [
            {"op": "replace", "path": "/metadata/managedFields", "value": _migrated(made, manager)},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": made["metadata"]["resourceVersion"]},
        ]
        try:
            await session.client.patch(resource, name, patch, namespace, patch_type="json")
        except ApiError as error:
            if error.reason != "Conflict" or attempt + 1 == _CONFLICT_RETRIES:
                raise
            made = await session.client.get(resource, name, namespace)
            if not _client_side_entries(made):
                return
        else:
            return


def _client_side_entries(obj: Obj) -> list[Obj]:
    return [
        each
        for each in obj["metadata"].get("managedFields") or []
        if each["manager"] in _CLIENT_SIDE_MANAGERS and each["operation"] == "Update" and not each.get("subresource")
    ]


def _migrated(obj: Obj, manager: str) -> list[Obj]:
    """managedFields with the client side's fields in the entry of `manager`."""
    passed = _client_side_entries(obj)
    entries = [dict(each) for each in obj["metadata"]["managedFields"] if each not in passed]
    ours = next(each for each in entries if (each["manager"], each["operation"]) == (manager, "Apply"))
    for each in passed:
        ours["fieldsV1"] = _union(ours["fieldsV1"], each["fieldsV1"])
    return entries


def _union(left: Obj, right: Obj) -> Obj:
    return {key: _union(left.get(key, {}), right.get(key, {})) for key in {**left, **right}}
