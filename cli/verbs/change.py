"""Verbs that change one thing of an object: `patch` and `scale`."""

from __future__ import annotations

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
from kubeling.cli.targets import chosen, targets_of
from kubeling.client.rest import PATCH_TYPES, PatchType

PatchForm = Annotated[str, typer.Option("--type", help="strategic, merge or json.")]


async def patch(
    session: Session,
    words: flags.Words = None,
    filename: flags.Filenames = None,
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
    for target in await targets_of(session, words or [], filenames=filename or [], need_names=True):
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
    replicas: Annotated[int, typer.Option("--replicas", help="How many.")] = -1,
    current_replicas: Annotated[int, typer.Option("--current-replicas", help="Only where there are so many now.")] = -1,
    selector: flags.Selector = "",
    all_of_them: flags.All = False,
    form: flags.Output = "",
    dry_run: flags.DryRun = "none",
) -> int:
    """Set the number of replicas: `kubeling scale deploy/web --replicas=3`."""
    if replicas < 0:
        raise CommandError('required flag(s) "replicas" not set')
    params = flags.write_params(dry_run, "kubectl-scale")
    reporter = Reporter(form, dry_run=dry_run)
    targets = await targets_of(session, words or [], filenames=filename or [])
    try:
        objects = await chosen(session, targets, selector=selector, all_of_them=all_of_them)
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
        body: Obj = {"spec": {"replicas": replicas}}
        if current_replicas >= 0:
            body["metadata"] = {"resourceVersion": meta["resourceVersion"]}
        if dry_run != "client":
            await session.client.patch(resource, meta["name"], body, meta.get("namespace"), subresource="scale", params=params)
        reporter.done(resource, obj, "scaled")
    return 0
