"""Verbs that change one thing of an object: `patch` and `scale`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from kubeling.api.errors import ApiError
from kubeling.api.resources import Resource, by_kind
from kubeling.cli import flags
from kubeling.cli.dialect import read_yaml
from kubeling.cli.report import Reporter
from kubeling.cli.session import CommandError, Obj, Session
from kubeling.cli.targets import Chosen, targets_of
from kubeling.cli.verbs.wait import until
from kubeling.client.rest import PATCH_TYPES, PatchType

PatchForm = Annotated[str, typer.Option("--type", help="strategic, merge or json.")]


async def patch(
    session: Session,
    words: flags.Words = None,
    filename: flags.Filenames = None,
    recursive: flags.Recursive = False,
    folder: flags.Kustomize = "",
    patch_text: Annotated[str, typer.Option("-p", "--patch", help="The patch as JSON or YAML.")] = "",
    patch_file: Annotated[str, typer.Option("--patch-file", help="A file with the patch.")] = "",
    patch_type: PatchForm = "strategic",
    subresource: Annotated[str, typer.Option("--subresource", help="status, scale …")] = "",
    form: flags.Output = "",
    dry_run: flags.DryRun = "none",
    field_manager: flags.FieldManager = "kubectl-patch",
) -> int:
    """Change fields of an object: `kubeling patch deploy/web -p '{"spec":{"replicas":3}}'`."""
    kinds: dict[str, PatchType] = {"strategic": "strategic", "merge": "merge", "json": "json"}
    if patch_type not in kinds:
        raise CommandError(f'--type must be one of [json merge strategic], not "{patch_type}"')
    text = _read(patch_file) if patch_file else patch_text
    if not text:
        raise CommandError("must specify --patch or --patch-file containing the contents of the patch")
    try:
        body: Any = next(read_yaml(text), None)
    except yaml.YAMLError as error:
        raise CommandError(f"unable to parse {text!r}: {getattr(error, 'problem', error)}") from error
    params = flags.write_params(dry_run, field_manager)
    reporter = Reporter(form, dry_run=dry_run)
    for target in await targets_of(
        session, words or [], filenames=filename or [], folder=folder, recursive=recursive, need_names=True
    ):
        resource, name = target.resource, target.name
        assert name is not None
        live = await session.client.get(resource, name, target.namespace, subresource=subresource or None)
        made = live
        if dry_run != "client":
            try:
                made = await session.client.patch(
                    resource,
                    name,
                    body,
                    target.namespace,
                    patch_type=kinds[patch_type],
                    subresource=subresource or None,
                    params=params,
                )
            except ApiError as error:
                if error.code != 415:
                    raise
                media = PATCH_TYPES[kinds[patch_type]]
                raise CommandError(
                    f"{media} is not supported by {resource.group_version}, Kind={resource.kind}: "
                    "the body of the request was in an unknown format - try --type merge"
                ) from error
        changed = made["metadata"].get("resourceVersion") != live["metadata"].get("resourceVersion") or dry_run != "none"
        shown = _resource_of(made) or resource
        reporter.done(shown, made, "patched" if changed else "patched (no change)")
    return 0


def _read(file: str) -> str:
    return Path(file).read_text()


def _resource_of(obj: Obj) -> Resource | None:
    """What an answer is: that of a subresource may be of another kind, such as Scale."""
    found = by_kind(obj.get("apiVersion", ""), obj.get("kind", ""))
    if found is None and obj.get("kind") == "Scale":
        return Resource("autoscaling", "v1", "scales", "Scale", namespaced=True)
    return found


async def scale(
    session: Session,
    words: flags.Words = None,
    filename: flags.Filenames = None,
    recursive: flags.Recursive = False,
    folder: flags.Kustomize = "",
    replicas: Annotated[int, typer.Option("--replicas", help="How many.")] = -1,
    current_replicas: Annotated[int, typer.Option("--current-replicas", help="Only where there are so many now.")] = -1,
    resource_version: Annotated[str, typer.Option("--resource-version", help="Only this version of the object.")] = "",
    timeout: flags.Timeout = "0s",
    selector: flags.Selector = "",
    all_of_them: flags.All = False,
    form: flags.Output = "",
    dry_run: flags.DryRun = "none",
) -> int:
    """Set the number of replicas: `kubeling scale deploy/web --replicas=3`. With --timeout it returns when there are so many."""
    if replicas < 0:
        raise CommandError('required flag(s) "replicas" not set')
    params, limit = flags.write_params(dry_run, "kubectl-scale"), flags.duration(timeout)
    reporter = Reporter(form, dry_run=dry_run)
    what = Chosen(words or [], filename or [], folder, recursive, selector=selector, all_of_them=all_of_them)
    try:
        objects = await what.objects(session)
    except ApiError as error:
        if error.code != 404:
            raise
        raise CommandError(f"no objects passed to scale {error.message}") from error
    for resource, obj in objects:
        if resource.subresource("scale") is None:
            raise CommandError(f"{resource.qualified} cannot be scaled: the server has no scale for them")
        meta = obj["metadata"]
        have = (obj.get("spec") or {}).get("replicas", 1)
        if 0 <= current_replicas != have:
            raise CommandError(f"Expected replicas to be {current_replicas}, was {have}")
        if resource_version and resource_version != meta["resourceVersion"]:
            raise CommandError(f"Expected resource version to be {resource_version}, was {meta['resourceVersion']}")
        body: Obj = {"spec": {"replicas": replicas}}
        if current_replicas >= 0 or resource_version:
            body["metadata"] = {"resourceVersion": meta["resourceVersion"]}
        if dry_run != "client":
            await session.client.patch(resource, meta["name"], body, meta.get("namespace"), subresource="scale", params=params)
        if limit > 0 and dry_run == "none":
            async with asyncio.timeout(limit):
                await until(session, resource, meta["name"], meta.get("namespace"), _scaled, must_exist=True)
        reporter.done(resource, obj, "scaled")
    return 0


def _scaled(obj: Obj | None) -> bool:
    """Whether there are as many as are wanted, and the controller knows what is."""
    if obj is None:
        return True
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    seen = status.get("observedGeneration")
    return status.get("replicas", 0) == spec.get("replicas", 1) and (seen is None or seen >= obj["metadata"].get("generation", 0))
