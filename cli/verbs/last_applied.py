"""`apply view-last-applied` and `apply set-last-applied`: the annotation by which client-side apply knows what it set."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from kubeling.api.errors import ApiError
from kubeling.cli import flags, kustomize
from kubeling.cli.dialect import write_json, write_yaml
from kubeling.cli.report import Reporter
from kubeling.cli.session import CommandError, Session
from kubeling.cli.targets import Chosen, namespace_of_manifest, resource_of_manifest
from kubeling.cli.verbs.apply import LAST_APPLIED, name_of, with_last_applied


async def view(
    session: Session,
    words: flags.Words = None,
    filename: flags.Filenames = None,
    recursive: flags.Recursive = False,
    folder: flags.Kustomize = "",
    selector: flags.Selector = "",
    all_of_them: flags.All = False,
    form: Annotated[str, typer.Option("-o", "--output", help="yaml or json.")] = "yaml",
) -> int:
    """Show what was applied last."""
    if form not in ("yaml", "json"):
        raise CommandError(f"Unexpected -o output mode: {form}, the flag 'output' must be one of yaml|json")
    which = Chosen(words or [], filename or [], folder, recursive, selector, all_of_them=all_of_them or bool(selector))
    shown = []
    for _, obj in await which.objects(session):
        text = (obj["metadata"].get("annotations") or {}).get(LAST_APPLIED)
        if text is not None:  # (kubectl says nothing of the others either.)
            shown.append(json.loads(text))
    for each in shown:
        sys.stdout.write(write_yaml(each) if form == "yaml" else write_json(each) + "\n")
    return 0


async def put(
    session: Session,
    filename: flags.Filenames = None,
    recursive: flags.Recursive = False,
    folder: flags.Kustomize = "",
    create_annotation: Annotated[
        bool, typer.Option("--create-annotation", help="Also where the object has no such annotation yet.")
    ] = False,
    dry_run: flags.DryRun = "none",
    form: flags.Output = "",
) -> int:
    """Write down that the files were applied last, and change nothing else."""
    params = flags.write_params(dry_run, "kubectl-set-last-applied")
    reporter = Reporter(form, dry_run=dry_run)
    for each in kustomize.load(filename, folder, recursive=recursive):
        resource = await resource_of_manifest(session, each)
        namespace, name = namespace_of_manifest(session, resource, each.obj), name_of(each.obj)
        try:
            live = await session.client.get(resource, name, namespace)
        except ApiError as error:
            if error.code != 404:
                raise
            raise CommandError(f"{name} is not there: {error.message}") from error
        before = (live["metadata"].get("annotations") or {}).get(LAST_APPLIED)
        if before is None and not create_annotation:
            raise CommandError(
                f"no last-applied-configuration annotation found on resource: {name}, to create the annotation, "
                "run the command with --create-annotation"
            )
        text = with_last_applied(each.obj, namespace)["metadata"]["annotations"][LAST_APPLIED]
        if text == before:
            print(f"set-last-applied {name}: no changes required.")
            continue
        if dry_run != "client":
            patch = {"metadata": {"annotations": {LAST_APPLIED: text}}}
            live = await session.client.patch(resource, name, patch, namespace, patch_type="merge", params=params)
        reporter.done(resource, live, "configured")
    return 0
