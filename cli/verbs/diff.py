"""`diff`: what `apply` would change. The server is asked for the outcome (a dry run), and an ordinary diff program compares it with what is there."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from kubeling.api.errors import ApiError
from kubeling.cli import flags, globalflags, kustomize, manifests, output
from kubeling.cli.dialect import write_yaml
from kubeling.cli.session import CommandError, Obj, Session, words_of
from kubeling.cli.targets import namespace_of_manifest, resource_of_manifest
from kubeling.cli.verbs import apply

#: As of diff programs: 1 is a difference, more is trouble.
_TROUBLE = 2


async def diff(
    session: Session,
    filename: flags.Filenames = None,
    recursive: flags.Recursive = False,
    folder: flags.Kustomize = "",
    server_side: Annotated[bool, typer.Option("--server-side", help="As apply --server-side would.")] = False,
    force_conflicts: Annotated[
        bool, typer.Option("--force-conflicts", help="With --server-side: take over fields that others own.")
    ] = False,
    field_manager: flags.FieldManager = "",
) -> int:
    """Show what `apply` of the files would change. Exits with 1 where there is a difference, with more where it cannot be told."""
    try:
        found = kustomize.load(filename, folder, recursive=recursive)
        with tempfile.TemporaryDirectory(prefix="LIVE-") as live, tempfile.TemporaryDirectory(prefix="MERGED-") as merged:
            for each in found:
                manager = field_manager or ("kubectl" if server_side else apply.CLIENT_SIDE)
                params = flags.write_params("server", manager)
                name, before, after = await _outcome(session, each, {**params, "force": force_conflicts or None}, server_side)
                before, after = _masked(before, after)
                for place, obj in ((live, before), (merged, after)):
                    shown = obj if globalflags.options.show_managed_fields == "true" else output.without_managed_fields(obj)
                    (Path(place) / name).write_text(write_yaml(shown) if shown else "")
            return _compare(live, merged)
    except ApiError as error:
        print(words_of(error), file=sys.stderr)
    except CommandError as error:
        print(error, file=sys.stderr)
    return _TROUBLE


async def _outcome(
    session: Session, manifest: manifests.Manifest, params: dict[str, str | bool | None], server_side: bool
) -> tuple[str, Obj, Obj]:
    """The name of the file, the object as it is (empty where there is none) and as it would be."""
    resource = await resource_of_manifest(session, manifest)
    namespace = namespace_of_manifest(session, resource, manifest.obj)
    name = apply.name_of(manifest.obj)
    try:
        live = await session.client.get(resource, name, namespace)
    except ApiError as error:
        if error.code != 404:
            raise
        live = {}
    if server_side:
        obj = {**manifest.obj, "metadata": {**manifest.obj["metadata"], "namespace": namespace}} if namespace else manifest.obj
        after = await session.client.patch(resource, name, obj, namespace, patch_type="apply", params=params)
    else:
        plain = {key: value for key, value in params.items() if key != "force"}
        after = await apply.dry_run(session, resource, manifest, live, name, namespace, plain)
    parts = [resource.group, resource.version, resource.kind, namespace or "", name]
    return ".".join(parts[0 if resource.group else 1 :]), live, after


def _masked(before: Obj, after: Obj) -> tuple[Obj, Obj]:
    """What is in Secrets is not shown, only whether it changes."""
    if (after or before).get("kind") != "Secret":
        return before, after
    old, new = before.get("data") or {}, after.get("data") or {}

    def hide(obj: Obj, own: Obj, other: Obj, word: str) -> Obj:
        if not own:
            return obj
        return {
            **obj,
            "data": {key: "***" if key not in other or other[key] == value else f"*** ({word})" for key, value in own.items()},
        }

    return hide(before, old, new, "before"), hide(after, new, old, "after")


def _compare(live: str, merged: str) -> int:
    external = os.environ.get("KUBECTL_EXTERNAL_DIFF", "")
    command = shlex.split(external) if external else ["diff", "-u", "-N"]
    sys.stdout.flush()
    try:
        return subprocess.run([*command, live, merged], check=False).returncode
    except FileNotFoundError as error:
        raise CommandError(f"{command[0]!r} is not installed; name another program in KUBECTL_EXTERNAL_DIFF") from error
